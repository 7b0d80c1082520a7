"""The audit log as a whole: sealed, checked, exported and summed up. Who reads it stands in it, too."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select

from pacs.access import Permission, Principal
from pacs.audit import chain
from pacs.audit.chain import Head
from pacs.audit.entries import Entry, Outcome, record
from pacs.database.base import Database
from pacs.database.identity_tables import audit

LOGGER = logging.getLogger(__name__)

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries: all of what is given must fit. ``kind`` fits what begins with it, too: ``research`` fits all such.

    From ``since`` on, and before ``until``.
    """

    project: str = ""
    subject: str = ""
    principal: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What somebody did how often, and how often it was not a success."""

    principal: str
    kind: str
    subject: str
    count: int
    unsuccessful: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the whole chain has found. ``unsealed`` entries have no place yet, and cannot be checked."""

    entries: int
    unsealed: int
    head: Head
    problems: tuple[str, ...]


class AuditLog:
    """The log of one archive. ``head_file`` keeps the head outside the database, so that a shortened log is noticed."""

    def __init__(self, database: Database, head_file: Path | None = None) -> None:
        self._database = database
        self._head_file = head_file
        self._has_warned = False

    def write(self, entry: Entry) -> None:
        """Append an entry in a transaction of its own: for what changes nothing else."""
        self._database.write(lambda connection: record(connection, entry))

    def seal(self) -> int:
        """Give every entry that waits its place in the chain; return how many there were."""
        count = 0
        with self._database.read() as connection:
            is_waiting = chain.has_unsealed(connection)
        while is_waiting:
            sealed = self._database.write(chain.seal)
            count += sealed
            is_waiting = sealed == chain.BATCH
        if count:
            self._keep_head()
        return count

    def verify(
        self, noted: Head | None = None, on_progress: Callable[[int, int], None] = lambda _done, _all: None
    ) -> Verification:
        """Walk the whole chain; ``noted`` is a head that somebody wrote down, and must be in it still.

        ``on_progress`` is told now and then how many entries of how many were checked.
        """
        with self._database.read() as connection:
            known = [chain.read_head(connection)]
            last: int = connection.execute(select(func.max(audit.c.position))).scalar() or 0
            unsealed = connection.execute(select(func.count(audit.c.id)).where(audit.c.position.is_(None))).scalar_one()
        problems: list[str] = []
        if last > known[0].position:
            problems.append(f"There are entries after {known[0].position}, where the log ends.")
        known += [head for head in (self._read_head_file(problems), noted) if head is not None]
        walk = _Walk(problems)
        for row in self._iter_rows(select(audit), last):
            walk.step(row)
            if walk.entries % _PAGE == 0:
                on_progress(walk.entries, last)
        with self._database.read() as connection:
            for head in known:
                found = chain.find_digest(connection, head.position) if head.position else Head().digest
                if found is None:
                    problems.append(f"The log has no entry {head.position} any more, and had one.")
                elif found != head.digest:
                    problems.append(f"Entry {head.position} is another one than it was when its digest was noted.")
        return Verification(walk.entries, unsealed, known[0], tuple(dict.fromkeys(problems)))

    def iter_entries(self, principal: Principal, chosen: Chosen) -> Iterator[dict[str, Any]]:
        """Yield what has been sealed, in the order of the chain, as JSON can hold it; with the digests to check it."""
        self._note_use(principal, "audit.export", chosen)
        with self._database.read() as connection:
            end = chain.read_head(connection).position
        for row in self._iter_rows(select(audit).where(_fits(chosen)), end):
            yield chain.describe(row, row.position) | {"digest": bytes(row.digest).hex()}

    def summarise(self, principal: Principal, chosen: Chosen, *, by_subject: bool = False) -> list[Summary]:
        """Return who did what how often, sealed or not; ``by_subject`` tells apart what it was done to."""
        self._note_use(principal, "audit.report", chosen)
        keys = (audit.c.principal, audit.c.kind, *((audit.c.subject,) if by_subject else ()))
        is_other = case((audit.c.outcome == Outcome.SUCCESS.value, 0), else_=1)
        statement = (
            select(
                *keys,
                func.count().label("count"),
                func.sum(is_other).label("unsuccessful"),
                func.min(audit.c.at).label("first_at"),
                func.max(audit.c.at).label("last_at"),
            )
            .where(_fits(chosen))
            .group_by(*keys)
            .order_by(*keys)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            Summary(
                row.principal,
                row.kind,
                row.subject if by_subject else "",
                row._mapping["count"],  # noqa: SLF001 - the row is a tuple, which has a method of that name
                int(row.unsuccessful),
                row.first_at,
                row.last_at,
            )
            for row in rows
        ]

    def _note_use(self, principal: Principal, kind: str, chosen: Chosen) -> None:
        principal.check(Permission.AUDIT)
        self.write(Entry(kind, principal, chosen.subject, {"of": chosen.principal or "all"}, chosen.project))

    def _iter_rows(self, statement: Select[Any], end: int) -> Iterator[Any]:
        """Yield rows up to a place, a page in a transaction, so that a log of any length holds up nobody."""
        position: int | None = 0
        while position is not None:
            wanted = and_(audit.c.position > position, audit.c.position <= end)
            with self._database.read() as connection:
                page = connection.execute(statement.where(wanted).order_by(audit.c.position).limit(_PAGE)).all()
            yield from page
            position = page[-1].position if len(page) == _PAGE else None

    def _keep_head(self) -> None:
        """Write the head down, unless the one that was written down is not in the chain: then it is evidence."""
        if self._head_file is None:
            return
        noted = self._read_head_file([]) or Head()
        with self._database.read() as connection:
            head = chain.read_head(connection)
            is_in_chain = not noted.position or chain.find_digest(connection, noted.position) == noted.digest
        if not is_in_chain:
            if not self._has_warned:
                LOGGER.error("The audit log is not the one whose head was noted last; `pacs audit verify` says more")
            self._has_warned = True
            return
        if head.position > noted.position:
            draft = self._head_file.with_name(f"{self._head_file.name}.{os.getpid()}")
            # Nothing depends on its being durable: an older head must be in the chain just as well.
            with suppress(OSError):
                draft.write_text(f"{head}\n", encoding="ascii")
                draft.replace(self._head_file)

    def _read_head_file(self, problems: list[str]) -> Head | None:
        if self._head_file is None:
            return None
        try:
            return chain.parse_head(self._head_file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            problems.append("The file with the noted head of the log cannot be read.")
            return None


class _Walk:
    """A check of the chain as it goes along; the digest that stands there is what the next one is checked with."""

    def __init__(self, problems: list[str]) -> None:
        self.entries = 0
        self._problems = problems
        self._head = Head()

    def step(self, row: Any) -> None:
        missing = row.position - self._head.position - 1
        if missing == 1:
            self._problems.append(f"Entry {row.position - 1} is missing.")
        elif missing > 1:
            self._problems.append(f"Entries {self._head.position + 1} to {row.position - 1} are missing.")
        elif not _is_whole(self._head.digest, row):
            self._problems.append(f"Entry {row.position} has been changed, or what was before it.")
        self.entries += 1
        self._head = Head(row.position, bytes(row.digest or b""))


def _is_whole(before: bytes, row: Any) -> bool:
    try:
        return chain.digest_of(before, chain.describe(row, row.position)) == bytes(row.digest)
    except (TypeError, ValueError):  # nothing that the archive ever wrote
        return False


def _fits(chosen: Chosen) -> ColumnElement[bool]:
    tests = [
        getattr(audit.c, name) == value
        for name in ("project", "subject", "principal")
        if (value := getattr(chosen, name))
    ]
    if chosen.kind:
        tests.append((audit.c.kind == chosen.kind) | audit.c.kind.startswith(f"{chosen.kind}.", autoescape=True))
    if chosen.since is not None:
        tests.append(audit.c.at >= chosen.since)
    if chosen.until is not None:
        tests.append(audit.c.at < chosen.until)
    return and_(True, *tests)
