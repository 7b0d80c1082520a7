"""Who is told what happens to work items (PS3.4 CC.2.3): of one, of all, or of those that fit a filter.

A subscription to all subscribes to every item there is, and to each that is created later. A lock keeps an item that
has ended until it is given back.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import InvalidQuery, NotPermitted, WorkitemNotFound
from pacs.index import workitem_events as log
from pacs.index import workitems as rows
from pacs.index.workitem_events import LoggedEvent
from pacs.index.workitems import WorklistSubscription
from pacs.model import Attributes, Cursor
from pacs.workitems.attributes import show
from pacs.workitems.events import number_report, report_state
from pacs.workitems.matching import parse_matcher
from pacs.workitems.problems import SubscriptionNotFound
from pacs.workitems.states import State

WORKLIST = "1.2.840.10008.5.1.4.34.5"
"""UPS Global Subscription: in the place of an item's UID, all items."""
FILTERED_WORKLIST = "1.2.840.10008.5.1.4.34.5.1"
"""UPS Filtered Global Subscription."""

MAX_SUBSCRIBERS = 100
"""Of one item, and of the worklist: each costs something with every event."""
PAGE_SIZE = 100

Fits = Callable[[Attributes], bool]


class Subscriptions:
    """The subscriptions of one partition. Any number of threads may use it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id

    def subscribe(self, principal: Principal, sop_instance_uid: str, ae_title: str, *, has_lock: bool) -> None:
        """Tell an AE from now on what happens to an item, beginning with its present state.

        Raises WorkitemNotFound, or NotPermitted if too many are told already.
        """
        del principal
        now = datetime.now(UTC)

        def change(connection: Connection) -> None:
            row = self._find(connection, sop_instance_uid)
            subscribers = rows.read_subscribers(connection, row.id)
            _check_room(subscribers, ae_title)
            rows.set_subscriber(connection, row.id, ae_title, has_lock=has_lock)
            log.append(connection, self._partition_id, [([ae_title], _report_of(row))], now)

        self._database.write(change)

    def subscribe_to_worklist(
        self, principal: Principal, ae_title: str, *, has_lock: bool, conditions: Mapping[str, str] | None = None
    ) -> None:
        """Tell an AE from now on what happens to all items that fit the conditions by path, those to come too.

        With a lock, the present state of each is reported at once (PS3.4 CC.2.4.3). A subscription to one item stays as
        it is. None for the conditions is the whole worklist. Raises InvalidQuery, and NotPermitted as ``subscribe``.
        """
        del principal
        if conditions is not None and not conditions:
            raise InvalidQuery("The filter must have at least one key.")
        fits: Fits = parse_matcher(conditions).fits if conditions is not None else lambda _: True
        subscription = WorklistSubscription(ae_title, has_lock, dict(conditions or {}))
        worklist_uid = WORKLIST if conditions is None else FILTERED_WORKLIST

        def begin(connection: Connection) -> None:
            rows.hold_worklist(connection)
            subscribed = rows.read_worklist_subscriptions(connection, self._partition_id)
            _check_room([one.ae_title for one in subscribed], ae_title)
            rows.set_worklist_subscription(connection, self._partition_id, worklist_uid, subscription)

        self._database.write(begin)
        # Whatever is created from here on is subscribed to as it is created; what there was follows page by page.
        after = 0
        while True:
            with self._database.read() as connection:
                page = rows.read_items_after(connection, self._partition_id, after, PAGE_SIZE)
            fitting = [row.id for row in page if fits(shown(row))]
            if fitting:
                self._database.write(partial(self._add, ae_title=ae_title, has_lock=has_lock, row_ids=fitting))
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].id

    def unsubscribe(self, principal: Principal, sop_instance_uid: str, ae_title: str) -> None:
        """Tell an AE no more of an item and give its lock back; raise SubscriptionNotFound or WorkitemNotFound."""
        del principal

        def change(connection: Connection) -> None:
            row = self._find(connection, sop_instance_uid)
            if not rows.remove_subscriber(connection, row.id, ae_title):
                raise SubscriptionNotFound

        self._database.write(change)

    def unsubscribe_from_worklist(self, principal: Principal, worklist_uid: str, ae_title: str) -> None:
        """Tell an AE no more of any item, and give all its locks back; raise SubscriptionNotFound."""
        del principal

        def change(connection: Connection) -> None:
            rows.hold_worklist(connection)
            had_all = rows.remove_worklist_subscription(connection, self._partition_id, worklist_uid, ae_title)
            had_some = rows.remove_all_subscriptions(connection, self._partition_id, ae_title)
            if not (had_all or had_some):
                raise SubscriptionNotFound

        self._database.write(change)

    def suspend(self, principal: Principal, worklist_uid: str, ae_title: str) -> None:
        """Subscribe an AE to no more new items; those that it is told of stay. Raises SubscriptionNotFound."""
        del principal
        removed = self._database.write(
            lambda connection: rows.remove_worklist_subscription(connection, self._partition_id, worklist_uid, ae_title)
        )
        if not removed:
            raise SubscriptionNotFound

    def read_events(self, principal: Principal, cursor: Cursor, limit: int) -> list[LoggedEvent]:
        """Return at most ``limit`` events after ``cursor`` in commit order, as they are sent."""
        del principal
        with self._database.read() as connection:
            found = log.read_after(connection, self._partition_id, cursor, limit)
        return [
            LoggedEvent(one.cursor, one.recipients, number_report(one.report, one.cursor.sequence)) for one in found
        ]

    def read_end(self, principal: Principal) -> Cursor:
        """Return a cursor before every event that will happen."""
        del principal
        with self._database.read() as connection:
            return log.read_end(connection, self._partition_id)

    def watch(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``wake`` now and soon after whatever is written, from any thread, until the block ends."""
        return self._database.watch(wake)

    def _add(self, connection: Connection, ae_title: str, has_lock: bool, row_ids: Sequence[int]) -> None:
        subscribed = rows.find_subscribed(connection, ae_title, row_ids)
        found = rows.lock_items(connection, [row_id for row_id in row_ids if row_id not in subscribed])
        rows.add_subscribers(connection, [(row.id, ae_title, has_lock) for row in found])
        if has_lock:
            reports = [([ae_title], _report_of(row)) for row in found]
            log.append(connection, self._partition_id, reports, datetime.now(UTC))

    def _find(self, connection: Connection, sop_instance_uid: str) -> Row[Any]:
        row = rows.find_item(connection, self._partition_id, sop_instance_uid, is_locked=True)
        if row is None:
            raise WorkitemNotFound
        return row


def find_initial_subscribers(subscriptions: Sequence[WorklistSubscription], attributes: Attributes) -> dict[str, bool]:
    """Return who is told of a new item, as it is shown, and whether with a lock."""
    found: dict[str, bool] = {}
    for one in subscriptions:
        if not one.filter or parse_matcher(one.filter).fits(attributes):
            found[one.ae_title] = found.get(one.ae_title, False) or one.has_lock
    return found


def shown(row: Row[Any]) -> Attributes:
    """Return an item's row as everybody may see it."""
    return show(row.sop_instance_uid, row.state, rows.load_attributes(row))


def _report_of(row: Row[Any]) -> str:
    return report_state(row.sop_instance_uid, State(row.state), rows.load_attributes(row))


def _check_room(subscribers: Sequence[str], ae_title: str) -> None:
    if ae_title not in subscribers and len(set(subscribers)) >= MAX_SUBSCRIBERS:
        raise NotPermitted(f"No more than {MAX_SUBSCRIBERS} subscribers are told of an event.")
