"""How projects and their members lie in the database."""

from datetime import date
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from pacs.database.research_tables import research_member, research_project
from pacs.deid import Profile
from pacs.research.model import Approval, Member, Project, ProjectRole

_COLUMNS = [
    column
    for column in research_project.c
    if column not in (research_project.c.wrapped_key, research_project.c.escrow_key)
]
PROJECTS = select(*_COLUMNS, research_project.c.escrow_key.is_not(None).label("has_escrow"))
"""What ``project_of`` reads; the keys are not in it, so that no value that is handed about holds one."""


def project_of(row: Any) -> Project:
    """Return the project of a row of ``PROJECTS``."""
    return Project(
        id=row.id,
        slug=row.slug,
        title=row.title,
        purpose=row.purpose,
        approval=Approval(row.approval_reference, row.approval_authority, date.fromisoformat(row.approval_ends_on)),
        profile=Profile.from_json(orjson.loads(row.profile)),
        k=row.k,
        created_by=row.created_by,
        created_at=row.created_at,
        has_escrow=bool(row.has_escrow),
        key_destroyed_at=row.key_destroyed_at,
        backups_gone_at=row.backups_gone_at,
    )


def approval_values(approval: Approval) -> dict[str, str]:
    """Return the columns of an approval."""
    return {
        "approval_reference": approval.reference,
        "approval_authority": approval.authority,
        "approval_ends_on": approval.ends_on.isoformat(),
    }


def profile_text(profile: Profile) -> str:
    """Return a profile as it is kept."""
    return orjson.dumps(profile.to_json(), option=orjson.OPT_SORT_KEYS).decode()


def find_project(connection: Connection, slug: str) -> Project | None:
    """Return a project by its name in addresses."""
    # What no text of PostgreSQL can hold is looked up as what no project is called.
    row = connection.execute(_BY_SLUG, {"slug": slug.replace("\0", "\ufffd")}).first()
    return None if row is None else project_of(row)


def find_member(connection: Connection, project_id: int, name: str) -> Member | None:
    """Return a member by the name of his account."""
    row = connection.execute(_MEMBER, {"project_row_id": project_id, "name": name}).first()
    return None if row is None else member_of(row)


def member_of(row: Any) -> Member:
    """Return the member of a row."""
    return Member(row.name, ProjectRole(row.role), row.added_by, row.added_at)


_BY_SLUG = PROJECTS.where(research_project.c.slug == bindparam("slug"))
_MEMBER = select(research_member).where(
    research_member.c.project_row_id == bindparam("project_row_id"), research_member.c.name == bindparam("name")
)
