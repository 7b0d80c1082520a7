"""What was asked to be committed, by whom or of whom, and what became of each instance (PS3.4 Annex J)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Table, bindparam, delete, select, update

from pacs.database.tables import conflict, instance
from pacs.database.work_tables import commitment, withheld_instance
from pacs.index.conflicts import ConflictKind
from pacs.index.inserting import insert_once
from pacs.index.removing import chunks
from pacs.index.withholding import WithheldReason
from pacs.model import Location


class Role(StrEnum):
    """On which side we are."""

    SCP = "scp"
    SCU = "scu"


class CommitmentState(StrEnum):
    """How far a commitment has come: as SCU nothing is decided here."""

    ASKED = "asked"
    DECIDED = "decided"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Item:
    """One instance. ``failure`` is a Failure Reason (0008,1197): 0 for committed, None while nobody knows."""

    sop_class_uid: str
    sop_instance_uid: str
    failure: int | None = None


@dataclass(frozen=True, slots=True)
class Commitment:
    """One request. ``peer`` is the AE title that asked us, or that we asked."""

    id: int
    role: Role
    peer: str
    transaction_uid: str
    state: CommitmentState
    asked_at: datetime
    reported_at: datetime | None
    items: tuple[Item, ...]


def insert(
    connection: Connection,
    partition_id: int,
    role: Role,
    *,
    peer: str,
    transaction_uid: str,
    items: Sequence[Item],
    asked_at: datetime,
) -> bool:
    """List a request; False if this peer's Transaction UID was used before."""
    row = {
        "partition_id": partition_id,
        "role": role.value,
        "peer": peer,
        "transaction_uid": transaction_uid,
        "state": CommitmentState.ASKED.value,
        "asked_at": asked_at,
        "reported_at": None,
        "items": _dump(items),
    }
    return insert_once(connection, commitment, row) is not None


def find(connection: Connection, partition_id: int, role: Role, peer: str, transaction_uid: str) -> Commitment | None:
    """Return a request, or None."""
    row = connection.execute(
        _FIND,
        {"partition_id": partition_id, "role": role.value, "peer": peer, "transaction_uid": transaction_uid},
    ).first()
    return None if row is None else _commitment(row)


def decide(connection: Connection, commitment_id: int, items: Sequence[Item]) -> None:
    """Keep what will be reported, so that a report that is sent again says the same."""
    values = {"row_id": commitment_id, "state": CommitmentState.DECIDED.value, "items": _dump(items)}
    connection.execute(_UPDATE, values)


def finish(connection: Connection, commitment_id: int, items: Sequence[Item], at: datetime) -> None:
    """Note that the report was delivered, or taken."""
    values = {
        "row_id": commitment_id,
        "state": CommitmentState.REPORTED.value,
        "items": _dump(items),
        "reported_at": at,
    }
    connection.execute(_UPDATE, values)


def forget(connection: Connection, partition_id: int, role: Role, peer: str, transaction_uid: str) -> None:
    """Strike out a request that never reached its peer."""
    connection.execute(
        delete(commitment).where(
            commitment.c.partition_id == partition_id,
            commitment.c.role == role.value,
            commitment.c.peer == peer,
            commitment.c.transaction_uid == transaction_uid,
        )
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept under a SOP Instance UID, and where."""

    sop_class_uid: str
    location: Location


def find_kept(connection: Connection, partition_id: int, sop_instance_uids: Iterable[str]) -> dict[str, Kept | None]:
    """Return what can be promised of these instances, as far as there is anything; None while two data sets compete.

    Rejected ones are kept and so are rejection notes; not what expired or was deleted (IHE RAD TF-2 4.66.4).
    """
    kept: dict[str, Kept | None] = {}
    for uids in chunks(sorted(sop_instance_uids)):
        parameters = {"partition_id": partition_id, "uids": uids}
        for row in connection.execute(_WITHHELD, parameters):
            if row.note_sop_instance_uid == row.sop_instance_uid or WithheldReason(row.reason).hides_resent:
                kept[row.sop_instance_uid] = _kept(row)
        answering: dict[str, Kept | None] = {
            row.sop_instance_uid: _kept(row) for row in connection.execute(_ANSWERING, parameters)
        }
        competing = set(connection.execute(_COMPETING, parameters).scalars())
        kept |= answering | dict.fromkeys(competing & answering.keys())
    return kept


def _kept(row: Row[*tuple[Any, ...]]) -> Kept:
    return Kept(row.sop_class_uid, Location(row.blob_key, row.blob_offset, row.blob_length))


def _dump(items: Sequence[Item]) -> str:
    return orjson.dumps([[item.sop_class_uid, item.sop_instance_uid, item.failure] for item in items]).decode()


def _commitment(row: Row[*tuple[Any, ...]]) -> Commitment:
    return Commitment(
        id=row.id,
        role=Role(row.role),
        peer=row.peer,
        transaction_uid=row.transaction_uid,
        state=CommitmentState(row.state),
        asked_at=row.asked_at,
        reported_at=row.reported_at,
        items=tuple(Item(*item) for item in orjson.loads(row.items)),
    )


_UIDS: BindParameter[list[str]] = bindparam("uids", expanding=True)


def _named(table: Table) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.partition_id == bindparam("partition_id"), table.c.sop_instance_uid.in_(_UIDS)


_PLACE = ("sop_instance_uid", "sop_class_uid", "blob_key", "blob_offset", "blob_length")
_ANSWERING = select(*(instance.c[name] for name in _PLACE)).where(*_named(instance))
_COMPETING = select(conflict.c.sop_instance_uid).where(
    *_named(conflict), conflict.c.kind == ConflictKind.CONTENT.value, conflict.c.resolved_at.is_(None)
)
_WITHHELD = (  # the newest last
    select(
        *(withheld_instance.c[name] for name in _PLACE),
        withheld_instance.c.reason,
        withheld_instance.c.note_sop_instance_uid,
    )
    .where(*_named(withheld_instance), withheld_instance.c.blob_key > "")
    .order_by(withheld_instance.c.id)
)
_FIND = select(commitment).where(
    commitment.c.partition_id == bindparam("partition_id"),
    commitment.c.role == bindparam("role"),
    commitment.c.peer == bindparam("peer"),
    commitment.c.transaction_uid == bindparam("transaction_uid"),
)
_UPDATE = update(commitment).where(commitment.c.id == bindparam("row_id"))
