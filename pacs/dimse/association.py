"""Associations that peers ask for: each message is given to the service that its presentation context belongs to.

Two threads share an association: the upper layer's reads messages and answers each C-STORE that nothing waits before,
the association's serves all others. Both sleep until there is something to do: an idle association costs no processor
time.
"""

import logging
import queue
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import PresentationContext

from pacs.access import Principal
from pacs.dimse import status
from pacs.dimse.commands import StoreCommand
from pacs.dimse.messages import Messages, close_message
from pacs.dimse.peers import Peer
from pacs.dimse.service import Service
from pacs.dimse.store import StoreRequest, StoreService
from pacs.dimse.tls import read_certificate_sha256
from pacs.dimse.transport import PeerSocket, UpperLayer
from pacs.model import Door, Origin

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may take to ask for an association, TLS included, and in the midst of a PDU."""

    association_seconds: float = 30.0
    silence_seconds: float = 60.0


class _Checkpoint(threading.Event):
    """What pynetdicom's methods clear when the association's thread shall pause, which has to wake up for that."""

    def __init__(self, on_clear: Callable[[], None]) -> None:
        super().__init__()
        self.set()
        self._on_clear = on_clear

    def clear(self) -> None:
        super().clear()
        self._on_clear()


class Acceptor(Association):
    """An association that a peer asked for.

    ``address`` is where from, ``certificate_sha256`` what it showed over TLS, in lower-case hex. ``peer`` is who it is,
    once its title is known.
    """

    dul: UpperLayer
    dimse: Messages

    def __init__(
        self,
        ae: "ApplicationEntity",
        store: StoreService,
        services: Mapping[str, Service],
        timeouts: Timeouts,
        on_end: "Callable[[Acceptor], None]",
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.store = store
        self.services = services
        self.origin = Origin(Door.DIMSE)
        self.peer = Peer("")
        self.address = ""
        self.certificate_sha256 = ""
        self.extended: dict[str, bytes] = {}
        self._on_end = on_end
        self.dimse = Messages(self, self._begin_store, store.answer)
        self.dul = UpperLayer(self, timeouts.silence_seconds, self.dimse.call_away, self.dimse.receive_values)
        self._reactor_checkpoint = _Checkpoint(self.dimse.call_away)
        # These live in the timers of the upper layer, which is a new one.
        self.acse_timeout = timeouts.association_seconds
        self.network_timeout = self.peer.idle_seconds

    def run_reactor(self) -> None:
        """Serve the peer until one side ends the association, and leave nothing behind."""
        try:
            if self._has_secured():
                super().run_reactor()
        except Exception:
            LOGGER.exception("%s: the association failed", self.name)
        finally:
            self._end()

    def _has_secured(self) -> bool:
        """Do TLS's part on a connection of that kind, and say whether there can be an association.

        Here and not where connections are accepted: a peer may take its time for it, all that it has for an
        association, and nobody else shall wait.
        """
        connection = cast("PeerSocket", self.dul.socket).socket
        if not isinstance(connection, ssl.SSLSocket):
            return True
        try:
            connection.settimeout(self.acse_timeout)
            connection.do_handshake()
        except (OSError, ValueError) as error:
            LOGGER.info("%s: no TLS: %s", self.name, getattr(error, "verify_message", "") or error)
            return False
        self.certificate_sha256 = read_certificate_sha256(connection)
        return True

    def _end(self) -> None:
        self.is_established = False
        self.dul.end()
        self.dimse.discard()
        self._on_end(self)

    def _begin_store(self, command: StoreCommand, context: PresentationContext) -> StoreRequest:
        return self.store.begin(command, context, self.origin)

    @property
    def principal(self) -> Principal:
        """On whose behalf requests of this association act."""
        return Principal(self.origin.calling_ae_title)

    @property
    def is_over(self) -> bool:
        """Whether nobody hears any more what is said here, which the association's thread may not have noticed yet."""
        return not self.is_established or self.dul.has_ended or self.acse.is_aborted()

    def respond(self, response: Any, context_id: int) -> None:
        """Send a response, or a request of a sub-operation; nobody hears it once the association has ended.

        Waits while the peer leaves unread what was sent before, until it is disconnected for that.
        """
        if not self.is_over:
            self.dimse.send_msg(response, context_id)

    def is_cancelled(self, message_id: int) -> bool:
        """Whether the peer sent a C-CANCEL for this request, or is gone."""
        return message_id in self.dimse.cancel_req or self.is_over

    def await_response(self, timeout_seconds: float) -> Any:
        """Return the response to a sub-operation on this association; None if none came or the peer is gone.

        A new request in its place breaks the protocol: it is dropped, and counts as no response.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.is_established and (left := deadline - time.monotonic()) > 0:
            try:
                _, message = self.dimse.msg_queue.get(timeout=left)
            except queue.Empty:
                break
            self.dimse.msg_queue.task_done()
            if message is None:  # the upper layer has ended; whoever looks next must see it too
                self.dimse.msg_queue.put((None, None))
                break
            if isinstance(message, StoreRequest) or message.is_valid_request:
                close_message(message)
                break
            return message
        return None

    def report(self, event: N_EVENT_REPORT, context_id: int, timeout_seconds: float) -> N_EVENT_REPORT | None:
        """Send an N-EVENT-REPORT and return its response; None if none came or the peer is gone.

        For any thread but the association's own; the peer may go on sending requests meanwhile (PS3.7 10.1.1).
        """
        with self.dimse.expect_report(int(event.MessageID or 0)) as responses:
            self.respond(event, context_id)
            deadline = time.monotonic() + timeout_seconds
            while not self.is_over and time.monotonic() < deadline:
                with suppress(queue.Empty):
                    return responses.get(timeout=_LOOK_SECONDS)
        return None

    def close_connection(self) -> None:
        """End the connection at once; what the peer has not read yet may be lost."""
        self.dul.cut_off()

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
                close_message(message)
            elif isinstance(message, StoreRequest):
                response = self.store.answer(message)
                if self.is_established:
                    self.dimse.send_command(response, context_id)
            elif (service := self._service_of(context_id)) is not None:
                self._serve_service(service, message, context_id)
            else:
                super()._serve_request(message, context_id)
        finally:
            self.dimse.msg_queue.task_done()
            # A peer that waits for its answer is not idle.
            self.dul._idle_timer.restart()  # noqa: SLF001 - the upper layer is ours

    def _service_of(self, context_id: int) -> Service | None:
        context = self._accepted_cx.get(context_id)
        return self.services.get(str(context.abstract_syntax)) if context is not None else None

    def _serve_service(self, service: Service, message: Any, context_id: int) -> None:
        if not message.is_valid_request:
            LOGGER.info("%s: a response to nothing was dropped", self.name)
            return
        try:
            service.serve(self, message, self._accepted_cx[context_id])
        except Exception:
            LOGGER.exception("%s: a %s failed", self.name, type(message).__name__)
            response = type(message)()
            response.MessageIDBeingRespondedTo = message.MessageID
            for attribute in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
                if hasattr(message, attribute):
                    setattr(response, attribute, getattr(message, attribute))
            response.Status = status.PROCESSING_FAILURE
            self.respond(response, context_id)
