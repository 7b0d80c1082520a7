"""Webhooks: changes are posted to an address of the settings, signed, so that its receiver knows who says so.

The signature is an HMAC-SHA256 with the webhook's secret over time, delivery and body. An answer counts by its status
alone: its body is not read, a redirect is not followed, and all of it has to come within a fixed time.
"""

import hashlib
import hmac
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTP_PORT, HTTPS_PORT, HTTPConnection, HTTPException
from importlib.metadata import version

import orjson
from urllib3.util import parse_url

from dicomweb.changes import describe
from pacs.routing.destinations import Unreachable
from pacs.routing.webhooks import Delivery

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""How long a receiver may take from the first byte sent to the head of its answer."""

_GONE = 410


def sign(secret: str, timestamp: int, delivery_id: str, body: bytes) -> str:
    """Return the value of X-PACS-Signature; ``timestamp`` is in seconds since 1970."""
    signed = f"{timestamp}.{delivery_id}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class WebhookReceiver:
    """One webhook of the settings; calling it delivers. Certificates are verified against the system's authorities.

    Each delivery has a connection of its own: they are few, and one that was kept open may be dead.
    """

    def __init__(self, name: str, url: str, secret: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._name = name
        self._secret = secret
        self._answer_seconds = answer_seconds
        self._tls = ssl.create_default_context()
        self._url = parse_url(url)

    def __call__(self, delivery: Delivery) -> str:
        """Deliver; return nothing if it was taken, or that it never will be (410). Raises Unreachable otherwise."""
        body = orjson.dumps({"changes": [describe(change) for change in delivery.changes]})
        timestamp = int(datetime.now(UTC).timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"pacs/{version('pacs')}",
            "Connection": "close",
            "X-PACS-Webhook": self._name,
            "X-PACS-Delivery": delivery.id,
            "X-PACS-Signature": sign(self._secret, timestamp, delivery.id, body),
        }
        status = self._post(body, headers)
        if 200 <= status < 300:
            return ""
        if status == _GONE:
            return "HTTP 410: it wants no such delivery any more."
        raise Unreachable(f"{self._name} answers HTTP {status}.")

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        has_timed_out = threading.Event()
        try:
            with closing(self._connect()) as sock, _deadline(sock, self._answer_seconds, has_timed_out):
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                connection = HTTPConnection(self._url.hostname or "", self._port)
                connection.sock = sock
                connection.request("POST", self._url.request_uri, body, headers)
                with closing(connection.getresponse()) as answer:
                    return answer.status
        except (HTTPException, OSError, ValueError) as error:
            # The error's own words may hold the address, which may be a secret itself.
            if has_timed_out.is_set():
                raise Unreachable(f"{self._name} does not answer in time.") from error
            raise Unreachable(f"{self._name} cannot be reached: {type(error).__name__}.") from error

    @property
    def _port(self) -> int:
        return self._url.port or (HTTPS_PORT if self._url.scheme == "https" else HTTP_PORT)

    def _connect(self) -> socket.socket:
        host = self._url.hostname or ""
        sock = socket.create_connection((host, self._port), CONNECT_SECONDS)
        sock.settimeout(None)  # from here on there is a deadline for all of it
        if self._url.scheme == "https":
            return self._tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        return sock


@contextmanager
def _deadline(sock: socket.socket, seconds: float, has_passed: threading.Event) -> Iterator[None]:
    """End a connection after so long: a timeout of its own would begin anew with every byte that is let drip."""

    def cut() -> None:
        has_passed.set()
        with suppress(OSError):  # it has ended by itself
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own way, which is not made for two threads

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
