"""What contradicts what is stored: kept, flagged once, and listed for a person to decide; never refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, select, update

from pacs.database.tables import conflict, instance
from pacs.index.inserting import insert_once
from pacs.index.rows import PreparedInstance, digest_of, origin_text
from pacs.model import Attributes, Door, DuplicatePolicy, Location, Origin
from pacs.names import name_keys
from pacs.tags import values_of

EQUAL_CONTENT = "equal decoded content"
"""The resolution of a conflict between copies that differ in nothing but their encoding."""


class ConflictKind(StrEnum):
    """What disagrees."""

    CONTENT = "content"  # another data set under a SOP Instance UID
    PATIENT_NAME = "patient-name"  # another name under an issuer and Patient ID
    STUDY_PATIENT = "study-patient"  # another patient in a study


@dataclass(frozen=True, slots=True)
class Conflict:
    """One contradiction; ``location`` is that of the copy that does not answer queries, None if there is no copy."""

    id: int
    partition_id: int
    kind: ConflictKind
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    location: Location | None
    dataset_digest: str
    transfer_syntax_uid: str
    origin: Origin
    found_at: datetime
    resolved_at: datetime | None
    resolution: str


def record_conflict(
    connection: Connection,
    *,
    partition_id: int,
    kind: ConflictKind,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    origin: Origin,
    found_at: datetime,
    location: Location | None = None,
    dataset_digest: str = "",
    transfer_syntax_uid: str = "",
    distinction: tuple[str, ...] = (),
    answering_since: datetime | None = None,
) -> bool:
    """List a conflict and return whether it is open now and was not before: found again, it is not listed twice.

    Two are the same if kind and ``distinction`` are; without one it is the SOP Instance UID and the digest. A settled
    one opens again if what answers has done so only since then, ``answering_since``: nobody has decided between these.
    """
    row = {
        "partition_id": partition_id,
        "kind": kind.value,
        "distinction": digest_of(*(distinction or (sop_instance_uid, dataset_digest))),
        "study_instance_uid": study_instance_uid,
        "series_instance_uid": series_instance_uid,
        "sop_instance_uid": sop_instance_uid,
        "blob_key": location and location.blob_key,
        "blob_offset": location and location.offset,
        "blob_length": location and location.length_bytes,
        "dataset_digest": bytes.fromhex(dataset_digest) if dataset_digest else None,
        "transfer_syntax_uid": transfer_syntax_uid,
        "origin": origin_text(origin),
        "found_at": found_at,
        "resolution": "",
    }
    if insert_once(connection, conflict, row) is not None:
        return True
    if answering_since is None:
        return False
    again = {key: row[key] for key in _COPY} | {f"wanted_{key}": row[key] for key in _KEY}
    return connection.execute(_REOPEN, again | {"answering_since": answering_since}).rowcount == 1


def flag(connection: Connection, new: PreparedInstance, kind: ConflictKind, distinction: tuple[str, ...]) -> None:
    """List that an instance contradicts its patient or its study; no copy is kept, for it is stored."""
    record_conflict(
        connection,
        partition_id=new.partition_id,
        kind=kind,
        study_instance_uid=new.study_instance_uid,
        series_instance_uid=new.series_instance_uid,
        sop_instance_uid=new.sop_instance_uid,
        origin=new.origin,
        found_at=new.stored_at,
        distinction=distinction,
    )


def flag_other_name(connection: Connection, new: PreparedInstance, known: Attributes, shown: Attributes) -> None:
    """Flag a name that shares no folded component group with the patient's; another spelling is no contradiction."""
    theirs, ours = _keys_of_patient(known), _keys_of_patient(shown)
    if theirs and ours and not set(theirs) & set(ours):
        flag(connection, new, ConflictKind.PATIENT_NAME, (new.identity, *ours))


def _keys_of_patient(attributes: Attributes) -> tuple[str, ...]:
    values = values_of(attributes, "PatientName")
    return name_keys(values[0]) if values and isinstance(values[0], dict | str) else ()


def find_conflict(connection: Connection, partition_id: int, conflict_id: int) -> Conflict | None:
    """Return a conflict, settled or not."""
    row = connection.execute(_FIND, {"partition_id": partition_id, "id": conflict_id}).first()
    return None if row is None else _conflict(row)


def keep_copy(
    connection: Connection,
    conflict_id: int,
    *,
    partition_id: int,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    location: Location,
    dataset_digest: str,
    transfer_syntax_uid: str,
) -> None:
    """Let a conflict of content name another copy than it did, because its own answers from now on.

    If another conflict names that copy already nothing is changed: each copy is named by one at least.
    """
    if not is_listed(connection, partition_id, sop_instance_uid, dataset_digest):
        row = {
            "wanted_id": conflict_id,
            "distinction": digest_of(sop_instance_uid, dataset_digest),
            "study_instance_uid": study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "blob_key": location.blob_key,
            "blob_offset": location.offset,
            "blob_length": location.length_bytes,
            "dataset_digest": bytes.fromhex(dataset_digest),
            "transfer_syntax_uid": transfer_syntax_uid,
        }
        connection.execute(_KEEP, row)


