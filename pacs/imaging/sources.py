"""Where bytes come from while an object is read or re-encoded: ranges of a source, spliced together and never copied.

What is sent is planned first, as pieces: short runs of new bytes, and splices of the stored ones. So the length is
known before the first byte is read, and a large value passes through in chunks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

import numpy as np

CHUNK_BYTES = 512 * 1024
_SHORT_BYTES = 64 * 1024


class FileRange(Protocol):
    """Bytes from ``start`` of an open ``file`` on, which the kernel can send; its length is how many. To be closed."""

    start: int

    def __len__(self) -> int: ...

    @property
    def file(self) -> FileIO:
        """The open file, unbuffered."""
        ...

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        ...


class RangedSource(Protocol):
    """Bytes at known offsets: an instance in the store, or a data set that was inflated or decoded on the way."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        ...

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only where the source ends."""
        ...

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the same bytes in chunks; what the iterator has open is closed with it."""
        ...

    def open_file(self, start: int, end: int) -> FileRange | None:
        """Return the same bytes in the file where they lie; None if they lie in none and are to be read."""
        ...


class Scratch(RangedSource, Protocol):
    """Room for bytes that are made on the way."""

    def write(self, data: bytes) -> int:
        """Append bytes; raise OutOfResources when there is no room."""
        ...

    def close(self) -> None:
        """Give the room back."""
        ...


@dataclass(frozen=True, slots=True)
class Splice:
    """Bytes ``start`` up to, not including, ``end`` of a source; every word of ``word_bytes`` turned around."""

    source: RangedSource
    start: int
    end: int
    word_bytes: int = 1

    @property
    def length_bytes(self) -> int:
        """How many bytes come out; turning words around changes nothing of that."""
        return self.end - self.start

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the bytes; raise EOFError if the source is shorter than was promised."""
        left = self.length_bytes
        chunks = self.source.iter_range(self.start, self.end)
        try:
            for chunk in chunks if self.word_bytes == 1 else _iter_swapped(chunks, self.word_bytes):
                left -= len(chunk)
                yield chunk
        finally:
            _close(chunks)
        if left:
            raise EOFError("the stored object is shorter than the index says")


Piece = bytes | Splice


class Pieces:
    """What an answer is made of, in order; neighbours are joined as they come."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._literal = bytearray()
        self.length_bytes = 0

    def write(self, data: bytes) -> None:
        """Append new bytes."""
        self._literal += data
        self.length_bytes += len(data)

    def splice(self, source: RangedSource, start: int, end: int, word_bytes: int = 1) -> None:
        """Append bytes ``start`` up to, not including, ``end`` of ``source``."""
        if start >= end:
            return
        self.length_bytes += end - start
        last = self._pieces[-1] if self._pieces and not self._literal else None
        if isinstance(last, Splice) and (last.source, last.end, last.word_bytes, word_bytes) == (source, start, 1, 1):
            self._pieces[-1] = Splice(source, last.start, end)
            return
        self._flush()
        self._pieces.append(Splice(source, start, end, word_bytes))

    def extend(self, other: "Pieces") -> None:
        """Append everything of ``other``."""
        for piece in other.freeze():
            if isinstance(piece, Splice):
                self.splice(piece.source, piece.start, piece.end, piece.word_bytes)
            else:
                self.write(piece)

    def freeze(self) -> tuple[Piece, ...]:
        """Return the pieces so far."""
        self._flush()
        return tuple(self._pieces)

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the bytes in chunks of ``CHUNK_BYTES`` or somewhat more, the last one shorter."""
        return iter_joined(self._iter_parts())

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes ``start`` up to, not including, ``end``, and read no others; no word is turned around."""
        offset = 0
        for piece in self.freeze():
            length_bytes = len(piece) if isinstance(piece, bytes) else piece.length_bytes
            first, last = max(start - offset, 0), min(end - offset, length_bytes)
            offset += length_bytes
            if first >= last:
                continue
            if isinstance(piece, bytes):
                yield piece[first:last]
            else:
                yield from Splice(piece.source, piece.start + first, piece.start + last).iter_chunks()

    def open_file(self) -> FileRange | None:
        """Return everything as a range of the file in which it lies; None if it is to be read instead."""
        pieces = self.freeze()
        match pieces:
            case (Splice(source, start, end, 1),):
                return source.open_file(start, end)
        return None

    def _iter_parts(self) -> Iterator[bytes]:
        for piece in self.freeze():
            if isinstance(piece, Splice):
                yield from piece.iter_chunks()
            else:
                yield piece

    def _flush(self) -> None:
        if self._literal:
            self._pieces.append(bytes(self._literal))
            self._literal = bytearray()


class Window:
    """A source read in blocks, for a reader that goes forward in small steps and jumps over large values."""

    def __init__(self, source: RangedSource, end: int) -> None:
        self._source = source
        self._block = b""
        self._block_start = 0
        self.end = end

    def read(self, start: int, length_bytes: int) -> bytes:
        """Return bytes from ``start`` on; fewer than asked for only at ``end``."""
        end = min(start + length_bytes, self.end)
        if not self._block_start <= start <= end <= self._block_start + len(self._block):
            self._block_start = start
            self._block = self._source.read_range(start, min(max(end, start + _SHORT_BYTES), self.end))
        return self._block[start - self._block_start : end - self._block_start]


def iter_joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes with small neighbours joined to chunks of at least ``CHUNK_BYTES``."""
    waiting: list[bytes] = []
    waiting_bytes = 0
    try:
        for chunk in chunks:
            waiting.append(chunk)
            waiting_bytes += len(chunk)
            if waiting_bytes >= CHUNK_BYTES:
                yield b"".join(waiting) if len(waiting) > 1 else chunk
                waiting, waiting_bytes = [], 0
        if waiting:
            yield b"".join(waiting)
    finally:
        _close(chunks)


def swap_words(data: bytes, word_bytes: int) -> bytes:
    """Return ``data`` with the bytes of every whole word turned around; a rest that is no word stays as it is."""
    whole = len(data) - len(data) % word_bytes
    swapped = np.frombuffer(data, f"u{word_bytes}", whole // word_bytes).byteswap().tobytes()
    return swapped + data[whole:]


def _iter_swapped(chunks: Iterable[bytes], word_bytes: int) -> Iterator[bytes]:
    rest = b""
    for received in chunks:
        chunk = rest + received
        whole = len(chunk) - len(chunk) % word_bytes
        rest = chunk[whole:]
        if whole:
            yield swap_words(chunk[:whole], word_bytes)
    if rest:
        yield rest


def _close(chunks: Iterable[bytes]) -> None:
    """Close a generator that was left in the middle, and with it whatever it has open."""
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
