"""The rows of releases and of what they are made of. Every change of a state says which state it comes from.

Whoever is a little late (a second worker, a person at an old page) therefore changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, delete, exists, func, select, update

from pacs.database.base import LostRace
from pacs.database.release_tables import research_release, research_release_object
from pacs.database.research_tables import research_project
from pacs.deid import Profile
from pacs.errors import NotNow
from pacs.index.inserting import insert_missing, insert_once
from pacs.research.model import Counts, Project, Quarantined, QuarantineState, Release, ReleaseState
from pacs.research.project_rows import PROJECTS
from pacs.research.project_rows import project_of as read_project

MAX_PARTITION = 32_767
UNFINISHED = (ReleaseState.BUILDING, ReleaseState.QUARANTINE)

_REMOVED_AT_ONCE = 1000


class ReleaseUnderWay(NotNow):
    """The project has a release that is not finished: publish it, or abandon it and wait until it is gone."""


class TooManyReleases(NotNow):
    """The archive has had as many releases as it can number."""


class ObjectState(StrEnum):
    """What has become of a candidate of a release."""

    PENDING = "pending"
    RELEASED = "released"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    LEFT_OUT = "left-out"  # objected to since the list was made, or not in the archive any more


@dataclass(frozen=True, slots=True)
class Stored:
    """A release with what only its makers know: where its blobs lie, and how far the list of its candidates has come.

    ``listed_series`` is the row of the last clinical series that is listed. ``is_to_be_swept``: it was abandoned, and
    something of it is still there.
    """

    release: Release
    prefix: str
    listed_series: int
    is_listed: bool
    manifest_key: str
    is_to_be_swept: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate: the clinical instance that an object is to be made of, if it is still needed."""

    id: int
    digest: bytes
    clinical_uid: str
    reasons: tuple[str, ...] = ()
    released_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewRelease:
    """What a release is begun with."""

    project_id: int
    cohort_id: int
    prefix: str
    profile: Profile
    created_by: str
    created_at: datetime


def create(connection: Connection, new: NewRelease) -> Stored:
    """Begin a release: the next version of its project, with a partition that no other release has or had.

    Raises ReleaseUnderWay if the project has one that is not finished: two at once would share blobs while one of them
    may be swept.
    """
    of_project = research_release.c.project_row_id == new.project_id
    columns = research_release.c
    is_unfinished = columns.state.in_(UNFINISHED) | (columns.abandoned_at.is_not(None) & columns.swept_at.is_(None))
    if connection.execute(select(columns.id).where(of_project, is_unfinished).limit(1)).first() is not None:
        raise ReleaseUnderWay
    version = connection.execute(select(func.max(research_release.c.version)).where(of_project)).scalar() or 0
    partition_id = connection.execute(select(func.max(research_release.c.partition_id))).scalar() or 0
    if partition_id >= MAX_PARTITION:
        raise TooManyReleases
    values = {
        "project_row_id": new.project_id,
        "cohort_row_id": new.cohort_id,
        "version": version + 1,
        "state": ReleaseState.BUILDING.value,
        "partition_id": partition_id + 1,
        "prefix": new.prefix,
        "profile": orjson.dumps(new.profile.to_json()).decode(),
        "created_by": new.created_by,
        "created_at": new.created_at,
    }
    row_id = insert_once(connection, research_release, values)
    if row_id is None:  # somebody else began one meanwhile
        raise LostRace
    return get(connection, row_id)


def get(connection: Connection, release_id: int) -> Stored:
    """Return a release that there is."""
    row = connection.execute(select(research_release).where(research_release.c.id == release_id)).one()
    return _stored(connection, row)


def project_of(connection: Connection, release: Release) -> Project:
    """Return the project that a release is of."""
    statement = PROJECTS.where(research_project.c.id == release.project_id)
    return read_project(connection.execute(statement).one())


def find(connection: Connection, project_id: int, version: int, state: ReleaseState | None = None) -> Stored | None:
    """Return a release by its version; with ``state`` what is in another one is looked up as what is not there."""
    statement = select(research_release).where(
        research_release.c.project_row_id == project_id, research_release.c.version == version
    )
    if state is not None:
        statement = statement.where(research_release.c.state == state)
    row = connection.execute(statement).first()
    return None if row is None else _stored(connection, row)


