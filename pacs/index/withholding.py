"""Instances that were taken out of the four levels: rejected by a note (IHE RAD TF-2 4.66) or deleted, not yet swept.

No read path knows this table, so that hidden is hidden by construction. A row without a location says that an instance
was rejected before it arrived.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from pacs.database.tables import instance, instance_header, series, study
from pacs.database.work_tables import withheld_instance
from pacs.index import changes, removing, writer
from pacs.index.conflicts import ConflictKind, origin_of, record_conflict
from pacs.index.copies import ORIGIN_COLUMNS, received_origin_text
from pacs.index.removing import chunks
from pacs.index.rows import PreparedInstance, origin_text
from pacs.model import ChangeKind, Door, InstanceRecord, Location, Origin

_LOCK = 0x494F434D  # "IOCM": any number, the same in every process


class WithheldReason(StrEnum):
    """Why an instance is hidden."""

    QUALITY = "quality"
    PATIENT_SAFETY = "patient-safety"
    WORKLIST_ENTRY = "worklist-entry"
    RETENTION_EXPIRED = "retention-expired"
    DELETED = "deleted"

    @property
    def hides_resent(self) -> bool:
        """Whether an instance that is sent again stays hidden, and is still kept (IHE RAD TF-2 4.66.4)."""
        return self not in (WithheldReason.RETENTION_EXPIRED, WithheldReason.DELETED)


@dataclass(frozen=True, slots=True)
class Withheld:
    """One hidden instance; ``location`` is None for one that has not arrived. ``by`` is who asked for it.

    ``note_sop_instance_uid`` names the rejection note, if there is one; the note itself is withheld by itself.
    """

    id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    location: Location | None
    dataset_digest: str
    overlay: str
    origin: Origin
    stored_at: datetime
    reason: WithheldReason
    by: str
    note_sop_instance_uid: str
    withheld_at: datetime

    @property
    def is_note(self) -> bool:
        """Whether this is a rejection note."""
        return self.note_sop_instance_uid == self.sop_instance_uid

    def record(self) -> InstanceRecord:
        """Return what the bytes as received can be opened by; there is no row of the four levels behind it."""
        assert self.location is not None, "what has not arrived cannot be opened"
        return InstanceRecord(
            row_id=0,
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
            sop_instance_uid=self.sop_instance_uid,
            sop_class_uid=self.sop_class_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            location=self.location,
            stored_at=self.stored_at,
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance as a rejection note names it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Why and by whom instances are withheld."""

    reason: WithheldReason
    by: str
    at: datetime
    note_sop_instance_uid: str = ""


def exclude_stores(connection: Connection) -> None:
    """Wait for the stores under way, and make new ones wait until this transaction ends.

    Without it a store and a note that know nothing of each other yet would both commit, and the instance would show.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def join_stores(connection: Connection) -> None:
    """Wait for whoever excludes stores, and let nobody do so until this transaction ends; stores exclude no store."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))


def find_hiding(connection: Connection, partition_id: int, sop_instance_uid: str) -> list[Withheld]:
    """Return the rejections because of which an instance that arrives now is hidden; empty if it may show."""
    found = find_copies(connection, partition_id, sop_instance_uid)
    return found if any(copy.reason.hides_resent for copy in found) else []


def find_copies(connection: Connection, partition_id: int, sop_instance_uid: str) -> list[Withheld]:
    """Return every hidden copy under a SOP Instance UID, and what was rejected before it arrived; newest first."""
    parameters = {"partition_id": partition_id, "sop_instance_uid": sop_instance_uid}
    return [_withheld(row) for row in connection.execute(_FIND, parameters)]


def find_note(connection: Connection, partition_id: int, sop_instance_uid: str) -> Withheld | None:
    """Return a rejection note, whose ``record()`` opens as any instance does, or None."""
    copies = find_copies(connection, partition_id, sop_instance_uid)
    return next((copy for copy in copies if copy.is_note and copy.location), None)


def read_page(
    connection: Connection,
    partition_id: int,
    *,
    after: int = 0,
    limit: int = 100,
    study_instance_uid: str = "",
    note_sop_instance_uid: str = "",
) -> list[Withheld]:
    """Return at most ``limit`` hidden instances by id after ``after``, those of one study or note if given."""
    statement = (
        select(withheld_instance)
        .where(withheld_instance.c.partition_id == partition_id, withheld_instance.c.id > after)
        .order_by(withheld_instance.c.id)
        .limit(limit)
    )
    if study_instance_uid:
        statement = statement.where(withheld_instance.c.study_instance_uid == study_instance_uid)
    if note_sop_instance_uid:
        statement = statement.where(withheld_instance.c.note_sop_instance_uid == note_sop_instance_uid)
    return [_withheld(row) for row in connection.execute(statement)]


