"""What surrounds every request: HEAD wherever there is GET, no guessing of types, an answer for every address."""

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import brotli
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.caching import choose_coding
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, parse_media_type

_BROTLI_QUALITY = 4
_BROTLI_WINDOW_BITS = 18
"""A quarter of a megabyte: the headers of one series are alike, and twice as much at most is held back of an answer."""
_GZIP_LEVEL = 5
_GZIP_CONTAINER = 16 + zlib.MAX_WBITS
_SHORT_BYTES = 16 * 1024

IS_HEAD = "dicomweb.is_head"

_TEXTS = (JSON, DICOM_JSON, DICOM_XML, "text/html", "text/css")


class HeadAsGet:
    """Answers HEAD as GET without the body; ``scope[IS_HEAD]`` lets an endpoint spare itself making one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", IS_HEAD: True}, receive, send_head)


class NoSniffing:
    """Adds X-Content-Type-Options: what was sent to us as pixels must never run as a script of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        await self._app(scope, receive, send_safely)


class CompressJson:
    """Sends JSON, XML and pages compressed to whoever takes that: metadata shrinks to a tenth, pixels never pass here.

    It compresses as the answer is made and holds one window back. An answer that says what it varies with by
    Accept-Encoding, or how it is encoded, has decided for itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        coding = choose_coding(Headers(scope=scope).getlist("accept-encoding"))
        await self._app(scope, receive, _Compressing(send, coding))


class _Compressing:
    """One answer on its way through CompressJson."""

    def __init__(self, send: Send, coding: str) -> None:
        self._send = send
        self._coding = coding
        self._compressor: Compressor | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body" and self._compressor is not None:
            message = {**message, "body": await self._compress(message)}
            if message.get("more_body") and not message["body"]:
                return
        await self._send(message)

    def _begin(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        has_decided = "content-encoding" in headers or "accept-encoding" in headers.get("vary", "").lower()
        if message["status"] != 200 or has_decided or not _is_text(headers.get("content-type", "")):
            return
        headers.add_vary_header("Accept-Encoding")
        if not self._coding:
            return
        headers["Content-Encoding"] = self._coding
        if "content-length" in headers:
            del headers["content-length"]
        self._compressor = _COMPRESSORS[self._coding]()

    async def _compress(self, message: Message) -> bytes:
        body = message.get("body", b"")
        is_last = not message.get("more_body", False)
        if len(body) < _SHORT_BYTES:
            return self._run(body, is_last)
        # A quarter of a megabyte takes milliseconds, in which the event loop has others to serve.
        return await run_in_threadpool(self._run, body, is_last)

    def _run(self, body: bytes, is_last: bool) -> bytes:
        assert self._compressor is not None
        compressed = self._compressor.compress(body)
        return compressed + self._compressor.flush() if is_last else compressed


class Compressor(Protocol):
    """Makes a body smaller as it comes."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is known of the compressed body with this piece."""
        ...

    def flush(self) -> bytes:
        """Return the rest; nothing can be added any more."""
        ...


class _Brotli:
    """Brotli as ``zlib`` spells it."""

    def __init__(self) -> None:
        self._compressor = brotli.Compressor(quality=_BROTLI_QUALITY, lgwin=_BROTLI_WINDOW_BITS)

    def compress(self, data: bytes, /) -> bytes:
        compressed: bytes = self._compressor.process(data)
        return compressed

    def flush(self) -> bytes:
        rest: bytes = self._compressor.finish()
        return rest


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "br": _Brotli,
    "gzip": lambda: zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_CONTAINER),
}


def compress(body: bytes, coding: str) -> bytes:
    """Return a body in a content coding, or as it is if that is empty."""
    if not coding:
        return body
    compressor = _COMPRESSORS[coding]()
    return compressor.compress(body) + compressor.flush()


def _is_text(content_type: str) -> bool:
    """Whether the body is JSON, or XML in parts or alone, or what pages are made of."""
    parsed = parse_media_type(content_type)
    return parsed is not None and parsed.content in _TEXTS


class Unrouted:
    """Answers what none of ``routes`` answers under the service's root, so that the viewer below it never does."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            raise HTTPException(404)
        methods: set[str] = set()
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.PARTIAL:
                methods |= getattr(route, "methods", None) or set()
        if methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
        raise HTTPException(404)
