"""Projects: who may do research on what, for which purpose and until when; and the end of their keys."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, select, update

from pacs.access import Principal, Role
from pacs.database.base import Database
from pacs.database.research_tables import research_member, research_project
from pacs.deid import RELEASE_DEFAULT, Profile, ProjectKey
from pacs.errors import InvalidProject, MemberNotFound, NotNow, NotPermitted, ProjectExists
from pacs.index.inserting import insert_once
from pacs.research import keyring
from pacs.research.gate import Right, admit
from pacs.research.keyring import Keyring
from pacs.research.model import Approval, Member, Project, ProjectRole
from pacs.research.project_rows import (
    PROJECTS,
    approval_values,
    find_member,
    find_project,
    member_of,
    profile_text,
    project_of,
)
from pacs.research.recording import note
from pacs.research.sealing import parse_public_key

MAX_TEXT = 2000
_SLUG = re.compile(r"[a-z0-9](-?[a-z0-9]){1,39}")
_RESERVED = frozenset({"admin", "api", "assets", "help", "login", "logout", "new", "projects", "static"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project as it is asked for. ``k`` of None is the site's; ``escrow_key`` is a public key as PEM, or nothing."""

    slug: str
    title: str
    purpose: str
    approval: Approval
    profile: Profile = RELEASE_DEFAULT
    k: int | None = None
    escrow_key: bytes = b""


class Projects:
    """Makes projects, and says who belongs to them. Any number of threads may call it at once.

    ``on_key_destroyed`` is called in the transaction that destroys a key, for what else has to end with it.
    """

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        k: int,
        on_key_destroyed: Callable[[Connection, Project], None] = lambda *_: None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._k = k
        self._on_key_destroyed = on_key_destroyed

    def create(self, principal: Principal, new: NewProject) -> Project:
        """Make a project with a key of its own; only an administrator does.

        Raises InvalidProject with one sentence that says what is wrong, or ProjectExists.
        """
        if not principal.is_any(Role.ADMINISTRATOR):
            raise NotPermitted
        _check_new(new, self._k)
        escrow_key = parse_public_key(new.escrow_key) if new.escrow_key else None
        with self._database.read() as connection:
            master = self._keys.prepare(connection)
        row = {
            "slug": new.slug,
            "title": new.title.strip(),
            "purpose": new.purpose.strip(),
            **approval_values(new.approval),
            "profile": profile_text(new.profile),
            "k": self._k if new.k is None else new.k,
            "wrapped_key": master.wrap(new.slug, ProjectKey.generate().secret),
            "escrow_key": escrow_key,
            "created_by": principal.name,
            "created_at": datetime.now(UTC),
            "key_destroyed_at": None,
            "backups_gone_at": None,
        }

        def write(connection: Connection) -> Project:
            if insert_once(connection, research_project, row) is None:
                raise ProjectExists
            note(
                connection, principal, new.slug, "project.create", title=row["title"], has_escrow=escrow_key is not None
            )
            project = find_project(connection, new.slug)
            assert project is not None, "it was just inserted"
            return project

        return self._database.write(write)

    def get(self, principal: Principal, slug: str) -> Project:
        """Return a project; raise ProjectNotFound also if it is none of his business."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.SEE).project
        self._database.write(lambda connection: note(connection, principal, project, "project.view"))
        return project

    def list_all(self, principal: Principal) -> list[Project]:
        """Return the projects he may know of, by name: those he is a member of, or all."""
        statement = PROJECTS.order_by(research_project.c.slug)
        if not principal.is_any(Role.ADMINISTRATOR, Role.AUDITOR):
            belongs = research_member.c.project_row_id == research_project.c.id
            statement = statement.where(exists().where(belongs, research_member.c.name == principal.name))
        with self._database.read() as connection:
            return [project_of(row) for row in connection.execute(statement)]

    def role_of(self, principal: Principal, slug: str) -> ProjectRole | None:
        """Return what he is in a project: None if he sees it and is no member of it; raise ProjectNotFound."""
        with self._database.read() as connection:
            return admit(connection, principal, slug, Right.SEE).role

    def change(
        self,
        principal: Principal,
        slug: str,
        *,
        title: str | None = None,
        purpose: str | None = None,
        approval: Approval | None = None,
        profile: Profile | None = None,
    ) -> Project:
        """Describe a project anew, or give it another approval or profile; releases that are made keep theirs."""
        values: dict[str, Any] = {}
        for name, text in (("title", title), ("purpose", purpose)):
            if text is not None:
                values[name] = _checked(name, text)
        if approval is not None:
            values |= approval_values(_checked_approval(approval))
        if profile is not None:
            _check_profile(profile)
            values["profile"] = profile_text(profile)

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.MANAGE).project
            if values:
                connection.execute(update(research_project).where(research_project.c.id == project.id).values(values))
                shown = {name: value for name, value in values.items() if name != "profile"}
                note(connection, principal, project, "project.change", has_new_profile="profile" in values, **shown)
            return admit(connection, principal, slug, Right.MANAGE).project

        return self._database.write(write)

    def list_members(self, principal: Principal, slug: str) -> list[Member]:
        """Return who belongs to a project, by name."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.SEE).project
            members = select(research_member).where(research_member.c.project_row_id == project.id)
            found = [member_of(row) for row in connection.execute(members.order_by(research_member.c.name))]
        self._database.write(lambda connection: note(connection, principal, project, "member.list"))
        return found

    def add_member(self, principal: Principal, slug: str, name: str, role: ProjectRole) -> Member:
        """Let somebody into a project, or give a member another role; ``name`` is that of his account."""
        name = _checked("name", name, 64)

        def write(connection: Connection) -> Member:
            project = admit(connection, principal, slug, Right.MANAGE).project
            _remove_member(connection, project, name)
            member = Member(name, role, principal.name, datetime.now(UTC))
            row = {"project_row_id": project.id, "name": name, "role": role.value}
            row |= {"added_by": member.added_by, "added_at": member.added_at}
            connection.execute(research_member.insert(), row)
            note(connection, principal, project, "member.add", name, role=role.value)
            return member

        return self._database.write(write)

    def remove_member(self, principal: Principal, slug: str, name: str) -> None:
        """Let a member out of a project; raise MemberNotFound if he is none."""

        def write(connection: Connection) -> None:
            project = admit(connection, principal, slug, Right.MANAGE).project
            if find_member(connection, project.id, name) is None:
                raise MemberNotFound
            _remove_member(connection, project, name)
            note(connection, principal, project, "member.remove", name)

        self._database.write(write)

    def set_escrow_key(self, principal: Principal, slug: str, public_key: bytes) -> Project:
        """Give a project without an escrow the public key, as PEM, that pairs are sealed to from now on.

        Raises InvalidValue for another text, NotNow if it has one: nobody is to be able to seal for himself instead.
        """
        key = parse_public_key(public_key)

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.MANAGE).project
            if project.key_destroyed_at is not None:
                raise NotNow("The key of this project was destroyed; there is nothing left to seal.")
            if project.has_escrow:
                raise NotNow("This project has the public key of an escrow already; it cannot be changed.")
            of_project = update(research_project).where(research_project.c.id == project.id)
            connection.execute(of_project.values(escrow_key=key))
            note(connection, principal, project, "escrow.set")
            return admit(connection, principal, slug, Right.MANAGE).project

        return self._database.write(write)

    def destroy_key(self, principal: Principal, slug: str, *, reason: str) -> Project:
        """Destroy a project's key with its escrow. It cannot be undone: nothing more is ever released from it.

        What was released stays, and is still called pseudonymised until ``confirm_backups_gone``.
        """
        reason = _checked("reason", reason)

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.MANAGE).project
            if project.key_destroyed_at is not None:
                return project
            keyring.destroy(connection, project)
            self._on_key_destroyed(connection, project)
            _set_time(connection, project, "key_destroyed_at")
            note(connection, principal, project, "key.destroy", reason=reason)
            return admit(connection, principal, slug, Right.MANAGE).project

        return self._database.write(write)

    def confirm_backups_gone(self, principal: Principal, slug: str, *, reason: str) -> Project:
        """Put on record that no backup holds the key or the escrow any more; now the data are anonymised.

        Raises NotNow while the key is here.
        """
        reason = _checked("reason", reason)

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.MANAGE).project
            if project.key_destroyed_at is None:
                raise NotNow("The key of this project is still here; destroy it first.")
            if project.backups_gone_at is None:
                _set_time(connection, project, "backups_gone_at")
                note(connection, principal, project, "key.backups-gone", reason=reason)
            return admit(connection, principal, slug, Right.MANAGE).project

        return self._database.write(write)


