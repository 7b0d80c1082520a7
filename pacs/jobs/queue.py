"""The durable queue: what is to be done, listed in the transaction that promises it, until it is done or given up.

Whoever claims jobs has a lease on them. A lease that runs out makes them claimable again, so that a process that is
killed loses nothing; work may then be done twice, and has to bear it. ``due_at`` is the lease, too: what is reported
of a job counts only while it is the one that was claimed with it, so that a job listed anew meanwhile stays listed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, Executable, Row, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from pacs.database.work_tables import job

MAX_PROBLEM_LENGTH = 300
PRUNED_AT_ONCE = 1000
KEYS_AT_ONCE = 500

Lane = tuple[str, str]
"""A kind and a lane: the jobs that may be done together."""


class JobState(StrEnum):
    """What has become of a job. One that is being done is still waiting: nobody knows whether its worker lives."""

    WAITING = "waiting"
    FINISHED = "finished"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class NewJob:
    """Something to do. ``kind`` names the task, jobs of one ``lane`` may be done together, ``key`` says what to do.

    ``payload`` is what JSON can hold, without a patient value. ``due_at`` of None is now.
    """

    kind: str
    lane: str
    key: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A listed job. ``attempts`` counts claims. ``problem`` is what the last attempt met, without a patient value.

    ``due_at`` is when it may be claimed; of a claimed one, when the lease ends; of any other, when it came to rest.
    """

    id: int
    kind: str
    lane: str
    key: str
    payload: dict[str, Any]
    state: JobState
    due_at: datetime
    attempts: int
    problem: str
    created_at: datetime
    finished_at: datetime | None


def enqueue(connection: Connection, jobs: Iterable[NewJob], now: datetime) -> None:
    """List jobs; they exist if and when the caller's transaction commits.

    A job is listed once: one with the same kind, lane and key starts anew, also while it is being done. Jobs of one
    lane are done in the order in which they are listed, as far as none of them fails.
    """
    rows = [
        {
            "kind": new.kind,
            "lane": new.lane,
            "key": new.key,
            "payload": orjson.dumps(dict(new.payload)).decode(),
            "state": JobState.WAITING.value,
            "due_at": new.due_at or now,
            "attempts": 0,
            "problem": "",
            "created_at": now,
            "finished_at": None,
        }
        for new in jobs
    ]
    if rows:
        connection.execute(_list_anew(connection.dialect.name), rows)


def find_job(connection: Connection, kind: str, lane: str, key: str) -> Job | None:
    """Return the job of this key as it is listed, or its receipt; None if there is neither."""
    row = connection.execute(select(job).where(job.c.kind == kind, job.c.lane == lane, job.c.key == key)).first()
    return None if row is None else _job_of(row)


def find_lanes_of(connection: Connection, kind: str, keys: Sequence[str]) -> set[str]:
    """Return the lanes that have or had a job with one of these keys, as far as receipts are kept."""
    lanes = set()
    for lane in _iter_lanes(connection, kind):
        for start in range(0, len(keys), KEYS_AT_ONCE):
            chunk = list(keys[start : start + KEYS_AT_ONCE])
            if connection.execute(_HAS_KEY, {"kind": kind, "lane": lane, "keys": chunk}).first():
                lanes.add(lane)
                break
    return lanes


def find_lanes(connection: Connection, kinds: Iterable[str]) -> dict[Lane, datetime]:
    """Return when the next job is due, or was, of each lane of these kinds that has one waiting.

    Costs two look-ups a lane, however many jobs there are.
    """
    lanes = ((kind, lane) for kind in kinds for lane in _iter_lanes(connection, kind))
    due = ((lane, connection.execute(_NEXT_DUE, {"kind": lane[0], "lane": lane[1]}).scalar()) for lane in lanes)
    return {lane: due_at for lane, due_at in due if due_at is not None}


