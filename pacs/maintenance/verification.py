"""Comparing every stored object with its digest."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pacs.database.base import Database
from pacs.index import inventory
from pacs.index.inventory import Place, StoredCopy
from pacs.model import Location
from storage.base import BlobStore
from storage.errors import BlobNotFound
from storage.keys import key_digest

_PAGE = 500
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """One stored copy and what is wrong with it: an empty ``problem`` is a sound one."""

    copy: StoredCopy
    problem: str = ""


def count_copies(database: Database, partition_id: int) -> int:
    """Return how many copies the partition holds, those that conflicts keep and withheld ones included."""
    with database.read() as connection:
        return inventory.count_copies(connection, partition_id)


def verify_copies(database: Database, store: BlobStore, partition_id: int) -> Iterator[Checked]:
    """Read every copy of every instance, also of withheld ones, and compare it with its digest.

    Yields one result a copy, as it goes; what is stored meanwhile may or may not be among them.
    """
    for copy in _walk(database, partition_id):
        yield Checked(copy, find_problem(store, copy.location))


def _walk(database: Database, partition_id: int) -> Iterator[StoredCopy]:
    after = Place()
    while True:
        with database.read() as connection:
            page = inventory.read_copies(connection, partition_id, after, _PAGE)
        if not page:
            return
        yield from page
        after = page[-1].place


def find_problem(store: BlobStore, location: Location) -> str:
    """Return what is wrong with stored bytes, or nothing. The whole blob is read: its key is the digest of it all."""
    end = location.offset + location.length_bytes
    sha256 = hashlib.sha256()
    size = 0
    try:
        with store.open(location.blob_key) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
    except BlobNotFound:
        return "missing"
    if size < end:
        return "truncated"
    return "" if sha256.hexdigest() == key_digest(location.blob_key) else "damaged"
