"""What is handed out to be sent, and what a client said it takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Acceptable:
    """The transfer syntaxes a client takes, most wanted first.

    None at all stands for the default: Explicit VR Little Endian, or the stored syntax where the pixels are lossy or do
    not decode (PS3.18 8.7.3.5.2). ``*`` takes the stored syntax, whatever it is.
    """

    transfer_syntax_uids: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether the client did not say."""
        return not self.transfer_syntax_uids

    def takes(self, transfer_syntax_uid: str) -> bool:
        """Whether the client named this syntax, or takes any."""
        return "*" in self.transfer_syntax_uids or transfer_syntax_uid in self.transfer_syntax_uids


ANY = Acceptable(("*",))
DEFAULT = Acceptable()


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Representation:
    """Bytes that are ready to be sent: how many, in which syntax. Whoever opened it closes it, or uses ``with``."""

    transfer_syntax_uid: str
    media_type: str
    length_bytes: int
    _iter_chunks: Callable[[], Iterator[bytes]]
    _close: Callable[[], None] = _nothing

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the bytes in chunks of 256 KiB to 1 MiB or so; left in the middle, it closes what it reads from.

        Raises Unavailable if the store stops answering on the way.
        """
        return self._iter_chunks()

    def close(self) -> None:
        """Give back the scratch space, if there is any; nothing can be read afterwards."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


@dataclass(slots=True)
class Frames:
    """Frames in the order they were asked for, each as bytes of its own, once. Whoever opened them closes them."""

    transfer_syntax_uid: str
    media_type: str
    _frames: Iterator[bytes]
    _close: Callable[[], None] = _nothing

    def __iter__(self) -> Iterator[bytes]:
        return self._frames

    def owning(self, close: Callable[[], None]) -> Self:
        """Return the frames with something to be closed with them."""
        return replace(self, _close=close)

    def close(self) -> None:
        """Give back the scratch space, if there is any."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
