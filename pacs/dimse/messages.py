"""Message exchange (PS3.7) of an association that a peer asked for: fragments joined to messages, each one bounded.

The upper layer's thread brings the fragments. A C-STORE's data set is spooled while it arrives, and answered in that
same thread unless something else is under way: each change of threads costs more than the answer. Any other data set
is small, and in memory, and its message waits for the association's thread.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from pacs.dimse.commands import StoreCommand, parse_store_command
from pacs.dimse.pdus import ProtocolViolation, Values, encode_value, iter_command_fragments
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
        self,
        association: Association,
        begin_store: Callable[[StoreCommand, PresentationContext], StoreRequest],
        answer_store: Callable[[StoreRequest], bytes],
    ) -> None:
        super().__init__(association)
        self._begin_store = begin_store
        self._answer_store = answer_store
        self._command = bytearray()
        self._store: tuple[int, StoreRequest] | None = None  # in its context, until it is answered or waits
        self._sending = threading.Lock()
        self._expected: dict[int, queue.SimpleQueue[N_EVENT_REPORT]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a message is coming in, waits, or is being served."""
        is_coming = bool(self._command) or self.message is not None
        return is_coming or self._store is not None or self.msg_queue.unfinished_tasks > 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in fragments, as ``receive_values`` does."""
        self.receive_values(cast("Values", primitive.presentation_data_value_list))

    def receive_values(self, values: Values) -> None:
        """Take in fragments, of which nothing is kept; a peer that breaks the protocol is aborted (PS3.8 9.2, Evt19).

        A C-STORE that is complete, and before which nothing waits, has been answered when this returns.
        """
        try:
            for context_id, fragment in values:
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
        requests: list[Any] = [self._store and self._store[1]]
        with suppress(queue.Empty):
            while True:
                requests.append(self.msg_queue.get_nowait()[1])
        for request in requests:
            close_message(request)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message in one piece: a report may go out from another thread than the association's own."""
        with self._sending:
            super().send_msg(primitive, context_id)

    def send_command(self, command: bytes, context_id: int) -> None:
        """Send a message that is nothing but an encoded command set, likewise."""
        with self._sending:
            for fragment in iter_command_fragments(command, self.maximum_pdu_size):
                self.dul.send_pdu(_as_primitive(context_id, fragment))

    def _patience_seconds(self) -> float:
        if self.dul.has_ended:
            return 0
        return max(0.0, self.dul._idle_timer.remaining)  # noqa: SLF001 - the upper layer is ours

    def _break_off(self) -> None:
        self.is_broken = True
        self.dul.refuse()

    def _receive_fragment(self, context_id: int, fragment: memoryview) -> None:
        is_last = bool(fragment[0] & 2)
        if fragment[0] & 1:
            self._receive_command(context_id, fragment[1:], is_last=is_last)
        elif self._store is not None and context_id == self._store[0]:
            self._store[1].write(fragment[1:])
            if is_last:
                self._finish_store()
        elif self.message is not None and context_id == self.message.context_id:
            self._receive_identifier(self.message, fragment)
        else:
            raise ProtocolViolation("a data set has no command in its presentation context")

    def _receive_command(self, context_id: int, fragment: memoryview, *, is_last: bool) -> None:
        if self._store is not None or self.message is not None:
            raise ProtocolViolation("a command begins before the data set of the last one ended")
        if len(self._command) + len(fragment) > COMMAND_LIMIT_BYTES:
            raise ProtocolViolation("a command set does not end")
        self._command += fragment
        if is_last:
            encoded, self._command = bytes(self._command), bytearray()
            command = parse_store_command(encoded)
            if command is None:
                self._begin_message(context_id, encoded)
            else:
                self._begin(context_id, command)

    def _begin(self, context_id: int, command: StoreCommand) -> None:
        context = self.assoc._accepted_cx.get(context_id)  # noqa: SLF001 - public is only a list
        if context is None:
            raise ProtocolViolation("a C-STORE names a presentation context that was not accepted")
        self._store = context_id, self._begin_store(command, context)
        if not command.has_data_set:
            self._finish_store()

    def _begin_message(self, context_id: int, command: bytes) -> None:
        """Let pynetdicom decode the command set of any other message."""
        message = DIMSEMessage()
        message.data_set = BoundedBuffer()
        is_complete = message.decode_msg(_as_primitive(context_id, b"\x03" + command), self.assoc)
        if isinstance(message, C_STORE_RQ):
            raise ProtocolViolation("a C-STORE has a command set that cannot be read")
        if is_complete:
            self._deliver(message)
        else:
            self.message = message

    def _receive_identifier(self, message: DIMSEMessage, fragment: memoryview) -> None:
        context_id = cast("int", message.context_id)
        if message.decode_msg(_as_primitive(context_id, fragment), self.assoc):
            self._deliver(message)

    def _finish_store(self) -> None:
        assert self._store is not None
        context_id, request = self._store
        if not self._answer_here(context_id, request):
            self._queue(context_id, request)
        self._store = None

    def _answer_here(self, context_id: int, request: StoreRequest) -> bool:
        """Serve and answer a C-STORE in this thread; False if something else is under way, which comes first.

        While the archive works, what the peer sends next stays unread.
        """
        if self.msg_queue.unfinished_tasks or not self.assoc.is_established:
            return False
        if not self._sending.acquire(blocking=False):
            return False
        try:
            if self.dul.has_unsent:
                return False
            with self.dul.unhurried():
                response = self._answer_store(request)
            self.dul.send_now(
                b"".join(
                    encode_value(context_id, fragment)
                    for fragment in iter_command_fragments(response, self.maximum_pdu_size)
                )
            )
        finally:
            self._sending.release()
        self._forget_cancels()
        return True

    def _deliver(self, message: DIMSEMessage) -> None:
        request: Any = message.message_to_primitive()
        if isinstance(request, C_CANCEL):
            self._note_cancel(request)
        elif isinstance(request, N_EVENT_REPORT) and request.MessageIDBeingRespondedTo in self._expected:
            self._expected.pop(request.MessageIDBeingRespondedTo).put(request)
        else:
            self._queue(cast("int", message.context_id), request)
        self.message = None

    def _queue(self, context_id: int, request: Any) -> None:
        if self.msg_queue.unfinished_tasks >= MAX_OUTSTANDING_MESSAGES:
            raise ProtocolViolation("too many messages without waiting for an answer")
        if not self.msg_queue.unfinished_tasks:
            self._forget_cancels()
        self._cancels = 0
        self.msg_queue.put((context_id, request))

    def _forget_cancels(self) -> None:
        """Forget them when what was to be cancelled has been answered: a new request may have its Message ID."""
        self.cancel_req = {}
        self._cancels = 0

    def _note_cancel(self, request: C_CANCEL) -> None:
        self._cancels += 1
        if self._cancels > MAX_CANCELS:
            raise ProtocolViolation("too many C-CANCELs")
        self.cancel_req[cast("int", request.MessageIDBeingRespondedTo)] = request


def close_message(message: Any) -> None:
    """Free what a message holds that will not be served."""
    if isinstance(message, StoreRequest):
        message.close()


def _as_primitive(context_id: int, fragment: bytes | memoryview) -> P_DATA:
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((context_id, fragment))  # type: ignore[arg-type]
    return primitive
