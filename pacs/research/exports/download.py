"""What is handed out to be downloaded: how it is called, how long it is if that is known, and its bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 1024 * 1024


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Download:
    """One file for a researcher. Whoever asked for it closes it, or uses ``with``.

    ``name`` says project and version and nothing of a patient. ``identity`` is another one for other bytes, for an
    entity tag to be made of it; it is empty, and ``iter_range`` is None, where the bytes are made anew each time.
    """

    name: str
    media_type: str
    length_bytes: int | None
    _iter_chunks: Callable[[], Iterator[bytes]]
    _close: Callable[[], None] = _nothing
    iter_range: Callable[[int, int], Iterator[bytes]] | None = None
    """Yields bytes from a start up to, not including, an end."""
    identity: str = ""

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the bytes."""
        return self._iter_chunks()

    def close(self) -> None:
        """Give back what it holds."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def of_bytes(name: str, media_type: str, content: bytes, identity: str = "") -> Download:
    """Return bytes at hand as a download."""
    return Download(
        name, media_type, len(content), partial(iter, (content,)), iter_range=_slicer(content), identity=identity
    )


def of_file(name: str, media_type: str, path: Path, identity: str = "") -> Download:
    """Return a file as a download; it is opened now, so that it can be read though it is removed meanwhile."""
    file = path.open("rb")
    length_bytes = file.seek(0, 2)

    def iter_range(start: int, end: int) -> Iterator[bytes]:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
            start += len(chunk)
            yield chunk

    return Download(
        name, media_type, length_bytes, lambda: iter_range(0, length_bytes), file.close, iter_range, identity
    )


def _slicer(content: bytes) -> Callable[[int, int], Iterator[bytes]]:
    return lambda start, end: iter((content[start:end],))
