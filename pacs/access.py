"""Who is asking. Every use case takes a Principal first, so that no edge can forget to say on whose behalf it acts."""

from dataclasses import dataclass
from enum import StrEnum

from pacs.errors import NotPermitted


class Permission(StrEnum):
    """What not everybody may do who may read."""

    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody or something known to the archive, by the name its record carries."""

    name: str
    permissions: frozenset[Permission] = frozenset()

    def check(self, permission: Permission) -> None:
        """Raise NotPermitted without this permission."""
        if permission not in self.permissions:
            raise NotPermitted


LOCAL = Principal("local", frozenset(Permission))
"""The archive itself, and the administrator at its command line: who may do everything."""
