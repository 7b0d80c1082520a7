"""pynetdicom's upper layer (PS3.8) made safe against hostile peers, and quicker.

What differs from pynetdicom: the length of a PDU is checked before its body is read; P-DATA is cut into fragments
without copies; an action that fails ends its association and nothing else; after an abort the peer's bytes are drained,
so that it reads what we said before the connection is reset; the thread sleeps in ``poll`` until there are bytes, work
or a timer's end instead of looking every millisecond; a PDU must come, and be taken, at a lowest speed; what waits to
be sent is bounded; and nobody waits for a delayed acknowledgement (TCP_NODELAY and TCP_QUICKACK).
"""

import logging
import math
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA, _PDUPrimitiveType
from pynetdicom.transport import AssociationSocket

from pacs.dimse import states
from pacs.dimse.pdus import DataPdu, ProtocolViolation, Values, parse_values

if TYPE_CHECKING:
    from pynetdicom.association import Association

LOGGER = logging.getLogger(__name__)

ASSOCIATE_LIMIT_BYTES = 1024 * 1024
CONTROL_LIMIT_BYTES = 64
LINGER_SECONDS = 1.0
"""How long a peer may take to read our last word and to close the connection."""
SLOWEST_BYTES_PER_SECOND = 1024
"""A PDU that is slower, in either direction, ends the association: nobody holds one by a byte now and then."""
MAX_UNSENT_PDUS = 16
"""Whoever has more to send waits until the peer has taken some of it."""

_HEADER_BYTES = 6
_DRAIN_BYTES = 256 * 1024
_ROOM_BYTES = 256 * 1024
_JOIN_SECONDS = 5.0
_ASSOCIATE_TYPES, _DATA_TYPE, _CONTROL_TYPES = (0x01, 0x02, 0x03), 0x04, (0x05, 0x06, 0x07)


class PeerSocket(AssociationSocket):
    """A connection whose writes time out, and that is closed whatever state it is in."""

    def send(self, bytestream: bytes) -> None:
        """Send everything, or report that the connection is closed."""
        connection = cast("socket.socket", self.socket)
        try:
            connection.settimeout(cast("UpperLayer", self.assoc.dul).allow_seconds(len(bytestream)))
            connection.sendall(bytestream)
        except (OSError, AttributeError):
            self.event_queue.put(states.CLOSED)

    def close(self) -> None:
        """Close the connection; only for the upper layer's thread, or when that has ended."""
        connection = self.socket
        super().close()
        if connection is not None:
            connection.close()

    def cut_off(self) -> None:
        """End the connection; for any thread. What the peer has not read yet may be lost.

        The descriptor stays, for the upper layer may be waiting on it. Not the method of a TLS connection, which would
        let what that thread is about to send out as plain text.
        """
        connection = self.socket
        if connection is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    _shutdown_socket = cut_off  # what pynetdicom calls before it closes


