"""One batch of one lane: what a task is, and what becomes of the jobs it did, failed, or never came to.

A failed job is tried again later and later. If the whole lane cannot move, its jobs keep their places; if the task
itself breaks, each job is tried by itself, so that one that breaks it takes no other along.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.jobs import queue
from pacs.jobs.queue import Job

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 600.0
_REPORTED_EVERY_SECONDS = 0.5
_MAX_DOUBLINGS = 20


class LaneBlocked(PacsError):
    """The destination does not answer."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The job is done. Without ``leaves_receipt`` nothing stays of it: what nobody asks for later is not to pile up."""

    job: Job
    leaves_receipt: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """The job is not done. ``problem`` holds no patient value; ``is_final``: trying again will not help."""

    job: Job
    problem: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """It is too early for the job, and nothing is wrong: it is claimed again at ``at``."""

    job: Job
    at: datetime


Result = Finished | Failed | Postponed

TaskFunction = Callable[[Sequence[Job]], Iterable[Result]]
"""Does a batch of one lane and yields what became of each job, in any order, as it happens; a job it does not mention
has failed. It may be asked for what was done already. Raises LaneBlocked, before or after some results, when nothing
more of this lane can be done now; any other PacsError says the same. A generator is closed when the archive stops."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited after a failure, and when is given up."""

    give_up_after: timedelta
    first_pause_seconds: float = 2.0

    def pause_seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures: each time about twice as long, never quite the same."""
        longest = min(LONGEST_PAUSE_SECONDS, self.first_pause_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing


class Turn:
    """A claimed batch. ``run`` does it; ``renew`` may be called from another thread meanwhile."""

    def __init__(
        self, database: Database, task: TaskFunction, jobs: Sequence[Job], patience: Patience, stopping: threading.Event
    ) -> None:
        self._database = database
        self._task = task
        self._patience = patience
        self._stopping = stopping
        self._is_single = len(jobs) == 1
        self._is_blocked = False
        self._held = {job.id: job for job in jobs}
        self._results: list[Result] = []
        self._lock = threading.Lock()  # a lease must not change between reading it and reporting with it
        self._has_finished = False
        self._has_failed = False

    def run(self) -> bool:
        """Do the batch; return whether the lane moves: not if it is blocked, or if all that was tried has failed.

        Raises Unavailable if what became of the jobs cannot be written: then they are done again.
        """
        try:
            self._attempt(tuple(self._held.values()))
        except PacsError as error:
            self._is_blocked = True
            self._report()
            self._give_back(str(error))
            return False
        self._report()
        return self._has_finished or not self._has_failed

    @property
    def was_refused_alone(self) -> bool:
        """Whether the batch was one job, and the destination answered and did not take it."""
        return self._is_single and self._has_failed and not self._is_blocked

    def renew(self, leased_until: datetime) -> None:
        """Prolong the leases of what is still to do."""
        with self._lock:
            jobs = tuple(self._held.values())
            renewed = self._database.write(lambda connection: queue.renew(connection, jobs, leased_until))
            self._held = {job.id: job for job in renewed}

    def _attempt(self, jobs: Sequence[Job]) -> None:
        try:
            self._consume(iter(self._task(jobs)))
        except PacsError:
            raise
        except Exception as error:
            LOGGER.exception("The task %s broke off", jobs[0].kind)
            problem = f"The task broke off: {type(error).__name__}."
        else:
            problem = "The task said nothing of it."
        self._report()
        left = [job for job in jobs if job.id in self._held]
        if self._stopping.is_set():
            self._write(lambda connection: queue.release(connection, tuple(self._held.values())))
        elif len(jobs) > 1:
            for job in left:
                self._attempt([job])
        else:
            for job in left:
                self._note(Failed(job, problem))

    def _consume(self, results: Iterator[Result]) -> None:
        reported_at = monotonic()
        try:
            for result in results:
                self._note(result)
                if self._stopping.is_set():
                    return
                if monotonic() - reported_at > _REPORTED_EVERY_SECONDS:
                    self._report()
                    reported_at = monotonic()
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()

    def _note(self, result: Result) -> None:
        self._results.append(result)
        if isinstance(result, Finished):
            self._has_finished = True
        elif isinstance(result, Failed) and not result.is_final:
            self._has_failed = True

    def _report(self) -> None:
        """Write what became of jobs since the last report."""
        results, self._results = self._results, []
        if not results:
            return
        now = datetime.now(UTC)

        def write(connection: Connection) -> None:
            for result in results:
                # As it is held now, not as the task was given it: the lease may have been renewed.
                job = self._held.get(result.job.id)
                if job is not None:
                    self._settle(connection, job, result, now)

        self._write(write)
        for result in results:
            self._held.pop(result.job.id, None)

    def _settle(self, connection: Connection, job: Job, result: Result, now: datetime) -> None:
        if isinstance(result, Finished):
            if result.leaves_receipt:
                queue.finish(connection, [job], now)
            else:
                queue.forget(connection, job)
        elif isinstance(result, Postponed):
            queue.retry_later(connection, job, "", result.at)
        elif result.is_final or job.created_at + self._patience.give_up_after <= now:
            queue.bury(connection, job, result.problem, now)
        else:
            pause = timedelta(seconds=self._patience.pause_seconds(job.attempts))
            queue.retry_later(connection, job, result.problem, now + pause)

    def _give_back(self, problem: str) -> None:
        """Let the jobs that are left wait with their lane.

        One that was tried alone waits by itself: should it be what the destination breaks on, the others pass it.
        """
        now = datetime.now(UTC)

        def write(connection: Connection) -> None:
            jobs = tuple(self._held.values())
            if len(jobs) == 1:
                self._settle(connection, jobs[0], Failed(jobs[0], problem), now)
            else:
                queue.release(connection, jobs, problem)

        self._write(write)
        self._held.clear()

    def _write(self, work: Callable[[Connection], None]) -> None:
        """Write with the leases as they are: they do not change meanwhile."""
        with self._lock:
            self._database.write(work)
