"""The only place a key is built. Keys come from content, never from UIDs: no name in a data set reaches a path."""

import re

# A folder store keeps its spools under this name, so no key begins with it.
SPOOL_FOLDER = "incoming"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"(?!{SPOOL_FOLDER}(?:/|\Z)){_PART}(?:/{_PART}){{0,15}}")
_LONGEST_KEY = 900  # S3 allows 1024 with the store's prefix


def blob_key(sha256: str) -> str:
    """Return the key for bytes with this SHA-256 digest in hex.

    One level of 256 folders: each is made once and soon, while with two levels nearly every put would make two folders
    more and sync both into their parents. Hashed directories of current file systems hold millions of names.
    """
    if not _DIGEST.fullmatch(sha256):
        raise ValueError("a blob key needs a SHA-256 digest in lower-case hex")
    return f"sha256/{sha256[:2]}/{sha256}"


def key_digest(key: str) -> str:
    """Return the digest that ``key`` promises for its blob's bytes."""
    return key.rsplit("/", 1)[-1]


def is_valid_key(key: str) -> bool:
    """Say whether ``key`` may name a blob: relative, of ASCII parts that no file system or S3 service reads otherwise.

    No part begins with a dot, so neither ``..`` nor a hidden file can be named; there are no empty parts and no NULs.
    For a key that is not valid every store answers alike: reads raise BlobNotFound, ``remove`` does nothing, and
    ``put`` raises ValueError, for only a mistake in this program can lead there.
    """
    return len(key) <= _LONGEST_KEY and _KEY.fullmatch(key) is not None


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` may name a blob."""
    if not is_valid_key(key):
        raise ValueError("this is not a valid blob key")
