"""Where the bytes of a body go on their way to the one door (PS3.18 10.5.1): synchronous code on a pool thread."""

from dataclasses import dataclass, field
from typing import Protocol

from dicomweb.errors import MultipartError
from dicomweb.multipart import MultipartParser, PartBegan, PartData, PartEnded
from dicomweb.stow_report import NO_ROOM
from pacs.ingest.incoming import Expected, Incoming, IncomingSpool
from pacs.ingest.outcome import Outcome
from pacs.ingest.pipeline import Ingestor
from pacs.model import Origin


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


@dataclass(slots=True)
class Receiver:
    """Spools and stores one object after the other, and remembers what became of each.

    Once there is no room left it takes nothing more: ``is_exhausted``.
    """

    ingest: Ingestor
    origin: Origin
    expected: Expected
    outcomes: list[Outcome] = field(default_factory=list)
    is_exhausted: bool = False
    _spool: IncomingSpool | None = None

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
        if self._spool is None:
            return
        outcome = self.ingest.store(Incoming(self._spool, self.origin, self.expected))
        self.outcomes.append(outcome)
        self.is_exhausted = outcome.reason in NO_ROOM and not outcome.is_stored
        self.close()

    def close(self) -> None:
        """Drop the object under way, if any."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


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
                case PartEnded():
                    self.receiver.store()
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