def withhold(connection: Connection, partition_id: int, sop_instance_uids: Sequence[str], cause: Cause) -> set[str]:
    """Move the instances that are there out of the four levels; return their UIDs. Each is a change of its own."""
    row_ids: list[int] = []
    for uids in chunks(sop_instance_uids):
        row_ids += connection.execute(_ARE_LIVE, {"partition_id": partition_id, "uids": uids}).scalars()
    row_ids.sort()  # in the order they came in, so that they are restored in it
    removing.lock_places(connection, row_ids)
    moved: set[str] = set()
    for chunk in chunks(row_ids):
        rows = connection.execute(_LIVE, {"row_ids": chunk}).all()
        if rows:
            connection.execute(insert(withheld_instance), [_moved_row(row, partition_id, cause) for row in rows])
            removing.remove_instances(connection, [row.id for row in rows], cause.at)
            _append_changes(connection, partition_id, ChangeKind.INSTANCE_WITHHELD, rows, cause)
            moved.update(row.sop_instance_uid for row in rows)
    return moved


def expect(connection: Connection, partition_id: int, missing: Sequence[Reference], cause: Cause) -> None:
    """Remember instances that are rejected before they arrive, each named once; the caller has excluded stores."""
    nothing = {"transfer_syntax_uid": "", "overlay": "", "origin": "", "stored_at": cause.at}
    nothing |= {"blob_key": "", "blob_offset": 0, "blob_length": 0, "dataset_digest": b""}
    for references in chunks(missing):
        uids = [reference.sop_instance_uid for reference in references]
        hidden = set(connection.execute(_ARE_HIDING, {"partition_id": partition_id, "uids": uids}).scalars())
        rows = [
            asdict(reference) | nothing | _cause_values(partition_id, cause)
            for reference in references
            if reference.sop_instance_uid not in hidden
        ]
        if rows:
            connection.execute(insert(withheld_instance), rows)


def keep_hidden(connection: Connection, new: PreparedInstance, cause: Cause) -> bool:
    """Keep an instance without showing it; False if this very data set is kept already.

    It takes the place of what was rejected before it arrived; another data set is kept beside the first.
    """
    copies = find_copies(connection, new.partition_id, new.sop_instance_uid)
    same = next((copy for copy in copies if copy.dataset_digest == new.new.dataset_digest), None)
    values = _arrived_row(new)
    if same is not None:
        # Sent again because its blob was found missing, perhaps: what is durable now counts.
        connection.execute(_UPDATE, {"row_id": same.id, **_place_values(new)})
        return False
    expected = next((copy for copy in copies if copy.location is None), None)
    if expected is not None:
        connection.execute(_UPDATE, {"row_id": expected.id, **values})
    else:
        connection.execute(insert(withheld_instance), values | _cause_values(new.partition_id, cause))
    return True


def append_withheld(connection: Connection, new: PreparedInstance, cause: Cause) -> None:
    """Note in the change log that an instance was hidden when it arrived."""
    _append_changes(connection, new.partition_id, ChangeKind.INSTANCE_WITHHELD, [new], cause)


def append_note(connection: Connection, note: PreparedInstance, cause: Cause) -> None:
    """Note in the change log that a rejection note came; whoever has its instances needs it too."""
    _append_changes(connection, note.partition_id, ChangeKind.NOTE_STORED, [note], cause)


def release(connection: Connection, copy: Withheld, restored: PreparedInstance, by: str, at: datetime) -> bool:
    """Publish a hidden instance again, and forget every rejection of its UID; False if it was restored meanwhile.

    Who did it, and what it undid, stays in the change log: the row that said so is gone.
    """
    gone = connection.execute(_DELETE, {"row_id": copy.id})
    if gone.rowcount != 1:
        return False
    if writer.insert_instance(connection, restored) is None:
        _give_way(connection, restored)
    changes.append(
        connection,
        restored.partition_id,
        ChangeKind.INSTANCE_RESTORED,
        at=at,
        study_instance_uid=restored.study_instance_uid,
        series_instance_uid=restored.series_instance_uid,
        sop_instance_uid=restored.sop_instance_uid,
        facts={"by": by, "reason": copy.reason, "note": copy.note_sop_instance_uid, "withheld_by": copy.by},
    )
    connection.execute(_DELETE_EXPECTED, {"partition": restored.partition_id, "uid": restored.sop_instance_uid})
    return True


def _give_way(connection: Connection, restored: PreparedInstance) -> None:
    """Keep a restored data set beside the one that was stored anew meanwhile, unless it is the same."""
    live = writer.find_existing(connection, restored.partition_id, restored.sop_instance_uid)
    if live is None or live.dataset_digest != restored.new.dataset_digest:
        record_conflict(
            connection,
            partition_id=restored.partition_id,
            kind=ConflictKind.CONTENT,
            study_instance_uid=restored.study_instance_uid,
            series_instance_uid=restored.series_instance_uid,
            sop_instance_uid=restored.sop_instance_uid,
            origin=restored.origin,
            found_at=restored.stored_at,
            location=restored.new.location,
            dataset_digest=restored.new.dataset_digest,
            transfer_syntax_uid=restored.new.header.transfer_syntax_uid,
        )


