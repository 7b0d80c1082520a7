"""A receiver of webhooks as others write them: an HTTP server that remembers, and answers as it is told to."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


def answering(status: int, **headers: str) -> Answer:
    """Return what answers so, with an empty body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class Receiver:
    """What came to a webhook: header fields and bodies as they came, of what was answered 2xx and of all."""

    def __init__(self) -> None:
        self.answer: Answer = answering(204)
        self.requests: list[tuple[dict[str, str], bytes, str]] = []
        self.stopping = threading.Event()
        self.url = ""

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append((dict(handler.headers.items()), body, handler.path))
        with suppress(OSError):  # the archive may be gone before it is answered
            self.answer(handler)

    def changes(self) -> list[dict]:
        return [change for _, body, _ in tuple(self.requests) for change in json.loads(body)["changes"]]

    def uids(self) -> set[str]:
        return {change["sop_instance_uid"] for change in self.changes()}


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: half of the tests cut connections off."""


@contextmanager
def receiving(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver on a free port, or on this one again, until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _Quiet(("127.0.0.1", port), Handler) as server:
        receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopping.set()
            server.shutdown()
            thread.join()
