"""The master key of an archive: what the keys of its projects are kept encrypted under, in a file beside the database.

Whoever has the database without this file has no project's key. It is made when the first project is, and is nowhere
else: without a copy of it, in another place than the copies of the database, a lost file is the end of all projects.
"""

import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pacs.errors import KeyUnavailable

KEY_BYTES = 32
_NONCE_BYTES = 12


class MasterKey:
    """Wraps the keys of projects, and makes digests that say nothing to whoever has not got this key."""

    def __init__(self, secret: bytes) -> None:
        self._wrapping = AESGCM(hmac.digest(secret, b"pacs research: wrap", "sha256"))
        self._digesting = hmac.digest(secret, b"pacs research: digest", "sha256")

    def wrap(self, project: str, key: bytes) -> bytes:
        """Return a project's key as it is kept; it can be unwrapped for this project only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, key, project.encode())

    def unwrap(self, project: str, wrapped: bytes) -> bytes:
        """Return a project's key; raise KeyUnavailable if this is another master key, or what is kept was altered."""
        try:
            return self._wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], project.encode())
        except InvalidTag:
            raise KeyUnavailable from None

    def digest(self, kind: str, value: str) -> bytes:
        """Return a keyed digest by which a value is found again and not told."""
        return hmac.digest(self._digesting, f"{kind}\0{value}".encode("utf-8", "replace"), "sha256")


class MasterKeyFile:
    """Where the master key is. Any number of threads and processes may read and make it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> MasterKey:
        """Return the master key; raise KeyUnavailable if there is none."""
        try:
            secret = bytes.fromhex(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            raise KeyUnavailable from None
        if len(secret) != KEY_BYTES:
            raise KeyUnavailable
        return MasterKey(secret)

    def read_or_make(self) -> MasterKey:
        """Return the master key, made if there is no file: only for who knows that nothing is wrapped yet."""
        if not self._path.exists():
            self._make()
        return self.read()

    def _make(self) -> None:
        """Write a new key beside its place and link it there: whoever comes second finds the first one's, whole."""
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                    opened.write(secrets.token_hex(KEY_BYTES))
                    opened.flush()
                    os.fsync(opened.fileno())
                try:
                    os.link(beside, self._path)
                except FileExistsError:
                    return
            finally:
                beside.unlink()
            _sync_folder(self._path.parent)
        except OSError:
            raise KeyUnavailable("The file of the master key cannot be made; ask the administrator.") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