def _acknowledge(connection: socket.socket) -> None:
    """Let the peer's kernel know now what has been read, where ours can be told to.

    A sender with Nagle's algorithm on (DCMTK, pynetdicom) holds back the data set until its command is acknowledged,
    and a kernel that hopes for an answer to carry the acknowledgement waits 40 ms for it.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class UpperLayer(DULServiceProvider):
    """Reads and writes one connection. ``timeout_seconds`` is how long the peer may be silent inside a PDU.

    ``on_word`` is told when there is word of a release or an abort, or that the connection is gone. ``on_values`` takes
    the P-DATA of an association that stands, and must not keep them; without it the state machine does.
    """

    artim_timer: states.ArtimTimer
    has_ended = False
    """Whether this thread reads and writes no more; nothing is sent any longer."""

    def __init__(
        self,
        assoc: "Association",
        timeout_seconds: float,
        on_word: Callable[[], None] = lambda: None,
        on_values: Callable[[Values], None] | None = None,
    ) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.state_machine = states.GuardedStateMachine(self)
        self.artim_timer = states.ArtimTimer(None)
        self.to_user_queue = states.UserQueue(on_word)
        self._run_loop_delay = 0.0001
        self._timeout_seconds = timeout_seconds
        self._on_values = on_values
        self._room = bytearray()
        self._drained_until = math.inf
        self._has_sent = False
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)

    def run_reactor(self) -> None:
        """Run until the connection is closed, then wake whoever waits for this thread's findings."""
        try:
            super().run_reactor()
        except Exception:
            LOGGER.exception("%s: the upper layer failed", self.assoc.name)
        finally:
            cast("PeerSocket", self.socket).close()
            with self.to_provider_queue.not_full:
                self.has_ended = True
                self.to_provider_queue.not_full.notify_all()
            # Nothing is "nothing came in time" to pynetdicom, which then looks whether this thread is still there.
            self.to_user_queue.put(cast("Any", None))
            self.assoc.dimse.msg_queue.put((None, None))

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """Hand over what is to be sent and wake the thread that sends it.

        Data waits until there is room, which is as long as the peer takes to read what came before: that must not pile
        up in memory.
        """
        if isinstance(primitive, P_DATA):
            unsent = self.to_provider_queue
            with unsent.not_full:
                unsent.not_full.wait_for(lambda: len(unsent.queue) < MAX_UNSENT_PDUS or self.has_ended)
        if not self.has_ended:
            super().send_pdu(primitive)
            self._wake()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self.to_provider_queue.queue)

    def send_now(self, pdus: bytes) -> None:
        """Send whole PDUs at once; only for this thread, and while nothing waits to be sent before them."""
        cast("AssociationSocket", self.socket).send(pdus)

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """While the block runs the peer is not idle, for it waits for us."""
        self._idle_timer.start()
        self._idle_timer.stop()
        try:
            yield
        finally:
            self._idle_timer.start()

    def kill_dul(self) -> None:
        """Let this thread end."""
        super().kill_dul()
        self._wake()

    def stop_dul(self) -> bool:
        """Let this thread end if there is no connection any more, and say whether there is none."""
        is_idle = super().stop_dul()
        if is_idle:
            self._wake()
        return is_idle

    def allow_seconds(self, length_bytes: int) -> float:
        """Return how long a PDU of this length may take."""
        return self._timeout_seconds + length_bytes / SLOWEST_BYTES_PER_SECOND

    def refuse(self) -> None:
        """Abort a peer that broke the protocol, as for an invalid PDU (PS3.8 9.2, Evt19); for any thread."""
        self.event_queue.put(states.INVALID_PDU)

    def cut_off(self) -> None:
        """End the connection at once; for any thread. What the peer has not read yet may be lost."""
        cast("PeerSocket", self.socket).cut_off()

    def end(self) -> None:
        """End the connection and this thread, if it was ever started, and free what they hold; for another thread."""
        self.kill_dul()
        self.cut_off()
        if self.is_alive():
            self.join(_JOIN_SECONDS)
        if not self.is_alive():
            cast("PeerSocket", self.socket).close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._wake_sender.send(b"\0")

    def _process_recv_primitive(self) -> bool:
        """Send what is to be sent, taking turns with what arrives: a C-CANCEL is heard while answers go out."""
        if not self.event_queue.empty():  # what has happened comes first, and an event must not be announced twice
            return True
        connection = cast("AssociationSocket", self.socket).socket
        if self._has_sent and connection is not None and self._wait_readable(connection, 0):
            self._has_sent = False
        else:
            self._has_sent = super()._process_recv_primitive()
        return self._has_sent

    def _is_transport_event(self) -> bool:
        connection = cast("AssociationSocket", self.socket).socket
        if connection is None:
            self.kill_dul()
            return False
        is_closing = self.state_machine.current_state == states.AWAITING_CLOSE
        if is_closing:
            # Closing the connection is the peer's part, after a release too; it has a moment for it.
            self._drained_until = min(self._drained_until, time.monotonic() + LINGER_SECONDS)
        if not self._wait_readable(connection, self._patience_ms()):
            if time.monotonic() < self._drained_until:
                return False
            cast("AssociationSocket", self.socket).close()
        elif is_closing:
            self._drain(connection)
        else:
            return self._read_pdus(connection)
        return True

    def _wait_readable(self, connection: socket.socket, patience_ms: int | None) -> bool:
        """Wait until there are bytes, something to send, or the time is over; say whether there are bytes."""
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        descriptor = connection.fileno()
        if descriptor < 0:
            self.event_queue.put(states.CLOSED)
            return False
        _acknowledge(connection)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.register(self._wake_receiver, select.POLLIN)
        ready = {found for found, _ in poller.poll(patience_ms)}
        if self._wake_receiver.fileno() in ready:
            with suppress(OSError):
                self._wake_receiver.recv(4096)
        return descriptor in ready

    def _patience_ms(self) -> int | None:
        """How long there is nothing to do but to wait for the peer or for a wake-up; None is for ever."""
        if self.to_provider_queue.queue or self._kill_thread:
            return 0
        seconds = min(self.artim_timer.wait_seconds, self._drained_until - time.monotonic())
        return None if math.isinf(seconds) else math.ceil(max(0.0, seconds) * 1000)

    def _read_pdus(self, connection: socket.socket) -> bool:
        """Read until a PDU is announced, and say whether one is; stop where there is something else to do.

        pynetdicom's loop, which would be next, sleeps before it looks for more.
        """
        while not self._read_pdu(connection):
            self._idle_timer.restart()
            is_disturbed = self.has_unsent or self._kill_thread or not self.event_queue.empty()
            if is_disturbed or not self._wait_readable(connection, self._patience_ms()):
                return False
        return True

    def _read_pdu(self, connection: socket.socket) -> bool:
        """Read a PDU and announce it; False if there is nothing to announce: P-DATA, or bytes of TLS's own."""
        try:
            start = _read_start(connection)
            if start is None:
                return False
            kind, _, length_bytes = struct.unpack(">BBL", self._read_exactly(connection, _HEADER_BYTES, start))
            if not self._is_acceptable(kind, length_bytes):
                LOGGER.info("%s aborted: PDU of type %d announces %d bytes", self.assoc.name, kind, length_bytes)
                self.event_queue.put(states.INVALID_PDU)
                return True
            if kind == _DATA_TYPE and self._on_values and self.state_machine.current_state == states.ESTABLISHED:
                return self._take(self._on_values, self._read_data(connection, length_bytes))
            body = self._read_exactly(connection, length_bytes)
        except OSError:
            self.event_queue.put(states.CLOSED)
            return True
        self._announce(kind, body)
        return True

    def _take(self, on_values: Callable[[Values], None], body: memoryview) -> bool:
        """Hand the values of a P-DATA-TF on, and say whether that is announced: only if there are none."""
        try:
            values = parse_values(body)
        except ProtocolViolation as violation:
            LOGGER.info("%s aborted: %s", self.assoc.name, violation)
            self.event_queue.put(states.INVALID_PDU)
            return True
        on_values(values)
        return False

    def _announce(self, kind: int, body: bytearray) -> None:
        try:
            if kind == _DATA_TYPE:
                pdu, event = DataPdu(memoryview(body)), states.DATA_RECEIVED
            else:
                pdu, event = self._decode_pdu(bytearray(struct.pack(">BBL", kind, 0, len(body))) + body)  # type: ignore[assignment]
        except Exception:
            LOGGER.info("%s aborted: PDU of type %d cannot be decoded", self.assoc.name, kind, exc_info=True)
            self.event_queue.put(states.INVALID_PDU)
            return
        self._recv_pdu.put(pdu)  # type: ignore[arg-type]
        self.event_queue.put(event)

    def _is_acceptable(self, kind: int, length_bytes: int) -> bool:
        """Whether a PDU of this type may be this long: at most what we offered, counted without its first six bytes."""
        if kind == _DATA_TYPE:
            ours = self.assoc.acceptor if self.assoc.is_acceptor else self.assoc.requestor
            offered = cast("int", ours.maximum_length)
            return offered == 0 or length_bytes <= offered
        if kind in _ASSOCIATE_TYPES:
            return length_bytes <= ASSOCIATE_LIMIT_BYTES
        return kind in _CONTROL_TYPES and length_bytes <= CONTROL_LIMIT_BYTES

    def _read_exactly(self, connection: socket.socket, length_bytes: int, start: bytes = b"") -> bytearray:
        """Return so many bytes, the first of which are ``start``; raise OSError if the peer closes or is too slow.

        Before there is an association all of its bytes must be there when the ARTIM timer ends, so that nobody holds a
        connection by sending one byte a minute.
        """
        buffer = bytearray(length_bytes)
        buffer[: len(start)] = start
        self._read_into(connection, memoryview(buffer), len(start))
        return buffer

    def _read_data(self, connection: socket.socket, length_bytes: int) -> memoryview:
        """Return the body of a P-DATA-TF, in memory that the next one takes again."""
        if length_bytes > _ROOM_BYTES:
            return memoryview(self._read_exactly(connection, length_bytes))
        if len(self._room) < length_bytes:
            self._room = bytearray(length_bytes)
        body = memoryview(self._room)[:length_bytes]
        self._read_into(connection, body)
        return body

    def _read_into(self, connection: socket.socket, buffer: memoryview, start: int = 0) -> None:
        """Fill a buffer from ``start`` on; the time it may take counts for all of it."""
        view, length_bytes = buffer[start:], len(buffer)
        is_new = self.state_machine.current_state in (states.IDLE, states.AWAITING_ASSOCIATE)
        deadline = time.monotonic() + (self.artim_timer.remaining if is_new else self.allow_seconds(length_bytes))
        while view:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv_into(view)
            if not received:
                raise ConnectionResetError
            view = view[received:]

    def _drain(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(max(0.001, self._drained_until - time.monotonic()))
            received = connection.recv(_DRAIN_BYTES)
        except OSError:
            received = b""
        if not received or time.monotonic() > self._drained_until:
            cast("AssociationSocket", self.socket).close()


def _read_start(connection: socket.socket) -> bytes | None:
    """Return the first bytes of a PDU that TLS has for us, None if it has none; nothing of a plain connection."""
    if not isinstance(connection, ssl.SSLSocket):
        return b""
    connection.settimeout(0)
    try:
        start = connection.recv(_HEADER_BYTES)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    if not start:
        raise ConnectionResetError
    return start
