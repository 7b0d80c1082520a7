"""What every blob store promises. A backend passes by subclassing a suite here and giving it its fixtures."""

import hashlib
import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from storage.base import BlobStat, BlobStore
from storage.errors import BlobConflict, BlobNotFound, StorageUnavailable
from storage.keys import blob_key
from storage.spool import Spool

BYTES = bytes(range(256)) * 4
UNKNOWN_KEY = blob_key("0" * 64)
BAD_KEYS = ["", ".", "..", "../outside", "a/../b", "/etc/passwd", "a//b", "a/", "a\0b", "a\nb", ".hidden", "a/.b"]
BAD_KEYS += ["incoming", "incoming/x", "a b", "é", "a\\b", "a" * 2000]


def new_key(data: bytes = b"") -> str:
    """Return a key that no other test uses."""
    return blob_key(hashlib.sha256(data + os.urandom(16)).hexdigest())


class BlobStoreContract:
    """Override ``store``, and ``spool_directory`` where the store has one of its own."""

    @pytest.fixture
    def store(self) -> BlobStore:
        raise NotImplementedError

    @pytest.fixture
    def spool_directory(self, store, tmp_path) -> Path:
        folder = tmp_path / "spools"
        folder.mkdir()
        return folder

    @pytest.fixture
    def put(self, store, spool_directory):
        def put(key: str, data: bytes, memory_limit_bytes: int = 1024 * 1024) -> BlobStat:
            with Spool(spool_directory, memory_limit_bytes) as spool:
                spool.write(data)
                return store.put(key, spool)

        return put

    @pytest.mark.parametrize("data", [b"", b"x", BYTES], ids=["empty", "one byte", "1 KiB"])
    def test_what_was_put_is_read_back(self, store, put, data):
        key = new_key()
        stored = put(key, data)
        assert (stored.key, stored.size_bytes) == (key, len(data))
        assert store.read_range(key, 0, len(data)) == data
        with store.open(key) as stream:
            assert stream.read() == data

    def test_stat_tells_size_and_time_in_utc(self, store, put):
        key = new_key()
        stored = put(key, BYTES)
        found = store.stat(key)
        assert (found.key, found.size_bytes) == (key, len(BYTES))
        assert found.modified_at.utcoffset() == timedelta(0)
        assert stored.modified_at.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 10), (100, 200), (1014, 1024), (0, 1024), (1000, 5000), (7, 7), (9, 3), (1024, 1030), (4000, 5000)],
    )
    def test_a_range_excludes_its_end_and_stops_where_the_blob_does(self, store, put, start, end):
        key = new_key()
        put(key, BYTES)
        assert store.read_range(key, start, end) == BYTES[start:end]
        with store.open(key, start, end) as stream:
            assert stream.read() == BYTES[start:end]

    def test_a_range_of_an_empty_blob_is_empty(self, store, put):
        key = new_key()
        put(key, b"")
        assert store.read_range(key, 0, 10) == b""
        with store.open(key, 0, 10) as stream:
            assert stream.read() == b""

    @pytest.mark.parametrize("start", [0, 1000, 1024, 5000])
    def test_a_stream_without_an_end_goes_to_the_end(self, store, put, start):
        key = new_key()
        put(key, BYTES)
        with store.open(key, start) as stream:
            assert stream.read() == BYTES[start:]

    def test_a_stream_is_read_in_pieces(self, store, put):
        key = new_key()
        put(key, BYTES)
        with store.open(key, 10, 1000) as stream:
            pieces = list(iter(lambda: stream.read(300), b""))
            assert stream.read(1) == b""
        assert b"".join(pieces) == BYTES[10:1000]

    def test_a_stream_may_be_closed_half_read(self, store, put):
        key = new_key()
        put(key, BYTES * 1000)
        for _ in range(3):
            with store.open(key) as stream:
                assert stream.read(10) == BYTES[:10]
        assert store.read_range(key, 0, 5) == BYTES[:5]

    @pytest.mark.parametrize("key", [UNKNOWN_KEY, *BAD_KEYS], ids=repr)
    def test_an_unknown_or_impossible_key_is_not_found(self, store, key):
        for read in (
            lambda: store.open(key),
            lambda: store.open(key, 5, 10),
            lambda: store.open(key, 5, 5),
            lambda: store.read_range(key, 0, 10),
            lambda: store.read_range(key, 10, 10),
            lambda: store.stat(key),
        ):
            with pytest.raises(BlobNotFound):
                read()
        store.remove(key)

    @pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
    def test_nothing_is_put_under_an_impossible_key(self, store, put, key):
        with pytest.raises(ValueError, match="not a valid blob key"):
            put(key, b"data")
        assert list(store.iter_keys()) == []

    def test_a_second_put_renews_the_time_and_keeps_the_bytes(self, store, put):
        key = new_key()
        put(key, BYTES)
        first = store.stat(key).modified_at
        deadline = time.monotonic() + 30
        while store.stat(key).modified_at <= first:  # a store may know the time to the second only
            assert time.monotonic() < deadline, "the time was never renewed"
            time.sleep(0.05)
            put(key, BYTES)
        assert store.read_range(key, 0, len(BYTES)) == BYTES
        assert list(store.iter_keys()) == [key]

    def test_a_put_of_another_size_is_a_conflict_and_changes_nothing(self, store, put):
        key = new_key()
        put(key, BYTES)
        with pytest.raises(BlobConflict):
            put(key, BYTES + b"x")
        assert store.read_range(key, 0, 5000) == BYTES

    def test_two_threads_put_the_same_key(self, store, put):
        key = new_key()
        together = threading.Barrier(2)

        def put_together() -> BlobStat:
            together.wait()
            return put(key, BYTES * 100)

        with ThreadPoolExecutor(2) as pool:
            results = [future.result() for future in [pool.submit(put_together) for _ in range(2)]]
        assert [result.size_bytes for result in results] == [len(BYTES) * 100] * 2
        assert store.read_range(key, 0, len(BYTES) * 100) == BYTES * 100

    def test_a_spool_that_outgrew_memory_is_stored(self, store, put, spool_directory):
        key = new_key()
        put(key, BYTES * 50, memory_limit_bytes=1024)
        assert store.read_range(key, 1000, 3000) == (BYTES * 50)[1000:3000]
        assert list(spool_directory.iterdir()) == []

    def test_twenty_megabytes_are_stored(self, store, spool_directory):
        key = new_key()
        piece = os.urandom(1024 * 1024)
        with Spool(spool_directory) as spool:
            for _ in range(20):
                spool.write(piece)
            assert spool.path is not None
            store.put(key, spool)
        assert store.stat(key).size_bytes == 20 * len(piece)
        with store.open(key) as stream:
            assert all(stream.read(len(piece)) == piece for _ in range(20))
        assert store.read_range(key, 17 * len(piece) - 5, 17 * len(piece) + 5) == piece[-5:] + piece[:5]

    def test_a_removed_blob_is_gone_and_may_be_removed_again(self, store, put):
        key, other = new_key(), new_key()
        put(key, BYTES)
        put(other, BYTES)
        store.remove(key)
        store.remove(key)
        with pytest.raises(BlobNotFound):
            store.stat(key)
        assert list(store.iter_keys()) == [other]

    def test_a_removed_blob_can_be_put_again_with_another_size(self, store, put):
        key = new_key()
        put(key, BYTES)
        store.remove(key)
        put(key, b"other")
        assert store.read_range(key, 0, 100) == b"other"

    def test_every_key_is_listed_once(self, store, put):
        keys = {new_key() for _ in range(5)} | {"journal/2026/a.json", "plain"}
        for key in keys:
            put(key, b"x")
        assert sorted(store.iter_keys()) == sorted(keys)

    def test_a_new_store_is_empty(self, store):
        assert list(store.iter_keys()) == []