def _remove_member(connection: Connection, project: Project, name: str) -> None:
    of_project = delete(research_member).where(research_member.c.project_row_id == project.id)
    connection.execute(of_project.where(research_member.c.name == name))


def _set_time(connection: Connection, project: Project, column: str) -> None:
    of_project = update(research_project).where(research_project.c.id == project.id)
    connection.execute(of_project.values({column: datetime.now(UTC)}))


def _check_new(new: NewProject, smallest_k: int) -> None:
    if not _SLUG.fullmatch(new.slug) or new.slug in _RESERVED:
        raise InvalidProject(
            "The short name of a project has 2 to 40 of a-z and 0-9, with single hyphens between them, "
            f"and is none of {', '.join(sorted(_RESERVED))}."
        )
    _checked("title", new.title, 200)
    _checked("purpose", new.purpose)
    _checked_approval(new.approval)
    _check_profile(new.profile)
    if new.k is not None and not smallest_k <= new.k <= 100:
        raise InvalidProject(f"k is at least {smallest_k}, which is this site's, and at most 100.")


def _checked(name: str, text: str, length: int = MAX_TEXT) -> str:
    text = text.strip()
    if not text or len(text) > length or _CONTROL.search(text):
        raise InvalidProject(f"The {name} must be given, with at most {length} characters.")
    return text


def _checked_approval(approval: Approval) -> Approval:
    reference = _checked("reference of the approval", approval.reference, 200)
    authority = _checked("authority that approved", approval.authority, 200)
    if approval.ends_on < datetime.now(UTC).date():
        raise InvalidProject("The approval has ended already.")
    return Approval(reference, authority, approval.ends_on)


def _check_profile(profile: Profile) -> None:
    """Raise InvalidProject for a profile by which anybody who has the clinical archive could join a release to it."""
    if not profile.is_fit_for_release:
        raise InvalidProject("A project's profile cannot retain UIDs or full dates; only `pacs deidentify` can.")
