"""What is handed out to be sent, and what a client said it takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from pacs.imaging.sources import FileRange
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, lookup


@dataclass(frozen=True, slots=True)
class Acceptable:
    """The transfer syntaxes a client takes, most wanted first.

    None at all stands for the default: Explicit VR Little Endian, or the stored syntax where the pixels are lossy or do
    not decode (PS3.18 8.7.3.5.2). ``*`` takes the stored syntax, whatever it is; Explicit VR Little Endian will do
    where that cannot be written.
    """

    transfer_syntax_uids: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether the client did not say."""
        return not self.transfer_syntax_uids

    def takes(self, transfer_syntax_uid: str) -> bool:
        """Whether the client named this syntax, or takes any."""
        return "*" in self.transfer_syntax_uids or transfer_syntax_uid in self.transfer_syntax_uids

    def targets(self, stored: TransferSyntax, *, keeps_lossy: bool, of_frames: bool = False) -> tuple[str, ...]:
        """Return the syntaxes to try: the stored one if it is taken, then what can be made, in the client's order.

        ``keeps_lossy``: there are lossy pixels, so the default is the stored syntax and not Explicit VR Little Endian.
        ``of_frames``: frames are wanted, which may also be made with loss if the client takes nothing better; a whole
        instance with loss would be another SOP Instance (PS3.3 C.7.6.1.1.5).
        """
        if self.is_default:
            return (stored.uid,) if keeps_lossy else tuple(dict.fromkeys((EXPLICIT_VR_LITTLE_ENDIAN, stored.uid)))
        made = [EXPLICIT_VR_LITTLE_ENDIAN if uid == "*" else uid for uid in self.transfer_syntax_uids]
        kept = (stored.uid,) if self.takes(stored.uid) else ()
        faithful = (uid for uid in made if lookup(uid).can_encode)
        lossy = (uid for uid in made if of_frames and lookup(uid).can_encode_lossy)
        return tuple(dict.fromkeys((*kept, *faithful, *lossy)))


ANY = Acceptable(("*",))
DEFAULT = Acceptable()


def _nothing() -> None:
    pass


def _in_no_file() -> None:
    return None


@dataclass(slots=True)
class Representation:
    """Bytes that are ready to be sent: how many, in which syntax. Whoever opened it closes it, or uses ``with``."""

    transfer_syntax_uid: str
    media_type: str
    length_bytes: int
    _iter_chunks: Callable[[], Iterator[bytes]]
    _close: Callable[[], None] = _nothing
    iter_range: Callable[[int, int], Iterator[bytes]] | None = None
    """Yields bytes from a start up to, not including, an end; None where the bytes are made anew for every answer."""

    open_file: Callable[[], FileRange | None] = _in_no_file
    """Returns the bytes as a range of a file, to be sent without being read, and closed; None if there is none now."""

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
