"""Names by their sound: the index finds who may be meant, ``pacs.phonetics`` decides and ranks.

Both engines find and decide alike, and the ranks go back into the one statement that makes the page. What a search
costs is bounded by ``MAX_CANDIDATES`` and, for names that are made to be slow, by ``MAX_EFFORT``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, and_, cast, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause

from pacs.database.tables import person_name
from pacs.errors import InvalidQuery
from pacs.index.matching import EXACT, build_candidates
from pacs.phonetics import Sought
from pacs.query import Condition, Query, texts_of

MAX_CANDIDATES = 10_000
"""Studies whose names are compared for one search: the newest of those with the sounds that are asked for."""

MAX_NAMES = 10
"""Names that one search may compare."""

MAX_EFFORT = 16_000_000
"""Pairs of letters that are compared for one search: as many candidates as there may be whose names have forty letters,
and no more of those that were stored to keep the archive busy than a few seconds' worth."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The studies whose names sound like those asked for; ``is_cut`` says that there was more to compare."""

    ranks: dict[int, int]
    is_cut: bool

    def as_table(self) -> FromClause:
        """Return the studies as a table of ``study_row_id`` and ``rank``, whatever their number one bound value."""
        both = [row_id * EXACT + rank for row_id, rank in self.ranks.items()]  # a rank is below EXACT
        items = _JsonItems(literal(orjson.dumps(both).decode())).table_valued("value")
        number = cast(items.c.value, BigInteger)
        columns = ((number // EXACT).label("study_row_id"), (number % EXACT).label("rank"))
        return select(*columns).cte("ranks").prefix_with("MATERIALIZED")


def find_ranking(connection: Connection, partition_id: int, query: Query) -> Ranking | None:
    """Return the studies that match the names of ``query`` by their sound, all else in it holding; None without names.

    Raises InvalidQuery for more than ``MAX_NAMES`` names.
    """
    names = query.names_by_sound
    if not names:
        return None
    if sum(len(texts_of(condition)) for condition in names) > MAX_NAMES:
        raise InvalidQuery(f"More than {MAX_NAMES} names to compare by their sound.")
    candidates = build_candidates(partition_id, query, MAX_CANDIDATES + 1).subquery()
    of_candidate = and_(
        person_name.c.study_row_id == candidates.c.id,
        person_name.c.keyword.in_([condition.keyword for condition in names]),
    )
    statement = select(candidates, person_name.c.keyword, person_name.c.key).join_from(
        candidates, person_name, of_candidate
    )
    statement = statement.order_by(candidates.c.id.desc(), person_name.c.key)  # should the effort not do for all
    found = _Found(names)
    for row_id, *equal, keyword, key in connection.execute(statement):
        found.add(row_id, equal, keyword, key)
    return Ranking(found.ranks(), found.count > MAX_CANDIDATES or found.effort_left < 0)


class _Found:
    """The best rank of each candidate for each condition, as its names come in."""

    def __init__(self, names: Sequence[Condition]) -> None:
        self._names = names
        self._sought = {condition: [Sought(text) for text in texts_of(condition)] for condition in names}
        self._best: dict[int, list[int]] = {}
        self._ranks: dict[tuple[Condition, str], int] = {}  # patients have more than one study
        self.effort_left = MAX_EFFORT

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return len(self._best)

    def add(self, row_id: int, equal: Iterable[bool], keyword: str, key: str) -> None:
        """Take in one name of a candidate; ``equal`` says which conditions it meets as they are written."""
        best = self._best.setdefault(row_id, [EXACT if is_equal else 0 for is_equal in equal])
        for at, condition in enumerate(self._names):
            if condition.keyword == keyword and best[at] < EXACT:
                best[at] = max(best[at], self._rank(condition, key))

    def ranks(self) -> dict[int, int]:
        """Return the rank of every candidate that meets all conditions: that of the name which answers worst."""
        return {row_id: min(best) for row_id, best in self._best.items() if min(best) > 0}

    def _rank(self, condition: Condition, key: str) -> int:
        known = self._ranks.get((condition, key))
        if known is None:
            self.effort_left -= len(key) * sum(map(len, texts_of(condition)))
            if self.effort_left < 0:
                return 0
            scores = (sought.score(key) or 0.0 for sought in self._sought[condition])
            known = self._ranks[condition, key] = min(int(max(scores) * EXACT), EXACT - 1)
        return known


class _JsonItems(FunctionElement[Any]):
    """The items of a JSON array as rows of one column, ``value``; each engine has its own name for that."""

    inherit_cache = True


@compiles(_JsonItems)
def _compile_items(element: _JsonItems, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS JSONB))"


@compiles(_JsonItems, "sqlite")
def _compile_items_for_sqlite(element: _JsonItems, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"
