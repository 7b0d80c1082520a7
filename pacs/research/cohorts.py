"""Cohorts: saved queries of a project, and a steward's word on them. What was approved is not changed any more."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, select, update

from pacs.access import Principal
from pacs.database.base import Database
from pacs.database.research_tables import research_cohort
from pacs.errors import CohortNotFound, InvalidProject, NotNow, NotPermitted
from pacs.index.inserting import insert_once
from pacs.research.conditions import parse_conditions
from pacs.research.exclusions import Exclusions
from pacs.research.gate import Admitted, Right, admit, check_is_running
from pacs.research.model import Candidate, Cohort, CohortState, Project
from pacs.research.population import PatientCounts, Population
from pacs.research.recording import note

_MAX_NAME, _MAX_REMARK = 100, 2000


class Cohorts:
    """Keeps cohorts. Any number of threads may call it at once."""

    def __init__(self, database: Database, exclusions: Exclusions) -> None:
        self._database = database
        self._exclusions = exclusions

    def create(self, principal: Principal, slug: str, name: str, given: Mapping[str, str]) -> Cohort:
        """Save a query as a draft; raise InvalidQuery for what cannot be asked, NotNow for a name that is taken."""
        name, conditions = _checked(name, _MAX_NAME, "name"), parse_conditions(given)

        def write(connection: Connection) -> Cohort:
            project = _admit(connection, principal, slug).project
            row = {
                "project_row_id": project.id,
                "name": name,
                "conditions": _dump(conditions.spelling),
                "state": CohortState.DRAFT.value,
                "created_by": principal.name,
                "created_at": datetime.now(UTC),
            }
            cohort_id = insert_once(connection, research_cohort, row | _UNDECIDED)
            if cohort_id is None:
                raise NotNow("This project has a cohort of this name already.")
            note(connection, principal, project, "cohort.create", name, conditions=dict(conditions.spelling))
            return find_cohort(connection, project, cohort_id)

        return self._database.write(write)

    def get(self, principal: Principal, slug: str, cohort_id: int) -> Cohort:
        """Return a cohort, for members; raise CohortNotFound for one of another project, too."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.WORK).project
            cohort = find_cohort(connection, project, cohort_id)
        self._database.write(lambda connection: note(connection, principal, project, "cohort.view", str(cohort_id)))
        return cohort

    def list_all(self, principal: Principal, slug: str) -> list[Cohort]:
        """Return the cohorts of a project, the latest first, for members."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.WORK).project
            found = [_cohort_of(row) for row in connection.execute(_OF_PROJECT, {"project_row_id": project.id})]
        self._database.write(lambda connection: note(connection, principal, project, "cohort.list"))
        return found

    def change(self, principal: Principal, slug: str, cohort_id: int, given: Mapping[str, str]) -> Cohort:
        """Give a draft other conditions; one that was refused is a draft again then. Raises NotNow for any other."""
        conditions = parse_conditions(given)

        def write(connection: Connection) -> Cohort:
            project = _admit(connection, principal, slug).project
            values = {"conditions": _dump(conditions.spelling), "state": CohortState.DRAFT.value, **_UNDECIDED}
            _move(connection, project, cohort_id, (CohortState.DRAFT, CohortState.REFUSED), values)
            note(connection, principal, project, "cohort.change", str(cohort_id), conditions=dict(conditions.spelling))
            return find_cohort(connection, project, cohort_id)

        return self._database.write(write)

    def remove(self, principal: Principal, slug: str, cohort_id: int) -> None:
        """Remove what was not requested, or was refused; raise NotNow for any other."""

        def write(connection: Connection) -> None:
            project = _admit(connection, principal, slug).project
            _move(connection, project, cohort_id, (CohortState.DRAFT, CohortState.REFUSED), {})
            connection.execute(delete(research_cohort).where(research_cohort.c.id == cohort_id))
            note(connection, principal, project, "cohort.remove", str(cohort_id))

        self._database.write(write)

    def request(self, principal: Principal, slug: str, cohort_id: int) -> Cohort:
        """Ask a steward to approve a draft. Raises NotNow for any other, and for one of too few patients."""

        def write(connection: Connection) -> Cohort:
            project = _admit(connection, principal, slug).project
            cohort = find_cohort(connection, project, cohort_id)
            values = _UNDECIDED | {"requested_by": principal.name, "requested_at": datetime.now(UTC)}
            _move(connection, project, cohort_id, (CohortState.DRAFT,), values | {"state": CohortState.REQUESTED.value})
            if len(self._read_patients(connection, project, cohort)) < project.k:
                raise NotNow(f"Fewer than {project.k} patients match; so few are not released.")
            note(connection, principal, project, "cohort.request", str(cohort_id))
            return find_cohort(connection, project, cohort_id)

        return self._database.write(write)

    def approve(self, principal: Principal, slug: str, cohort_id: int, remark: str = "") -> Cohort:
        """Let a cohort be released: a steward of the project does, and never what he has requested himself."""
        return self._decide(principal, slug, cohort_id, CohortState.APPROVED, remark)

    def refuse(self, principal: Principal, slug: str, cohort_id: int, remark: str) -> Cohort:
        """Refuse a cohort that was requested, and say why."""
        return self._decide(principal, slug, cohort_id, CohortState.REFUSED, _checked(remark, _MAX_REMARK, "reason"))

    def read_candidates(
        self, connection: Connection, project: Project, cohort: Cohort, after: int, limit: int
    ) -> tuple[list[Candidate], int]:
        """Return some of the series that a cohort holds now, in the order of their rows, and where to read on.

        That is 0 at the end. There may be none of them before: whoever objected is passed over. It is for what makes a
        release, and tells what no one outside may see.
        """
        found, end = Population(connection, parse_conditions(cohort.conditions)).read_candidates(after, limit)
        patients = sorted({one.patient_row_id for one in found})
        excluded = self._exclusions.find_excluded(connection, project, patients)
        return [one for one in found if excluded.leaves(one.patient_row_id, one.study_row_id)], end

    def _read_patients(self, connection: Connection, project: Project, cohort: Cohort) -> list[PatientCounts]:
        excluded = self._exclusions.find_excluded(connection, project)
        return Population(connection, parse_conditions(cohort.conditions), excluded).read_patients()

    def _decide(self, principal: Principal, slug: str, cohort_id: int, state: CohortState, remark: str) -> Cohort:
        remark = remark.strip()[:_MAX_REMARK]

        def write(connection: Connection) -> Cohort:
            project = _admit(connection, principal, slug, Right.DECIDE).project
            cohort = find_cohort(connection, project, cohort_id)
            if cohort.requested_by == principal.name:
                raise NotPermitted("It takes two people: nobody decides on what he has requested himself.")
            values = {"decided_by": principal.name, "decided_at": datetime.now(UTC), "remark": remark}
            values["state"] = state.value
            _move(connection, project, cohort_id, (CohortState.REQUESTED,), values)
            kind = "approve" if state is CohortState.APPROVED else "refuse"
            facts = {"conditions": dict(cohort.conditions), "requested_by": cohort.requested_by, "remark": remark}
            note(connection, principal, project, f"cohort.{kind}", str(cohort_id), **facts)
            return find_cohort(connection, project, cohort_id)

        return self._database.write(write)


def find_cohort(connection: Connection, project: Project, cohort_id: int) -> Cohort:
    """Return a cohort of a project; raise CohortNotFound."""
    row = connection.execute(_ONE, {"id": cohort_id, "project_row_id": project.id}).first()
    if row is None:
        raise CohortNotFound
    return _cohort_of(row)


def _admit(connection: Connection, principal: Principal, slug: str, right: Right = Right.WORK) -> Admitted:
    admitted = admit(connection, principal, slug, right)
    check_is_running(admitted.project)
    return admitted


def _move(
    connection: Connection, project: Project, cohort_id: int, states: Sequence[CohortState], values: Mapping[str, Any]
) -> None:
    """Change a cohort that is in one of these states; raise CohortNotFound or NotNow."""
    cohort = find_cohort(connection, project, cohort_id)
    one = update(research_cohort).where(
        research_cohort.c.id == cohort_id, research_cohort.c.state.in_([state.value for state in states])
    )
    if not connection.execute(one.values(dict(values) or {"state": cohort.state.value})).rowcount:
        raise NotNow(f"This cohort is {cohort.state.value}; that can be done only while it is {' or '.join(states)}.")


def _checked(text: str, length: int, what: str) -> str:
    text = " ".join(text.split())
    if not text or len(text) > length or not text.isprintable():
        raise InvalidProject(f"The {what} must be given, with at most {length} characters.")
    return text


def _dump(spelling: Mapping[str, str]) -> str:
    return orjson.dumps(dict(spelling), option=orjson.OPT_SORT_KEYS).decode()


def _cohort_of(row: Any) -> Cohort:
    return Cohort(
        id=row.id,
        project_id=row.project_row_id,
        name=row.name,
        conditions=orjson.loads(row.conditions),
        state=CohortState(row.state),
        created_by=row.created_by,
        created_at=row.created_at,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        remark=row.remark,
    )


_UNDECIDED: dict[str, Any] = {
    "requested_by": "",
    "requested_at": None,
    "decided_by": "",
    "decided_at": None,
    "remark": "",
}
_OF_PROJECT = (
    select(research_cohort)
    .where(research_cohort.c.project_row_id == bindparam("project_row_id"))
    .order_by(research_cohort.c.id.desc())
)
_ONE = select(research_cohort).where(
    research_cohort.c.id == bindparam("id"), research_cohort.c.project_row_id == bindparam("project_row_id")
)
