"""URLs pick the backend."""

import logging

import pytest

from storage.errors import StorageUnavailable
from storage.filesystem import FilesystemStore
from storage.memory import MemoryStore
from storage.opener import open_store
from storage.s3 import S3Store

KEYS = {"access_key": "ACCESS-CANARY", "secret_key": "SECRET-CANARY"}


def test_memory_is_a_url():
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "file:{}", "{}"])
def test_a_folder_is_a_url_or_a_path(form, tmp_path):
    store = open_store(form.format(tmp_path / "root"))
    assert isinstance(store, FilesystemStore)
    assert store.spool_directory == tmp_path / "root" / "incoming"
    assert store.spool_directory.is_dir()


def test_a_relative_path_is_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("some/root").spool_directory == tmp_path / "some/root/incoming"


def test_percent_signs_are_decoded_in_a_url_and_kept_in_a_path(tmp_path):
    assert open_store(f"file://{tmp_path}/a%20b").spool_directory == tmp_path / "a b" / "incoming"
    assert open_store(f"{tmp_path}/a%20b").spool_directory == tmp_path / "a%20b" / "incoming"


@pytest.mark.parametrize(
    ("url", "endpoint", "bucket", "prefix"),
    [
        ("s3://localhost:9000/images?secure=false", "http://localhost:9000", "images", ""),
        ("s3://s3.example.org/images/site/one", "https://s3.example.org", "images", "site/one/"),
        ("s3://s3.example.org/images/?region=eu-west-3&secure=true", "https://s3.example.org", "images", ""),
        ("s3://[::1]:9000/images?secure=false", "http://[::1]:9000", "images", ""),
    ],
)
def test_an_s3_url_names_endpoint_bucket_and_prefix(url, endpoint, bucket, prefix):
    store = open_store(url, **KEYS)
    assert isinstance(store, S3Store)
    assert (store._bucket, store._prefix) == (bucket, prefix)
    scheme = "https" if store._minio._base_url.is_https else "http"
    assert f"{scheme}://{store._minio._base_url.host}" == endpoint


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "three slashes"),
        ("file:", "three slashes"),
        ("file://folder/root", "three slashes"),
        ("ftp://host/folder", "not ftp:"),
        ("memory:x", "just 'memory:'"),
        ("memory://x", "just 'memory:'"),
        ("file:///folder?mode=1", "takes parameters"),
        ("s3://host:port/bucket", "host and port"),
        ("s3://[::1/bucket", "host and port"),
        ("s3://host", "s3://host:port/bucket/prefix"),
        ("s3:///bucket", "s3://host:port/bucket/prefix"),
        ("s3://host/b", "3 to 63"),
        ("s3://host/Bucket", "3 to 63"),
        ("s3://host/bucket/../x", "prefix"),
        ("s3://host/bucket/a//b", "prefix"),
        ("s3://host/bucket?secure=maybe", "true or false"),
        ("s3://host/bucket?secure", "name=value"),
        ("s3://host/bucket?speed=high", "not speed"),
        ("s3://ACCESS-CANARY:SECRET-CANARY@host/bucket", "not part of a storage URL"),
    ],
)
def test_a_bad_url_is_one_sentence_without_secrets(url, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        open_store(url, **KEYS)
    assert "\n" not in str(caught.value)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("keys", [{}, {"access_key": "a"}, {"secret_key": "s"}])
def test_s3_needs_both_keys(keys):
    with pytest.raises(ValueError, match="access_key and a secret_key"):
        open_store("s3://host/bucket", **keys)


def test_credentials_are_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    store = open_store("s3://127.0.0.1:1/bucket?secure=false", **KEYS)
    with pytest.raises(StorageUnavailable) as caught:
        store.stat("a")
    assert "CANARY" not in repr(store) + str(caught.value) + caplog.text
