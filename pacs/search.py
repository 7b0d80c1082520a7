"""The search that every door shares: a principal and a query in, a page of matches out."""

from dataclasses import dataclass

from pacs.access import Principal
from pacs.database.base import Database
from pacs.index import reader
from pacs.index.reader import Match
from pacs.query import Position, Query

__all__ = ["Match", "Page", "Searcher"]


@dataclass(frozen=True, slots=True)
class Page:
    """Some matches in their order; ``has_more`` says that others follow them, ``last`` where to go on."""

    matches: tuple[Match, ...]
    has_more: bool
    last: Position | None = None


class Searcher:
    """Searches one partition. Any number of threads may call it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id

    def search(self, principal: Principal, query: Query, *, with_header: bool = False) -> Page:
        """Return the page of matches that ``query`` asks for, newest study first.

        With ``with_header`` matches at the instance level carry every attribute of their header, which costs more.
        Raises InvalidQuery for conditions on what is not indexed, Unavailable if the index cannot answer.
        """
        del principal  # whoever is known may search everything, until there are policies to ask
        with self._database.read() as connection:
            matches, last, has_more = reader.search(connection, self._partition_id, query, with_header=with_header)
        return Page(tuple(matches), has_more, last)
