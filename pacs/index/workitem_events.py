"""The log of what happened to work items: appended in the transaction that makes it happen, read in commit order.

So every process that serves subscribers can tell those that are connected to it, whichever process made the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from pacs.database.workitem_tables import workitem_event
from pacs.index.ordered_log import OrderedLog
from pacs.model import Cursor

PRUNED_AT_ONCE = 500

_LOG = OrderedLog(workitem_event)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One report and whom it is for; ``cursor`` resumes reading after it."""

    cursor: Cursor
    recipients: frozenset[str]
    report: str


def append(
    connection: Connection, partition_id: int, reports: Sequence[tuple[Sequence[str], str]], at: datetime
) -> None:
    """Append reports with their recipients; what nobody is told is not kept."""
    rows = [
        {"partition_id": partition_id, "at": at, "recipients": "\\".join(recipients), "report": report}
        for recipients, report in reports
        if recipients
    ]
    if rows:
        _LOG.append(connection, rows)


def read_after(connection: Connection, partition_id: int, cursor: Cursor, limit: int) -> list[LoggedEvent]:
    """Return at most ``limit`` events after ``cursor`` in commit order; resume at the last one's cursor."""
    return [
        LoggedEvent(resume_at, frozenset(row.recipients.split("\\")), row.report)
        for resume_at, row in _LOG.read_after(connection, partition_id, cursor, limit)
    ]


def read_end(connection: Connection, partition_id: int) -> Cursor:
    """Return a cursor behind every event that shows, and before every one that will show later."""
    return _LOG.read_end(connection, partition_id)


def prune(connection: Connection, before: datetime) -> None:
    """Forget some events from before this time."""
    old = select(workitem_event.c.sequence).where(workitem_event.c.at < before).limit(PRUNED_AT_ONCE)
    connection.execute(delete(workitem_event).where(workitem_event.c.sequence.in_(old)))
