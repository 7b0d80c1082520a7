"""Objections: patients and studies that are left out of one project or of all research, before a release and after it.

Whom an objection concerns is a digest under the master key. It counts for the patient that he is merged into, too, and
for one that is not here yet.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from pacs.access import Principal, Role
from pacs.database.base import Database
from pacs.database.research_tables import research_exclusion
from pacs.database.tables import patient, study
from pacs.errors import ExclusionNotFound, InvalidValue, NotPermitted
from pacs.index.inserting import insert_missing
from pacs.index.removing import chunks
from pacs.index.rows import identity_of
from pacs.model import CLINICAL_PARTITION
from pacs.research.gate import Right, admit
from pacs.research.identities import Identities
from pacs.research.keyring import Keyring
from pacs.research.model import Exclusion, ExclusionScope, Project
from pacs.research.recording import note

ALL_RESEARCH = 0
"""Where a row has the project that it is of, if it is of none."""

_MAX_REASON = 2000


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom an objection concerns: a patient by Patient ID (of any issuer if none is given), or one study."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Excluded:
    """The rows of patients and of studies that a project leaves out."""

    patient_row_ids: frozenset[int] = frozenset()
    study_row_ids: frozenset[int] = frozenset()

    def leaves(self, patient_row_id: int, study_row_id: int) -> bool:
        """Return whether a study of a patient is not left out."""
        return patient_row_id not in self.patient_row_ids and study_row_id not in self.study_row_ids


Named = Sequence[tuple[str, str]]
"""Whom an objection names: ``identity`` or ``study``, and which."""

OnExcluded = Callable[[Connection, Project | None, Named], None]


class Exclusions:
    """Keeps what is left out. Any number of threads may call it at once.

    ``on_excluded`` is called in the transaction that excludes somebody, with the project or None for all, and whom:
    older releases have to end with it.
    """

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        on_excluded: OnExcluded = lambda *_: None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._on_excluded = on_excluded

    def exclude(self, principal: Principal, slug: str | None, whom: Whom, *, reason: str) -> ExclusionScope:
        """Leave a patient or a study out of a project, or of all research if ``slug`` is None; return which it was.

        A steward may of his project, an administrator of any and of all. Whether there is such a patient is not told.
        """
        reason = _checked_reason(reason)
        scope = ExclusionScope.STUDY if whom.study_instance_uid else ExclusionScope.PATIENT
        if bool(whom.patient_id) == bool(whom.study_instance_uid):
            raise InvalidValue("An objection names a Patient ID or a Study Instance UID, and not both.")
        with self._database.read() as connection:
            _admit(connection, principal, slug)
            master = self._keys.prepare(connection)

        def write(connection: Connection) -> ExclusionScope:
            project = _admit(connection, principal, slug)
            row = {
                "project_row_id": ALL_RESEARCH if project is None else project.id,
                "scope": scope.value,
                "reason": reason,
                "excluded_by": principal.name,
                "excluded_at": datetime.now(UTC),
            }
            named = tuple(_subjects_of(connection, whom))
            digests = dict.fromkeys(master.digest(*subject) for subject in named)
            insert_missing(connection, research_exclusion, [row | {"digest": digest} for digest in digests])
            self._on_excluded(connection, project, named)
            note(connection, principal, slug or "", "exclusion.add", scope=scope.value, reason=reason)
            return scope

        return self._database.write(write)

    def list_all(self, principal: Principal, slug: str | None) -> list[Exclusion]:
        """Return the objections that count for a project, those against all research too; who it is, is in none."""
        with self._database.read() as connection:
            project = _admit(connection, principal, slug)
            rows = connection.execute(_OF, {"project_row_ids": _projects(project)})
            found = [
                Exclusion(
                    row.id,
                    row.project_row_id or None,
                    ExclusionScope(row.scope),
                    row.reason,
                    row.excluded_by,
                    row.excluded_at,
                )
                for row in rows
            ]
        self._database.write(lambda connection: note(connection, principal, slug or "", "exclusion.list"))
        return found

    def lift(self, principal: Principal, slug: str | None, exclusion_id: int, *, reason: str) -> None:
        """Take an objection back; raise ExclusionNotFound if it is not one of this project, or of all research."""
        reason = _checked_reason(reason)

        def write(connection: Connection) -> None:
            project = _admit(connection, principal, slug)
            own = ALL_RESEARCH if project is None else project.id
            one = delete(research_exclusion).where(
                research_exclusion.c.id == exclusion_id, research_exclusion.c.project_row_id == own
            )
            if not connection.execute(one).rowcount:
                raise ExclusionNotFound
            note(connection, principal, slug or "", "exclusion.lift", str(exclusion_id), reason=reason)

        self._database.write(write)

    def find_excluded(
        self, connection: Connection, project: Project, patient_row_ids: Sequence[int] | None = None
    ) -> Excluded:
        """Return what a project leaves out of the archive as it is now, or only of what these patients have there.

        Where nobody objected it costs one look-up.
        """
        digests = {bytes(row.digest) for row in connection.execute(_OF, {"project_row_ids": _projects(project)})}
        if not digests:
            return Excluded()
        master, merged = self._keys.master(), Identities(connection)
        patients, studies = set[int](), set[int]()
        for found_patients, found_studies in _read_subjects(connection, patient_row_ids):
            for row in found_patients:
                identities = merged.of(row.id, row.identity)
                if any(master.digest("identity", identity) in digests for identity in identities):
                    patients.add(row.id)
            studies |= {row.id for row in found_studies if master.digest("study", row.study_instance_uid) in digests}
        return Excluded(frozenset(patients), frozenset(studies))


def _read_subjects(
    connection: Connection, patient_row_ids: Sequence[int] | None
) -> Iterator[tuple[Iterable[Any], Iterable[Any]]]:
    """Yield patients and studies: all there are, or those of some patients, as many at once as a statement can name."""
    if patient_row_ids is None:
        yield connection.execute(_PATIENTS, execution_options=_BY_PAGE), ()
        yield (), connection.execute(_STUDIES, execution_options=_BY_PAGE)
        return
    for row_ids in chunks(patient_row_ids):
        named = {"row_ids": row_ids}
        yield connection.execute(_PATIENTS_NAMED, named), connection.execute(_STUDIES_NAMED, named)


def _admit(connection: Connection, principal: Principal, slug: str | None) -> Project | None:
    """Return the project, None for all research; raise what ``admit`` raises."""
    if slug is not None:
        right = Right.MANAGE if principal.is_any(Role.ADMINISTRATOR) else Right.DECIDE
        return admit(connection, principal, slug, right).project
    if not principal.is_any(Role.ADMINISTRATOR):
        raise NotPermitted
    return None


def _projects(project: Project | None) -> list[int]:
    return [ALL_RESEARCH] if project is None else [ALL_RESEARCH, project.id]


def _subjects_of(connection: Connection, whom: Whom) -> Iterable[tuple[str, str]]:
    if whom.study_instance_uid:
        yield "study", whom.study_instance_uid
        return
    yield "identity", identity_of(whom.issuer_of_patient_id, whom.patient_id, "")
    if not whom.issuer_of_patient_id:
        for row in connection.execute(_OF_PATIENT_ID, {"patient_id": whom.patient_id}):
            yield "identity", row.identity


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > _MAX_REASON:
        raise InvalidValue(f"A reason must be given, with at most {_MAX_REASON} characters.")
    return reason


_OF = (
    select(research_exclusion)
    .where(research_exclusion.c.project_row_id.in_(bindparam("project_row_ids", expanding=True)))
    .order_by(research_exclusion.c.id)
)
_PATIENTS = select(patient.c.id, patient.c.identity).where(patient.c.partition_id == CLINICAL_PARTITION)
_STUDIES = select(study.c.id, study.c.study_instance_uid).where(study.c.partition_id == CLINICAL_PARTITION)
_PATIENTS_NAMED = _PATIENTS.where(patient.c.id.in_(bindparam("row_ids", expanding=True)))
_STUDIES_NAMED = _STUDIES.where(study.c.patient_row_id.in_(bindparam("row_ids", expanding=True)))
_OF_PATIENT_ID = select(patient.c.identity).where(
    patient.c.partition_id == CLINICAL_PARTITION, patient.c.patient_id == bindparam("patient_id")
)
_BY_PAGE = {"yield_per": 5000}
