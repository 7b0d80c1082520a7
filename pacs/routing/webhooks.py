"""Tells webhooks of changes: a job is a page of the change log for one webhook, read again when it is delivered.

Each webhook follows the log by itself, so that one that is new begins at its end and one that comes back where it was.
A job keeps its key through every try, so that a receiver knows what it had already. Jobs of one webhook are done in the
order of the log as long as none fails; what was overtaken says by its cursor where it belongs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection

from pacs.changes import cursor_text, parse_cursor
from pacs.database.base import Database
from pacs.index import changes
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.worker import Failed, Finished
from pacs.model import Change, ChangeKind, Cursor
from pacs.routing.following import PAGE, Plan

KIND = "webhook"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a webhook is told at once: some changes in their order. ``id`` is the same each time it is tried."""

    id: str
    changes: tuple[Change, ...]


Post = Callable[[Delivery], str]
"""Delivers; returns nothing if that was taken, or why it never will be. Raises ``pacs.routing.destinations``
Unreachable if the webhook cannot be told now."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told, by a name that is given once, and of what."""

    name: str
    kinds: frozenset[ChangeKind]
    post: Post


class Notifier:
    """Plans what webhooks are to be told, and tells them."""

    def __init__(self, database: Database, partition_id: int, webhooks: Sequence[Webhook]) -> None:
        self._database = database
        self._partition_id = partition_id
        self._webhooks = {webhook.name: webhook for webhook in webhooks}

    def plans(self) -> dict[str, Plan]:
        """Return what plans for each webhook, by the name under which it follows the log."""
        return {f"{KIND}-{name}": partial(_plan, webhook) for name, webhook in self._webhooks.items()}

    def tell(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Tell one webhook, one delivery after the other: a task of the worker."""
        webhook = self._webhooks.get(jobs[0].lane)
        for job in jobs:
            if webhook is None:
                yield Failed(job, "There is no such webhook in the settings.", is_final=True)
                continue
            delivery = Delivery(job.key, self._read(job, webhook.kinds))
            problem = webhook.post(delivery) if delivery.changes else ""
            yield Failed(job, problem, is_final=True) if problem else Finished(job, leaves_receipt=False)

    def _read(self, job: Job, kinds: frozenset[ChangeKind]) -> tuple[Change, ...]:
        first, last = parse_cursor(job.payload["first"]), parse_cursor(job.payload["last"])
        before = Cursor(first.transaction_id, first.sequence - 1)
        with self._database.read() as connection:
            page = changes.read_after(connection, self._partition_id, before, PAGE)
        return tuple(change for change in page if change.cursor <= last and change.kind in kinds)


def _plan(webhook: Webhook, connection: Connection, page: Sequence[Change]) -> list[NewJob]:  # noqa: ARG001
    """Return the one job that a page of the log makes, or none if nothing in it concerns the webhook."""
    cursors = [change.cursor for change in page if change.kind in webhook.kinds]
    if not cursors:
        return []
    payload = {"first": cursor_text(cursors[0]), "last": cursor_text(cursors[-1])}
    return [NewJob(KIND, webhook.name, uuid4().hex, payload)]
