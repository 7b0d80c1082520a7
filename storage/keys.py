"""The only place a key is built. Keys come from content, never from UIDs: no name in a data set reaches a path."""

import re

_DIGEST = re.compile(r"[0-9a-f]{64}")


def blob_key(sha256: str) -> str:
    """Return the key for bytes with this SHA-256 digest in hex; two folder levels keep any one folder small."""
    if not _DIGEST.fullmatch(sha256):
        raise ValueError("a blob key needs a SHA-256 digest in lower-case hex")
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def key_digest(key: str) -> str:
    """Return the digest that ``key`` promises for its blob's bytes."""
    return key.rsplit("/", 1)[-1]
