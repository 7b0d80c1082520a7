"""Blobs as objects of one S3 bucket, through the ``minio`` client; MinIO and every service that speaks the same API.

An object is as durable as its service makes an acknowledged PUT. Keys are digests of content, so writing one again is
harmless, and that is how a put renews an object's time: the one way that every service and versioned buckets share.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, BinaryIO
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from storage.base import BlobStat
from storage.bodies import Bodies
from storage.errors import BlobConflict, BlobNotFound, StorageFull, StorageUnavailable
from storage.keys import check_key, is_valid_key
from storage.signed import SignedRequests
from storage.spool import Spool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PART_BYTES = 16 * 1024 * 1024
_READ_BUFFER_BYTES = 128 * 1024
_CONNECTIONS = 64
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HTTP_INSUFFICIENT_STORAGE = 507
# It is there already; another put of it is under way; or this service knows no conditions.
_NOT_NEW = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NotImplemented"})
_FULL = frozenset(
    {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "StorageFull"}
)


class S3Store:
    """A ``BlobStore`` in ``bucket`` below ``prefix``; the bucket is created by the first verb if it is absent.

    Threads may share it; each process opens its own. The constructor asks the service nothing, so that an archive can
    start while the service is away. A service that does not answer is reported after two retries, in seconds.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        access_key: str,
        secret_key: str,
        prefix: str = "",
        secure: bool = True,
        region: str = "us-east-1",
        connect_timeout_seconds: float = 3,
        read_timeout_seconds: float = 20,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise ValueError("an S3 bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens")
        if prefix and not is_valid_key(f"x/{prefix}"):
            raise ValueError("an S3 prefix is made of letters, digits, '.', '_', '-' and single slashes inside it")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._is_bucket_known = False
        pools = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=connect_timeout_seconds, read=read_timeout_seconds),
            cert_reqs="CERT_REQUIRED",
            retries=urllib3.Retry(
                total=2,
                backoff_factor=0.1,
                status_forcelist=(500, 502, 503, 504),
                raise_on_status=False,
                # A service may ask for minutes; our caller retries by a plan of its own.
                respect_retry_after_header=False,
            ),
        )
        self._minio = Minio(endpoint, access_key, secret_key, secure=secure, region=region, http_client=pools)
        # Only the client knows in which style a service wants its buckets named; with a region given it asks nobody.
        base_url = self._minio.get_presigned_url("GET", bucket, "x").partition("?")[0].removesuffix("x")
        bodies = Bodies(
            base_url, connect_timeout_seconds=connect_timeout_seconds, read_timeout_seconds=read_timeout_seconds
        )
        self._requests = SignedRequests(
            base_url, pools, bodies, access_key=access_key, secret_key=secret_key, region=region
        )

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Upload the spool's bytes, in parts if they are many; a key that exists has its time renewed.

        Of few bytes, the PUT itself asks whether the key is new. One part of 16 MiB is in memory at a time.
        """
        check_key(key)
        with self._client() as client:
            if spool.size_bytes <= PART_BYTES:
                return self._put_whole(client, key, spool)
            self._check_size(client, key, spool)
            return self._put_parts(client, key, spool)

    def _put_whole(self, client: Minio, key: str, spool: Spool) -> BlobStat:
        body, digest = spool.read_range(0, spool.size_bytes), spool.digest()
        try:
            response = self._requests.put(self._prefix + key, body, digest, is_new=True)
        except S3Error as error:
            if error.code not in _NOT_NEW:
                raise
            self._check_size(client, key, spool)
            response = self._requests.put(self._prefix + key, body, digest, is_new=False)
        return BlobStat(key, spool.size_bytes, _parse_date(response.headers.get("date")))

    def _put_parts(self, client: Minio, key: str, spool: Spool) -> BlobStat:
        with spool.open() as stream:
            result = client.put_object(
                self._bucket,
                self._prefix + key,
                stream,
                spool.size_bytes,
                part_size=PART_BYTES,
                # The client's own threads would be left behind when the spool cannot be read on.
                num_parallel_uploads=1,
            )
        return BlobStat(key, spool.size_bytes, _parse_date(result.http_headers.get("date")))

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream of bytes ``start`` up to, not including, ``end``; the caller closes it."""
        response = self._get(key, max(start, 0), end)
        if response is None:
            return io.BytesIO()
        return io.BufferedReader(_ResponseReader(response), _READ_BUFFER_BYTES)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``, as far as the blob goes."""
        start = max(start, 0)
        if end > start:
            with self._client(key):
                data = self._requests.read(self._prefix + key, start, end)
            if data is not None:
                return data
        response = self._get(key, start, end)
        if response is None:
            return b""
        with _ResponseReader(response) as reader:
            return reader.readall()

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob; S3 knows the time to the second."""
        with self._client(key) as client:
            found = client.stat_object(self._bucket, self._prefix + key)
            return BlobStat(key, found.size or 0, found.last_modified or datetime.now(UTC))

    def remove(self, key: str) -> None:
        """Remove a blob; a key that is not there is no error."""
        if is_valid_key(key):
            with self._client() as client:
                client.remove_object(self._bucket, self._prefix + key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key, a page at a time."""
        with self._client() as client:
            for found in client.list_objects(self._bucket, prefix=self._prefix, recursive=True):
                key = (found.object_name or "").removeprefix(self._prefix)
                if is_valid_key(key):
                    yield key

    def _get(self, key: str, start: int, end: int | None) -> BaseHTTPResponse | None:
        """Return the response to a ranged GET, for the caller to release; None if the range holds no byte."""
        if end is not None and end <= start:
            self.stat(key)
            return None
        with self._client(key):
            try:
                response = self._requests.get(self._prefix + key, start, end)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return None
                raise
        if (start or end is not None) and response.status != 206:
            response.close()
            response.release_conn()
            raise StorageUnavailable("The object store, or a proxy before it, does not serve ranges.")
        return response

    def _check_size(self, client: Minio, key: str, spool: Spool) -> None:
        """Raise BlobConflict if another size is stored under the key."""
        try:
            size = client.stat_object(self._bucket, self._prefix + key).size
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return
        if size != spool.size_bytes:
            raise BlobConflict(BlobConflict.__doc__)

    @contextmanager
    def _client(self, key: str | None = None) -> Iterator[Minio]:
        """Hand out the client for a bucket that is there, and translate what comes back; BlobNotFound for a bad key."""
        if key is not None and not is_valid_key(key):
            raise BlobNotFound(BlobNotFound.__doc__)
        with _s3_errors():
            if not self._is_bucket_known:
                self._create_bucket()
                self._is_bucket_known = True
            yield self._minio

    def _create_bucket(self) -> None:
        # Once only: if a bucket with blobs in it vanishes later, that is an error and no reason for an empty one.
        try:
            if not self._minio.bucket_exists(self._bucket):
                self._minio.make_bucket(self._bucket)
        except S3Error as error:
            # Another process was first, or the account may use the bucket but not ask for it.
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "AccessDenied"):
                raise


class _ResponseReader(io.RawIOBase):
    """Reads an object's response, and gives its connection back when closed."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        with _s3_errors():
            data = self._response.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        with _s3_errors():
            return self._response.read()

    def close(self) -> None:
        if not self.closed:
            self._response.close()  # a response that was not read to its end cannot be reused
            self._response.release_conn()
        super().close()


@contextmanager
def _s3_errors() -> Iterator[None]:
    """Translate what the client and its transport say into this package's errors; no message names a credential."""
    try:
        yield
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise BlobNotFound(BlobNotFound.__doc__) from error
        if error.code in _FULL or error.response.status == _HTTP_INSUFFICIENT_STORAGE:
            raise StorageFull(StorageFull.__doc__) from error
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} ({error.code})") from error
    except (ServerError, InvalidResponseError) as error:
        status = error.status_code if isinstance(error, ServerError) else error._code  # noqa: SLF001 (no other way)
        if status == _HTTP_INSUFFICIENT_STORAGE:
            raise StorageFull(StorageFull.__doc__) from error
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} (HTTP status {status})") from error
    except (MinioException, HTTPError, OSError, ParseError) as error:
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} ({type(error).__name__})") from error


def _parse_date(text: str | None) -> datetime:
    """Return the service's own time from a Date header, or this machine's where it sends none."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
