"""Does what the queue lists: every lane in a thread of its own, so that one that does not move holds up no other.

When a lane does not move, the lane waits, each time longer, and then tries one job before it goes on. What has been
due for too long becomes a dead letter.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Self

from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.jobs import queue
from pacs.jobs.queue import Lane
from pacs.jobs.turn import Failed, Finished, LaneBlocked, Patience, Postponed, Result, TaskFunction, Turn

__all__ = ["Failed", "Finished", "LaneBlocked", "Postponed", "Result", "TaskFunction", "Worker"]

LOGGER = logging.getLogger(__name__)

BATCH = 50
PARALLEL_LANES = 16
LONGEST_SLEEP_SECONDS = 30.0
"""How late a job is at most that is due sooner than was reckoned, because the clock was put forward."""
LEASE_SECONDS = 20.0
RECEIPTS_KEPT_DAYS = 30
LONGEST_WAIT = timedelta(hours=48)
"""Longer than any job is put off; one due later was listed while the clock was wrong."""

_RENEWALS_A_LEASE = 4
_PRUNED_EVERY_SECONDS = 3600.0
_AFTER_FAILURE_SECONDS = 5.0


@dataclass(slots=True)
class _LaneState:
    """What this process remembers of a lane; times are of the monotonic clock."""

    turn: Turn | None = None
    failures: int = 0
    not_before: float = 0.0
    last_turn_at: float = 0.0
    is_running: bool = False


class Worker:
    """Does the jobs of the kinds it is given tasks for, between ``with`` and its end.

    Any number of processes may work on one queue. At the end it waits ``grace_seconds`` for what is being done; what
    is not done by then is done again by whoever starts next.
    """

    def __init__(
        self,
        database: Database,
        tasks: Mapping[str, TaskFunction],
        patience: Patience,
        *,
        grace_seconds: float = 10.0,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._tasks = dict(tasks)
        self._patience = patience
        self._grace_seconds = grace_seconds
        self._lease = timedelta(seconds=lease_seconds)
        self._lanes: dict[Lane, _LaneState] = {}
        self._renewed_at = self._pruned_at = 0.0
        self._clock_offset: datetime | None = None  # what the clock showed when the monotonic one was at zero
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._supervisor = threading.Thread(target=self._supervise, name="worker", daemon=True)

    def __enter__(self) -> Self:
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        deadline = monotonic() + self._grace_seconds
        self._stopping.set()
        self._awake.set()
        self._supervisor.join()
        for thread in tuple(self._threads):
            thread.join(max(0.0, deadline - monotonic()))
            if thread.is_alive():
                LOGGER.warning("A lane is still busy; what it was doing is done again after the next start")

    def wake(self) -> None:
        """Look for jobs now."""
        self._awake.set()

    def _supervise(self) -> None:
        with self._database.watch(self.wake):
            while not self._stopping.is_set():
                pause = _AFTER_FAILURE_SECONDS
                try:
                    self._mind_the_clock()
                    pause = self._start_turns()
                    self._renew_leases()
                    self._prune()
                except PacsError as error:
                    LOGGER.warning("The queue cannot be read now: %s", error)
                except Exception:
                    LOGGER.exception("The queue cannot be worked on")
                self._awake.wait(pause)
                self._awake.clear()

    def _start_turns(self) -> float:
        """Give every lane that has something due a thread for one batch, those that waited longest first.

        Returns how many seconds there is nothing else to do, unless something is listed or a turn ends, which wakes.
        """
        with self._database.read() as connection:
            lanes = queue.find_lanes(connection, self._tasks)
        clock, now = datetime.now(UTC), monotonic()
        pauses = [LONGEST_SLEEP_SECONDS]
        ready: list[tuple[float, Lane]] = []
        for lane, due_at in lanes.items():
            state = self._lanes.setdefault(lane, _LaneState())
            pause = max((due_at - clock).total_seconds(), state.not_before - now)
            if pause > 0:
                pauses.append(pause)
            elif not state.is_running:
                ready.append((state.last_turn_at, lane))
        for _, lane in sorted(ready)[: PARALLEL_LANES - len(self._threads)]:
            self._start_turn(lane, now)
        if self._threads:
            pauses.append(self._lease.total_seconds() / _RENEWALS_A_LEASE)
        return min(pauses)

    def _start_turn(self, lane: Lane, now: float) -> None:
        state = self._lanes[lane]
        state.is_running, state.last_turn_at = True, now
        thread = threading.Thread(target=self._take_turn, args=(lane, state), name="worker-lane", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _take_turn(self, lane: Lane, state: _LaneState) -> None:
        try:
            is_moving = self._run_batch(lane, state)
        except PacsError as error:
            LOGGER.warning("The queue cannot be written now: %s", error)
            is_moving = False
        except Exception:
            LOGGER.exception("A lane broke off")
            is_moving = False
        state.turn = None
        if is_moving:
            if state.failures:
                LOGGER.info("%s to %s goes on", *lane)
            state.failures = 0
        else:
            state.failures += 1
            state.not_before = monotonic() + self._patience.pause_seconds(state.failures)
            if state.failures == 1:
                LOGGER.warning("%s to %s does not move and is tried again later", *lane)
        state.is_running = False
        self._threads.discard(threading.current_thread())
        self._awake.set()

    def _run_batch(self, lane: Lane, state: _LaneState) -> bool:
        now = datetime.now(UTC)
        size = 1 if state.failures else BATCH
        jobs = self._database.write(
            lambda connection: queue.claim(connection, *lane, limit=size, now=now, leased_until=now + self._lease)
        )
        if not jobs:
            return True
        state.turn = Turn(self._database, self._tasks[lane[0]], jobs, self._patience, self._stopping)
        is_moving = state.turn.run()
        if state.turn.was_refused_alone and not state.failures:
            # An answer about one job says nothing of the next: it waits by itself, and what comes now need not.
            LOGGER.warning("%s to %s: one job was refused; the queue says why", *lane)
            return True
        if not is_moving:
            self._give_up_overdue(lane)
        return is_moving

    def _give_up_overdue(self, lane: Lane) -> None:
        now = datetime.now(UTC)
        before = now - self._patience.give_up_after
        count = self._database.write(
            lambda connection: queue.bury_overdue(
                connection, *lane, before=before, problem="The destination did not answer for too long.", now=now
            )
        )
        if count:
            LOGGER.error("%s to %s: %d given up; they wait for a person", *lane, count)

    def _renew_leases(self) -> None:
        now = monotonic()
        if now - self._renewed_at < self._lease.total_seconds() / _RENEWALS_A_LEASE:
            return
        self._renewed_at = now
        for state in tuple(self._lanes.values()):
            if (turn := state.turn) is not None:
                turn.renew(datetime.now(UTC) + self._lease)

    def _mind_the_clock(self) -> None:
        """Make due what was put off by a clock that has gone back since, or that had been wrong before this start.

        What another process is doing may be done twice then; it would otherwise wait for as long as the clock was off.
        """
        now, elapsed = datetime.now(UTC), monotonic()
        if self._clock_offset is None:
            longest = LONGEST_WAIT
        elif now < self._clock_offset + timedelta(seconds=elapsed) - self._lease:
            longest = self._lease
        else:
            longest = None
        if longest is not None:
            beyond = now + longest
            count = self._database.write(lambda connection: queue.hasten(connection, beyond=beyond, now=now))
            if count:
                LOGGER.warning("The clock was ahead: %d jobs that would have waited for it are due now", count)
        self._clock_offset = now - timedelta(seconds=elapsed)

    def _prune(self) -> None:
        if monotonic() - self._pruned_at < _PRUNED_EVERY_SECONDS:
            return
        before = datetime.now(UTC) - timedelta(days=RECEIPTS_KEPT_DAYS)
        if not self._database.write(lambda connection: queue.prune(connection, before)):
            self._pruned_at = monotonic()
