"""The unified worklist (UPS, PS3.4 CC): items created, found, claimed, updated and ended by whoever performs them.

The Transaction UID that an item is claimed with is its lock: who does not give it cannot change the item, and nothing
that leaves here has it. What is to be told of a change is logged in the transaction that makes it.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import Connection, Row

from pacs.access import Principal
from pacs.attributes import clean
from pacs.database.base import Database
from pacs.errors import InvalidEntry, WorkitemNotFound
from pacs.index import workitem_events as log
from pacs.index import workitems as rows
from pacs.index.metadata import dump_text
from pacs.model import Attributes
from pacs.moments import sort_key
from pacs.tags import tag_of, text_of
from pacs.workitems.attributes import NewItem, find_studies, merge_changes, parse_new
from pacs.workitems.events import CANCEL_KEYWORDS, find_reports, report_cancel_requested, report_new, report_state
from pacs.workitems.matching import key_text, parse_matcher
from pacs.workitems.performing import with_cancellation, with_cancellation_time
from pacs.workitems.problems import InvalidWorkitem, WorkitemConflict, WorkitemExists
from pacs.workitems.requirements import find_unmet
from pacs.workitems.states import State, check_change, check_update
from pacs.workitems.subscriptions import Subscriptions, find_initial_subscribers, shown

PAGE_SIZE = 25
"""Items that are read at once: they may be a megabyte each."""
MAX_FOUND_CHARACTERS = 16 * 1024 * 1024
"""What a search holds in memory, as it is stored; what comes behind it is asked for anew."""
KEPT_FOR = timedelta(days=30)
"""How long an item that has ended can still be read if nobody holds it."""
EVENTS_KEPT_FOR = timedelta(days=1)
"""How long events wait for a process that delivers them and does not come to it; who is not connected gets none."""
_MAX_AE_TITLE = 16


@dataclass(frozen=True, slots=True)
class Page:
    """What a search found; ``has_more``: there is more behind it."""

    items: tuple[Attributes, ...]
    has_more: bool


class UnifiedWorklist:
    """The work items of one partition. Any number of threads may use it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id
        self.subscriptions = Subscriptions(database, partition_id)

    def create(self, principal: Principal, payload: object, sop_instance_uid: str = "") -> tuple[str, bool]:
        """Keep a new item; return its UID, a new one if it was given none, and whether it is not quite what was sent.

        Raises InvalidWorkitem, or WorkitemExists.
        """
        del principal
        now = datetime.now(UTC)
        item = parse_new(payload, sop_instance_uid, now)
        uid = item.sop_instance_uid or str(generate_uid(prefix=None))
        self._database.write(lambda connection: self._insert(connection, uid, item, now))
        return uid, item.is_modified

    def get(self, principal: Principal, sop_instance_uid: str) -> Attributes:
        """Return an item as everybody may see it; raise WorkitemNotFound."""
        del principal
        with self._database.read() as connection:
            row = rows.find_item(connection, self._partition_id, sop_instance_uid)
        if row is None:
            raise WorkitemNotFound
        return shown(row)

    def search(self, principal: Principal, conditions: Mapping[str, str], *, limit: int, offset: int = 0) -> Page:
        """Return the items that fit conditions by path, by their scheduled start; raise InvalidQuery for nonsense.

        There are fewer than ``limit`` where they are large; at least one, if any is left. No database connection is
        held between two pages that are read.
        """
        del principal
        matcher = parse_matcher(conditions)
        found: list[Attributes] = []
        to_skip, characters = offset, 0
        after: rows.Position | None = None
        while True:
            with self._database.read() as connection:
                page = rows.read_page(connection, self._partition_id, matcher.narrowing, after, PAGE_SIZE)
            for row in page:
                item = shown(row)
                if not matcher.fits(item):
                    continue
                if to_skip:
                    to_skip -= 1
                elif len(found) == limit or characters > MAX_FOUND_CHARACTERS:
                    return Page(tuple(found), has_more=True)
                else:
                    found.append(item)
                    characters += len(row.attributes)
            if len(page) < PAGE_SIZE:
                return Page(tuple(found), has_more=False)
            after = (page[-1].start_key, page[-1].id)

    def update(self, principal: Principal, sop_instance_uid: str, transaction_uid: str, payload: object) -> bool:
        """Replace attributes of an item; return whether it is not quite what was asked for.

        Raises WorkitemNotFound, WorkitemEnded, NotClaimed, TransactionUidMissing, TransactionUidIncorrect, and
        InvalidWorkitem.
        """
        del principal
        now = datetime.now(UTC)

        def change(connection: Connection) -> bool:
            row = self._find(connection, sop_instance_uid)
            state = State(row.state)
            check_update(state, _key_of(row, transaction_uid), transaction_uid)
            old = rows.load_attributes(row)
            new, is_modified = merge_changes(old, payload, now)
            self._store(connection, row, state, new, now)
            self._tell(connection, row, find_reports(row.sop_instance_uid, state, old, new), now)
            return is_modified

        return self._database.write(change)

    def change_state(self, principal: Principal, sop_instance_uid: str, state: State, transaction_uid: str) -> bool:
        """Claim an item, or end it as its performer; return False if it had ended like that already.

        Of any number of claims one succeeds. Raises WorkitemNotFound, WorkitemConflict and its kinds; also where an
        attribute is missing that the final state needs.
        """
        del principal
        now = datetime.now(UTC)

        def claim(connection: Connection) -> bool:
            states = (State.SCHEDULED.value, State.IN_PROGRESS.value)
            is_claimed = bool(transaction_uid) and rows.claim_item(
                connection,
                self._partition_id,
                sop_instance_uid,
                transaction_uid=transaction_uid,
                states=states,
                at=now,
            )
            row = self._find(connection, sop_instance_uid)
            if not is_claimed:
                return check_change(State(row.state), state, _key_of(row, transaction_uid), transaction_uid)
            report = report_state(row.sop_instance_uid, state, rows.load_attributes(row))
            self._tell(connection, row, [report], now)
            return True

        def end(connection: Connection) -> bool:
            row = self._find(connection, sop_instance_uid)
            if not check_change(State(row.state), state, _key_of(row, transaction_uid), transaction_uid):
                return False
            attributes = rows.load_attributes(row)
            if state is State.CANCELED:
                attributes = with_cancellation_time(attributes, now)
            self.end(connection, row, state, attributes, now)
            return True

        return self._database.write(claim if state is State.IN_PROGRESS else end)

    def request_cancel(self, principal: Principal, sop_instance_uid: str, payload: object = None) -> bool:
        """Cancel an item that nobody began, or tell its subscribers that it should be; False if it is canceled.

        Raises WorkitemNotFound, WorkitemConflict for a completed item, and InvalidWorkitem.
        """
        request = _parse_request(payload)
        now = datetime.now(UTC)

        def change(connection: Connection) -> bool:
            row = self._find(connection, sop_instance_uid)
            match State(row.state):
                case State.CANCELED:
                    return False
                case State.COMPLETED:
                    raise WorkitemConflict("The work item is COMPLETED already.")
                case State.IN_PROGRESS:
                    report = report_cancel_requested(row.sop_instance_uid, principal.name[:_MAX_AE_TITLE], request)
                    self._tell(connection, row, [report], now)
                case State.SCHEDULED:
                    attributes = with_cancellation(rows.load_attributes(row), request, now)
                    self.end(connection, row, State.CANCELED, attributes, now)
            return True

        return self._database.write(change)

    def end(self, connection: Connection, row: Row[Any], state: State, attributes: Attributes, now: datetime) -> None:
        """End an item whose row is locked, in the caller's transaction, through IN PROGRESS if nobody began it.

        Raises WorkitemConflict where an attribute is missing that the final state needs.
        """
        missing = find_unmet(attributes, state)
        if missing:
            raise WorkitemConflict(f"{missing} must have a value before the work item is {state.value}.")
        reports = [report_state(row.sop_instance_uid, state, attributes)]
        if row.state == State.SCHEDULED:
            reports.insert(0, report_state(row.sop_instance_uid, State.IN_PROGRESS, attributes))
        self._store(connection, row, state, attributes, now)
        self._tell(connection, row, reports, now)

    def _insert(self, connection: Connection, uid: str, item: NewItem, now: datetime) -> None:
        rows.share_worklist(connection)
        values = {
            "sop_instance_uid": uid,
            "state": State.SCHEDULED.value,
            "transaction_uid": "",
            "created_at": now,
            **_columns(item.attributes, now),
        }
        row_id = rows.insert_item(connection, self._partition_id, values, find_studies(item.attributes))
        if row_id is None:
            raise WorkitemExists
        row = self._find(connection, uid)
        subscriptions = rows.read_worklist_subscriptions(connection, self._partition_id)
        subscribers = find_initial_subscribers(subscriptions, shown(row))
        rows.add_subscribers(connection, [(row_id, title, has_lock) for title, has_lock in subscribers.items()])
        self._tell(connection, row, report_new(uid, item.attributes), now)
        rows.prune_items(connection, self._partition_id, now - KEPT_FOR)
        log.prune(connection, now - EVENTS_KEPT_FOR)

    def _store(
        self, connection: Connection, row: Row[Any], state: State, attributes: Attributes, now: datetime
    ) -> None:
        values = _columns(attributes, now) | {"state": state.value, "ended_at": now if state.is_final else None}
        rows.update_item(connection, row.id, values, find_studies(attributes))

    def _tell(self, connection: Connection, row: Row[Any], reports: Sequence[str], now: datetime) -> None:
        if reports:
            subscribers = rows.read_subscribers(connection, row.id)
            log.append(connection, self._partition_id, [(subscribers, report) for report in reports], now)

    def _find(self, connection: Connection, sop_instance_uid: str) -> Row[Any]:
        row = rows.find_item(connection, self._partition_id, sop_instance_uid, is_locked=True)
        if row is None:
            raise WorkitemNotFound
        return row


def _columns(attributes: Attributes, now: datetime) -> dict[str, Any]:
    return {
        "patient_id": key_text(text_of(attributes, "PatientID")),
        "worklist_label": key_text(text_of(attributes, "WorklistLabel")),
        "start_key": sort_key(text_of(attributes, "ScheduledProcedureStepStartDateTime")),
        "attributes": dump_text(attributes),
        "updated_at": now,
    }


def _key_of(row: Row[Any], transaction_uid: str) -> str:
    """Return the Transaction UID if it is the item's lock, in a time that does not tell how much of it is right."""
    is_right = hmac.compare_digest(row.transaction_uid.encode(), transaction_uid.encode())
    return transaction_uid if is_right else ""


def _parse_request(payload: object) -> Attributes:
    if payload is None:
        return {}
    try:
        request = clean(payload)
    except InvalidEntry as error:
        raise InvalidWorkitem(str(error)) from None
    allowed = {tag_of(keyword) for keyword in CANCEL_KEYWORDS}
    return {tag: element for tag, element in request.items() if tag in allowed}
