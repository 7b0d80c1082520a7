"""Building what makes and what reads releases: archives of their own beside the clinical one, and apart from it."""

from pacs.app.reading import build_reading
from pacs.app.stores import Stores
from pacs.database.base import Database
from pacs.imaging.sandbox import Sandbox
from pacs.ingest.pipeline import Ingestor
from pacs.research.releases.partition import Partition
from pacs.retrieve.cache import FrameCache
from storage.prefixed import PrefixedStore


class PartitionOpener:
    """Opens the partitions of releases over one database and one store, which is not that of the clinical archive."""

    def __init__(self, database: Database, stores: Stores, sandbox: Sandbox, cache: FrameCache | None = None) -> None:
        self._database = database
        self._stores = stores
        self._sandbox = sandbox
        self._cache = cache

    def __call__(self, partition_id: int, prefix: str) -> Partition:
        """Return the partition of this number, whose blobs have this prefix; nothing of it is read yet."""
        store = PrefixedStore(self._stores.store, prefix)
        spool_directory = self._stores.spool_directory
        return Partition(
            partition_id,
            build_reading(self._database, store, partition_id, spool_directory, self._sandbox, cache=self._cache),
            Ingestor(self._database, store, partition_id, spool_directory, takes_files=self._stores.takes_files),
            store,
            spool_directory,
        )
