"""Where a release lies: rows in a partition of its own, blobs under the prefix of its project."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pacs.ingest.pipeline import Ingestor
from pacs.reading import Reading
from storage.base import BlobStore


@dataclass(frozen=True, slots=True)
class Partition:
    """What reads and what fills one partition. ``store`` holds the project's blobs and no other's.

    What is spooled in ``spool_directory`` may become a blob without a copy.
    """

    id: int
    reading: Reading
    ingest: Ingestor
    store: BlobStore
    spool_directory: Path


OpenPartition = Callable[[int, str], Partition]
"""Returns the partition of this number whose blobs have this prefix. It costs no look-up."""
