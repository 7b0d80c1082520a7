"""The contract suite on PrefixedStore, and what a part of a store may never do: reach into another part."""

import pytest

from storage.errors import BlobNotFound
from storage.filesystem import FilesystemStore
from storage.memory import MemoryStore
from storage.prefixed import PrefixedStore
from storage.spool import Spool
from tests.contract.blob_store import BYTES, BlobStoreContract, LastingBlobStoreContract, new_key
from tests.contract.test_s3 import open_s3

PREFIX = "0123456789abcdef"


class TestPrefixedStore(BlobStoreContract):
    @pytest.fixture
    def store(self):
        return PrefixedStore(MemoryStore(), PREFIX)


class TestPrefixedFilesystemStore(BlobStoreContract):
    @pytest.fixture
    def whole(self, tmp_path):
        return FilesystemStore(tmp_path / "objects")

    @pytest.fixture
    def store(self, whole):
        return PrefixedStore(whole, PREFIX)

    @pytest.fixture
    def spool_directory(self, whole):
        return whole.spool_directory


@pytest.mark.s3
class TestPrefixedS3Store(LastingBlobStoreContract):
    @pytest.fixture
    def store(self, minio_server):
        return PrefixedStore(open_s3(minio_server), PREFIX)

    @pytest.fixture
    def unreachable_store(self, minio_server):
        return PrefixedStore(open_s3(minio_server, endpoint="127.0.0.1:9"), PREFIX)


@pytest.fixture
def whole():
    return MemoryStore()


def put(store, key, tmp_path, data=BYTES):
    with Spool(tmp_path) as spool:
        spool.write(data)
        store.put(key, spool)


def test_what_lies_under_another_prefix_is_not_there(whole, tmp_path):
    mine, other = PrefixedStore(whole, "mine"), PrefixedStore(whole, "minefield")
    key = new_key()
    put(other, key, tmp_path)
    put(whole, new_key(), tmp_path)
    assert list(mine.iter_keys()) == []
    for name in (key, f"minefield/{key}", f"../minefield/{key}", f"/minefield/{key}"):
        with pytest.raises(BlobNotFound):
            mine.stat(name)
        mine.remove(name)
    assert list(other.iter_keys()) == [key]


def test_the_same_key_holds_other_bytes_under_another_prefix(whole, tmp_path):
    mine, other = PrefixedStore(whole, "mine"), PrefixedStore(whole, "other")
    key = new_key()
    put(mine, key, tmp_path, b"one")
    put(other, key, tmp_path, b"another")
    mine.remove(key)
    assert other.read_range(key, 0, 100) == b"another"
    assert sorted(whole.iter_keys()) == [f"other/{key}"]


def test_a_prefix_may_be_of_some_parts(whole, tmp_path):
    key = new_key()
    put(PrefixedStore(PrefixedStore(whole, "project"), "release"), key, tmp_path)
    assert list(PrefixedStore(whole, "project/release").iter_keys()) == [key]


@pytest.mark.parametrize("prefix", ["", "..", "a/../b", "/a", "a/", "incoming", ".hidden"])
def test_a_prefix_that_is_no_part_of_a_key_is_refused(whole, prefix):
    with pytest.raises(ValueError, match="not a valid blob key"):
        PrefixedStore(whole, prefix)