def reopen_conflict(connection: Connection, conflict_id: int) -> None:
    """Take back how a conflict was settled."""
    connection.execute(_KEEP, {"wanted_id": conflict_id, "resolved_at": None, "resolution": ""})


def iter_conflicts(
    connection: Connection, partition_id: int, *, is_resolved: bool = False, after: int = 0, limit: int = 100
) -> Iterator[Conflict]:
    """Yield conflicts by id from the one after ``after`` on, open ones unless ``is_resolved``, at most ``limit``."""
    rows = connection.execute(
        _LIST_RESOLVED if is_resolved else _LIST_OPEN,
        {"partition_id": partition_id, "after": after, "limit": limit},
    )
    for row in rows:
        yield _conflict(row)


def resolve_conflict(
    connection: Connection, partition_id: int, conflict_id: int, resolution: str, resolved_at: datetime
) -> bool:
    """Note how a person decided; return False if there is no such open conflict."""
    result = connection.execute(
        _RESOLVE,
        {
            "wanted_partition": partition_id,
            "wanted_id": conflict_id,
            "resolution": resolution,
            "resolved_at": resolved_at,
        },
    )
    return result.rowcount == 1


def is_listed(connection: Connection, partition_id: int, sop_instance_uid: str, dataset_digest: str) -> bool:
    """Return whether a conflict of content, open or settled, names this data set."""
    distinction = digest_of(sop_instance_uid, dataset_digest)
    key = {"partition_id": partition_id, "kind": ConflictKind.CONTENT.value, "distinction": distinction}
    return connection.execute(_FIND_SAME, key).first() is not None


def is_known_equal(connection: Connection, partition_id: int, sop_instance_uid: str, dataset_digest: str) -> bool:
    """Return whether this data set was found to hold the same as the one that has answered ever since."""
    parameters = {
        "partition_id": partition_id,
        "sop_instance_uid": sop_instance_uid,
        "dataset_digest": bytes.fromhex(dataset_digest),
    }
    return connection.execute(_IS_KNOWN_EQUAL, parameters).first() is not None


def _conflict(row: Row[*tuple[Any, ...]]) -> Conflict:
    location = None if row.blob_key is None else Location(row.blob_key, row.blob_offset, row.blob_length)
    return Conflict(
        id=row.id,
        partition_id=row.partition_id,
        kind=ConflictKind(row.kind),
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        location=location,
        dataset_digest=(row.dataset_digest or b"").hex(),
        transfer_syntax_uid=row.transfer_syntax_uid,
        origin=origin_of(row.origin),
        found_at=row.found_at,
        resolved_at=row.resolved_at,
        resolution=row.resolution,
    )


def origin_of(text: str) -> Origin:
    """Return what ``rows.origin_text`` made."""
    values = orjson.loads(text)
    door = Door(values.pop("door", Door.DIMSE))
    policy = DuplicatePolicy(values.pop("duplicate_policy", DuplicatePolicy.KEEP_FIRST))
    return Origin(door=door, duplicate_policy=policy, **values)


_KEY = ("partition_id", "kind", "distinction")
_COPY = ("blob_key", "blob_offset", "blob_length", "origin", "found_at")
_REOPEN = (
    update(conflict)
    .where(
        *(conflict.c[key] == bindparam(f"wanted_{key}") for key in _KEY),
        conflict.c.resolved_at < bindparam("answering_since"),
    )
    .values({key: bindparam(key) for key in _COPY} | {"resolved_at": None, "resolution": ""})
)
_FIND_SAME = select(conflict.c.id).where(*(conflict.c[key] == bindparam(key) for key in _KEY))
_FIND = select(conflict).where(conflict.c.partition_id == bindparam("partition_id"), conflict.c.id == bindparam("id"))
_KEEP = update(conflict).where(conflict.c.id == bindparam("wanted_id"))
_LIST = (
    select(conflict)
    .where(conflict.c.partition_id == bindparam("partition_id"), conflict.c.id > bindparam("after"))
    .order_by(conflict.c.id)
    .limit(bindparam("limit"))
)
_LIST_OPEN = _LIST.where(conflict.c.resolved_at.is_(None))
_LIST_RESOLVED = _LIST.where(conflict.c.resolved_at.is_not(None))
_RESOLVE = (
    update(conflict)
    .where(
        conflict.c.partition_id == bindparam("wanted_partition"),
        conflict.c.id == bindparam("wanted_id"),
        conflict.c.resolved_at.is_(None),
    )
    .values(resolution=bindparam("resolution"), resolved_at=bindparam("resolved_at"))
)
_IS_KNOWN_EQUAL = (
    select(conflict.c.id)
    .join_from(
        conflict,
        instance,
        (instance.c.partition_id == conflict.c.partition_id)
        & (instance.c.sop_instance_uid == conflict.c.sop_instance_uid),
    )
    .where(
        conflict.c.partition_id == bindparam("partition_id"),
        conflict.c.sop_instance_uid == bindparam("sop_instance_uid"),
        conflict.c.dataset_digest == bindparam("dataset_digest"),
        conflict.c.kind == ConflictKind.CONTENT.value,
        conflict.c.resolution == EQUAL_CONTENT,
        # What answers now may have replaced what the copy was compared with.
        conflict.c.resolved_at > instance.c.stored_at,
    )
)
