"""Who somebody is, told for a reason: one person asks, another one grants, and a third place holds the key.

What is handed out is the sealed pair. It is opened with the private key that is not on this server.
"""

import base64
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from pacs.access import Principal, Role
from pacs.database.base import Database
from pacs.database.research_tables import research_reidentification
from pacs.errors import InvalidValue, KeyDestroyed, NotNow, NotPermitted, PseudonymNotFound, ReidentificationNotFound
from pacs.research.gate import Right, admit
from pacs.research.model import Project, ReidentificationRequest, ReidentificationState
from pacs.research.recording import note
from pacs.research.subjects import find_escrow

_MAX_REASON = 2000


class Reidentification:
    """Takes questions and decisions. Any number of threads may call it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, principal: Principal, slug: str, pseudonym: str, *, reason: str) -> ReidentificationRequest:
        """Ask who a pseudonym is; only members do.

        Raises PseudonymNotFound, KeyDestroyed, or NotNow for a project without an escrow: then nobody can ever tell.
        """
        reason = _checked_reason(reason)

        def write(connection: Connection) -> ReidentificationRequest:
            project = admit(connection, principal, slug, Right.WORK).project
            _check_sealed(connection, project, pseudonym)
            row = {
                "project_row_id": project.id,
                "pseudonym": pseudonym,
                "reason": reason,
                "state": ReidentificationState.ASKED.value,
                "asked_by": principal.name,
                "asked_at": datetime.now(UTC),
            }
            returning = insert(research_reidentification).returning(research_reidentification.c.id)
            request_id = connection.execute(returning, row).scalar_one()
            note(connection, principal, project, "reidentification.ask", pseudonym, request=request_id, reason=reason)
            return _find(connection, project, request_id)

        return self._database.write(write)

    def list_all(self, principal: Principal, slug: str) -> list[ReidentificationRequest]:
        """Return the questions of a project, the latest first: a member his own, who decides on them all."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.SEE).project
            rows = connection.execute(_OF_PROJECT, {"project_row_id": project.id}).all()
            may_decide = _may_decide(connection, principal, slug) or principal.is_any(Role.AUDITOR)
        self._database.write(lambda connection: note(connection, principal, project, "reidentification.list"))
        return [_request_of(row) for row in rows if may_decide or row.asked_by == principal.name]

    def decide(
        self, principal: Principal, slug: str, request_id: int, *, grants: bool, reason: str
    ) -> ReidentificationRequest:
        """Grant or refuse what another one has asked: a steward of the project does, or an administrator.

        Raises NotPermitted for whoever has asked himself, NotNow for what is decided already.
        """
        reason = _checked_reason(reason)

        def write(connection: Connection) -> ReidentificationRequest:
            project = admit(connection, principal, slug, Right.SEE).project
            if not _may_decide(connection, principal, slug):
                raise NotPermitted
            request = _find(connection, project, request_id)
            if request.asked_by == principal.name:
                raise NotPermitted("It takes two people: nobody grants what he has asked for himself.")
            if request.state is not ReidentificationState.ASKED:
                raise NotNow("This was decided already.")
            state = ReidentificationState.GRANTED if grants else ReidentificationState.REFUSED
            values = {"state": state.value, "decided_by": principal.name, "decided_at": datetime.now(UTC)}
            one = update(research_reidentification).where(
                research_reidentification.c.id == request_id,
                research_reidentification.c.state == ReidentificationState.ASKED.value,
            )
            if not connection.execute(one.values(values | {"remark": reason})).rowcount:
                raise NotNow("This was decided already.")
            kind = "grant" if grants else "refuse"
            facts = {"request": request_id, "asked_by": request.asked_by, "reason": reason}
            note(connection, principal, project, f"reidentification.{kind}", request.pseudonym, **facts)
            return _find(connection, project, request_id)

        return self._database.write(write)

    def hand_out(self, principal: Principal, slug: str, request_id: int) -> str:
        """Return the sealed pair as text, to whoever asked, once it is granted; each time goes on record.

        `pacs research open` opens it where the private key is. Raises NotPermitted, or NotNow before it is granted.
        """

        def write(connection: Connection) -> str:
            project = admit(connection, principal, slug, Right.WORK).project
            request = _find(connection, project, request_id)
            if request.asked_by != principal.name:
                raise ReidentificationNotFound
            if request.state is not ReidentificationState.GRANTED:
                raise NotNow("This is not granted.")
            box = _check_sealed(connection, project, request.pseudonym)
            note(connection, principal, project, "reidentification.hand-out", request.pseudonym, request=request_id)
            return base64.b64encode(box).decode()

        return self._database.write(write)


def _may_decide(connection: Connection, principal: Principal, slug: str) -> bool:
    try:
        admit(connection, principal, slug, Right.MANAGE if principal.is_any(Role.ADMINISTRATOR) else Right.DECIDE)
    except NotPermitted:
        return False
    return True


def _check_sealed(connection: Connection, project: Project, pseudonym: str) -> bytes:
    if project.key_destroyed_at is not None:
        raise KeyDestroyed("The escrow of this project was destroyed with its key; nobody can tell any more.")
    box = find_escrow(connection, project, pseudonym)
    if box is None:
        raise PseudonymNotFound
    if not box:
        raise NotNow("This project has no escrow: nobody can tell who a pseudonym is.")
    return box


def _find(connection: Connection, project: Project, request_id: int) -> ReidentificationRequest:
    row = connection.execute(_ONE, {"id": request_id, "project_row_id": project.id}).first()
    if row is None:
        raise ReidentificationNotFound
    return _request_of(row)


def _request_of(row: Any) -> ReidentificationRequest:
    return ReidentificationRequest(
        id=row.id,
        project_id=row.project_row_id,
        pseudonym=row.pseudonym,
        reason=row.reason,
        state=ReidentificationState(row.state),
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        remark=row.remark,
    )


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > _MAX_REASON:
        raise InvalidValue(f"A reason must be given, with at most {_MAX_REASON} characters.")
    return reason


_OF_PROJECT = (
    select(research_reidentification)
    .where(research_reidentification.c.project_row_id == bindparam("project_row_id"))
    .order_by(research_reidentification.c.id.desc())
)
_ONE = select(research_reidentification).where(
    research_reidentification.c.id == bindparam("id"),
    research_reidentification.c.project_row_id == bindparam("project_row_id"),
)
