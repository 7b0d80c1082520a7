"""Comparing every stored object with its digest."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.index import inventory
from pacs.index.inventory import StoredCopy
from storage.base import BlobStore
from storage.errors import BlobNotFound
from storage.keys import key_digest

_PAGE = 500
_CHUNK_BYTES = 1024 * 1024
_ReadPage = Callable[[Connection, int, int, int], list[StoredCopy]]


@dataclass(frozen=True, slots=True)
class Checked:
    """One stored copy and what is wrong with it: an empty ``problem`` is a sound one."""

    copy: StoredCopy
    problem: str = ""


def count_copies(database: Database, partition_id: int) -> int:
    """Return how many instances the partition holds."""
    with database.read() as connection:
        return inventory.count_instances(connection, partition_id)


def verify_copies(database: Database, store: BlobStore, partition_id: int) -> Iterator[Checked]:
    """Read every instance and every copy that a conflict keeps, and compare it with its digest.

    Yields one result a copy, as it goes; what is stored meanwhile may or may not be among them.
    """
    for read_page in (inventory.read_instances, inventory.read_conflicting):
        for copy in _walk(database, partition_id, read_page):
            yield Checked(copy, _verify(store, copy))


def _walk(database: Database, partition_id: int, read_page: _ReadPage) -> Iterator[StoredCopy]:
    after = 0
    while True:
        with database.read() as connection:
            page = read_page(connection, partition_id, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].row_id


def _verify(store: BlobStore, copy: StoredCopy) -> str:
    """Return what is wrong with a copy, or nothing. The whole blob is read: its key is the digest of all of it."""
    end = copy.location.offset + copy.location.length_bytes
    sha256 = hashlib.sha256()
    size = 0
    try:
        with store.open(copy.location.blob_key) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
    except BlobNotFound:
        return "missing"
    if size < end:
        return "truncated"
    return "" if sha256.hexdigest() == key_digest(copy.location.blob_key) else "damaged"
