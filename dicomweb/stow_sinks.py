"""Where the bytes of a body go on their way to the one door (PS3.18 10.5.1): synchronous code on a pool thread."""

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Protocol

from dicomweb.errors import MultipartError
from dicomweb.multipart import MultipartParser, PartBegan, PartData, PartEnded
from dicomweb.stow_report import NO_ROOM
from pacs.ingest.incoming import Expected, Incoming, IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.ingest.pipeline import Ingestor
from pacs.model import Origin

_SOP_INSTANCE_UID = re.compile(rb"\x08\x00\x18\x00(?:UI..|..\0\0)([0-9.]{1,64})", re.DOTALL)
_NAME_WITHIN_BYTES = 4096
_UNSETTLED = Outcome(Disposition.REJECTED, Reason.INTERNAL_ERROR)


class Sink(Protocol):
    """Where bytes of a body go."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    @property
    def is_heavy(self) -> bool:
        """Whether ``finish`` takes much memory, so that few may do so at once."""

    def finish(self) -> None:
        """Say that there are no more."""

    def close(self) -> None:
        """Give back what is held; the receiver closes itself."""


class Aside:
    """A few threads that store objects while the next ones of their bodies come in; all requests share them."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "stow")
        self._free = BoundedSemaphore(threads)

    def start(self, store: Callable[[], None]) -> "Future[None] | None":
        """Begin to store in a thread that is free; return None, having done nothing, if there is none."""
        if not self._free.acquire(blocking=False):
            return None
        future = self._threads.submit(store)
        future.add_done_callback(lambda _: self._free.release())
        return future


@dataclass(slots=True)
class Receiver:
    """Spools and stores one object after the other, and remembers what became of each, in their order.

    Objects of one SOP Instance UID are stored in their order too. Once there is no room left it takes nothing more:
    ``is_exhausted``.
    """

    ingest: Ingestor
    origin: Origin
    expected: Expected
    aside: Aside | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    is_exhausted: bool = False
    _spool: IncomingSpool | None = None
    _under_way: dict[bytes, Future[None]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start an object."""
        self.close()
        self._spool = self.ingest.open_spool()

    def write(self, data: bytes | memoryview) -> None:
        """Append to the object; raise Unavailable, or OutOfResources, when it cannot be held."""
        if self._spool is not None:
            self._spool.write(data)

    def store(self) -> None:
        """Store the object, which is whole now."""
        if (store := self._take()) is not None:
            store()

    def hand_over(self, *, is_last: bool) -> None:
        """Have the object, which is whole now, stored aside if a thread is free and others follow, else store it.

        What becomes of it is known once ``settle`` returns.
        """
        if self._spool is None:
            return
        uid = _find_uid(self._spool)
        if not uid:
            self.settle()
        elif uid in self._under_way:
            self._under_way.pop(uid).result()
        for done in [name for name, future in self._under_way.items() if future.done()]:
            self._under_way.pop(done).result()
        store = self._take()
        assert store is not None, "it has a spool"
        future = self.aside.start(store) if self.aside is not None and uid and not is_last else None
        if future is None:
            store()
        else:
            self._under_way[uid] = future

    @property
    def is_busy(self) -> bool:
        """Whether something handed over is still being stored."""
        return not all(future.done() for future in self._under_way.values())

    def settle(self) -> None:
        """Wait for everything that was handed over."""
        while self._under_way:
            self._under_way.popitem()[1].result()

    def close(self) -> None:
        """Drop the object under way, if any; what was handed over is stored all the same."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def _take(self) -> Callable[[], None] | None:
        """Return what stores the object and notes what became of it, in its place; it closes the spool."""
        spool, self._spool = self._spool, None
        if spool is None:
            return None
        place = len(self.outcomes)
        self.outcomes.append(_UNSETTLED)

        def store() -> None:
            with spool:
                outcome = self.outcomes[place] = self.ingest.store(Incoming(spool, self.origin, self.expected))
            if outcome.reason in NO_ROOM and not outcome.is_stored:
                self.is_exhausted = True

        return store


def _find_uid(spool: IncomingSpool) -> bytes:
    """Return the SOP Instance UID of an object if its first bytes show it, else nothing.

    A deflated data set shows none, nor one in big endian: such an object waits for those before it.
    """
    match = _SOP_INSTANCE_UID.search(spool.read_range(0, _NAME_WITHIN_BYTES))
    return match[1] if match else b""


@dataclass(slots=True)
class SingleSink:
    """A body that is one object: Content-Type application/dicom."""

    receiver: Receiver
    is_heavy: bool = False
    _has_begun: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if not self._has_begun:
            self._has_begun = True
            self.receiver.begin()
        self.receiver.write(data)

    def finish(self) -> None:
        """Store the object; raise MultipartError if there is none."""
        if not self._has_begun:
            raise MultipartError("The body is empty.")
        self.receiver.store()

    def close(self) -> None:
        """Do nothing: the receiver holds everything."""


@dataclass(slots=True)
class MultipartSink:
    """A multipart/related body. What its parts say of themselves is not looked at: their bytes do."""

    receiver: Receiver
    parser: MultipartParser
    is_heavy: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raise MultipartError when they make no sense."""
        for event in self.parser.feed(data):
            match event:
                case PartData(view):
                    self.receiver.write(view)
                case PartBegan(headers):
                    check_encoding(headers)
                    self.receiver.begin()
                case PartEnded(is_last):
                    self.receiver.hand_over(is_last=is_last)
            if self.receiver.is_exhausted:
                return

    def finish(self) -> None:
        """Raise MultipartError unless the body came whole and had a part."""
        self.parser.finish()
        if not self.parser.parts:
            raise MultipartError("The body has no parts.")

    def close(self) -> None:
        """Do nothing: the receiver holds everything."""


def check_encoding(headers: dict[str, str]) -> None:
    """Raise MultipartError if a part's bytes are not what they are."""
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit", "7bit"):
        raise MultipartError("A part has a Content-Transfer-Encoding other than binary.")
