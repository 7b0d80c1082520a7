"""A relay between a connection in the clear and one over TLS, for programs that speak the one or the other only."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_BYTES = 65_536


@contextmanager
def relaying(
    to_port: int, port: int = 0, *, inside: ssl.SSLContext | None = None, outside: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Relay each connection to the port, which is given, to ``to_port``, both on loopback, until the block ends.

    ``inside`` is the TLS that who connects has to speak, ``outside`` the one that is spoken to ``to_port``.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with _wrap(self.request, inside, server_side=True) as near:
                    far = socket.create_connection(("127.0.0.1", to_port), timeout=20)
                    with _wrap(far, outside, server_side=False) as there:
                        _pump(near, there)
            except OSError:
                pass  # either side went away, which is how every connection ends

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _wrap(connection: socket.socket, context: ssl.SSLContext | None, *, server_side: bool) -> socket.socket:
    return context.wrap_socket(connection, server_side=server_side) if context else connection


def _pump(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes both ways until one side has ended."""
    others = {near: far, far: near}
    while True:
        # What TLS holds already is not seen by select.
        ready = [one for one in others if isinstance(one, ssl.SSLSocket) and one.pending()]
        for one in ready or select.select(list(others), [], [], 60)[0]:
            data = one.recv(_BYTES)
            if not data:
                return
            others[one].sendall(data)
