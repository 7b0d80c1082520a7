"""The identities that one patient has: his own, and those of the patients that were merged into him."""

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection, bindparam, select

from pacs.database.tables import patient
from pacs.model import CLINICAL_PARTITION


class Identities:
    """Reads all merges once, for who asks about many patients."""

    def __init__(self, connection: Connection) -> None:
        self._merged: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for row in connection.execute(_ALL_MERGED, {"partition_id": CLINICAL_PARTITION}):
            self._merged[row.merged_into_row_id].append((row.id, row.identity))

    def of(self, row_id: int, identity: str) -> list[str]:
        """Return the identities of a patient, his own first."""
        return [identity, *(merged for _, merged in self._below(row_id, {row_id}))]

    @staticmethod
    def of_patient(connection: Connection, row_id: int, identity: str) -> list[str]:
        """Return the same of one patient; it costs one look-up where nobody was merged."""
        found, seen, waiting = [identity], {row_id}, [row_id]
        while waiting:
            merged = connection.execute(_MERGED, {"row_ids": waiting}).all()
            waiting = [row.id for row in merged if row.id not in seen]
            found += [row.identity for row in merged if row.id not in seen]
            seen.update(waiting)
        return found

    def _below(self, row_id: int, seen: set[int]) -> Iterator[tuple[int, str]]:
        for other, identity in self._merged.get(row_id, ()):
            if other not in seen:
                seen.add(other)
                yield other, identity
                yield from self._below(other, seen)


_ALL_MERGED = select(patient.c.id, patient.c.identity, patient.c.merged_into_row_id).where(
    patient.c.partition_id == bindparam("partition_id"), patient.c.merged_into_row_id.is_not(None)
)
_MERGED = (
    select(patient.c.id, patient.c.identity)
    .where(patient.c.merged_into_row_id.in_(bindparam("row_ids", expanding=True)))
    .order_by(patient.c.id)
)
