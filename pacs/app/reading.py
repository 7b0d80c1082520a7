"""Building what reads a partition: the clinical one, or that of a release."""

from collections.abc import Callable
from pathlib import Path

from pacs.database.base import Database
from pacs.imaging.sandbox import Sandbox
from pacs.model import Header
from pacs.reading import Reading
from pacs.retrieve import Renderer, Retriever, SeriesMetadata, Thumbnails
from pacs.retrieve.cache import FrameCache
from pacs.retrieve.stored import StoredBytes
from pacs.search import Searcher
from storage.ahead import ReadAhead
from storage.base import BlobStore


def build_reading(
    database: Database,
    store: BlobStore,
    partition_id: int,
    spool_directory: Path,
    sandbox: Sandbox,
    *,
    parse: Callable[[StoredBytes], Header] | None = None,
    cache: FrameCache | None = None,
    read_ahead: ReadAhead | None = None,
) -> Reading:
    """Return the services that read one partition, whose objects are in ``store``; the rest is as for ``Retriever``."""
    retriever = Retriever(
        database, store, partition_id, spool_directory, sandbox, parse=parse, cache=cache, read_ahead=read_ahead
    )
    renderer = Renderer(retriever, spool_directory)
    return Reading(
        search=Searcher(database, partition_id),
        retrieve=retriever,
        render=renderer,
        thumbnails=Thumbnails(database, retriever, renderer),
        series_metadata=SeriesMetadata(database, partition_id),
    )
