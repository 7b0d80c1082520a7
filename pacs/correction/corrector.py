"""The corrections themselves: each one transaction that records who, when, why and what, and that can be undone.

Nothing here touches stored bytes. A correction is a step for every study of its subject; ``pacs.index.corrected`` makes
the rows of what was received and of the steps, so that queries answer at once and undoing is leaving one out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from pacs.access import Principal
from pacs.correction.deciding import Keep, decide, take_back
from pacs.correction.values import adopt, check_reason, forget_person, parse_changes
from pacs.database.base import Database
from pacs.errors import CannotCorrect, ConflictNotFound, CorrectionNotFound, PatientNotFound, StudyNotFound
from pacs.index import changes, conflicts, corrected
from pacs.index.conflicts import Conflict
from pacs.index.corrected import KnownPatient, KnownStudy
from pacs.index.corrections import (
    Correction,
    CorrectionKind,
    append_correction,
    find_correction,
    lock_corrections,
    mark_undone,
    read_corrections,
)
from pacs.index.rows import PreparedInstance, identity_of
from pacs.model import Attributes, ChangeKind, Level, Location, Origin

MAX_PAGE = 1000

ReadCopy = Callable[[Location, str, Origin, datetime], PreparedInstance]
"""Reads a stored copy as ingest did: where it is, its data set's digest, where it came from, when it was stored."""


@dataclass(frozen=True, slots=True)
class PatientKey:
    """A patient by the names people know it by; an empty issuer is the one of senders that have none."""

    patient_id: str
    issuer_of_patient_id: str = ""

    @property
    def identity(self) -> str:
        """What the index knows the patient by."""
        return identity_of(self.issuer_of_patient_id.strip(), self.patient_id.strip(), "")

    def dump(self) -> dict[str, str]:
        """Return the key as JSON."""
        return {"patient_id": self.patient_id, "issuer_of_patient_id": self.issuer_of_patient_id}


