"""Who is asking. Every use case takes a Principal first, so that no edge can forget to say on whose behalf it acts.

A role is what somebody is at this site, a permission is what that lets him do; both are one table here. Who belongs to
which research project is not: that is kept with the project.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from pacs.errors import NotPermitted


class Permission(StrEnum):
    """What not everybody may do; the scope of a token is some of these."""

    READ = "read"
    """Search and see what is clinical."""
    WRITE = "write"
    """Store, and work with work items and the worklist."""
    CORRECT = "correct"
    """Merge patients, move studies, set values right, decide conflicts."""
    DELETE = "delete"
    """Withhold what is clinical, and bring it back."""
    OPERATE = "operate"
    """See and direct what the archive does by itself: deliveries, jobs."""
    ADMINISTER = "administer"
    """Accounts and tokens."""
    RESEARCH = "research"
    """Come to the door of research; each project decides whom it knows."""
    AUDIT = "audit"
    """Read the record of who did what."""


class Role(StrEnum):
    """What somebody is at this site."""

    RADIOLOGIST = "radiologist"
    TECHNICIAN = "technician"
    RESEARCHER = "researcher"
    STEWARD = "steward"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"
    DEVICE = "device"


GRANTS: dict[Role, frozenset[Permission]] = {
    Role.RADIOLOGIST: frozenset({Permission.READ, Permission.WRITE, Permission.RESEARCH}),
    Role.TECHNICIAN: frozenset({Permission.READ, Permission.WRITE, Permission.CORRECT, Permission.RESEARCH}),
    Role.RESEARCHER: frozenset({Permission.RESEARCH}),
    Role.STEWARD: frozenset({Permission.RESEARCH}),
    Role.ADMINISTRATOR: frozenset(Permission) - {Permission.AUDIT},
    Role.AUDITOR: frozenset({Permission.AUDIT, Permission.RESEARCH}),
    Role.DEVICE: frozenset({Permission.READ, Permission.WRITE}),
}
"""What each role lets one do. Whoever sees patients and whoever studies them are told apart by READ."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody or something known to the archive, by the name its record carries.

    ``address`` is where he asks from and ``session`` tells one stay of his from another, for the record; neither makes
    him another.
    """

    name: str
    permissions: frozenset[Permission] = frozenset()
    roles: frozenset[Role] = frozenset()
    address: str = field(default="", compare=False)
    session: str = field(default="", compare=False)

    def check(self, permission: Permission) -> None:
        """Raise NotPermitted without this permission."""
        if permission not in self.permissions:
            raise NotPermitted

    def is_any(self, *roles: Role) -> bool:
        """Return whether he is one of these."""
        return not self.roles.isdisjoint(roles)


LOCAL = Principal("local", frozenset(Permission), frozenset(Role))
"""The archive itself, and the administrator at its command line: who may do everything."""


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return what these roles together let one do."""
    return frozenset[Permission]().union(*(GRANTS[role] for role in roles))
