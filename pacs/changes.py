"""The change feed: what happened in the archive, in the order in which it became visible.

Whoever reads on from the cursor of the last page misses nothing, whatever is written meanwhile. Nothing of a patient
is in it. Nothing prunes the log yet, so that a cursor stays good for ever.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import InvalidQuery
from pacs.index import changes
from pacs.model import Change, Cursor

MAX_PAGE = 1000
"""Changes read at once."""

_CURSOR = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some changes in their order, and ``end``: where to read on. ``has_more``: there are others after it already."""

    changes: tuple[Change, ...]
    end: Cursor
    has_more: bool = False


class ChangeFeed:
    """Reads the change log of one partition. Any number of threads may call it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id

    def read(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one
        after: Cursor = Cursor(),  # noqa: B008 - frozen
        limit: int = 100,
    ) -> ChangePage:
        """Return at most ``limit`` changes after a cursor, but never more than ``MAX_PAGE``.

        Raises InvalidQuery for a cursor behind the end of the log: it is another archive's, or of a time that a
        restored backup does not know, and who waited there would miss what happens first.
        """
        limit = min(limit, MAX_PAGE)
        with self._database.read() as connection:
            found = changes.read_after(connection, self._partition_id, after, limit + 1)
            if not found and after > changes.read_end(connection, self._partition_id):
                raise InvalidQuery("The log has not come to this cursor; read it from its beginning.")
        page = tuple(found[:limit])
        return ChangePage(page, page[-1].cursor if page else after, has_more=len(found) > limit)

    def read_end(self, principal: Principal) -> Cursor:  # noqa: ARG002
        """Return the cursor behind the last change; it costs one look-up."""
        with self._database.read() as connection:
            return changes.read_end(connection, self._partition_id)

    def watch(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``wake`` now and soon after whatever is written, from any thread, until the block ends."""
        return self._database.watch(wake)


def cursor_text(cursor: Cursor) -> str:
    """Return a cursor as others keep it; what is in it is nobody's business, but as text it sorts as the log does."""
    return f"{cursor.transaction_id:016x}-{cursor.sequence:016x}"


def parse_cursor(text: str) -> Cursor:
    """Return the cursor of a text; raise InvalidQuery if it is none that ``cursor_text`` has made."""
    match = _CURSOR.fullmatch(text)
    numbers = [int(group, 16) for group in match.groups()] if match else [_LARGEST + 1]
    if max(numbers) > _LARGEST:
        raise InvalidQuery("This is no cursor of the change log.")
    return Cursor(*numbers)
