"""multipart/related (RFC 2046, RFC 2387; PS3.18 8.6.1.2): a push parser and a writer that copy no body around.

The parser reads bytes from strangers: whatever it is fed, it holds at most one header block and one delimiter back and
raises nothing but MultipartError. Lines end in CRLF only. A lone LF is no line end: the byte before it may be a pixel,
and guessing would change the object that is stored.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from dicomweb.errors import MultipartError
from pacs.imaging.sources import FileRange

P = TypeVar("P")

Piece = bytes | FileRange
"""A piece of a body: bytes, or a range of a file that is sent without being read."""

MAX_BOUNDARY_LENGTH = 70
MAX_HEADER_BYTES = 16 * 1024
MAX_PADDING_BYTES = 256
MAX_PARTS = 100_000
CHUNK_BYTES = 256 * 1024

# RFC 2046 allows fewer; devices take what they like, and anything that cannot end a line is harmless.
_BOUNDARY_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F)))
_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class PartBegan:
    """A part starts; header names are in lower case, the last of several equal ones wins."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part. The view stays valid; it is never empty."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The current part came whole; ``is_last`` says that the closing boundary stood behind it."""

    is_last: bool = False


Event = PartBegan | PartData | PartEnded

_ENDED, _ENDED_LAST = PartEnded(), PartEnded(is_last=True)


class _State(Enum):
    PREAMBLE = "before the first boundary"
    HEADERS = "in the headers of a part"
    BODY = "in the body of a part"
    EPILOGUE = "after the closing boundary"


class MultipartParser:
    """Turns pieces of a body, cut anywhere, into events; how it is cut never changes the parts.

    Preamble and epilogue are skipped, padding after a boundary is tolerated (RFC 2046 5.1.1).
    """

    def __init__(self, boundary: str) -> None:
        is_legal = 0 < len(boundary) <= MAX_BOUNDARY_LENGTH and _BOUNDARY_CHARACTERS.issuperset(boundary)
        if not is_legal or boundary.endswith(" "):
            raise MultipartError("The boundary parameter is missing or malformed.")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._state = _State.PREAMBLE
        # The very first boundary has no line before it; this makes it look like every other one.
        self._held = b"\r\n"
        self._parts = 0

    @property
    def parts(self) -> int:
        """How many parts have begun."""
        return self._parts

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what ``data`` completes; run the iterator to its end. Raise MultipartError once it makes no sense.

        What was whole before the error has been yielded by then.
        """
        buffer = self._held + data if self._held else data
        self._held = b""
        position = 0
        while True:
            if self._state is _State.EPILOGUE:
                return
            if self._state is _State.HEADERS:
                end = buffer.find(b"\r\n\r\n", position, position + MAX_HEADER_BYTES)
                if end < 0:
                    self._hold_header(buffer, position)
                    return
                yield self._begin_part(buffer[position:end])
                position = end + 4
                continue
            found, start, end = self._find_delimiter(buffer, position)
            if self._state is _State.BODY:
                if start > position:
                    yield PartData(memoryview(buffer)[position:start])
                if found in (_Found.NEXT, _Found.CLOSE):
                    yield _ENDED if found is _Found.NEXT else _ENDED_LAST
            if found is _Found.NOTHING:
                self._held = buffer[start:]
                return
            self._state = _State.HEADERS if found is _Found.NEXT else _State.EPILOGUE
            position = end

    def finish(self) -> None:
        """Raise MultipartError unless the closing boundary has been seen."""
        if self._state is not _State.EPILOGUE:
            raise MultipartError(f"The body ends {self._state.value}.")

    def _find_delimiter(self, buffer: bytes, position: int) -> "tuple[_Found, int, int]":
        """Return what follows, the first byte that is not data, and the first byte after the boundary's line.

        The line's own CRLF is left in place, so that a header block always starts with one, even an empty block.
        """
        delimiter = self._delimiter
        search = position
        while (start := buffer.find(delimiter, search)) >= 0:
            after = start + len(delimiter)
            padded = after
            while padded < len(buffer) and padded - after < MAX_PADDING_BYTES and buffer[padded] in b" \t":
                padded += 1
            ending = buffer[padded : padded + 2]
            if ending == b"\r\n":
                return _Found.NEXT, start, padded
            if ending == b"--" and padded == after:
                return _Found.CLOSE, start, padded + 2
            if ending in (b"", b"\r") or (ending == b"-" and padded == after):
                return _Found.NOTHING, start, start
            # A longer line that only begins like the boundary, such as one of a nested body, is data.
            search = after
        return _Found.NOTHING, self._start_of_prefix(buffer, max(search, len(buffer) - len(delimiter) + 1)), 0

    def _start_of_prefix(self, buffer: bytes, position: int) -> int:
        """Return where the end of the buffer begins to look like a boundary; its length if it does not."""
        while (start := buffer.find(b"\r", position)) >= 0:
            if self._delimiter.startswith(buffer[start:]):
                return start
            position = start + 1
        return len(buffer)

    def _hold_header(self, buffer: bytes, position: int) -> None:
        if len(buffer) - position >= MAX_HEADER_BYTES:
            raise MultipartError("The headers of a part are too long.")
        self._held = buffer[position:]

    def _begin_part(self, block: bytes) -> PartBegan:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MultipartError(f"The body has more than {MAX_PARTS} parts.")
        headers = parse_headers(block)
        self._state = _State.BODY
        return PartBegan(headers)