class Corrector:
    """Corrects one partition. Any number of threads may call it at once.

    ``reason`` is a sentence by whoever corrects, and kept. Everything raises InvalidValue for what makes no sense, a
    NotFound for what is not there, and CannotCorrect with one sentence for what cannot be done as things are.
    """

    def __init__(self, database: Database, partition_id: int, read_copy: ReadCopy) -> None:
        self._database = database
        self._partition_id = partition_id
        self._read_copy = read_copy

    def merge_patients(
        self, principal: Principal, prior: PatientKey, surviving: PatientKey, *, reason: str
    ) -> Correction:
        """Let every study of ``prior`` be one of ``surviving``, those that arrive later too."""
        record = _Record.begin(CorrectionKind.MERGE_PATIENTS, principal, reason)

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            gone, kept = self._find_patients(connection, prior, surviving)
            if gone.row_id == kept.row_id:
                raise CannotCorrect("These are one and the same patient.")
            done = self._append(
                connection,
                record,
                gone.identity,
                adopt(kept.attributes, kept.patient_id, kept.issuer_of_patient_id),
                {"prior": prior.dump(), "surviving": surviving.dump()},
            )
            corrected.set_merged_into(connection, gone.row_id, kept.row_id)
            self._rewrite(connection, done, corrected.find_studies(connection, gone.row_id), done.at)
            self._refresh(connection, gone.row_id, kept.row_id)
            return done

        return self._database.write(work)

    def correct_patient(
        self, principal: Principal, patient: PatientKey, values: Mapping[str, str], *, reason: str
    ) -> Correction:
        """Give attributes of a patient other values, by keyword; in studies that arrive later under this key too."""
        record = _Record.begin(CorrectionKind.CORRECT_PATIENT, principal, reason)
        changes = parse_changes(values, Level.PATIENT)

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            (found,) = self._find_patients(connection, patient)
            done = self._append(connection, record, found.identity, changes, {"patient": patient.dump()})
            studies = corrected.find_studies(connection, found.row_id)
            self._rewrite(connection, done, studies, done.at)
            _refuse_merged(connection, studies)
            self._refresh(connection, found.row_id)
            return done

        return self._database.write(work)

    def move_study(
        self, principal: Principal, study_instance_uid: str, patient: PatientKey, *, reason: str
    ) -> Correction:
        """Let a study be one of another patient, who is known already; nothing of the first person stays in it."""
        record = _Record.begin(CorrectionKind.MOVE_STUDY, principal, reason)

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            found = self._find_study(connection, study_instance_uid)
            (new,) = self._find_patients(connection, patient)
            if found.patient_row_id == new.row_id:
                raise CannotCorrect("The study is this patient's already.")
            done = self._append(
                connection,
                record,
                study_instance_uid,
                forget_person(adopt(new.attributes, new.patient_id, new.issuer_of_patient_id)),
                {"study_instance_uid": study_instance_uid, "patient": patient.dump()},
            )
            self._rewrite(connection, done, [found.row_id], done.at)
            return done

        return self._database.write(work)

    def correct_study(
        self, principal: Principal, study_instance_uid: str, values: Mapping[str, str], *, reason: str
    ) -> Correction:
        """Give attributes of a study or, in this study, of its patient other values, by keyword.

        Another Patient ID or issuer makes it the study of that patient, who need not be known yet.
        """
        record = _Record.begin(CorrectionKind.CORRECT_STUDY, principal, reason)
        changes = parse_changes(values, Level.PATIENT, Level.STUDY)

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            found = self._find_study(connection, study_instance_uid)
            facts = {"study_instance_uid": study_instance_uid}
            done = self._append(connection, record, study_instance_uid, changes, facts)
            self._rewrite(connection, done, [found.row_id], done.at)
            _refuse_merged(connection, [found.row_id])
            return done

        return self._database.write(work)

    def resolve_conflict(self, principal: Principal, conflict_id: int, keep: Keep, *, reason: str) -> Correction:
        """Decide a conflict: which of two copies answers from now on, or that what was flagged may stay as it is."""
        record = _Record.begin(CorrectionKind.RESOLVE_CONFLICT, principal, reason)
        with self._database.read() as connection:
            conflict = self._find_conflict(connection, conflict_id)
        other = self._read_other(conflict) if keep is Keep.OTHER else None

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            now = self._find_conflict(connection, conflict_id)
            if now != conflict and now.resolved_at is None:
                raise CannotCorrect("The conflict has changed since it was read; look again.")
            return self._append(connection, record, "", {}, decide(connection, now, other, record.at))

        return self._database.write(work)

    def undo(self, principal: Principal, correction_id: int) -> Correction:
        """Take one correction back, whatever was corrected since; it stays listed as undone."""
        at = datetime.now(UTC)

        def work(connection: Connection) -> Correction:
            lock_corrections(connection)
            found = find_correction(connection, self._partition_id, correction_id)
            if found is None:
                raise CorrectionNotFound
            if found.undone_at is not None:
                raise CannotCorrect("This correction is undone already.")
            mark_undone(connection, found.id, by=principal.name, at=at)
            if found.kind is CorrectionKind.RESOLVE_CONFLICT:
                take_back(connection, self._partition_id, found.facts, at)
            else:
                self._undo(connection, found, at)
            return replace(found, undone_at=at, undone_by=principal.name)

        return self._database.write(work)

    def list_corrections(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one
        *,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Correction]:
        """Return corrections, undone ones too, latest first from the one before the id ``before`` on."""
        with self._database.read() as connection:
            return read_corrections(connection, self._partition_id, before=before, limit=min(limit, MAX_PAGE))

    def list_conflicts(
        self,
        principal: Principal,  # noqa: ARG002
        *,
        is_resolved: bool = False,
        after: int = 0,
        limit: int = 100,
    ) -> list[Conflict]:
        """Return conflicts by id from the one after ``after`` on, open ones unless ``is_resolved``."""
        with self._database.read() as connection:
            return list(
                conflicts.iter_conflicts(
                    connection, self._partition_id, is_resolved=is_resolved, after=after, limit=min(limit, MAX_PAGE)
                )
            )

    def _append(
        self, connection: Connection, record: "_Record", subject: str, changes: Attributes, facts: dict[str, Any]
    ) -> Correction:
        return append_correction(
            connection,
            self._partition_id,
            record.kind,
            by=record.by,
            reason=record.reason,
            at=record.at,
            subject=subject,
            changes=changes,
            facts=facts,
        )

    def _rewrite(self, connection: Connection, done: Correction, study_row_ids: Sequence[int], at: datetime) -> None:
        """Make the rows of these studies anew, and tell who follows the change log."""
        for row_id in study_row_ids:
            study_instance_uid = corrected.rewrite_study(connection, self._partition_id, row_id)
            changes.append(
                connection,
                self._partition_id,
                ChangeKind.STUDY_CORRECTED,
                at=at,
                study_instance_uid=study_instance_uid,
                series_instance_uid="",
                sop_instance_uid="",
                facts={"correction_id": done.id},
            )

    def _refresh(self, connection: Connection, *patient_row_ids: int) -> None:
        for row_id in sorted(patient_row_ids):
            corrected.refresh_patient(connection, row_id)

    def _undo(self, connection: Connection, found: Correction, at: datetime) -> None:
        subject = corrected.find_patient(connection, self._partition_id, found.subject)
        survivor = None
        if subject is not None and found.kind is CorrectionKind.MERGE_PATIENTS:
            survivor = corrected.set_merged_into(connection, subject, None)
        self._rewrite(connection, found, corrected.find_corrected(connection, found.id), at)
        self._refresh(connection, *(row_id for row_id in (subject, survivor) if row_id is not None))

    def _find_patients(self, connection: Connection, *keys: PatientKey) -> list[KnownPatient]:
        """Return these patients, locked; nothing arrives for them before this transaction ends."""
        for key in keys:
            if not key.patient_id.strip():
                raise PatientNotFound("A patient without a Patient ID has no name to be called by.")
        identities = [key.identity for key in keys]
        found = corrected.find_known_patients(connection, self._partition_id, identities)
        for identity in identities:
            known = found.get(identity)
            if known is not None and known.merged_into_row_id is not None:
                raise CannotCorrect(_MERGED)
            if known is None or not known.has_studies:
                raise PatientNotFound
        return [found[identity] for identity in identities]

    def _find_study(self, connection: Connection, study_instance_uid: str) -> KnownStudy:
        found = corrected.find_known_study(connection, self._partition_id, study_instance_uid)
        if found is None:
            raise StudyNotFound
        return found

    def _find_conflict(self, connection: Connection, conflict_id: int) -> Conflict:
        found = conflicts.find_conflict(connection, self._partition_id, conflict_id)
        if found is None:
            raise ConflictNotFound
        return found

    def _read_other(self, conflict: Conflict) -> PreparedInstance:
        if conflict.location is None:
            raise CannotCorrect("This conflict is not one of copies: move or correct the study, or let it stay.")
        return self._read_copy(conflict.location, conflict.dataset_digest, conflict.origin, conflict.found_at)


_MERGED = "The patient was merged into another; undo that, or name the other."


def _refuse_merged(connection: Connection, study_row_ids: Sequence[int]) -> None:
    """Raise CannotCorrect if studies have come to a patient who was merged into another; nothing is changed then."""
    if corrected.has_merged_patient(connection, study_row_ids):
        raise CannotCorrect(_MERGED)


@dataclass(frozen=True, slots=True)
class _Record:
    """Who corrects, when and why: what every correction's row has in common."""

    kind: CorrectionKind
    by: str
    reason: str
    at: datetime

    @classmethod
    def begin(cls, kind: CorrectionKind, principal: Principal, reason: str) -> "_Record":
        """Return the record of a correction that begins now; raise InvalidValue for a reason that is none."""
        return cls(kind, principal.name, check_reason(reason), datetime.now(UTC))
