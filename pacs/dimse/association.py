"""pynetdicom's association and message exchange (PS3.7), bounded: what one peer can make us hold in memory is limited.

A C-STORE data set is spooled while it arrives and served from the association's own thread; everything else is
pynetdicom's. Two threads share an association: the upper layer's reads messages, the association's serves them.
"""

import logging
import queue
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import UID
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from pacs.dimse.store import StoreRequest, StoreService
from pacs.dimse.transport import PeerSocket, ProtocolViolation, UpperLayer
from pacs.model import Door, Origin

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

LOGGER = logging.getLogger(__name__)

COMMAND_LIMIT_BYTES = 64 * 1024
IDENTIFIER_LIMIT_BYTES = 16 * 1024 * 1024
MAX_OUTSTANDING_MESSAGES = 4
"""Asynchronous operations are never negotiated, so that a peer may have one outstanding (PS3.7 D.3.3.3); a few more are
served all the same, beyond them the association is aborted."""
MAX_WAITING_CANCELS = 10
_GET_SECONDS = 0.02
_JOIN_SECONDS = 5.0
_INVALID_PDU = "Evt19"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take: to ask for an association, between two messages, and in the midst of a PDU."""

    association_seconds: float = 30.0
    idle_seconds: float = 600.0
    silence_seconds: float = 60.0


class BoundedBuffer(BytesIO):
    """The data set of any message but a C-STORE: small, and in memory."""

    def write(self, data: Any, /) -> int:
        """Append bytes; raise ProtocolViolation past the limit."""
        if self.tell() + len(data) > IDENTIFIER_LIMIT_BYTES:
            raise ProtocolViolation("an identifier is too long")
        return super().write(data)


class Messages(DIMSEServiceProvider):
    """Joins fragments to messages and keeps those that wait to be served."""

    assoc: "Acceptor"
    is_broken = False
    """Whether the peer broke the protocol: what still waits is not served, for nobody would hear the answers."""

    @property
    def is_busy(self) -> bool:
        """Whether a message is coming in, waits, or is being served."""
        return self.message is not None or self.msg_queue.unfinished_tasks > 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in fragments; a peer that breaks the protocol is aborted (PS3.8 9.2, Evt19)."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive_fragment(context_id, fragment)
        except ProtocolViolation as violation:
            LOGGER.info("%s aborted: %s", self.assoc.name, violation)
            self.is_broken = True
            self.dul.event_queue.put(_INVALID_PDU)
        except Exception:
            LOGGER.info("%s aborted: invalid message", self.assoc.name, exc_info=True)
            self.is_broken = True
            self.dul.event_queue.put(_INVALID_PDU)

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message to serve, waiting a moment for it: pynetdicom only looks, and sleeps in between."""
        if block:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=_GET_SECONDS)
        except queue.Empty:
            return None, None

    def discard(self) -> None:
        """Free what was not served; the upper layer has ended and the association with it."""
        requests: list[Any] = [self.message and self.message.data_set]
        with suppress(queue.Empty):
            while True:
                requests.append(self.msg_queue.get_nowait()[1])
        for request in requests:
            _close(request)

    def _receive_fragment(self, context_id: int, fragment: bytes) -> None:
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = BoundedBuffer()
        message = self.message
        is_command = bool(fragment[0] & 1)
        if is_command:
            if message.context_id is not None:
                raise ProtocolViolation("a command begins before the data set of the last one ended")
            if message.encoded_command_set.tell() + len(fragment) > COMMAND_LIMIT_BYTES:
                raise ProtocolViolation("a command set does not end")
        elif context_id != message.context_id:
            raise ProtocolViolation("a data set has no command in its presentation context")
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, fragment))
        is_complete = message.decode_msg(primitive, self.assoc)
        if is_command and isinstance(message, C_STORE_RQ):
            message.data_set = self._begin_store(message)  # type: ignore[assignment]
        if is_complete:
            self._deliver(message)

    def _begin_store(self, message: DIMSEMessage) -> StoreRequest:
        context = self.assoc._accepted_cx.get(cast("int", message.context_id))  # noqa: SLF001 - public is only a list
        if context is None:
            raise ProtocolViolation("a C-STORE names a presentation context that was not accepted")
        return self.assoc.store.begin(message.command_set, context, self.assoc.origin)

    def _deliver(self, message: DIMSEMessage) -> None:
        request: Any = message.data_set
        if not isinstance(request, StoreRequest):
            request = message.message_to_primitive()
        if isinstance(request, C_CANCEL):
            if len(self.cancel_req) < MAX_WAITING_CANCELS:
                self.cancel_req[cast("int", request.MessageIDBeingRespondedTo)] = request
        elif self.msg_queue.unfinished_tasks >= MAX_OUTSTANDING_MESSAGES:
            raise ProtocolViolation("too many messages without waiting for an answer")
        else:
            self.msg_queue.put((cast("int", message.context_id), request))
        self.message = None


def _close(message: Any) -> None:
    if isinstance(message, StoreRequest):
        message.close()


class Acceptor(Association):
    """An association that a peer asked for."""

    dul: UpperLayer
    dimse: Messages

    def __init__(
        self,
        ae: "ApplicationEntity",
        store: StoreService,
        timeouts: Timeouts,
        on_end: "Callable[[Acceptor], None]",
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.store = store
        self.origin = Origin(Door.DIMSE)
        self._on_end = on_end
        self.dul = UpperLayer(self, timeouts.silence_seconds)
        self.dimse = Messages(self)
        # These live in the timers of the upper layer, which is a new one.
        self.acse_timeout = timeouts.association_seconds
        self.network_timeout = timeouts.idle_seconds

    def run_reactor(self) -> None:
        """Serve the peer until one side ends the association, and leave nothing behind."""
        try:
            super().run_reactor()
        except Exception:
            LOGGER.exception("%s: the association failed", self.name)
        finally:
            self.is_established = False
            self.dul.kill_dul()
            self.close_connection()
            self.dul.join(_JOIN_SECONDS)
            self.dimse.discard()
            self.dul.free()
            self._on_end(self)

    def close_connection(self) -> None:
        """Close the connection at once; what the peer has not read yet may be lost."""
        cast("PeerSocket", self.dul.socket)._shutdown_socket()  # noqa: SLF001 - close() is for the upper layer's thread

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """Serve a message and those that follow on its heels; pynetdicom's loop sleeps before it looks for each."""
        while msg:
            self._serve_one(msg, context_id)
            if self.dul.peek_next_pdu() is not None or not self.is_established:
                return
            context_id, msg = self.dimse.get_msg()

    def _serve_one(self, message: Any, context_id: int) -> None:
        try:
            if self.dimse.is_broken:
                _close(message)
            elif isinstance(message, StoreRequest):
                self._serve_store(message, context_id)
            else:
                super()._serve_request(message, context_id)
        finally:
            self.dimse.msg_queue.task_done()
            # A peer that waits for its answer is not idle.
            self.dul._idle_timer.restart()  # noqa: SLF001 - the upper layer is ours

    def _serve_store(self, request: StoreRequest, context_id: int) -> None:
        status = self.store.serve(request)
        response = C_STORE()
        response.MessageIDBeingRespondedTo = request.message_id
        response.AffectedSOPClassUID = UID(request.sop_class_uid) if request.sop_class_uid else None
        response.AffectedSOPInstanceUID = UID(request.sop_instance_uid) if request.sop_instance_uid else None
        for element in status:
            setattr(response, element.keyword, element.value)
        if self.is_established:
            self.dimse.send_msg(response, context_id)
