"""What a database is to the rest of the archive: read transactions, write transactions, and nothing else."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class LostRace(Exception):
    """What ``work`` had found is gone before it could use it; an engine with parallel writers runs it again."""


class Database(Protocol):
    """An engine behind transactions. Drivers' errors leave as ``pacs.errors`` Unavailable or OutOfResources."""

    def read(self) -> AbstractContextManager[Connection]:
        """Return a connection in a read-only transaction that sees one state; close it soon."""
        ...

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a write transaction and return its result once that is committed durably.

        ``work`` may run on another thread and, after a lost race, more than once: it must do nothing but talk to the
        connection. Its exception rolls back its own changes only, and is raised here.
        """
        ...

    def watch(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``wake`` soon after every commit of any process, as ``Watcher.watch`` has it, until the block ends."""
        ...

    def migrate(self) -> None:
        """Bring the schema to this version; raise SchemaMismatch if it is newer than this archive."""
        ...

    def close(self) -> None:
        """Finish the writes under way and close every connection."""
        ...
