"""What matches the conditions of a cohort: series of the clinical index that the catalogue knows as they are now.

Whoever objected is not among them. Nothing here is shown to anybody as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_

from pacs.database.research_tables import research_catalogue
from pacs.database.tables import series, study
from pacs.index.matching import build_series_select, test_pattern
from pacs.model import CLINICAL_PARTITION
from pacs.research.catalogue_values import RULES
from pacs.research.conditions import TOP_AGE, Among, Between, CatalogueTest, Conditions, Like
from pacs.research.exclusions import Excluded
from pacs.research.model import Candidate

_BAND = 10
_NOBODY = Excluded()


@dataclass(frozen=True, slots=True)
class PatientCounts:
    """How much of one patient matches."""

    patient_row_id: int
    studies: int
    series: int
    instances: int


class Population:
    """Reads what matches, in the transaction of a connection, without what is ``excluded``."""

    def __init__(self, connection: Connection, conditions: Conditions, excluded: Excluded = _NOBODY) -> None:
        self._connection = connection
        self._excluded = excluded
        select = build_series_select(CLINICAL_PARTITION, conditions.clinical)
        is_of_series = research_catalogue.c.series_row_id == series.c.id
        self._select = select.join(research_catalogue, is_of_series).where(
            research_catalogue.c.rules == RULES, *(_test(one) for one in conditions.catalogue)
        )

    def read_patients(self) -> list[PatientCounts]:
        """Return how much of each patient matches."""
        totals: dict[int, list[int]] = {}
        columns = (study.c.patient_row_id, study.c.id, func.count(), func.sum(series.c.instance_count))
        statement = self._ask(*columns).group_by(study.c.patient_row_id, study.c.id)
        rows = self._connection.execute(statement, execution_options=_BY_PAGE)
        for patient_row_id, study_row_id, series_count, instance_count in rows:
            if self._excluded.leaves(patient_row_id, study_row_id):
                total = totals.setdefault(patient_row_id, [0, 0, 0])
                total[0] += 1
                total[1] += series_count
                total[2] += int(instance_count)
        return [PatientCounts(patient_row_id, *total) for patient_row_id, total in totals.items()]

    def read_facets(self, columns: Sequence[ColumnElement[Any]]) -> list[dict[Any, set[int]]]:
        """Return the patients that have each value of each of some columns; None is a value, too.

        One statement is asked, which returns few rows where what matches is much alike.
        """
        found: list[dict[Any, set[int]]] = [{} for _ in columns]
        studies = (study.c.id,) if self._excluded.study_row_ids else ()
        statement = self._ask(*columns, study.c.patient_row_id, *studies).distinct()
        for row in self._connection.execute(statement, execution_options=_BY_PAGE):
            patient_row_id = row[len(columns)]
            if self._excluded.leaves(patient_row_id, row[-1] if studies else 0):
                for patients, value in zip(found, row, strict=False):
                    patients.setdefault(value, set()).add(patient_row_id)
        return found

    def read_candidates(self, after: int, limit: int) -> tuple[list[Candidate], int]:
        """Return some series behind the row ``after``, in the order of their rows, and where to read on; 0 at the end.

        Those that are excluded are among them: the caller asks about these few.
        """
        columns = (
            study.c.patient_row_id,
            study.c.id.label("study_row_id"),
            series.c.id.label("series_row_id"),
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            series.c.instance_count,
        )
        statement = self._ask(*columns).where(series.c.id > after).order_by(series.c.id).limit(limit)
        rows = self._connection.execute(statement).all()
        return [Candidate(*row) for row in rows], rows[-1].series_row_id if len(rows) == limit else 0

    def _ask(self, *columns: ColumnElement[Any]) -> Select[Any]:
        return self._select.with_only_columns(*columns, maintain_column_froms=True)


def _test(test: CatalogueTest) -> ColumnElement[bool]:
    column = research_catalogue.c[test.column]
    match test:
        case Among(_, values):
            return column.in_(values)
        case Like(_, patterns):
            return or_(*(test_pattern(column, pattern) for pattern in patterns))
        case Between(_, first, last):
            ends: Iterable[ColumnElement[bool]] = (
                *([column >= first] if first is not None else []),
                *([column <= last] if last is not None else []),
            )
            return and_(*ends)


AGE_BAND: ColumnElement[Any] = case(
    *((research_catalogue.c.age_years < edge, edge - _BAND) for edge in range(_BAND, TOP_AGE + 1, _BAND)),
    (research_catalogue.c.age_years >= TOP_AGE, TOP_AGE),
)
"""The first year of ten, or ``TOP_AGE`` for that and all above."""

_BY_PAGE = {"yield_per": 5000}
