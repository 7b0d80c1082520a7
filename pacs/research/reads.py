"""What members look at and take, put on record: no service of its own sees that, for nothing is changed by it."""

from typing import Any

from pacs.access import Principal
from pacs.database.base import Database
from pacs.research.recording import note


class Reads:
    """Records that something was read, searched or downloaded, before it is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, principal: Principal, slug: str, kind: str, subject: str = "", **facts: Any) -> None:
        """Put on record what somebody does with a project that he was found to be permitted to see."""
        self._database.write(lambda connection: note(connection, principal, slug, kind, subject, **facts))