class LastingBlobStoreContract(BlobStoreContract):
    """For stores outside this process; override ``unreachable_store`` too."""

    @pytest.fixture
    def unreachable_store(self) -> BlobStore:
        raise NotImplementedError

    def test_every_verb_says_that_the_store_is_away(self, unreachable_store, tmp_path):
        store = unreachable_store
        with Spool(tmp_path) as spool:
            spool.write(b"data")
            for verb in (
                lambda: store.put(UNKNOWN_KEY, spool),
                lambda: store.open(UNKNOWN_KEY),
                lambda: store.read_range(UNKNOWN_KEY, 0, 1),
                lambda: store.stat(UNKNOWN_KEY),
                lambda: store.remove(UNKNOWN_KEY),
                lambda: list(store.iter_keys()),
            ):
                with pytest.raises(StorageUnavailable):
                    verb()

    def test_a_big_blob_never_sits_in_memory(self, store, spool_directory):
        key = new_key()
        piece = os.urandom(1024 * 1024)
        with Spool(spool_directory, memory_limit_bytes=1024) as spool:
            for _ in range(64):
                spool.write(piece)
            tracemalloc.start()
            try:
                store.put(key, spool)
                with store.open(key) as stream:
                    while stream.read(len(piece)):
                        pass
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        store.remove(key)
        assert peak_bytes < 40 * 1024 * 1024
