"""How answers go out: streamed in steps of a thread each, with the header fields that caches and ranges need.

Whatever a body holds is given back however sending ends: sent, hung up on, or never asked for (HEAD, 304, 416).
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dicomweb import media_types, multipart
from dicomweb.caching import Entity, choose_range
from dicomweb.errors import problem
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part
from pacs.retrieve import Representation

T = TypeVar("T")

WHOLE_BYTES = 1024 * 1024
"""An answer of so many bytes is read by the thread that found it and sent as one body. A longer one pays little for the
threads that read its chunks, and would be held in memory for as long as its client likes to take."""


def started(items: Iterator[T]) -> Iterator[T]:
    """Return the same iterator with its first item taken, so that what it raises at the start is raised here."""
    for first in items:
        return chain((first,), items)
    return iter(())


def as_part(representation: Representation, media_type: str, address: str) -> Part:
    """Return the representation as a part, which closes it, under this media type and address."""

    def iter_chunks() -> Iterator[bytes]:
        with representation:
            yield from representation.iter_chunks()

    transfer_syntax_uid = "" if media_type in media_types.SAFE_DOCUMENTS else representation.transfer_syntax_uid
    content_type = media_types.content_type(media_type, transfer_syntax_uid)
    length_bytes, close, iter_range = representation.length_bytes, representation.close, representation.iter_range
    return Part(content_type, address, length_bytes, iter_chunks, close, iter_range)


def warning(request: Request, text: str) -> str:
    """Return a Warning field that says something of an answer that is given all the same (PS3.18 8.3.4)."""
    return f'299 {quote(request.url.netloc, safe=":[].-")} "{text}"'


def not_modified(request: Request, entity: Entity) -> Response:
    """Return 304 with the tag as the client was given it, weak or strong."""
    was_weak = any(f"W/{entity.tag}" in field for field in request.headers.getlist("if-none-match"))
    return Response(status_code=304, headers=entity.headers(is_repeatable=not was_weak))


def send_single(request: Request, part: Part, entity: Entity) -> Response:
    """Return the answer that is one part, or the range of it that was asked for."""
    headers = {**entity.headers(is_repeatable=part.iter_range is not None), "Content-Location": part.location}
    body = _Body(part.iter_chunks, part.content_type, part.length_bytes, part.close, part.iter_range)
    return _send_body(request, body, entity, headers)


def send_multipart(request: Request, boundary: str, media_type: str, parts: Iterable[Part], entity: Entity) -> Response:
    """Return the answer that carries these parts, or a range of it.

    Its length is known if they are a list, and ranges can be had if all of the list give ranges.
    """
    known = parts if isinstance(parts, list) else []
    is_repeatable = bool(known) and all(part.iter_range is not None for part in known)
    with ExitStack() as stack:
        for part in known:
            stack.callback(part.close)
        body = _Body(
            partial(multipart.write, boundary, parts),
            media_types.multipart_type(media_type, boundary),
            multipart.measure(boundary, known) if known else None,
            stack.pop_all().close,
            partial(multipart.write_range, boundary, known) if is_repeatable else None,
        )
    return _send_body(request, body, entity, entity.headers(is_repeatable=is_repeatable))


@dataclass(frozen=True, slots=True)
class _Body:
    """What an answer consists of: all of it, and ranges where they are the same each time."""

    iter_chunks: Callable[[], Iterator[bytes]]
    content_type: str
    length_bytes: int | None
    close: Callable[[], None]
    iter_range: Callable[[int, int], Iterator[bytes]] | None


def _send_body(request: Request, body: _Body, entity: Entity, headers: dict[str, str]) -> Response:
    is_head = bool(request.scope.get(IS_HEAD))
    chunks, length_bytes, status = body.iter_chunks(), body.length_bytes, 200
    if body.iter_range is not None and length_bytes is not None:
        headers["Accept-Ranges"] = "bytes"
        wanted = None if is_head else choose_range(request.headers, entity.tag, length_bytes)
        if wanted is not None:
            start, end = wanted
            if start >= end:
                body.close()
                refusal = {"Content-Range": f"bytes */{length_bytes}", "Accept-Ranges": "bytes"}
                return problem(416, "RangeNotSatisfiable", "The range begins behind the last byte.", refusal)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{length_bytes}"
            chunks, length_bytes, status = body.iter_range(start, end), end - start, 206
    if not is_head and length_bytes is not None and length_bytes <= WHOLE_BYTES:
        try:
            content = b"".join(chunks)
        finally:
            body.close()
        return Response(content, status, {**headers, "Content-Type": body.content_type})
    # The first bytes are read before anything is promised.
    try:
        chunks = multipart.coalesce(chunks if is_head else started(chunks))
    except BaseException:
        body.close()
        raise
    return send(request, chunks, body.content_type, headers, length_bytes=length_bytes, close=body.close, status=status)


def send(
    request: Request,
    chunks: Iterator[bytes],
    content_type: str,
    headers: dict[str, str],
    *,
    length_bytes: int | None = None,
    close: Callable[[], None] | None = None,
    status: int = 200,
) -> Response:
    """Return an answer that is streamed; ``close`` gives back what its body holds."""
    headers = {**headers, "Content-Type": content_type}
    if length_bytes is not None:
        headers["Content-Length"] = str(length_bytes)
    return _Streamed(request, chunks, headers, close, status)


class _Streamed(StreamingResponse):
    """A streamed body that is given back however sending ends: sent, hung up on, or never asked for (HEAD)."""

    def __init__(
        self,
        request: Request,
        chunks: Iterator[bytes],
        headers: dict[str, str],
        close: Callable[[], None] | None,
        status: int,
    ) -> None:
        super().__init__(() if request.scope.get(IS_HEAD) else chunks, status, headers=headers)
        self._chunks = chunks
        self._close_body = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        if isinstance(self._chunks, Generator):
            self._chunks.close()
        if self._close_body is not None:
            self._close_body()