def claim(
    connection: Connection, kind: str, lane: str, *, limit: int, now: datetime, leased_until: datetime
) -> list[Job]:
    """Return at most ``limit`` due jobs of one lane, those that waited longest first; nobody else gets them meanwhile.

    Jobs that another process is just claiming are passed over.
    """
    rows = connection.execute(_CLAIMABLE, {"kind": kind, "lane": lane, "now": now, "limit": limit}).all()
    if not rows:
        return []
    connection.execute(
        update(job)
        .where(job.c.id.in_([row.id for row in rows]))
        .values(due_at=leased_until, attempts=job.c.attempts + 1)
    )
    return [replace(_job_of(row), due_at=leased_until, attempts=row.attempts + 1) for row in rows]


def renew(connection: Connection, jobs: Iterable[Job], leased_until: datetime) -> list[Job]:
    """Prolong the leases and return the jobs with their new ones; those that were lost are left out."""
    return [
        replace(held, due_at=leased_until)
        for held in jobs
        if connection.execute(_held(held).values(due_at=leased_until)).rowcount
    ]


def finish(connection: Connection, jobs: Iterable[Job], now: datetime) -> None:
    """Say that jobs are done; the entry stays as a receipt until it is pruned."""
    for held in jobs:
        connection.execute(_held(held).values(state=JobState.FINISHED, problem="", due_at=now, finished_at=now))


def forget(connection: Connection, held: Job) -> None:
    """Say that a job is done, and keep no receipt."""
    connection.execute(delete(job).where(*_is_held(held)))


def retry_later(connection: Connection, held: Job, problem: str, at: datetime) -> None:
    """Let a job be claimed again at ``at``."""
    connection.execute(_held(held).values(problem=problem[:MAX_PROBLEM_LENGTH], due_at=at))


def release(connection: Connection, jobs: Iterable[Job], problem: str | None = None) -> None:
    """Give jobs back to their lane, before those that came after them. Without a problem, no attempt was made."""
    for held in jobs:
        values: dict[str, Any] = {"due_at": held.created_at}
        if problem is None:
            values["attempts"] = max(0, held.attempts - 1)
        else:
            values["problem"] = problem[:MAX_PROBLEM_LENGTH]
        connection.execute(_held(held).values(values))


def bury(connection: Connection, held: Job, problem: str, now: datetime) -> None:
    """Give a job up: a dead letter, until a person requeues or drops it."""
    values = {"state": JobState.DEAD, "problem": problem[:MAX_PROBLEM_LENGTH], "due_at": now, "finished_at": now}
    connection.execute(_held(held).values(values))


def bury_overdue(connection: Connection, kind: str, lane: str, *, before: datetime, problem: str, now: datetime) -> int:
    """Give up the waiting jobs of a lane that have been due since ``before``; return how many."""
    values = {"state": JobState.DEAD, "problem": problem[:MAX_PROBLEM_LENGTH], "due_at": now, "finished_at": now}
    overdue = update(job).where(
        job.c.kind == kind, job.c.lane == lane, job.c.state == JobState.WAITING, job.c.due_at < before
    )
    return connection.execute(overdue.values(values)).rowcount


def hasten(connection: Connection, *, beyond: datetime, now: datetime) -> int:
    """Make waiting jobs due that would be only after ``beyond``, because the clock was wrong; return how many."""
    late = update(job).where(job.c.state == JobState.WAITING, job.c.due_at > beyond)
    return connection.execute(late.values(due_at=now)).rowcount


def list_jobs(
    connection: Connection, *, state: JobState | None = None, lane: str | None = None, limit: int = 100, offset: int = 0
) -> list[Job]:
    """Return a page of jobs: waiting ones by due time, others by when they came to rest, the newest receipt first."""
    order = (job.c.due_at.desc(), job.c.id.desc()) if state is JobState.FINISHED else (job.c.due_at, job.c.id)
    statement = select(job).order_by(job.c.state, *order).limit(limit).offset(offset)
    if state is not None:
        statement = statement.where(job.c.state == state)
    if lane is not None:
        statement = statement.where(job.c.lane == lane)
    return [_job_of(row) for row in connection.execute(statement)]


