"""How answers go out: streamed in steps of a thread each, with the header fields that caches and ranges need.

Whatever a body holds is given back however sending ends: sent, hung up on, or never asked for (HEAD, 304, 416).
"""

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import monotonic
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dicomweb import media_types, multipart
from dicomweb.caching import Entity, choose_range
from dicomweb.connection import SEND_FILE
from dicomweb.errors import problem
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part, Piece
from dicomweb.threads import OwnThreads
from pacs.retrieve import Representation

T = TypeVar("T")

THREADS = "dicomweb.threads"
"""Where a scope has the ``OwnThreads`` that bodies are read in."""

STEP_BYTES = 1024 * 1024
STEP_SECONDS = 0.02
"""So much of a body is read in one change of threads, and held in memory for as long as its client likes to take; or
what was made of it in that time, so that what takes long to make is sent as it comes."""
STEP_FILES = 16
"""So many files are open of a body at once: they take no memory, and are sent one after the other."""
_SMALL_BYTES = 64 * 1024


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
    return Part(content_type, address, length_bytes, iter_chunks, close, iter_range, representation.open_file)


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
    iter_pieces = part.iter_pieces if _takes_files(request) else part.iter_chunks
    body = _Body(iter_pieces, part.content_type, part.length_bytes, part.close, part.iter_range)
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
            partial(multipart.write_pieces if known and _takes_files(request) else multipart.write, boundary, parts),
            media_types.multipart_type(media_type, boundary),
            multipart.measure(boundary, known) if known else None,
            stack.pop_all().close,
            partial(multipart.write_range, boundary, known) if is_repeatable else None,
        )
    return _send_body(request, body, entity, entity.headers(is_repeatable=is_repeatable))


@dataclass(frozen=True, slots=True)
class _Body:
    """What an answer consists of: all of it, and ranges where they are the same each time."""

    iter_pieces: Callable[[], Iterator[Piece]]
    content_type: str
    length_bytes: int | None
    close: Callable[[], None]
    iter_range: Callable[[int, int], Iterator[bytes]] | None


def _send_body(request: Request, body: _Body, entity: Entity, headers: dict[str, str]) -> Response:
    is_head = bool(request.scope.get(IS_HEAD))
    length_bytes, status = body.length_bytes, 200
    pieces = body.iter_pieces()
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
            pieces, length_bytes, status = body.iter_range(start, end), end - start, 206
    answer = _Streamed(request, pieces, _headers_of(headers, body.content_type, length_bytes), body.close, status)
    if not is_head:
        # The first bytes are read before anything is promised.
        answer.read_first(length_bytes)
    return answer


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
    return _Streamed(request, chunks, _headers_of(headers, content_type, length_bytes), close, status)


def _headers_of(headers: dict[str, str], content_type: str, length_bytes: int | None) -> dict[str, str]:
    length = {} if length_bytes is None else {"Content-Length": str(length_bytes)}
    return {**headers, "Content-Type": content_type, **length}


def _takes_files(request: Request) -> bool:
    """Whether the connection sends files without their being read; what has no body opens none."""
    return SEND_FILE in (request.scope.get("extensions") or ()) and not request.scope.get(IS_HEAD)


@dataclass(frozen=True, slots=True)
class _Step:
    """What is sent between two changes of threads; ``is_last`` says that nothing follows."""

    pieces: list[Piece]
    is_last: bool

    def close(self) -> None:
        """Close its files, those that were sent and those that never will be."""
        for piece in self.pieces:
            if not isinstance(piece, bytes):
                piece.close()


def _read_step(pieces: Iterator[Piece]) -> _Step:
    """Return the next pieces of a body: small neighbours joined, for each is sent alone, but no large one copied."""
    step: list[Piece] = []
    small: list[bytes] = []
    is_last, left, files_left = True, STEP_BYTES, STEP_FILES
    until = monotonic() + STEP_SECONDS
    for piece in pieces:
        if isinstance(piece, bytes) and len(piece) < _SMALL_BYTES:
            small.append(piece)
        else:
            if small:
                step.append(b"".join(small))
                small = []
            step.append(piece)
        if isinstance(piece, bytes):
            left -= len(piece)
        else:
            files_left -= 1
        if left <= 0 or files_left <= 0 or monotonic() > until:
            is_last = False
            break
    if small:
        step.append(b"".join(small))
    return _Step(step, is_last)


class _Streamed(StreamingResponse):
    """A body that is sent in steps, and given back however that ends: sent, hung up on, or never asked for (HEAD)."""

    def __init__(
        self,
        request: Request,
        pieces: Iterator[Piece],
        headers: dict[str, str],
        close: Callable[[], None] | None,
        status: int,
    ) -> None:
        super().__init__((), status, headers=headers)
        self._threads: OwnThreads = request.scope[THREADS]
        self._pieces = pieces
        self._close_body = close
        self._step = _Step([], is_last=bool(request.scope.get(IS_HEAD)))

    def read_first(self, length_bytes: int | None) -> None:
        """Read the first step, and raise what it raises. A body that ends with it is given back at once.

        Raises EOFError if such a body is not as long as is known.
        """
        try:
            self._step = _read_step(self._pieces)
        except BaseException:
            self._give_back()
            raise
        if self._step.is_last:
            self._give_back()
            if length_bytes not in (None, sum(map(len, self._step.pieces))):
                self._step.close()
                raise EOFError("the body is not as long as it was said to be")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer."""
        hung_up = None if self._step.is_last else asyncio.create_task(_await_hang_up(receive))
        try:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            while not self._step.is_last:
                await _send_step(self._step, send)
                if hung_up is not None and hung_up.done():
                    return
                self._step = _Step([], is_last=True)  # its memory is free while the next one is read
                self._step = await self._threads.run(partial(_read_step, self._pieces))
            await _send_step(self._step, send)
        finally:
            if hung_up is not None:
                hung_up.cancel()
            self._step.close()
            self._give_back()

    def _give_back(self) -> None:
        if isinstance(self._pieces, Generator):
            self._pieces.close()
        if self._close_body is not None:
            self._close_body()
            self._close_body = None


async def _send_step(step: _Step, send: Send) -> None:
    """Send the pieces of a step, and the end of the body with the last ones; its files are closed."""
    pieces = step.pieces or [b""] * step.is_last
    try:
        for left, piece in zip(range(len(pieces) - 1, -1, -1), pieces, strict=True):
            more = {"more_body": left > 0 or not step.is_last}
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, **more})
            else:
                await send({"type": SEND_FILE, "file": piece.file, "offset": piece.start, "count": len(piece), **more})
    finally:
        step.close()


async def _await_hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
