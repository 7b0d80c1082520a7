"""S3Store against servers that misbehave; the contract suite runs it against real ones."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from storage.errors import BlobConflict, StorageFull, StorageUnavailable
from storage.s3 import S3Store
from storage.spool import Spool

pytestmark = pytest.mark.s3


def s3_error(code: str) -> tuple[bytes, str]:
    return f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode(), "application/xml"


@contextmanager
def serve(answer):
    """Answer all but "is the bucket there?" by ``answer(handler) -> (status, body, content type, length)``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_bucket_probe = self.command == "HEAD" and self.path == "/bucket"
            status, body, content_type, *length = (200, b"", "text/plain") if is_bucket_probe else answer(self)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(*length or [len(body)]))
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 07:00:00 GMT")
            self.send_header("Retry-After", "600")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = bool(length)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = respond  # noqa: N815 (the base class's names)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield S3Store(
                f"127.0.0.1:{server.server_port}",
                "bucket",
                access_key="a",
                secret_key="s",
                secure=False,
                read_timeout_seconds=0.3,
            )
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (507, s3_error("XMinioStorageFull"), StorageFull),
        (507, s3_error("NoSpaceLeft"), StorageFull),
        (403, s3_error("QuotaExceeded"), StorageFull),
        (507, (b"<html>full</html>", "text/html"), StorageFull),
        (507, (b"", "text/plain"), StorageFull),
        (403, s3_error("AccessDenied"), StorageUnavailable),
        (404, s3_error("NoSuchBucket"), StorageUnavailable),
        (503, s3_error("SlowDown"), StorageUnavailable),
        (502, (b"<html>bad gateway</html>", "text/html"), StorageUnavailable),
    ],
)
def test_a_refused_put_is_full_or_unavailable(tmp_path, status, body, expected):
    def answer(handler):
        return (404, b"", "text/plain") if handler.command == "HEAD" else (status, *body)

    with serve(answer) as store, Spool(tmp_path) as spool:
        spool.write(b"data")
        with pytest.raises(StorageUnavailable) as caught:
            store.put("a/key", spool)
        assert caught.type is expected


def test_a_key_with_another_size_is_not_written(tmp_path):
    requests = []

    def answer(handler):
        requests.append((handler.command, handler.headers["If-None-Match"]))
        return (
            (412, *s3_error("PreconditionFailed")) if handler.command == "PUT" else (200, b"other size", "text/plain")
        )

    with serve(answer) as store, Spool(tmp_path) as spool:
        spool.write(b"data")
        with pytest.raises(BlobConflict):
            store.put("a/key", spool)
    assert requests == [("PUT", "*"), ("HEAD", None)]


def test_a_new_blob_is_one_request_that_says_its_digest(tmp_path):
    requests = []

    def answer(handler):
        requests.append((handler.command, handler.headers["x-amz-content-sha256"]))
        return 200, b"", "text/plain"

    with serve(answer) as store, Spool(tmp_path) as spool:
        spool.write(b"data")
        store.put("a/key", spool)
        assert requests == [("PUT", spool.digest())]


@pytest.mark.parametrize("code", ["PreconditionFailed", "NotImplemented", "ConditionalRequestConflict"])
def test_a_blob_that_is_there_or_a_server_without_conditions_is_put_without_one(tmp_path, code):
    requests = []

    def answer(handler):
        requests.append((handler.command, handler.headers["If-None-Match"]))
        return (412, *s3_error(code)) if handler.headers["If-None-Match"] else (200, b"data", "text/plain")

    with serve(answer) as store, Spool(tmp_path) as spool:
        spool.write(b"data")
        assert store.put("a/key", spool).size_bytes == 4
    assert requests == [("PUT", "*"), ("HEAD", None), ("PUT", None)]


def test_a_server_that_ignores_ranges_is_found_out():
    with serve(lambda _: (200, b"the whole blob", "text/plain")) as store:
        with pytest.raises(StorageUnavailable, match="ranges"):
            store.read_range("a/key", 4, 9)
        with pytest.raises(StorageUnavailable, match="ranges"):
            store.open("a/key", 4)
        with store.open("a/key") as stream:
            assert stream.read() == b"the whole blob"


def test_an_answer_that_breaks_off_is_unavailable_and_never_short():
    with serve(lambda _: (206, b"half", "text/plain", 100)) as store:
        with pytest.raises(StorageUnavailable):
            store.read_range("a/key", 0, 100)
        with store.open("a/key", 0, 100) as stream, pytest.raises(StorageUnavailable):
            stream.read()
        with store.open("a/key", 0, 100) as stream, pytest.raises(StorageUnavailable):
            list(iter(lambda: stream.read(10), b""))


def test_a_server_that_never_answers_is_unavailable():
    release = threading.Event()

    def answer(_):
        release.wait(30)
        return 200, b"", "text/plain"

    try:
        with serve(answer) as store:
            with pytest.raises(StorageUnavailable):
                store.stat("a/key")
            release.set()
    finally:
        release.set()


def test_every_page_of_keys_is_listed():
    def answer(handler):
        is_second = "continuation-token=next" in handler.path
        names = ["b/two"] if is_second else ["a/one", "foreign name"]
        contents = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-11-22T07:00:00Z</LastModified><Size>1</Size></Contents>"
            for name in names
        )
        more = "" if is_second else "<NextContinuationToken>next</NextContinuationToken>"
        truncated = "false" if is_second else "true"
        head = f"<Name>bucket</Name><IsTruncated>{truncated}</IsTruncated>{more}"
        body = f"<ListBucketResult>{head}{contents}</ListBucketResult>"
        return 200, body.encode(), "application/xml"

    with serve(answer) as store:
        assert list(store.iter_keys()) == ["a/one", "b/two"]


def test_a_listing_that_is_no_xml_is_unavailable():
    with serve(lambda _: (200, b"", "application/xml")) as store, pytest.raises(StorageUnavailable):
        list(store.iter_keys())
