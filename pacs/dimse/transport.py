"""pynetdicom's upper layer (PS3.8) made safe against hostile peers, and quicker.

What differs from pynetdicom: the length of a PDU is checked before its body is read; P-DATA is cut into fragments
without copies; an action that fails ends its association and nothing else; after an abort the peer's bytes are drained,
so that it reads what we said before the connection is reset; the thread sleeps in ``poll`` until there is work instead
of looking every millisecond; and nobody waits for a delayed acknowledgement (TCP_NODELAY and TCP_QUICKACK).
"""

import logging
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA, _PDUPrimitiveType
from pynetdicom.transport import AssociationSocket

if TYPE_CHECKING:
    from pynetdicom.association import Association

LOGGER = logging.getLogger(__name__)

ASSOCIATE_LIMIT_BYTES = 1024 * 1024
CONTROL_LIMIT_BYTES = 64
LINGER_SECONDS = 1.0
"""How long a peer may take to read our last word and to close the connection."""

_IDLE_MS = 100
_DRAIN_BYTES = 256 * 1024
_ASSOCIATE_TYPES, _DATA_TYPE, _CONTROL_TYPES = (0x01, 0x02, 0x03), 0x04, (0x05, 0x06, 0x07)
_AWAITING_ASSOCIATE, _AWAITING_CLOSE, _IDLE = "Sta2", "Sta13", "Sta1"
_CLOSED, _INVALID_PDU, _DATA_RECEIVED = "Evt17", "Evt19", "Evt10"
_LOCAL_REQUESTS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
_PROVIDER_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00"
"""A-ABORT with the service provider as its source and no reason (PS3.8 9.3.8)."""


class ProtocolViolation(Exception):
    """The peer broke the protocol; the text says how and holds nothing that it sent."""


class PeerSocket(AssociationSocket):
    """A connection whose writes time out, and that is closed whatever state it is in."""

    def send(self, bytestream: bytes) -> None:
        """Send everything, or report that the connection is closed."""
        try:
            cast("socket.socket", self.socket).sendall(bytestream)
        except (OSError, AttributeError):
            self.event_queue.put(_CLOSED)

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()


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


