"""A project's secret, and everything that is derived from it: pseudonyms, shifts of dates, new UIDs.

HMAC-SHA-256 of (kind, original) under 32 secret bytes. PS3.15 warns against hashes without a key, which fall to a
dictionary; with one, two projects have nothing in common, and who destroys the key has made the data anonymous.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import Self

from pacs.errors import InvalidValue

_SECRET_BYTES = 32
_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXZ"
"""No vowels: a pseudonym spells nothing."""
_PSEUDONYM_LENGTH = 16
_SHIFT_MIN_DAYS, _SHIFT_MAX_DAYS = 365, 3650


class ProjectKey:
    """The secret of one project. It shows itself in no log and no traceback."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Raise InvalidValue for a secret that is not 32 bytes long."""
        if len(secret) != _SECRET_BYTES:
            raise InvalidValue("A project key is 32 bytes long.")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Return a new key of the system's best randomness."""
        return cls(secrets.token_bytes(_SECRET_BYTES))

    @property
    def secret(self) -> bytes:
        """The bytes themselves, to be wrapped under another key; written to nothing else."""
        return self._secret

    def derive(self, kind: str, value: str) -> bytes:
        """Return 32 bytes that only who holds the key can tell from ``value``; kinds never meet."""
        message = kind.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, message, "sha256")

    def derive_uid(self, uid: str) -> str:
        """Return the UID that stands for another in this project: 2.25 and 128 bits (PS3.5 B.2)."""
        return f"2.25.{int.from_bytes(self.derive('uid', uid)[:16], 'big')}"

    def derive_code(self, kind: str, value: str, length: int) -> str:
        """Return ``length`` characters, digits and consonants, that stand for a value in this project."""
        number = int.from_bytes(self.derive(kind, value), "big")
        characters = []
        for _ in range(length):
            number, rest = divmod(number, len(_ALPHABET))
            characters.append(_ALPHABET[rest])
        return "".join(characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProjectKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.derive("hash", ""))

    def __repr__(self) -> str:
        return "ProjectKey(...)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("A project key is not pickled.")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a patient is in a project: Patient ID and name there, and by how many whole days their dates move."""

    pseudonym: str
    shift_days: int


def subject_identity(issuer: str, patient_id: str, study_instance_uid: str) -> str:
    """Return what a patient is told by: issuer and Patient ID, or the study where the Patient ID is empty."""
    return f"{issuer}\0{patient_id}" if patient_id else f"\0\0{study_instance_uid}"


def derive_subject(key: ProjectKey, identity: str) -> Subject:
    """Return the subject that an identity is in the project; always the same, and back in time by one to ten years."""
    number = int.from_bytes(key.derive("shift", identity)[:8], "big")
    shift = _SHIFT_MIN_DAYS + number % (_SHIFT_MAX_DAYS - _SHIFT_MIN_DAYS + 1)
    return Subject(key.derive_code("subject", identity, _PSEUDONYM_LENGTH), -shift)
