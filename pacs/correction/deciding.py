"""Which copy answers: a conflict of duplicates decided, and the decision taken back. Both copies stay durable."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from pacs.errors import CannotCorrect
from pacs.index import changes, conflicts, removing, writer
from pacs.index.conflicts import Conflict
from pacs.index.copies import dump_instance, load_instance
from pacs.index.rows import PreparedInstance
from pacs.index.writer import Existing
from pacs.model import ChangeKind, Location


class Keep(StrEnum):
    """Which of two copies answers from now on."""

    ANSWERING = "answering"  # the one that answers already
    OTHER = "other"  # the one that the conflict keeps


_DECISION = {Keep.ANSWERING: "the answering copy is kept", Keep.OTHER: "the other copy was put in its place"}


def decide(connection: Connection, conflict: Conflict, other: PreparedInstance | None, at: datetime) -> dict[str, Any]:
    """Settle an open conflict in favour of what answers or, if it is given, of the ``other`` copy.

    Return what ``take_back`` needs.
    """
    keep = Keep.ANSWERING if other is None else Keep.OTHER
    if not conflicts.resolve_conflict(connection, conflict.partition_id, conflict.id, _DECISION[keep], at):
        raise CannotCorrect("This conflict is settled already.")
    facts: dict[str, Any] = {
        "conflict_id": conflict.id,
        "conflict_kind": conflict.kind.value,
        "keep": keep.value,
        "study_instance_uid": conflict.study_instance_uid,
        "sop_instance_uid": conflict.sop_instance_uid,
    }
    if other is not None:
        answering = _answering(connection, conflict)
        facts |= {"answered": dump_instance(connection, answering), "copy": _copy_of(conflict)}
        _exchange(connection, answering, other, at)
        _keep_copy(connection, conflict, _copy_of(answering))
    _append(connection, conflict, ChangeKind.CONFLICT_RESOLVED, at)
    return facts


def take_back(connection: Connection, partition_id: int, facts: dict[str, Any], at: datetime) -> None:
    """Open a conflict again and let that copy answer which answered before it was decided."""
    conflict = conflicts.find_conflict(connection, partition_id, facts["conflict_id"])
    if conflict is None:
        raise CannotCorrect("The conflict is no longer listed.")
    if facts["keep"] == Keep.OTHER:
        answering = _answering(connection, conflict)
        if answering.dataset_digest != facts["copy"]["dataset_digest"]:
            raise CannotCorrect("Other data answer under this UID by now; decide the newer conflict instead.")
        _exchange(connection, answering, load_instance(partition_id, facts["answered"]), at)
        _keep_copy(connection, conflict, facts["copy"])
    conflicts.reopen_conflict(connection, conflict.id)
    _append(connection, conflict, ChangeKind.CONFLICT_FOUND, at)


def _answering(connection: Connection, conflict: Conflict) -> Existing:
    found = writer.find_existing(connection, conflict.partition_id, conflict.sop_instance_uid)
    if found is None:
        raise CannotCorrect("No copy of this instance answers now; it may have been rejected or deleted.")
    return found


def _exchange(connection: Connection, answering: Existing, new: PreparedInstance, at: datetime) -> None:
    """Publish ``new`` as if the other had never come: a study that it is alone in says what it says."""
    removing.remove_instances(connection, [answering.row_id], at)
    if writer.insert_instance(connection, new) is None:
        raise CannotCorrect("The instance was stored again at this moment; try again.")


def _copy_of(one: Conflict | Existing) -> dict[str, Any]:
    """Return what a conflict has to know of a copy, as JSON."""
    assert one.location is not None, "a conflict of content keeps a copy"
    return {
        "study_instance_uid": one.study_instance_uid,
        "series_instance_uid": one.series_instance_uid,
        "location": [one.location.blob_key, one.location.offset, one.location.length_bytes],
        "dataset_digest": one.dataset_digest,
        "transfer_syntax_uid": one.transfer_syntax_uid,
    }


def _keep_copy(connection: Connection, conflict: Conflict, copy: dict[str, Any]) -> None:
    conflicts.keep_copy(
        connection,
        conflict.id,
        partition_id=conflict.partition_id,
        sop_instance_uid=conflict.sop_instance_uid,
        study_instance_uid=copy["study_instance_uid"],
        series_instance_uid=copy["series_instance_uid"],
        location=Location(*copy["location"]),
        dataset_digest=copy["dataset_digest"],
        transfer_syntax_uid=copy["transfer_syntax_uid"],
    )


def _append(connection: Connection, conflict: Conflict, kind: ChangeKind, at: datetime) -> None:
    changes.append(
        connection,
        conflict.partition_id,
        kind,
        at=at,
        study_instance_uid=conflict.study_instance_uid,
        series_instance_uid=conflict.series_instance_uid,
        sop_instance_uid=conflict.sop_instance_uid,
        facts={"conflict_id": conflict.id},
    )