class DataPdu:
    """A received P-DATA-TF whose fragments are views into the bytes of the PDU."""

    def __init__(self, body: memoryview) -> None:
        self._values = parse_values(body)

    def to_primitive(self) -> P_DATA:
        """Return the fragments in the form that the state machine hands on."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)  # type: ignore[arg-type]
        return primitive


def parse_values(body: memoryview) -> list[tuple[int, memoryview]]:
    """Return context ID and message fragment, header byte included, of each value (PS3.8 9.3.5.1, Annex E).

    Raises ProtocolViolation unless the values fill the body exactly and each has its header byte.
    """
    values = []
    offset = 0
    while offset < len(body):
        start = offset + 5
        if start >= len(body):
            raise ProtocolViolation("a presentation data value ends before its header")
        end = offset + 4 + int.from_bytes(body[offset : offset + 4], "big")
        if not start < end <= len(body):
            raise ProtocolViolation("a presentation data value has an impossible length")
        values.append((body[offset + 4], body[start:end]))
        offset = end
    if not values:
        raise ProtocolViolation("a P-DATA-TF has no presentation data value")
    return values


def _acknowledge(connection: socket.socket) -> None:
    """Let the peer's kernel know now what has been read, where ours can be told to.

    A sender with Nagle's algorithm on (DCMTK, pynetdicom) holds back the data set until its command is acknowledged,
    and a kernel that hopes for an answer to carry the acknowledgement waits 40 ms for it.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class UpperLayer(DULServiceProvider):
    """Reads and writes one connection. ``timeout_seconds`` is how long the peer may be silent inside a PDU."""

    def __init__(self, assoc: "Association", timeout_seconds: float) -> None:
        super().__init__(assoc)
        self.daemon = True
        self.state_machine = GuardedStateMachine(self)
        self._run_loop_delay = 0.0001
        self._timeout_seconds = timeout_seconds
        self._drained_until: float | None = None
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
            # Nothing is "nothing came in time" to pynetdicom, which then looks whether this thread is still there.
            self.to_user_queue.put(cast("Any", None))
            self.assoc.dimse.msg_queue.put((None, None))

    def send_pdu(self, primitive: _PDUPrimitiveType) -> None:
        """Hand over what is to be sent and wake the thread that sends it."""
        super().send_pdu(primitive)
        with suppress(OSError):
            self._wake_sender.send(b"\0")

    def free(self) -> None:
        """Close what wakes this thread; it has ended."""
        self._wake_receiver.close()
        self._wake_sender.close()

    def _is_transport_event(self) -> bool:
        connection = cast("AssociationSocket", self.socket).socket
        if connection is None:
            self.kill_dul()
            return False
        is_closing = self.state_machine.current_state == _AWAITING_CLOSE
        if not self._wait_readable(connection):
            if is_closing and self._has_lingered():
                cast("AssociationSocket", self.socket).close()
                return True
            return False
        if is_closing:
            self._drain(connection)
        else:
            self._read_pdu_data()
        return True

    def _wait_readable(self, connection: socket.socket) -> bool:
        """Wait until there are bytes, something to send, or a moment has passed; say whether there are bytes."""
        descriptor = connection.fileno()
        if descriptor < 0:
            self.event_queue.put(_CLOSED)
            return False
        _acknowledge(connection)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.register(self._wake_receiver, select.POLLIN)
        ready = {found for found, _ in poller.poll(_IDLE_MS if self.event_queue.empty() else 0)}
        if self._wake_receiver.fileno() in ready:
            with suppress(OSError):
                self._wake_receiver.recv(4096)
        return descriptor in ready

    def _read_pdu_data(self) -> None:
        connection = cast("socket.socket", cast("AssociationSocket", self.socket).socket)
        try:
            kind, _, length_bytes = struct.unpack(">BBL", self._read_exactly(connection, 6))
            if not self._is_acceptable(kind, length_bytes):
                LOGGER.info("%s aborted: PDU of type %d announces %d bytes", self.assoc.name, kind, length_bytes)
                self.event_queue.put(_INVALID_PDU)
                return
            body = self._read_exactly(connection, length_bytes)
        except OSError:
            self.event_queue.put(_CLOSED)
            return
        try:
            if kind == _DATA_TYPE:
                pdu, event = DataPdu(memoryview(body)), _DATA_RECEIVED
            else:
                pdu, event = self._decode_pdu(bytearray(struct.pack(">BBL", kind, 0, length_bytes)) + body)  # type: ignore[assignment]
        except Exception:
            LOGGER.info("%s aborted: PDU of type %d cannot be decoded", self.assoc.name, kind, exc_info=True)
            self.event_queue.put(_INVALID_PDU)
            return
        self._recv_pdu.put(pdu)  # type: ignore[arg-type]
        self.event_queue.put(event)

    def _is_acceptable(self, kind: int, length_bytes: int) -> bool:
        """Whether a PDU of this type may be this long: at most what we offered, counted without its first six bytes."""
        if kind == _DATA_TYPE:
            offered = cast("int", self.assoc.acceptor.maximum_length)
            return offered == 0 or length_bytes <= offered
        if kind in _ASSOCIATE_TYPES:
            return length_bytes <= ASSOCIATE_LIMIT_BYTES
        return kind in _CONTROL_TYPES and length_bytes <= CONTROL_LIMIT_BYTES

    def _read_exactly(self, connection: socket.socket, length_bytes: int) -> bytearray:
        """Return so many bytes; raise OSError if the peer closes or falls silent before.

        Before there is an association all of its bytes must be there when the ARTIM timer ends, so that nobody holds a
        connection by sending one byte a minute.
        """
        buffer = bytearray(length_bytes)
        view = memoryview(buffer)
        while view:
            is_new = self.state_machine.current_state in (_IDLE, _AWAITING_ASSOCIATE)
            connection.settimeout(max(0.001, self.artim_timer.remaining) if is_new else self._timeout_seconds)
            received = connection.recv_into(view)
            if not received:
                raise ConnectionResetError
            view = view[received:]
        connection.settimeout(self._timeout_seconds)
        return buffer

    def _drain(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(_DRAIN_BYTES)
        except OSError:
            received = b""
        if not received or self._has_lingered():
            cast("AssociationSocket", self.socket).close()

    def _has_lingered(self) -> bool:
        """Whether the peer has had its time to close the connection, which is its part after a release too."""
        if self._drained_until is None:
            self._drained_until = time.monotonic() + LINGER_SECONDS
        return time.monotonic() > self._drained_until