def requeue(connection: Connection, now: datetime, *, ids: Sequence[int] = (), lane: str | None = None) -> int:
    """Let dead letters be tried as if they were new, those named or all of a lane; return how many.

    A waiting job that is named is due at once.
    """
    anew = {"state": JobState.WAITING, "due_at": now, "attempts": 0, "problem": "", "created_at": now}
    statement = update(job).values(anew | {"finished_at": None})
    if lane is not None:
        return connection.execute(statement.where(job.c.state == JobState.DEAD, job.c.lane == lane)).rowcount
    return connection.execute(statement.where(job.c.state != JobState.FINISHED, job.c.id.in_(ids))).rowcount


def drop(connection: Connection, *, ids: Sequence[int] = (), lane: str | None = None) -> int:
    """Strike jobs off the list, those named or all dead letters of a lane; return how many. Receipts stay."""
    if lane is not None:
        chosen = delete(job).where(job.c.state == JobState.DEAD, job.c.lane == lane)
    else:
        chosen = delete(job).where(job.c.state != JobState.FINISHED, job.c.id.in_(ids))
    return connection.execute(chosen).rowcount


def prune(connection: Connection, before: datetime) -> int:
    """Forget some receipts from before this time; return how many, 0 when none is left."""
    old = select(job.c.id).where(job.c.state == JobState.FINISHED, job.c.due_at < before).limit(PRUNED_AT_ONCE)
    return connection.execute(delete(job).where(job.c.id.in_(old))).rowcount


def _iter_lanes(connection: Connection, kind: str) -> Iterator[str]:
    """Yield the lanes of a kind, each found from the one before it by the index, whatever jobs lie between."""
    lane: str | None = connection.execute(_FIRST_LANE, {"kind": kind}).scalar()
    while lane is not None:
        yield lane
        lane = connection.execute(_NEXT_LANE, {"kind": kind, "lane": lane}).scalar()


def _held(held: Job) -> Any:
    """Return an UPDATE of a job as it was claimed: of none, if the lease was lost or the job was listed anew."""
    return update(job).where(*_is_held(held))


def _is_held(held: Job) -> tuple[Any, ...]:
    return job.c.id == held.id, job.c.state == JobState.WAITING, job.c.due_at == held.due_at


def _job_of(row: Row[*tuple[Any, ...]]) -> Job:
    return Job(**(row._asdict() | {"payload": orjson.loads(row.payload), "state": JobState(row.state)}))


@cache
def _list_anew(dialect: str) -> Executable:
    insert: Any = (postgresql if dialect == "postgresql" else sqlite).insert(job)
    named = ("payload", "state", "due_at", "attempts", "problem", "created_at", "finished_at")
    statement: Executable = insert.on_conflict_do_update(
        index_elements=["kind", "lane", "key"], set_={name: insert.excluded[name] for name in named}
    )
    return statement


_OF_KIND = select(job.c.lane).where(job.c.kind == bindparam("kind")).order_by(job.c.kind, job.c.lane).limit(1)
_FIRST_LANE = _OF_KIND
_NEXT_LANE = _OF_KIND.where(job.c.lane > bindparam("lane"))
_HAS_KEY = (
    select(job.c.id)
    .where(
        job.c.kind == bindparam("kind"),
        job.c.lane == bindparam("lane"),
        job.c.key.in_(bindparam("keys", expanding=True)),
    )
    .limit(1)
)

_WAITING = (
    job.c.kind == bindparam("kind"),
    job.c.lane == bindparam("lane"),
    job.c.state == JobState.WAITING.value,
)
_NEXT_DUE = select(job.c.due_at).where(*_WAITING).order_by(job.c.due_at).limit(1)
_CLAIMABLE = (
    select(job)
    .where(*_WAITING, job.c.due_at <= bindparam("now"))
    .order_by(job.c.due_at, job.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
