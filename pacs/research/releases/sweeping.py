"""What was abandoned goes: the rows of the partition, the list of candidates, and every blob that no release has.

A project has no other release under way meanwhile, so that nothing can take up a blob that is about to go.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.research.releases import contents, rows
from pacs.research.releases.partition import OpenPartition
from pacs.research.releases.rows import Stored
from pacs.retrieve.stored import store_errors

KEYS_AT_ONCE = 200


class Sweeper:
    """Removes what is left of abandoned releases."""

    def __init__(self, database: Database, open_partition: OpenPartition) -> None:
        self._database = database
        self._open_partition = open_partition

    def go_on(self, stored: Stored) -> bool:
        """Remove a little of an abandoned release, or all blobs at the end; return whether there is more to do."""
        release, at = stored.release, datetime.now(UTC)
        steps: tuple[Callable[[Connection], int], ...] = (
            lambda connection: contents.remove_some(connection, release.partition_id, at),
            lambda connection: contents.remove_changes(connection, release.partition_id),
            lambda connection: rows.remove_entries(connection, release.id),
        )
        for step in steps:
            if self._database.write(step):
                return True
        self._sweep_blobs(stored)
        self._database.write(lambda connection: rows.end_sweep(connection, release.id, at))
        return False

    def _sweep_blobs(self, stored: Stored) -> None:
        """Remove the project's blobs that none of its releases names, also those of objects that never came to be."""
        store = self._open_partition(stored.release.partition_id, stored.prefix).store
        with store_errors():
            keys = store.iter_keys()
            while page := list(islice(keys, KEYS_AT_ONCE)):
                with self._database.read() as connection:
                    unnamed = [
                        key for key in page if not contents.is_referenced(connection, stored.release.project_id, key)
                    ]
                for key in unnamed:
                    store.remove(key)
