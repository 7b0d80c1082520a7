"""What research writes into the audit log: who did what in which project, with no patient in it but by a pseudonym."""

from typing import Any

from sqlalchemy import Connection

from pacs.access import Principal
from pacs.audit import Entry, record
from pacs.research.model import Project


def note(
    connection: Connection, principal: Principal, project: Project | str, kind: str, subject: str = "", **facts: Any
) -> None:
    """Record an entry ``research.KIND`` in the caller's transaction; ``project`` may be the name of one."""
    slug = project if isinstance(project, str) else project.slug
    record(connection, Entry(f"research.{kind}", principal, subject, facts, slug))