def find_newest(connection: Connection, project_id: int, state: ReleaseState) -> Stored | None:
    """Return the release of the highest version that is in this state."""
    statement = (
        select(research_release)
        .where(research_release.c.project_row_id == project_id, research_release.c.state == state)
        .order_by(research_release.c.version.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _stored(connection, row)


def read_all(connection: Connection, project_id: int) -> list[Stored]:
    """Return every release of a project, the newest first."""
    statement = (
        select(research_release)
        .where(research_release.c.project_row_id == project_id)
        .order_by(research_release.c.version.desc())
    )
    return [_stored(connection, row) for row in connection.execute(statement).all()]


def list_kept(connection: Connection) -> list[Stored]:
    """Return every release of any project that something is kept of."""
    columns = research_release.c
    statement = select(research_release).where(columns.swept_at.is_(None)).order_by(columns.partition_id)
    return [_stored(connection, row) for row in connection.execute(statement).all()]


def list_projects(connection: Connection) -> list[Project]:
    """Return every project that has or had a release."""
    has_release = exists().where(research_release.c.project_row_id == research_project.c.id)
    statement = PROJECTS.where(has_release).order_by(research_project.c.id)
    return [read_project(row) for row in connection.execute(statement).all()]


def lock_project(connection: Connection, project_id: int) -> None:
    """Have whoever publishes and whoever excludes in a project wait for each other, to see what the other has done."""
    statement = select(research_project.c.id).where(research_project.c.id == project_id)
    connection.execute(statement.with_for_update()).first()


def change_state(
    connection: Connection, release_id: int, before: Sequence[ReleaseState], after: ReleaseState, **values: Any
) -> bool:
    """Move a release on, with other columns if need be; False if it is in none of the states before."""
    statement = update(research_release).where(
        research_release.c.id == release_id, research_release.c.state.in_(before)
    )
    return connection.execute(statement.values(state=after.value, **values)).rowcount == 1


def add_candidates(
    connection: Connection, release_id: int, candidates: Mapping[bytes, str], *, listed_series: int
) -> None:
    """List clinical instances by their digests, each once, and how far the list has come by that."""
    rows = [
        {"release_row_id": release_id, "digest": digest, "clinical_uid": uid, "state": ObjectState.PENDING.value}
        for digest, uid in candidates.items()
    ]
    insert_missing(connection, research_release_object, rows)
    _set(connection, release_id, listed_series_row_id=listed_series)


def end_list(connection: Connection, release_id: int, at: datetime) -> None:
    """Say that the list of candidates is complete: none is added later."""
    _set(connection, release_id, listed_at=at)


def read_entries(
    connection: Connection, release_id: int, state: ObjectState, *, after: int = 0, limit: int = 100
) -> list[Entry]:
    """Return at most ``limit`` candidates in one state, by id after ``after``."""
    columns = research_release_object.c
    statement = (
        select(columns.id, columns.digest, columns.clinical_uid, columns.reasons, columns.released_reasons)
        .where(columns.release_row_id == release_id, columns.state == state, columns.id > after)
        .order_by(columns.id)
        .limit(limit)
    )
    return [_entry(row) for row in connection.execute(statement)]


def find_entry(connection: Connection, release_id: int, entry_id: int) -> Entry | None:
    """Return a candidate of a release that waits for a person."""
    columns = research_release_object.c
    statement = select(research_release_object).where(
        columns.id == entry_id, columns.release_row_id == release_id, columns.state == ObjectState.QUARANTINED
    )
    row = connection.execute(statement).first()
    return None if row is None else _entry(row)


def settle(connection: Connection, entry_id: int, before: ObjectState, after: ObjectState, **values: Any) -> bool:
    """Say what has become of a candidate; False if it was not in the state before.

    What will not be looked for again is not in the clear any more.
    """
    if after not in (ObjectState.PENDING, ObjectState.QUARANTINED):
        values["clinical_uid"] = ""
    columns = research_release_object.c
    statement = update(research_release_object).where(columns.id == entry_id, columns.state == before)
    return connection.execute(statement.values(state=after.value, **values)).rowcount == 1


def read_quarantine(connection: Connection, release_id: int, *, after: int = 0, limit: int = 100) -> list[Quarantined]:
    """Return at most ``limit`` objects that a person has decided about or has to, by id after ``after``."""
    columns = research_release_object.c
    statement = (
        select(research_release_object)
        .where(columns.release_row_id == release_id, columns.found_at.is_not(None), columns.id > after)
        .order_by(columns.id)
        .limit(limit)
    )
    return [_quarantined(row) for row in connection.execute(statement)]


def count_states(connection: Connection, release_id: int) -> dict[ObjectState, int]:
    """Return how many candidates are in each state."""
    columns = research_release_object.c
    statement = select(columns.state, func.count()).where(columns.release_row_id == release_id).group_by(columns.state)
    found = {ObjectState(state): count for state, count in connection.execute(statement).all()}
    return {state: found.get(state, 0) for state in ObjectState}


def abandon(connection: Connection, release_id: int, at: datetime) -> None:
    """Have the rows and the blobs of a release go; its project can have no other before they have."""
    _set(connection, release_id, abandoned_at=at)


def end_sweep(connection: Connection, release_id: int, at: datetime) -> None:
    """Say that nothing is left of a release but that there was one."""
    _set(connection, release_id, swept_at=at)


def remove_entries(connection: Connection, release_id: int) -> int:
    """Forget some candidates of a release; return how many, 0 when none is left."""
    columns = research_release_object.c
    some = select(columns.id).where(columns.release_row_id == release_id).limit(_REMOVED_AT_ONCE)
    return connection.execute(delete(research_release_object).where(columns.id.in_(some))).rowcount


def _set(connection: Connection, release_id: int, **values: Any) -> None:
    connection.execute(update(research_release).where(research_release.c.id == release_id).values(values))


def _progress(connection: Connection, row: Any) -> tuple[int, int, int]:
    """Return how many candidates are done, how many there are, and how many wait for a person."""
    if row.counts:  # it was published: this is asked by everybody who reads it, and changes no more
        total = orjson.loads(row.counts)["candidates"]
        return total, total, 0
    states = count_states(connection, row.id)
    total = sum(states.values())
    return total - states[ObjectState.PENDING], total, states[ObjectState.QUARANTINED]


def counts_text(counts: Counts, candidates: int) -> str:
    """Return what is in a published release, and of how many candidates, as it is kept."""
    return orjson.dumps(asdict(counts) | {"candidates": candidates}).decode()


def _counts(text: str) -> Counts:
    kept = orjson.loads(text) if text else {}
    return Counts(**{name: kept[name] for name in asdict(Counts()) if name in kept})


def _stored(connection: Connection, row: Any) -> Stored:
    done, total, pending = _progress(connection, row)
    release = Release(
        id=row.id,
        project_id=row.project_row_id,
        cohort_id=row.cohort_row_id,
        version=row.version,
        state=ReleaseState(row.state),
        partition_id=row.partition_id,
        profile=Profile.from_json(orjson.loads(row.profile)),
        created_by=row.created_by,
        created_at=row.created_at,
        counts=_counts(row.counts),
        done=done,
        total=total,
        pending=pending,
        published_by=row.published_by,
        published_at=row.published_at,
        withdrawn_at=row.withdrawn_at,
        problem=row.problem,
    )
    return Stored(
        release,
        prefix=row.prefix,
        listed_series=row.listed_series_row_id,
        is_listed=row.listed_at is not None,
        manifest_key=row.manifest_key,
        is_to_be_swept=row.abandoned_at is not None and row.swept_at is None,
    )


def _entry(row: Any) -> Entry:
    return Entry(
        row.id,
        bytes(row.digest),
        row.clinical_uid,
        tuple(orjson.loads(row.reasons)),
        tuple(orjson.loads(row.released_reasons)),
    )


def _quarantined(row: Any) -> Quarantined:
    states = {
        ObjectState.QUARANTINED: QuarantineState.PENDING,
        ObjectState.REFUSED: QuarantineState.REFUSED,
    }
    return Quarantined(
        id=row.id,
        release_id=row.release_row_id,
        reasons=tuple(orjson.loads(row.reasons)),
        state=states.get(ObjectState(row.state), QuarantineState.RELEASED),
        modality=row.modality,
        sop_class_uid=row.sop_class_uid,
        found_at=row.found_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        remark=row.remark,
    )
