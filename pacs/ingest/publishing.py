"""What one transaction makes of a blob that is durable: an instance, a known one, or a conflict (decision 4).

It runs inside the caller's transaction and decides again what may have changed since the caller looked.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from pacs.database.base import LostRace
from pacs.index import changes, conflicts, rows, withholding, writer
from pacs.ingest import rejection
from pacs.ingest.outcome import Disposition
from pacs.model import ChangeKind, DuplicatePolicy, Location, Origin


@dataclass(frozen=True, slots=True)
class Publication:
    """A stored blob and the rows that make it an instance."""

    rows: rows.PreparedInstance
    location: Location
    transfer_syntax_uid: str
    dataset_digest: str


def publish(connection: Connection, new: Publication) -> Disposition:
    """Make a stored blob an instance, or a conflict with one, in the caller's transaction."""
    instance = new.rows
    if rejection.obey(connection, instance):
        return Disposition.WITHHELD
    withholding.join_stores(connection)
    standing = writer.find_standing(connection, instance)
    if not standing.is_taken:
        if standing.is_withheld and rejection.hide(connection, instance):
            return Disposition.WITHHELD
        if writer.insert_instance(connection, instance, standing) is not None:
            _append_change(connection, instance, ChangeKind.INSTANCE_STORED)
            return Disposition.STORED
    existing = writer.find_existing(connection, instance.partition_id, instance.sop_instance_uid)
    if existing is None:  # removed since
        raise LostRace
    return _meet(connection, existing, new)


def _meet(connection: Connection, existing: writer.Existing, new: Publication) -> Disposition:
    """Decide between a stored blob and the instance that answers under its SOP Instance UID."""
    instance = new.rows
    if existing.dataset_digest == new.dataset_digest:
        # Sent twice at once, or sent again because its blob was found missing: what is durable now answers.
        if existing.location != new.location:
            writer.replace_instance(connection, existing, instance)
        return Disposition.DUPLICATE
    if conflicts.is_known_equal(connection, instance.partition_id, instance.sop_instance_uid, new.dataset_digest):
        return Disposition.DUPLICATE
    if rejects_duplicates(instance.origin):
        return Disposition.REJECTED
    if instance.origin.duplicate_policy is DuplicatePolicy.REPLACE:
        kept = Publication(instance, existing.location, existing.transfer_syntax_uid, existing.dataset_digest)
        _record_conflict(connection, kept, answering_since=instance.stored_at)
        writer.replace_instance(connection, existing, instance)
        _append_change(connection, instance, ChangeKind.INSTANCE_REPLACED)
    elif _record_conflict(connection, new, answering_since=existing.stored_at):
        _append_change(connection, instance, ChangeKind.CONFLICT_FOUND)
    return Disposition.CONFLICT


def _record_conflict(connection: Connection, hidden: Publication, *, answering_since: datetime) -> bool:
    """List the copy that does not answer queries; False if it is listed already."""
    return conflicts.record_conflict(
        connection,
        partition_id=hidden.rows.partition_id,
        kind=conflicts.ConflictKind.CONTENT,
        study_instance_uid=hidden.rows.study_instance_uid,
        series_instance_uid=hidden.rows.series_instance_uid,
        sop_instance_uid=hidden.rows.sop_instance_uid,
        origin=hidden.rows.origin,
        found_at=hidden.rows.stored_at,
        location=hidden.location,
        dataset_digest=hidden.dataset_digest,
        transfer_syntax_uid=hidden.transfer_syntax_uid,
        answering_since=answering_since,
    )


def _append_change(connection: Connection, instance: rows.PreparedInstance, kind: ChangeKind) -> None:
    origin = instance.origin
    changes.append(
        connection,
        instance.partition_id,
        kind,
        at=instance.stored_at,
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.series_instance_uid,
        sop_instance_uid=instance.sop_instance_uid,
        facts={
            "door": origin.door,
            "address": origin.address,
            "calling_ae_title": origin.calling_ae_title,
            "called_ae_title": origin.called_ae_title,
            "issuer_of_patient_id": origin.issuer_of_patient_id,
        },
    )


def rejects_duplicates(origin: Origin) -> bool:
    """Whether this sender's other data set under a known SOP Instance UID is refused, not kept beside the first."""
    return origin.duplicate_policy is DuplicatePolicy.REJECT
