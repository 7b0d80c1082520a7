"""pynetdicom's upper layer (PS3.8) made safe against hostile peers, and quicker.

What differs from pynetdicom: the length of a PDU is checked before its body is read; P-DATA is cut into fragments
without copies; an action that fails ends its association and nothing else; after an abort the peer's bytes are drained,
so that it reads what we said before the connection is reset; the thread sleeps in ``poll`` until there are bytes, work
or a timer's end instead of looking every millisecond; a PDU must come, and be taken, at a lowest speed; what waits to
be sent is bounded; and nobody waits for a delayed acknowledgement (TCP_NODELAY and TCP_QUICKACK).
"""

import logging
import math
import queue
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA, _PDUPrimitiveType
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from pacs.dimse.pdus import DataPdu

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
_JOIN_SECONDS = 5.0
_ASSOCIATE_TYPES, _DATA_TYPE, _CONTROL_TYPES = (0x01, 0x02, 0x03), 0x04, (0x05, 0x06, 0x07)
_AWAITING_ASSOCIATE, _AWAITING_CLOSE, _IDLE = "Sta2", "Sta13", "Sta1"
_CLOSED, _INVALID_PDU, _DATA_RECEIVED = "Evt17", "Evt19", "Evt10"
_LOCAL_REQUESTS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
_PROVIDER_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00"
"""A-ABORT with the service provider as its source and no reason (PS3.8 9.3.8)."""


class PeerSocket(AssociationSocket):
    """A connection whose writes time out, and that is closed whatever state it is in."""

    def send(self, bytestream: bytes) -> None:
        """Send everything, or report that the connection is closed."""
        connection = cast("socket.socket", self.socket)
        try:
            connection.settimeout(cast("UpperLayer", self.assoc.dul).allow_seconds(len(bytestream)))
            connection.sendall(bytestream)
        except (OSError, AttributeError):
            self.event_queue.put(_CLOSED)

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


class ArtimTimer(Timer):
    """The ARTIM timer (PS3.8 9.1.5), which also says when to look at it again."""

    @property
    def wait_seconds(self) -> float:
        """How long it can still take to expire: for ever, while it does not run."""
        is_running = self._start_time is not None and self._end_time is None
        return max(0.0, self.remaining) if is_running and self.timeout is not None else math.inf


class UserQueue(queue.Queue[Any]):
    """What the upper layer has for the association, which is told of it."""

    def __init__(self, on_put: Callable[[], None]) -> None:
        super().__init__()
        self._on_put = on_put

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item and tell of it, unless it is about a requested association: that is waited for here."""
        super().put(item, block, timeout)
        if not isinstance(item, A_ASSOCIATE):
            self._on_put()


class GuardedStateMachine(StateMachine):
    """The state machine of PS3.8 9.2, for which an action that fails is an abort."""

    def do_action(self, event: str) -> None:
        """Do the action of an event; a peer whose PDU cannot be acted on is aborted."""
        if self.current_state == _AWAITING_CLOSE and event in _LOCAL_REQUESTS:
            # What the association's thread still had to say when the association ended has nobody to hear it.
            self.dul.to_provider_queue.get(block=False)
            return
        try:
            super().do_action(event)
        except Exception:
            LOGGER.info("%s ended: its PDU cannot be acted on", self.dul.assoc.name, exc_info=True)
            connection = cast("AssociationSocket", self.dul.socket)
            if connection.socket is not None:
                connection.send(_PROVIDER_ABORT)
            connection.close()
            self.current_state = _IDLE
            self.dul.kill_dul()


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

    ``on_word`` is told when there is word of a release or an abort, or that the connection is gone.
    """

    artim_timer: ArtimTimer
    has_ended = False
    """Whether this thread reads and writes no more; nothing is sent any longer."""

    def __init__(
        self, assoc: "Association", timeout_seconds: float, on_word: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.state_machine = GuardedStateMachine(self)
        self.artim_timer = ArtimTimer(None)
        self.to_user_queue = UserQueue(on_word)
        self._run_loop_delay = 0.0001
        self._timeout_seconds = timeout_seconds
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
        self.event_queue.put(_INVALID_PDU)

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
        is_closing = self.state_machine.current_state == _AWAITING_CLOSE
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
            return self._read_pdu(connection)
        return True

    def _wait_readable(self, connection: socket.socket, patience_ms: int | None) -> bool:
        """Wait until there are bytes, something to send, or the time is over; say whether there are bytes."""
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        descriptor = connection.fileno()
        if descriptor < 0:
            self.event_queue.put(_CLOSED)
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

    def _read_pdu(self, connection: socket.socket) -> bool:
        """Read a PDU and announce it; False if the bytes were only TLS's own, a new key perhaps."""
        try:
            start = _read_start(connection)
            if start is None:
                return False
            kind, _, length_bytes = struct.unpack(">BBL", self._read_exactly(connection, _HEADER_BYTES, start))
            if not self._is_acceptable(kind, length_bytes):
                LOGGER.info("%s aborted: PDU of type %d announces %d bytes", self.assoc.name, kind, length_bytes)
                self.event_queue.put(_INVALID_PDU)
                return True
            body = self._read_exactly(connection, length_bytes)
        except OSError:
            self.event_queue.put(_CLOSED)
            return True
        self._announce(kind, body)
        return True

    def _announce(self, kind: int, body: bytearray) -> None:
        try:
            if kind == _DATA_TYPE:
                pdu, event = DataPdu(memoryview(body)), _DATA_RECEIVED
            else:
                pdu, event = self._decode_pdu(bytearray(struct.pack(">BBL", kind, 0, len(body))) + body)  # type: ignore[assignment]
        except Exception:
            LOGGER.info("%s aborted: PDU of type %d cannot be decoded", self.assoc.name, kind, exc_info=True)
            self.event_queue.put(_INVALID_PDU)
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
        view = memoryview(buffer)[len(start) :]
        is_new = self.state_machine.current_state in (_IDLE, _AWAITING_ASSOCIATE)
        deadline = time.monotonic() + (self.artim_timer.remaining if is_new else self.allow_seconds(length_bytes))
        while view:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv_into(view)
            if not received:
                raise ConnectionResetError
            view = view[received:]
        return buffer

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
