"""The record of who corrected what, when and why: appended to and marked as undone, never deleted.

A correction holds for a subject: a patient, by identity, or a study, by UID. What arrives later under the same subject
is corrected alike, until the correction is undone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, Row, bindparam, insert, select, text, update

from pacs.database.work_tables import correction
from pacs.index.metadata import dump_text
from pacs.model import Attributes
from pacs.overlay import Step


class CorrectionKind(StrEnum):
    """What was done."""

    MERGE_PATIENTS = "merge-patients"
    CORRECT_PATIENT = "correct-patient"
    MOVE_STUDY = "move-study"
    CORRECT_STUDY = "correct-study"
    RESOLVE_CONFLICT = "resolve-conflict"


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction. ``changes`` are the elements that have another value by it, none for a conflict.

    ``facts`` say what was asked for, and what undoing needs; like ``changes`` and ``reason`` they may hold a patient's
    values and are for the eyes of whoever may correct.
    """

    id: int
    kind: CorrectionKind
    by: str
    reason: str
    at: datetime
    subject: str
    changes: Attributes
    facts: dict[str, Any]
    undone_at: datetime | None = None
    undone_by: str | None = None

    @property
    def step(self) -> Step:
        """What is laid over a data set for this correction."""
        return Step(self.changes, self.at, correction_id=self.id)


def lock_corrections(connection: Connection) -> None:
    """Let nobody else correct anything before this transaction ends: ids are then in the order of commits.

    SQLite has one writer at a time anyhow.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"key": _LOCK_KEY})


def append_correction(
    connection: Connection,
    partition_id: int,
    kind: CorrectionKind,
    *,
    by: str,
    reason: str,
    at: datetime,
    subject: str = "",
    changes: Attributes | None = None,
    facts: dict[str, Any],
) -> Correction:
    """Record a correction and return it with its id; the caller has the lock."""
    changes = changes or {}
    row = {
        "partition_id": partition_id,
        "kind": kind.value,
        "by": by,
        "reason": reason,
        "at": at,
        "subject": subject,
        "facts": dump_text({"changes": changes, **facts}),
    }
    row_id = connection.execute(_APPEND, row).scalar_one()
    return Correction(row_id, kind, by, reason, at, subject, changes, facts)


def find_correction(connection: Connection, partition_id: int, correction_id: int) -> Correction | None:
    """Return a correction, undone or not."""
    row = connection.execute(_FIND, {"partition_id": partition_id, "id": correction_id}).first()
    return None if row is None else _correction(row)


def read_corrections(connection: Connection, partition_id: int, *, before: int | None, limit: int) -> list[Correction]:
    """Return at most ``limit`` corrections, latest first, from the one before the id ``before`` on."""
    parameters = {"partition_id": partition_id, "before": _LARGEST if before is None else before, "limit": limit}
    return [_correction(row) for row in connection.execute(_LIST, parameters)]


def next_active(
    connection: Connection, partition_id: int, subjects: Iterable[str], after: int = 0
) -> Correction | None:
    """Return the first correction after the id ``after`` that holds for one of these subjects and is not undone."""
    parameters = {"partition_id": partition_id, "subjects": list(subjects), "after": after}
    row = connection.execute(_NEXT_ACTIVE, parameters).first()
    return None if row is None else _correction(row)


def mark_undone(connection: Connection, correction_id: int, *, by: str, at: datetime) -> None:
    """Note that a correction no longer holds, who said so and when."""
    connection.execute(_MARK_UNDONE, {"row_id": correction_id, "undone_by": by, "undone_at": at})


def _correction(row: Row[*tuple[Any, ...]]) -> Correction:
    facts = orjson.loads(row.facts)
    return Correction(
        id=row.id,
        kind=CorrectionKind(row.kind),
        by=row.by,
        reason=row.reason,
        at=row.at,
        subject=row.subject,
        changes=facts.pop("changes"),
        facts=facts,
        undone_at=row.undone_at,
        undone_by=row.undone_by,
    )


_LARGEST = 2**63 - 1
_LOCK_KEY = 0x434F5252  # "CORR": any number, the same in every process
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

_SUBJECTS: BindParameter[list[str]] = bindparam("subjects", expanding=True)
_OF_PARTITION = select(correction).where(correction.c.partition_id == bindparam("partition_id"))
_APPEND = insert(correction).returning(correction.c.id)
_FIND = _OF_PARTITION.where(correction.c.id == bindparam("id"))
_LIST = (
    _OF_PARTITION.where(correction.c.id < bindparam("before"))
    .order_by(correction.c.id.desc())
    .limit(bindparam("limit"))
)
_NEXT_ACTIVE = (
    _OF_PARTITION.where(
        correction.c.subject.in_(_SUBJECTS), correction.c.id > bindparam("after"), correction.c.undone_at.is_(None)
    )
    .order_by(correction.c.id)
    .limit(1)
)
_MARK_UNDONE = update(correction).where(correction.c.id == bindparam("row_id"))
