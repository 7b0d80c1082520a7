"""An ingestor that keeps what it is given, for tests that ask what reaches the one door and how its answers travel."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pacs.ingest.incoming import Expected, Incoming, IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome
from pacs.model import Origin


@dataclass(frozen=True)
class Kept:
    file: bytes
    origin: Origin
    expected: Expected
    spool_path: Path | None

    @property
    def data_set(self) -> bytes:
        """The bytes after the file meta."""
        group_length = int.from_bytes(self.file[140:144], "little")
        return self.file[144 + group_length :]


@dataclass
class Keeper:
    directory: Path
    answer: Callable[[Incoming], Outcome] = lambda _: Outcome(Disposition.STORED)
    kept: list[Kept] = field(default_factory=list)
    spools: list[IncomingSpool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    keeps_bytes: bool = True

    def open_spool(self) -> IncomingSpool:
        spool = IncomingSpool(self.directory)
        with self.lock:
            self.spools.append(spool)
        return spool

    def store(self, incoming: Incoming) -> Outcome:
        file = b"".join(incoming.spool.iter_chunks()) if self.keeps_bytes else b""
        kept = Kept(file, incoming.origin, incoming.expected, incoming.spool.path)
        outcome = self.answer(incoming)
        with self.lock:
            self.kept.append(kept)
        return outcome
