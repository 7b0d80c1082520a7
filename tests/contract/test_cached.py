"""The contract suite on CachedStore, and what a cache may never do: serve harm, outgrow its bound, fail a read."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from storage.cached import CachedStore
from storage.errors import BlobNotFound, StorageUnavailable
from storage.keys import blob_key
from storage.memory import MemoryStore
from storage.spool import Spool
from tests.contract.blob_store import BYTES, BlobStoreContract, LastingBlobStoreContract
from tests.contract.test_s3 import open_s3

MEGABYTE = 1024 * 1024


class Counted(MemoryStore):
    """Notes what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = []

    def open(self, key, start=0, end=None):
        self.reads.append((key, start, end))
        return super().open(key, start, end)

    def read_range(self, key, start, end):
        self.reads.append((key, start, end))
        return super().read_range(key, start, end)


class TestCachedStore(BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return CachedStore(MemoryStore(), tmp_path / "cache", 100 * MEGABYTE)


@pytest.mark.s3
class TestCachedS3Store(LastingBlobStoreContract):
    @pytest.fixture
    def store(self, minio_server, tmp_path):
        return CachedStore(open_s3(minio_server), tmp_path / "cache", 1024 * MEGABYTE)

    @pytest.fixture
    def unreachable_store(self, minio_server, tmp_path):
        return CachedStore(open_s3(minio_server, endpoint="127.0.0.1:9"), tmp_path / "cache", MEGABYTE)


@pytest.fixture
def distant():
    return Counted()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(distant, folder):
    return CachedStore(distant, folder, 100 * MEGABYTE)


def put_content(store, folder: Path, data: bytes) -> str:
    key = blob_key(hashlib.sha256(data).hexdigest())
    with Spool(folder.parent) as spool:
        spool.write(data)
        store.put(key, spool)
    return key


def read_whole(store, key: str) -> bytes:
    with store.open(key) as stream:
        return b"".join(iter(lambda: stream.read(100_000), b""))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("read", [read_whole, lambda store, key: store.read_range(key, 0, 5000)])
def test_a_blob_that_was_read_whole_is_not_fetched_again_even_by_another_process(store, distant, folder, read):
    key = put_content(store, folder, BYTES)
    assert read(store, key) == BYTES
    assert len(distant.reads) == 1
    for again in (store, CachedStore(distant, folder, MEGABYTE)):
        assert read_whole(again, key) == BYTES
        assert again.read_range(key, 100, 200) == BYTES[100:200]
        with again.open(key, 1000, 5000) as stream:
            assert stream.read() == BYTES[1000:]
        assert again.has(key)
    assert len(distant.reads) == 1


def test_a_part_of_a_blob_goes_through_and_is_not_kept(store, distant, folder):
    key = put_content(store, folder, BYTES)
    for _ in range(2):
        assert store.read_range(key, 10, 20) == BYTES[10:20]
        assert store.read_range(key, 0, 20) == BYTES[:20]
        with store.open(key, 5) as stream:
            assert stream.read() == BYTES[5:]
    assert distant.reads == [(key, 10, 20), (key, 0, 20), (key, 5, None)] * 2
    assert files_of(folder) == []


def test_a_stream_that_is_left_is_not_kept_and_leaves_nothing(store, folder):
    key = put_content(store, folder, BYTES * 1000)
    with store.open(key) as stream:
        assert stream.read(10) == BYTES[:10]
    assert files_of(folder) == []


def test_what_is_harmed_on_the_way_is_never_kept(store, distant, folder):
    key = put_content(store, folder, BYTES)
    _, at = distant._blobs[key]
    distant._blobs[key] = BYTES[:-1] + b"?", at
    for _ in range(2):
        assert read_whole(store, key) == store.read_range(key, 0, 5000) == BYTES[:-1] + b"?"
    assert len(distant.reads) == 4
    assert files_of(folder) == []


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b""])
def test_a_file_of_a_wrong_size_is_noticed_and_fetched_again(store, distant, folder, harm):
    key = put_content(store, folder, BYTES)
    read_whole(store, key)
    (path,) = files_of(folder)
    path.write_bytes(harm(path.read_bytes()))
    assert store.read_range(key, 0, 5000) == BYTES
    assert read_whole(store, key) == BYTES
    assert len(distant.reads) == 2


def test_the_folder_is_bounded_and_what_was_not_asked_for_the_longest_goes(distant, folder):
    store = CachedStore(distant, folder, MEGABYTE)
    keys = [put_content(store, folder, os.urandom(60_000)) for _ in range(40)]
    for number, key in enumerate(keys):
        read_whole(store, key)
        path = folder / key.split("/", 1)[1]
        os.utime(path, (1_000_000 + number,) * 2)
        if number % 5 == 0:
            read_whole(store, keys[0])
    assert sum(path.stat().st_size for path in files_of(folder)) <= MEGABYTE
    assert store.has(keys[0])
    assert store.has(keys[-1])
    assert not store.has(keys[1])


def test_a_blob_that_would_fill_the_folder_is_not_kept(distant, folder):
    store = CachedStore(distant, folder, MEGABYTE)
    key = put_content(store, folder, os.urandom(200_000))
    for _ in range(2):
        assert len(read_whole(store, key)) == len(store.read_range(key, 0, 300_000)) == 200_000
    assert len(distant.reads) == 4
    assert files_of(folder) == []


def test_a_removed_blob_is_gone_from_the_cache_too(store, folder):
    key = put_content(store, folder, BYTES)
    read_whole(store, key)
    store.remove(key)
    assert files_of(folder) == []
    with pytest.raises(BlobNotFound):
        store.read_range(key, 0, 10)


def test_a_removal_that_fails_has_left_the_cache_first(folder, distant):
    class Away(Counted):
        def remove(self, key):
            raise StorageUnavailable

    distant = Away()
    store = CachedStore(distant, folder, MEGABYTE)
    key = put_content(store, folder, BYTES)
    read_whole(store, key)
    with pytest.raises(StorageUnavailable):
        store.remove(key)
    assert not store.has(key)


def test_a_full_disk_costs_the_cache_and_nothing_else(distant, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        store = CachedStore(distant, folder / "cache", 1024 * MEGABYTE)
        key = put_content(store, tmp_path / "x", os.urandom(2 * MEGABYTE))
        other = put_content(store, tmp_path / "x", b"other")
        for _ in range(2):
            assert len(read_whole(store, key)) == len(store.read_range(key, 0, 3 * MEGABYTE)) == 2 * MEGABYTE
        assert store.read_range(other, 0, 10) == b"other"
        assert files_of(folder) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_cache(distant, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = CachedStore(distant, tmp_path / "file" / "cache", MEGABYTE)
    key = put_content(store, tmp_path / "x", BYTES)
    assert read_whole(store, key) == store.read_range(key, 0, 5000) == BYTES


def test_only_this_user_can_read_what_is_kept(store, folder):
    read_whole(store, put_content(store, folder, BYTES))
    (path,) = files_of(folder)
    assert path.stat().st_mode & 0o077 == folder.stat().st_mode & 0o077 == 0
