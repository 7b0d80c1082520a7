"""The search that every door shares: a principal and a query in, a page of matches out."""

from pacs.access import Principal
from pacs.database.base import Database
from pacs.index import reader
from pacs.index.reader import Match, Page
from pacs.query import Query

__all__ = ["Match", "Page", "Searcher"]


class Searcher:
    """Searches one partition. Any number of threads may call it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id

    def search(
        self, principal: Principal, query: Query, *, with_header: bool = False, behind: Page | None = None
    ) -> Page:
        """Return the page of matches that ``query`` asks for, newest study first; of a fuzzy one the best names.

        With ``with_header`` matches at the instance level carry every attribute of their header, which costs more.
        ``behind`` is the page before, if there is one: the names that were compared for it are not compared again.
        Raises InvalidQuery for conditions on what is not indexed, Unavailable if the index cannot answer.
        """
        del principal  # whoever is known may search everything, until there are policies to ask
        with self._database.read() as connection:
            ranking = None if behind is None else behind.ranking
            return reader.search(connection, self._partition_id, query, with_header=with_header, ranking=ranking)
