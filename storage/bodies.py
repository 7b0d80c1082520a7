"""The bodies of plain GETs over sockets of our own: the request that a busy reader sends a thousand times a minute.

``http.client`` reads the head of an answer as it would an e-mail, and its body in many small steps. Here a head is
searched for what tells where a body ends, and the body is received in as few steps as the socket allows. Whatever is
not the plain answer that was hoped for is not understood here: it is asked for again by those who know every answer.
"""

import socket
import ssl
import struct
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from urllib3.util import wait_for_read

_HEAD_BYTES = 16 * 1024
_HEAD_END = b"\r\n\r\n"
_TLS_STEP_BYTES = 16 * 1024  # a record: more than one is never received at once
_IDLE_SOCKETS = 64


class Bodies:
    """Gets bodies from the service at ``url``. Threads may share it: a socket serves one of them, and then the next."""

    def __init__(self, url: str, *, connect_timeout_seconds: float, read_timeout_seconds: float) -> None:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        self._address = parts.hostname or "", parts.port or (443 if is_secure else 80)
        self._tls = ssl.create_default_context() if is_secure else None
        self._connect_timeout_seconds = connect_timeout_seconds
        microseconds = int(read_timeout_seconds * 1_000_000)
        self._read_timeout = struct.pack("@ll", *divmod(microseconds, 1_000_000))  # a struct timeval
        self._idle: deque[socket.socket] = deque()
        weakref.finalize(self, _close_all, self._idle)

    def get(self, target: str, headers: Mapping[str, str], start: int, end: int) -> bytes | None:
        """Return bytes ``start`` up to, not including, ``end``, which is greater; fewer where the object ends.

        None if the service did not give just that, for whatever reason.
        """
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET {target} HTTP/1.1\r\nRange: bytes={start}-{end - 1}\r\n{fields}\r\n".encode("ascii")
        with suppress(OSError):
            connection = self._take()
            body = None
            try:
                connection.sendall(request)
                body = self._receive(connection, start, end)
            finally:
                # A socket with anything left in it would give the next reader somebody else's bytes.
                if body is None or len(self._idle) >= _IDLE_SOCKETS:
                    connection.close()
                else:
                    self._idle.append(connection)
            return body
        return None

    def _receive(self, connection: socket.socket, start: int, end: int) -> bytes | None:
        """Return the body of an answer that leaves the socket as new; None for another one."""
        head, following = self._receive_head(connection)
        length_bytes = _find_length(head, start, end)
        if length_bytes is None or len(following) > length_bytes:
            return None
        pieces = [following] if following else []
        left = length_bytes - len(following)
        step_bytes, flags = (_TLS_STEP_BYTES, 0) if self._tls else (left, socket.MSG_WAITALL)
        while left:
            piece = connection.recv(min(left, step_bytes), flags)
            if not piece:
                return None
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _receive_head(self, connection: socket.socket) -> tuple[bytes, bytes]:
        """Return the head of an answer, and what was received with it; an empty one if there is none."""
        received = b""
        step_bytes = _HEAD_BYTES
        if self._tls is None:
            # If the head is there already, just that: a body received in one piece need not be put together.
            found = connection.recv(_HEAD_BYTES, socket.MSG_PEEK).find(_HEAD_END)
            step_bytes = _HEAD_BYTES if found < 0 else found + len(_HEAD_END)
        while len(received) < _HEAD_BYTES and (piece := connection.recv(step_bytes)):
            received += piece
            head, end, following = received.partition(_HEAD_END)
            if end:
                return head, following
        return b"", b""

    def _take(self) -> socket.socket:
        """Return a socket on which nothing is under way, an idle one if there is one; raise OSError."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not wait_for_read(connection, timeout=0):
                    return connection
                connection.close()  # ended by the service, or it says what nobody asked for
        connection = socket.create_connection(self._address, self._connect_timeout_seconds)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._address[0])
            # Python's own timeouts make a socket give what it has, piece by piece; the system's do not.
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, self._read_timeout)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._read_timeout)
        except BaseException:
            connection.close()
            raise
        return connection


def _close_all(sockets: deque[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()


def _find_length(head: bytes, start: int, end: int) -> int | None:
    """Return how long the body of this answer is; None unless it is of this range and can be followed by another."""
    status, *lines = head.lower().split(b"\r\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    found = dict(fields)
    lengths = [value for name, value in fields if name == b"content-length"]
    is_plain = (
        status.startswith(b"http/1.1 206 ")
        and len(lengths) == 1  # of two, one is wrong
        and lengths[0].isdigit()
        and found.get(b"content-range", b"").startswith(b"bytes %d-" % start)
        and found.get(b"connection", b"keep-alive") == b"keep-alive"
        and not found.keys() & {b"transfer-encoding", b"content-encoding"}
    )
    return int(lengths[0]) if is_plain and int(lengths[0]) <= end - start else None
