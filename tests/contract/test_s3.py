"""The contract suite on S3Store, over every S3 server at hand."""

import uuid

import pytest

from storage.errors import BlobNotFound, StorageUnavailable
from storage.s3 import S3Store
from storage.spool import Spool
from tests.contract.blob_store import UNKNOWN_KEY, LastingBlobStoreContract
from tests.contract.servers import S3Server, find_closed_port


def open_s3(server: S3Server, **changes) -> S3Store:
    arguments = server._asdict() | {"secure": False, "prefix": f"test/{uuid.uuid4().hex}"}
    return S3Store(**(arguments | changes))


@pytest.mark.s3
class TestS3Store(LastingBlobStoreContract):
    @pytest.fixture(params=["minio_server", "versitygw_server"])
    def server(self, request) -> S3Server:
        return request.getfixturevalue(request.param)

    @pytest.fixture
    def store(self, server):
        return open_s3(server)

    @pytest.fixture
    def unreachable_store(self, server):
        return open_s3(server, endpoint=f"127.0.0.1:{find_closed_port()}")

    def test_wrong_credentials_are_an_error_that_names_no_secret(self, server):
        store = open_s3(server, secret_key="wrong-" + server.secret_key)
        with pytest.raises(StorageUnavailable) as caught:
            store.read_range(UNKNOWN_KEY, 0, 1)
        assert server.secret_key not in str(caught.value)
        assert server.access_key not in str(caught.value)

    def test_the_bucket_is_created_once_and_missed_when_it_vanishes(self, server, tmp_path):
        store = open_s3(server, bucket=f"pacs-{uuid.uuid4().hex}")
        with pytest.raises(BlobNotFound):
            store.stat(UNKNOWN_KEY)
        store._minio.remove_bucket(store._bucket)
        with Spool(tmp_path) as spool, pytest.raises(StorageUnavailable):
            store.put(UNKNOWN_KEY, spool)

    def test_stores_with_different_prefixes_do_not_see_each_other(self, store, server, put):
        put("a/key", b"data")
        other = open_s3(server)
        assert list(other.iter_keys()) == []
        with pytest.raises(BlobNotFound):
            other.stat("a/key")

    def test_one_connection_serves_one_thread(self, store, put):
        for _ in range(3):
            put("a/key", b"data")
            assert store.read_range("a/key", 1, 3) == b"at"
            with store.open("a/key") as stream:
                stream.read()
            assert list(store.iter_keys()) == ["a/key"]
        pool = store._minio._http.connection_from_url(f"http://{store._minio._base_url.host}")
        assert pool.num_connections == 1
