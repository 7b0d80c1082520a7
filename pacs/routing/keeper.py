"""The queue as people see it: what waits, what has arrived, what was given up, and what they can do about it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pacs.access import Principal
from pacs.database.base import Database
from pacs.jobs import queue
from pacs.jobs.queue import Job, JobState

__all__ = ["MAX_PAGE", "Job", "JobState", "QueueKeeper"]

MAX_PAGE = 1000
"""Jobs shown or named at once."""


class QueueKeeper:
    """Shows the queue and mends it. Any number of threads may call it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_page(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one
        *,
        state: JobState | None = None,
        lane: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Job]:
        """Return at most ``limit`` jobs, but never more than ``MAX_PAGE``, from the ``offset``-th on."""
        with self._database.read() as connection:
            return queue.list_jobs(connection, state=state, lane=lane, limit=min(limit, MAX_PAGE), offset=offset)

    def requeue(self, principal: Principal, *, ids: Sequence[int] = (), lane: str | None = None) -> int:  # noqa: ARG002
        """Try the jobs named, or all dead letters of a lane, as if they were new; return how many that are."""
        now = datetime.now(UTC)
        return self._database.write(lambda connection: queue.requeue(connection, now, ids=ids, lane=lane))

    def drop(self, principal: Principal, *, ids: Sequence[int] = (), lane: str | None = None) -> int:  # noqa: ARG002
        """Give up for good on the jobs named, or on all dead letters of a lane; return how many that are."""
        return self._database.write(lambda connection: queue.drop(connection, ids=ids, lane=lane))
