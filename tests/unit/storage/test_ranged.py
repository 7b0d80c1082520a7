"""Bytes given in their file, for whoever can send them unread: the same bytes, or none where they have to be read."""

import hashlib
import os
from pathlib import Path

import pytest

from storage.cached import CachedStore
from storage.errors import BlobNotFound
from storage.filesystem import FilesystemStore
from storage.journaled import Journal, JournaledStore
from storage.keys import blob_key
from storage.memory import MemoryStore
from storage.prefixed import PrefixedStore
from storage.ranged import InFiles
from storage.spool import Spool

DATA = os.urandom(300_000)
KEY = blob_key(hashlib.sha256(DATA).hexdigest())


def put(store, folder):
    with Spool(folder) as spool:
        spool.write(DATA)
        store.put(KEY, spool)


def read(found):
    data = os.pread(found.file.fileno(), len(found), found.start)
    found.close()
    assert found.file.closed
    return data


@pytest.fixture
def store(tmp_path):
    folder = FilesystemStore(tmp_path / "objects")
    put(folder, folder.spool_directory)
    return folder


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (7, 200_001), (len(DATA) - 1, len(DATA))])
def test_a_range_in_its_file_is_the_range_that_is_read(store, start, end):
    assert read(store.open_file(KEY, start, end)) == store.read_range(KEY, start, end) == DATA[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, len(DATA) + 1), (len(DATA), len(DATA)), (9, 3)])
def test_what_the_blob_does_not_have_is_in_no_file(store, start, end):
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert store.open_file(KEY, start, end) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_unknown_key_is_not_found(store):
    with pytest.raises(BlobNotFound):
        store.open_file(blob_key("0" * 64), 0, 1)


def test_what_the_disk_would_have_to_give_is_read_instead(store, monkeypatch):
    def wait(*_):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", wait)
    assert store.open_file(KEY, 0, len(DATA)) is None


def test_a_cache_has_files_of_what_it_keeps_and_asks_nobody_for_the_rest(tmp_path):
    distant = MemoryStore()
    put(distant, tmp_path)
    cached = CachedStore(distant, tmp_path / "cache", 10_000_000)
    assert cached.open_file(KEY, 0, 100) is None
    cached.read_range(KEY, 0, len(DATA))
    assert read(cached.open_file(KEY, 5, 250_000)) == DATA[5:250_000]
    assert cached.open_file(KEY, 0, len(DATA) + 1) is None


def test_a_journal_has_files_of_what_waits_in_it(tmp_path):
    distant = MemoryStore()
    journal = Journal(tmp_path / "journal")
    store = JournaledStore(journal, distant, writes_behind=True)
    assert store.open_file(KEY, 0, 10) is None
    put(store, journal.blobs.spool_directory)
    assert read(store.open_file(KEY, 0, 10)) == DATA[:10]


def test_a_part_of_a_store_has_the_files_of_the_store(tmp_path):
    folder = FilesystemStore(tmp_path / "objects")
    part = PrefixedStore(folder, "part")
    put(part, folder.spool_directory)
    assert read(part.open_file(KEY, 1, 9)) == DATA[1:9]
    with pytest.raises(BlobNotFound):
        part.open_file("../escape", 0, 1)
    assert PrefixedStore(MemoryStore(), "part").open_file(KEY, 0, 1) is None


def test_a_store_in_memory_has_no_files():
    assert not isinstance(MemoryStore(), InFiles)
