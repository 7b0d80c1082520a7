"""What a project was answered about sets of patients: a set that hardly differs from one is answered as that was.

Noise that belongs to a set would by itself betray the set: two questions with the same numbers are about the same
patients, so whether one patient is among them could be seen by leaving him out. Here no answer changes for fewer than
k patients, whoever they are.
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from pacs.database.research_tables import research_answer, research_project
from pacs.deid import ProjectKey
from pacs.research.model import Project, Shown
from pacs.research.perturbation import draw
from pacs.research.resemblance import Sketch

PATIENTS = "patients"

Shares = Mapping[int, int]
"""How much each patient adds to a count, by his row."""


class Answers:
    """Looks answers up and keeps new ones in a write transaction, one question of a project at a time."""

    def __init__(self, connection: Connection, project: Project, key: ProjectKey) -> None:
        self._connection = connection
        self._project = project
        self._key = key
        connection.execute(_LOCK, {"project": project.id})

    def show_patients(self, patient_row_ids: Collection[int]) -> Shown:
        """Return how many patients these are, as it may be shown."""
        return self.show(dict.fromkeys(patient_row_ids, 1), {})[PATIENTS]

    def show(self, patients: Shares, levels: Mapping[str, Shares]) -> dict[str, Shown]:
        """Return how many patients these are, and how much of each level they have, as it may be shown, by level.

        ``levels`` are given from the upper to the lower.
        Of what resembles them, what was answered first counts.
        """
        k = self._project.k
        nothing = dict.fromkeys((PATIENTS, *levels), Shown(None, k))
        if len(patients) < k:
            return nothing
        sketch = Sketch.of(patients, k)
        found = self._find(sketch)
        before = b"" if found is None else found.numbers.encode()
        kept: dict[str, Any] = orjson.loads(before or b"{}") or {PATIENTS: draw(self._key, k, PATIENTS, patients)}
        numbers = {level: self._show_level(kept.setdefault(level, []), level, own) for level, own in levels.items()}
        after = orjson.dumps(kept)
        if found is None:
            row = {"project_row_id": self._project.id, "patient_count": sketch.count, "sums": sketch.dump()}
            self._connection.execute(insert(research_answer), row | {"numbers": after.decode()})
        elif after != before:
            self._connection.execute(_CHANGE.where(research_answer.c.id == found.id), {"numbers": after.decode()})
        if kept[PATIENTS] is None:
            return nothing
        shown, least = {PATIENTS: Shown(kept[PATIENTS], k)}, int(kept[PATIENTS])
        for level, number in numbers.items():
            # Each patient has a study, each study a series: what is below is never fewer than what was shown above.
            least = max(least, number or 0)
            shown[level] = Shown(least, k)
        return shown

    def _find(self, sketch: Sketch) -> Row[Any] | None:
        k = self._project.k
        near = {"project": self._project.id, "least": sketch.count - k, "most": sketch.count + k}
        for row in self._connection.execute(_NEAR, near).all():
            if sketch.resembles(Sketch.load(row.patient_count, bytes(row.sums)), k):
                return row
        return None

    def _show_level(self, kept: list[list[int | None]], level: str, shares: Shares) -> int | None:
        """Return what was shown of a level when there was hardly more or less of it; otherwise draw it, and keep it.

        That is what fewer than k patients can make: as much as one of them has, for each.
        """
        total, far = sum(shares.values()), self._project.k * max(shares.values())
        for known, number in kept:
            assert known is not None, "it is the total"
            if abs(known - total) < far:
                return number
        number = draw(self._key, self._project.k, level, shares)
        kept.append([total, number])
        return number


_LOCK = select(research_project.c.id).where(research_project.c.id == bindparam("project")).with_for_update()
"""Two who ask at once would each be the first."""
_NEAR = (
    select(research_answer)
    .where(
        research_answer.c.project_row_id == bindparam("project"),
        research_answer.c.patient_count > bindparam("least"),
        research_answer.c.patient_count < bindparam("most"),
    )
    .order_by(research_answer.c.id)
)
_CHANGE = update(research_answer)
