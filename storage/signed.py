"""Requests for objects, signed with AWS Signature Version 4: what a busy store sends a thousand times a minute.

Everything rare (buckets, lists, parts, sizes) goes through the ``minio`` client. That client takes the digest of every
body anew, sends no conditions, and costs as much of the processor for one request as the transport below it; a blob's
digest is known here before it is sent, and the service compares what arrives with it.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import urlsplit

import urllib3
from minio.error import InvalidResponseError, S3Error
from urllib3.response import BaseHTTPResponse

from storage.bodies import Bodies

_EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()
_SIGNED_HEADERS = "host;x-amz-content-sha256;x-amz-date"


class SignedRequests:
    """Sends signed GETs and PUTs of objects below ``base_url``. Threads may share it.

    The URL names a bucket in whichever style its service wants, and ends in a slash; ``path`` below it needs no
    quoting. Raises what the ``minio`` client raises: S3Error, InvalidResponseError, and urllib3's errors.
    """

    def __init__(
        self,
        base_url: str,
        pools: urllib3.PoolManager,
        bodies: Bodies,
        *,
        access_key: str,
        secret_key: str,
        region: str,
    ) -> None:
        parts = urlsplit(base_url)
        self._pool = pools.connection_from_url(base_url)
        self._bodies = bodies
        self._host = parts.netloc
        self._root = parts.path
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._day_key = ("", b"")

    def get(self, path: str, start: int = 0, end: int | None = None) -> BaseHTTPResponse:
        """Return the response to a GET, 200 or, of bytes ``start`` up to, not including, ``end``, 206.

        Its body is still to be read and its connection to be released by the caller. S3Error NoSuchKey, InvalidRange.
        """
        headers = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        return self._send("GET", path, headers)

    def read(self, path: str, start: int, end: int) -> bytes | None:
        """Return bytes ``start`` up to, not including, ``end``, which is greater; fewer where the object ends.

        It costs half of what ``get`` does, and knows no errors: None if there is more to say, which ``get`` will.
        """
        path = self._root + path
        return self._bodies.get(path, self._sign("GET", path, _EMPTY_DIGEST, datetime.now(UTC)), start, end)

    def put(self, path: str, body: bytes, sha256: str, *, is_new: bool) -> BaseHTTPResponse:
        """Send an object of this digest and return the response, read to its end.

        With ``is_new`` an object that is there stays as it is: S3Error PreconditionFailed.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        if is_new:
            headers["If-None-Match"] = "*"
        response = self._send("PUT", path, headers, body, sha256)
        response.drain_conn()
        return response

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None, sha256: str = _EMPTY_DIGEST
    ) -> BaseHTTPResponse:
        path = self._root + path
        response = self._pool.urlopen(
            method,
            path,
            body=body,
            headers=headers | self._sign(method, path, sha256, datetime.now(UTC)),
            preload_content=False,
            redirect=False,
        )
        if response.status in (200, 206):
            return response
        response.read(cache_content=True)
        response.release_conn()
        if "xml" in response.headers.get("Content-Type", "") and response.data:
            raise S3Error.fromxml(response)
        raise InvalidResponseError(response.status, response.headers.get("Content-Type"), None)

    def _sign(self, method: str, path: str, sha256: str, at: datetime) -> dict[str, str]:
        """Return the header fields that make a request without a query this account's."""
        time = at.strftime("%Y%m%dT%H%M%SZ")
        day = time[:8]
        headers = {"Host": self._host, "x-amz-content-sha256": sha256, "x-amz-date": time}
        listed = f"host:{self._host}\nx-amz-content-sha256:{sha256}\nx-amz-date:{time}\n"
        request = f"{method}\n{path}\n\n{listed}\n{_SIGNED_HEADERS}\n{sha256}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode("ascii")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}"
        signature = hmac.new(self._key_of(day), text.encode("ascii"), hashlib.sha256).hexdigest()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, "
            f"SignedHeaders={_SIGNED_HEADERS}, Signature={signature}"
        )
        return headers

    def _key_of(self, day: str) -> bytes:
        """Return the key that requests of a day are signed with."""
        known, key = self._day_key
        if known != day:
            key = f"AWS4{self._secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode("ascii"), "sha256")
            self._day_key = day, key
        return key