def forget_expected(connection: Connection, row_id: int) -> None:
    """Forget that an instance was rejected before it arrived."""
    connection.execute(_DELETE, {"row_id": row_id})


def _append_changes(
    connection: Connection, partition_id: int, kind: ChangeKind, places: Sequence[Any], cause: Cause
) -> None:
    uids = [(place.study_instance_uid, place.series_instance_uid, place.sop_instance_uid) for place in places]
    facts = {"reason": cause.reason, "note": cause.note_sop_instance_uid}
    changes.append_all(connection, partition_id, kind, at=cause.at, uids=uids, facts=facts)


def _moved_row(row: Row[*tuple[Any, ...]], partition_id: int, cause: Cause) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _CARRIED}
    return values | {"origin": received_origin_text(row)} | _cause_values(partition_id, cause)


def _arrived_row(new: PreparedInstance) -> dict[str, Any]:
    return {
        "study_instance_uid": new.study_instance_uid,
        "series_instance_uid": new.series_instance_uid,
        "sop_instance_uid": new.sop_instance_uid,
        "sop_class_uid": new.sop_class_uid,
        "origin": origin_text(new.origin),
        "stored_at": new.stored_at,
        **_place_values(new),
    }


def _place_values(new: PreparedInstance) -> dict[str, Any]:
    location = new.new.location
    return {
        "transfer_syntax_uid": new.new.header.transfer_syntax_uid,
        "blob_key": location.blob_key,
        "blob_offset": location.offset,
        "blob_length": location.length_bytes,
        "dataset_digest": bytes.fromhex(new.new.dataset_digest),
        "overlay": new.header.get("overlay", ""),
    }


def _cause_values(partition_id: int, cause: Cause) -> dict[str, Any]:
    return {
        "partition_id": partition_id,
        "reason": cause.reason.value,
        "by": cause.by,
        "note_sop_instance_uid": cause.note_sop_instance_uid,
        "withheld_at": cause.at,
    }


def _withheld(row: Row[*tuple[Any, ...]]) -> Withheld:
    return Withheld(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        location=Location(row.blob_key, row.blob_offset, row.blob_length) if row.blob_key else None,
        dataset_digest=row.dataset_digest.hex(),
        overlay=row.overlay,
        origin=origin_of(row.origin) if row.origin else Origin(Door.IMPORT),
        stored_at=row.stored_at,
        reason=WithheldReason(row.reason),
        by=row.by,
        note_sop_instance_uid=row.note_sop_instance_uid,
        withheld_at=row.withheld_at,
    )


_FIND = (
    select(withheld_instance)
    .where(
        withheld_instance.c.partition_id == bindparam("partition_id"),
        withheld_instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
    )
    .order_by(withheld_instance.c.id.desc())
)
_UPDATE = update(withheld_instance).where(withheld_instance.c.id == bindparam("row_id"))
_DELETE = delete(withheld_instance).where(withheld_instance.c.id == bindparam("row_id"))
_DELETE_EXPECTED = delete(withheld_instance).where(
    withheld_instance.c.partition_id == bindparam("partition"),
    withheld_instance.c.sop_instance_uid == bindparam("uid"),
    withheld_instance.c.blob_key == "",
)
_ARE_LIVE = select(instance.c.id).where(
    instance.c.partition_id == bindparam("partition_id"),
    instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)),
)
_ARE_HIDING = select(withheld_instance.c.sop_instance_uid).where(
    withheld_instance.c.partition_id == bindparam("partition_id"),
    withheld_instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)),
    withheld_instance.c.reason.in_([reason.value for reason in WithheldReason if reason.hides_resent]),
)
_CARRIED = (
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "sop_class_uid",
    "transfer_syntax_uid",
    "blob_key",
    "blob_offset",
    "blob_length",
    "dataset_digest",
    "overlay",
    "stored_at",
)
_LIVE = (
    select(
        instance.c.id,
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.sop_instance_uid,
        instance.c.sop_class_uid,
        instance.c.transfer_syntax_uid,
        instance.c.blob_key,
        instance.c.blob_offset,
        instance.c.blob_length,
        instance.c.dataset_digest,
        instance_header.c.overlay,
        instance.c.stored_at,
        *ORIGIN_COLUMNS,
    )
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .join(instance_header, instance_header.c.instance_row_id == instance.c.id)
    .where(instance.c.id.in_(bindparam("row_ids", expanding=True)))
    .order_by(instance.c.id)
    .with_for_update(of=instance)
)
