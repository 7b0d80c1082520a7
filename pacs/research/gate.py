"""Who may come into a project, and how far. Whoever may not sees what he would see if there were no such project.

For that the same is asked of the database in both cases, in the same order: neither the answer nor its time tells.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

from sqlalchemy import Connection

from pacs.access import Principal, Role
from pacs.errors import KeyDestroyed, NotNow, NotPermitted, ProjectNotFound
from pacs.research.model import Project, ProjectRole
from pacs.research.project_rows import find_member, find_project

_NO_PROJECT = 0


class Right(Enum):
    """How far one may come in."""

    SEE = auto()
    """Know of the project, who belongs to it and what it may do: members, administrators and auditors."""
    WORK = auto()
    """Ask, count, request, see and take what was released: members."""
    DECIDE = auto()
    """Approve and refuse: members that are stewards, here and of the site."""
    MANAGE = auto()
    """Say who belongs to it, and end it: administrators."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A project, and what whoever came in is there; None if he is no member."""

    project: Project
    role: ProjectRole | None


def admit(connection: Connection, principal: Principal, slug: str, right: Right) -> Admitted:
    """Return the project; raise ProjectNotFound if he may not know of it, NotPermitted if he may not do this in it."""
    project = find_project(connection, slug)
    member = find_member(connection, _NO_PROJECT if project is None else project.id, principal.name)
    role = None if member is None else member.role
    if project is None or not _may(principal, role, Right.SEE):
        raise ProjectNotFound
    if not _may(principal, role, right):
        raise NotPermitted
    return Admitted(project, role)


def check_is_running(project: Project) -> None:
    """Raise NotNow for what has no approval any more, KeyDestroyed for what cannot go on."""
    if project.key_destroyed_at is not None:
        raise KeyDestroyed
    if datetime.now(UTC).date() > project.approval.ends_on:
        raise NotNow(f"The approval of this project ended on {project.approval.ends_on}.")


def _may(principal: Principal, role: ProjectRole | None, right: Right) -> bool:
    match right:
        case Right.SEE:
            return role is not None or principal.is_any(Role.ADMINISTRATOR, Role.AUDITOR)
        case Right.WORK:
            return role is not None
        case Right.DECIDE:
            return role is ProjectRole.STEWARD and principal.is_any(Role.STEWARD)
    return principal.is_any(Role.ADMINISTRATOR)
