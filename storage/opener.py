"""The one place where a URL picks a backend."""

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from storage.base import BlobStore
from storage.filesystem import FilesystemStore
from storage.memory import MemoryStore
from storage.s3 import S3Store


def open_store(url: str, *, access_key: str = "", secret_key: str = "") -> BlobStore:
    """Return the store that ``url`` names; ValueError with one sentence, which holds no secret, if it names none.

    ``file:///folder`` or a plain path, ``memory:``, or ``s3://host:port/bucket/prefix?secure=false&region=name``. The
    keys are for S3 only and never part of the URL, which is shown in logs and settings. A folder is created, which may
    raise StorageUnavailable or StorageFull; an S3 service is not asked before the first verb.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("a storage URL's host and port cannot be understood") from None
    if parts.scheme == "s3":
        return _open_s3(parts, port, access_key, secret_key)
    if parts.query or parts.fragment:
        raise ValueError("only an s3: storage URL takes parameters")
    if parts.scheme == "memory":
        if parts.netloc or parts.path:
            raise ValueError("a storage URL in memory is just 'memory:'")
        return MemoryStore()
    if parts.scheme not in ("", "file"):
        raise ValueError(f"a storage URL begins with file:, s3: or memory:, not {parts.scheme}:")
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ValueError("a storage folder is written as file:///folder, with three slashes, or as a plain path")
    return FilesystemStore(Path(unquote(parts.path) if parts.scheme else url))


def _open_s3(parts: SplitResult, port: int | None, access_key: str, secret_key: str) -> S3Store:
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials are not part of a storage URL; give them as access_key and secret_key")
    if not (access_key and secret_key):
        raise ValueError("an s3: storage URL needs an access_key and a secret_key")
    bucket, _, prefix = unquote(parts.path).strip("/").partition("/")
    if not (parts.hostname and bucket) or parts.fragment:
        raise ValueError("an S3 storage URL is written as s3://host:port/bucket/prefix")
    try:
        parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("the parameters of an s3: storage URL are written as name=value, joined by &") from None
    secure = parameters.pop("secure", "true")
    region = parameters.pop("region", "us-east-1")
    if parameters:
        raise ValueError(f"an s3: storage URL takes secure and region, not {min(parameters)}")
    if secure not in ("true", "false"):
        raise ValueError("secure in an s3: storage URL is true or false")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return S3Store(
        f"{host}:{port}" if port else host,
        bucket,
        prefix=prefix,
        access_key=access_key,
        secret_key=secret_key,
        secure=secure == "true",
        region=region,
    )
