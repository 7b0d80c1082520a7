"""Message exchange (PS3.7) of an association that a peer asked for: fragments joined to messages, each one bounded.

The upper layer's thread brings the fragments, the association's thread takes the messages. A C-STORE's data set is
spooled while it arrives; any other is small, and in memory.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, cast

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from pacs.dimse.pdus import ProtocolViolation
from pacs.dimse.store import StoreRequest
from pacs.dimse.transport import UpperLayer

LOGGER = logging.getLogger(__name__)

COMMAND_LIMIT_BYTES = 64 * 1024
IDENTIFIER_LIMIT_BYTES = 16 * 1024 * 1024
MAX_OUTSTANDING_MESSAGES = 4
"""Asynchronous operations are never negotiated, so that a peer may have one outstanding (PS3.7 D.3.3.3); a few more are
served all the same, beyond them the association is aborted."""
MAX_CANCELS = 10
"""How many C-CANCELs may come between two requests; beyond them the association is aborted."""


class BoundedBuffer(BytesIO):
    """The data set of any message but a C-STORE: small, and in memory."""

    def write(self, data: Any, /) -> int:
        """Append bytes; raise ProtocolViolation past the limit."""
        if self.tell() + len(data) > IDENTIFIER_LIMIT_BYTES:
            raise ProtocolViolation("an identifier is too long")
        return super().write(data)


class Messages(DIMSEServiceProvider):
    """Joins fragments to messages and keeps those that wait to be served."""

    dul: UpperLayer
    is_broken = False
    """Whether the peer broke the protocol: what still waits is not served, for nobody would hear the answers."""
    _is_called_away = False
    _cancels = 0

    def __init__(
        self, association: Association, begin_store: Callable[[Dataset, PresentationContext], StoreRequest]
    ) -> None:
        super().__init__(association)
        self._begin = begin_store
        self._sending = threading.Lock()
        self._expected: dict[int, queue.SimpleQueue[N_EVENT_REPORT]] = {}

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
            self._break_off()
        except Exception:
            LOGGER.info("%s aborted: invalid message", self.assoc.name, exc_info=True)
            self._break_off()

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message to serve; nothing if the association has other things to look at first.

        pynetdicom only looks here, and sleeps a millisecond in between. There is something else to look at when the
        upper layer has word of the peer, when a method of the association wants its thread to pause, and when the peer
        has been idle for too long.
        """
        if block:
            return super().get_msg(block)
        waiting = self.msg_queue
        with waiting.not_empty:
            waiting.not_empty.wait_for(lambda: waiting.queue or self._is_called_away, self._patience_seconds())
            self._is_called_away = False
        try:
            return waiting.get_nowait()
        except queue.Empty:
            return None, None

    def call_away(self) -> None:
        """Make whoever waits for a message look at other things; for any thread."""
        with self.msg_queue.not_empty:
            self._is_called_away = True
            self.msg_queue.not_empty.notify_all()

    @contextmanager
    def expect_report(self, message_id: int) -> Iterator["queue.SimpleQueue[N_EVENT_REPORT]"]:
        """Give where the response to an N-EVENT-REPORT of ours comes; for any thread but the association's own."""
        responses = self._expected[message_id] = queue.SimpleQueue()
        try:
            yield responses
        finally:
            self._expected.pop(message_id, None)

    def discard(self) -> None:
        """Free what was not served; the upper layer has ended and the association with it."""
        requests: list[Any] = [self.message and self.message.data_set]
        with suppress(queue.Empty):
            while True:
                requests.append(self.msg_queue.get_nowait()[1])
        for request in requests:
            close_message(request)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message in one piece: a report may go out from another thread than the association's own."""
        with self._sending:
            super().send_msg(primitive, context_id)

    def _patience_seconds(self) -> float:
        if self.dul.has_ended:
            return 0
        return max(0.0, self.dul._idle_timer.remaining)  # noqa: SLF001 - the upper layer is ours

    def _break_off(self) -> None:
        self.is_broken = True
        self.dul.refuse()

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
        return self._begin(message.command_set, context)

    def _deliver(self, message: DIMSEMessage) -> None:
        request: Any = message.data_set
        if not isinstance(request, StoreRequest):
            request = message.message_to_primitive()
        if isinstance(request, C_CANCEL):
            self._note_cancel(request)
        elif isinstance(request, N_EVENT_REPORT) and request.MessageIDBeingRespondedTo in self._expected:
            self._expected.pop(request.MessageIDBeingRespondedTo).put(request)
        elif self.msg_queue.unfinished_tasks >= MAX_OUTSTANDING_MESSAGES:
            raise ProtocolViolation("too many messages without waiting for an answer")
        else:
            if not self.msg_queue.unfinished_tasks:
                # What was to be cancelled has been answered; a new request may have its Message ID.
                self.cancel_req = {}
            self._cancels = 0
            self.msg_queue.put((cast("int", message.context_id), request))
        self.message = None

    def _note_cancel(self, request: C_CANCEL) -> None:
        self._cancels += 1
        if self._cancels > MAX_CANCELS:
            raise ProtocolViolation("too many C-CANCELs")
        self.cancel_req[cast("int", request.MessageIDBeingRespondedTo)] = request


def close_message(message: Any) -> None:
    """Free what a message holds that will not be served."""
    if isinstance(message, StoreRequest):
        message.close()
