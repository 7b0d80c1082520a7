"""Passwords, and what is given out to come in with: how they are made, and what of them is kept."""

import hashlib
import unicodedata
from functools import cached_property
from secrets import token_urlsafe

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from pacs.identity.problems import InvalidPassword

MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 512

TOKEN_PREFIX = "pacs_"  # noqa: S105 - by which a token that lies about is recognised as one
_SECRET_BYTES = 32


class Passwords:
    """Keeps passwords as Argon2id does, with the parameters of RFC 9106 for little memory: 64 MiB and 3 passes."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()

    @cached_property
    def _nobodys(self) -> str:
        """What the password of an account that is not there is compared with."""
        return self._hasher.hash(token_urlsafe())

    def keep(self, password: str, name: str) -> str:
        """Return what is kept of a password; raise InvalidPassword for one that is too short or is the name itself."""
        if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
            raise InvalidPassword(f"A password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters.")
        if name in password.lower() or len(set(password)) < MIN_PASSWORD_LENGTH // 3:
            raise InvalidPassword("The password is too easy to guess: it holds the account's name, or repeats itself.")
        return self._hasher.hash(_normalise(password))

    def is_right(self, password: str, kept: str) -> bool:
        """Return whether it is the one that is kept; where none is, as slowly as otherwise that it is not."""
        nobodys = self._nobodys  # looked at whether it is needed or not, for the first look takes its time
        if len(password) > MAX_PASSWORD_LENGTH:
            return False
        try:
            return self._hasher.verify(kept or nobodys, _normalise(password)) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False

    def is_outdated(self, kept: str) -> bool:
        """Return whether it was kept with weaker parameters than those of today."""
        return self._hasher.check_needs_rehash(kept)

    def keep_anew(self, password: str) -> str:
        """Return what is kept of a password that was right."""
        return self._hasher.hash(_normalise(password))


def make_secret(prefix: str = "") -> str:
    """Return what nobody guesses, for a cookie or a token."""
    return prefix + token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> bytes:
    """Return what is kept of such a secret. It has no pattern that could be tried out, so that a digest is enough."""
    return hashlib.sha256(secret.encode()).digest()


def _normalise(password: str) -> str:
    """Return one spelling of what two keyboards may spell differently: é as one character or as two."""
    return unicodedata.normalize("NFKC", password)