class _Found(Enum):
    NOTHING = "no boundary yet"
    NEXT = "a boundary before another part"
    CLOSE = "the closing boundary"


def parse_headers(block: bytes) -> dict[str, str]:
    """Return a header block's fields by name in lower case, folded lines joined; raise MultipartError for nonsense."""
    headers: dict[str, str] = {}
    name = ""
    for line in block.decode("latin-1").split("\r\n"):
        if not line:
            continue
        if line[0] in " \t" and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t").lower()
        if not colon or not name or not _TOKEN_CHARACTERS.issuperset(name):
            raise MultipartError("A part has a malformed header.")
        headers[name] = value.strip(" \t")
    return headers


def _nothing() -> None:
    pass


def _in_no_file() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer; ``length_bytes`` is None if unknown.

    ``iter_chunks`` is called once, when its turn comes; ``close`` gives back what the part holds if it never does.
    ``iter_range`` yields bytes from a start up to, not including, an end; None if they are not the same each time.
    ``open_file`` returns all of it as a range of a file, to be closed; None if it is in none.
    """

    content_type: str
    location: str
    length_bytes: int | None
    iter_chunks: Callable[[], Iterator[bytes]]
    close: Callable[[], None] = _nothing
    iter_range: Callable[[int, int], Iterator[bytes]] | None = None
    open_file: Callable[[], FileRange | None] = _in_no_file

    def iter_pieces(self) -> Iterator[Piece]:
        """Yield a file if all of it lies in one, or else its chunks."""
        file = self.open_file()
        if file is None:
            yield from self.iter_chunks()
        else:
            yield file
            self.close()

    @property
    def head(self) -> bytes:
        """The header block with its blank line."""
        location = f"Content-Location: {self.location}\r\n" if self.location else ""
        return f"Content-Type: {self.content_type}\r\n{location}\r\n".encode("latin-1")


def derive_boundary(key: bytes, identity: Iterable[str]) -> str:
    """Return the boundary for an answer: the same for the same content, so that a byte range of it can be repeated.

    ``key`` is this archive's own secret. Without it, whoever sends an object could put the boundary of the answer that
    will carry it into its pixels.
    """
    digest = hashlib.blake2b(key=key[:64], digest_size=20)
    for text in identity:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def measure(boundary: str, parts: Iterable[Part]) -> int | None:
    """Return how many bytes ``write`` gives for these parts, or None if a part's length is unknown."""
    frame_bytes = len(boundary) + 6
    total = frame_bytes
    for part in parts:
        if part.length_bytes is None:
            return None
        total += frame_bytes + len(part.head) + part.length_bytes
    return total


def write(boundary: str, parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield a multipart body; parts are taken one by one, as they are sent."""
    return _write(boundary, ((part, part.iter_chunks()) for part in parts))


def write_pieces(boundary: str, parts: Iterable[Part]) -> Iterator[Piece]:
    """Yield the same body with what lies in files as files, each of which whoever takes it closes."""
    return _write(boundary, ((part, part.iter_pieces()) for part in parts))


def _write(boundary: str, parts: Iterable[tuple[Part, Iterator[P]]]) -> Iterator[bytes | P]:
    mark = boundary.encode("ascii")
    for part, pieces in parts:
        yield b"\r\n--" + mark + b"\r\n" + part.head
        yield from pieces
    yield b"\r\n--" + mark + b"--"


def write_range(boundary: str, parts: Iterable[Part], start: int, end: int) -> Iterator[bytes]:
    """Yield bytes ``start`` up to, not including, ``end`` of what ``write`` gives, and read no others.

    Every part has a length and gives ranges.
    """
    offset = 0
    for length_bytes, iter_range in _iter_segments(boundary, parts):
        first, last = max(start - offset, 0), min(end - offset, length_bytes)
        offset += length_bytes
        if first < last:
            yield from iter_range(first, last)


def _iter_segments(boundary: str, parts: Iterable[Part]) -> Iterator[tuple[int, Callable[[int, int], Iterator[bytes]]]]:
    mark = boundary.encode("ascii")

    def literal(data: bytes) -> tuple[int, Callable[[int, int], Iterator[bytes]]]:
        return len(data), lambda start, end: iter((data[start:end],))

    for part in parts:
        assert part.length_bytes is not None
        assert part.iter_range is not None
        yield literal(b"\r\n--" + mark + b"\r\n" + part.head)
        yield part.length_bytes, part.iter_range
    yield literal(b"\r\n--" + mark + b"--")


def coalesce(chunks: Iterable[bytes], size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the same bytes in pieces of at least ``size_bytes``, but the last: each costs a change of threads."""
    pending: list[bytes] = []
    pending_bytes = 0
    for chunk in chunks:
        if not pending and len(chunk) >= size_bytes:
            yield chunk
            continue
        pending.append(chunk)
        pending_bytes += len(chunk)
        if pending_bytes >= size_bytes:
            yield b"".join(pending)
            pending, pending_bytes = [], 0
    if pending:
        yield b"".join(pending)
