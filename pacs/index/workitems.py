"""Work items and their subscribers as rows. What the columns hold narrows a search; the use case decides what matches.

Whoever changes an item locks its row first (``is_locked``), so that one change sees the other. Claiming an item is one
UPDATE that names the state it must be in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from pacs.database.tables import instance, series, study
from pacs.database.workitem_tables import workitem, workitem_study, workitem_subscriber, worklist_subscriber
from pacs.index.inserting import insert_missing, insert_once
from pacs.model import Attributes

PRUNED_AT_ONCE = 20

_LOCK = 0x55505353  # "UPSS": any number, the same in every process

Position = tuple[str, int]
"""Start and id of an item: where a page ended."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Conditions that columns can answer. An empty one holds of every row; starts are inclusive, as ``start_key``."""

    states: tuple[str, ...] = ()
    sop_instance_uids: tuple[str, ...] = ()
    patient_id: str = ""
    worklist_label: str = ""
    first_start: str = ""
    last_start: str = ""


@dataclass(frozen=True, slots=True)
class WorklistSubscription:
    """What an AE asked for every item to come: those that fit ``filter``, conditions by path; all if it is empty."""

    ae_title: str
    has_lock: bool
    filter: dict[str, str]


def insert_item(connection: Connection, partition_id: int, row: dict[str, Any], studies: Iterable[str]) -> int | None:
    """Insert an item and return its id, or None if its SOP Instance UID is taken."""
    row_id = insert_once(connection, workitem, {"partition_id": partition_id, **row})
    if row_id is not None:
        _insert_studies(connection, row_id, studies)
    return row_id


def find_item(
    connection: Connection, partition_id: int, sop_instance_uid: str, *, is_locked: bool = False
) -> Row[Any] | None:
    """Return the row of an item, or None; ``is_locked`` keeps other transactions from changing it."""
    statement = select(workitem).where(
        workitem.c.partition_id == partition_id, workitem.c.sop_instance_uid == sop_instance_uid
    )
    return connection.execute(statement.with_for_update() if is_locked else statement).first()


def claim_item(
    connection: Connection,
    partition_id: int,
    sop_instance_uid: str,
    *,
    transaction_uid: str,
    states: tuple[str, str],
    at: datetime,
) -> bool:
    """Move an item from the first of two states to the second and lock it; False if it is not in the first.

    One statement, so that of any number of claims one succeeds.
    """
    before, after = states
    statement = (
        update(workitem)
        .where(
            workitem.c.partition_id == partition_id,
            workitem.c.sop_instance_uid == sop_instance_uid,
            workitem.c.state == before,
        )
        .values(state=after, transaction_uid=transaction_uid, updated_at=at)
    )
    return connection.execute(statement).rowcount == 1


def update_item(
    connection: Connection, row_id: int, values: dict[str, Any], studies: Iterable[str] | None = None
) -> None:
    """Change columns of an item, and which studies it names if they are given."""
    connection.execute(update(workitem).where(workitem.c.id == row_id).values(**values))
    if studies is not None:
        connection.execute(delete(workitem_study).where(workitem_study.c.workitem_row_id == row_id))
        _insert_studies(connection, row_id, studies)


def read_page(
    connection: Connection, partition_id: int, narrowing: Narrowing, after: Position | None, limit: int
) -> Sequence[Row[Any]]:
    """Return items after a position, by scheduled start and id."""
    order = (workitem.c.start_key, workitem.c.id)
    statement = select(workitem).where(workitem.c.partition_id == partition_id, *_tests(narrowing))
    if after is not None:
        start, row_id = after
        position = bindparam(None, start, Text), bindparam(None, row_id, BigInteger)
        statement = statement.where(tuple_(*order) > tuple_(*position))
    return connection.execute(statement.order_by(*order).limit(limit)).all()


def read_items_after(connection: Connection, partition_id: int, after: int, limit: int) -> Sequence[Row[Any]]:
    """Return items by id after ``after``."""
    statement = select(workitem).where(workitem.c.partition_id == partition_id, workitem.c.id > after)
    return connection.execute(statement.order_by(workitem.c.id).limit(limit)).all()


def lock_items(connection: Connection, row_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return those of the items that are still there, by id; other transactions cannot change them meanwhile."""
    statement = select(workitem).where(workitem.c.id.in_(list(row_ids))).order_by(workitem.c.id)
    return connection.execute(statement.with_for_update()).all()


def find_items_of_study(
    connection: Connection, partition_id: int, study_instance_uid: str, limit: int
) -> Sequence[Row[Any]]:
    """Return the items that name a study, locked, in the order in which they were created."""
    statement = (
        select(workitem)
        .join(workitem_study, workitem_study.c.workitem_row_id == workitem.c.id)
        .where(workitem.c.partition_id == partition_id, workitem_study.c.study_instance_uid == study_instance_uid)
        .order_by(workitem.c.id)
        .limit(limit)
        .with_for_update(of=workitem)
    )
    return connection.execute(statement).all()


def find_stored(
    connection: Connection, partition_id: int, sop_instance_uids: Sequence[str], sop_class_uids: Iterable[str]
) -> list[str]:
    """Return which of these instances are stored and of one of these SOP Classes, where an item names their study."""
    statement = (
        select(instance.c.sop_instance_uid)
        .join_from(instance, series, instance.c.series_row_id == series.c.id)
        .join(study, series.c.study_row_id == study.c.id)
        .where(
            instance.c.partition_id == partition_id,
            instance.c.sop_instance_uid.in_(sop_instance_uids),
            instance.c.sop_class_uid.in_(list(sop_class_uids)),
            exists().where(workitem_study.c.study_instance_uid == study.c.study_instance_uid),
        )
        .order_by(instance.c.id)
    )
    return list(connection.execute(statement).scalars())


def prune_items(connection: Connection, partition_id: int, before: datetime) -> None:
    """Forget some items that ended before this time and that no subscriber holds."""
    held = exists().where(workitem_subscriber.c.workitem_row_id == workitem.c.id, workitem_subscriber.c.has_lock)
    statement = (
        select(workitem.c.id)
        .where(workitem.c.partition_id == partition_id, workitem.c.ended_at < before, ~held)
        .order_by(workitem.c.ended_at)
        .limit(PRUNED_AT_ONCE)
        .with_for_update(of=workitem, skip_locked=True)
    )
    row_ids = list(connection.execute(statement).scalars())
    if row_ids:
        connection.execute(delete(workitem_study).where(workitem_study.c.workitem_row_id.in_(row_ids)))
        connection.execute(delete(workitem_subscriber).where(workitem_subscriber.c.workitem_row_id.in_(row_ids)))
        connection.execute(delete(workitem).where(workitem.c.id.in_(row_ids)))


def share_worklist(connection: Connection) -> None:
    """Keep subscriptions to the whole worklist from changing until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock_shared(_LOCK)))


def hold_worklist(connection: Connection) -> None:
    """Wait for the items being created, and make new ones wait until this transaction ends.

    Without it an item and a subscription to all items that know nothing of each other yet would both commit.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def read_subscribers(connection: Connection, row_id: int) -> list[str]:
    """Return the AE titles that are told of an item, in order."""
    column = workitem_subscriber.c
    statement = select(column.ae_title).where(column.workitem_row_id == row_id).order_by(column.ae_title)
    return list(connection.execute(statement).scalars())


def find_subscribed(connection: Connection, ae_title: str, row_ids: Sequence[int]) -> set[int]:
    """Return which of these items an AE is told of."""
    column = workitem_subscriber.c
    statement = select(column.workitem_row_id).where(
        column.ae_title == ae_title, column.workitem_row_id.in_(list(row_ids))
    )
    return set(connection.execute(statement).scalars())


def add_subscribers(connection: Connection, rows: Iterable[tuple[int, str, bool]]) -> None:
    """Subscribe AEs to items, as item, AE title and whether with a lock; who is subscribed already stays as it is."""
    names = ("workitem_row_id", "ae_title", "has_lock")
    insert_missing(connection, workitem_subscriber, [dict(zip(names, row, strict=True)) for row in rows])


def set_subscriber(connection: Connection, row_id: int, ae_title: str, *, has_lock: bool) -> None:
    """Subscribe an AE to an item, or change whether it has a lock."""
    _delete_subscriber(connection, row_id, ae_title)
    values = {"workitem_row_id": row_id, "ae_title": ae_title, "has_lock": has_lock}
    connection.execute(insert(workitem_subscriber).values(**values))


def remove_subscriber(connection: Connection, row_id: int, ae_title: str) -> bool:
    """End a subscription to an item; False if there is none."""
    return _delete_subscriber(connection, row_id, ae_title) == 1


def remove_all_subscriptions(connection: Connection, partition_id: int, ae_title: str) -> bool:
    """End an AE's subscriptions to items; False if there is none."""
    items = select(workitem.c.id).where(workitem.c.partition_id == partition_id)
    column = workitem_subscriber.c
    statement = delete(workitem_subscriber).where(column.ae_title == ae_title, column.workitem_row_id.in_(items))
    return connection.execute(statement).rowcount > 0


def read_worklist_subscriptions(connection: Connection, partition_id: int) -> list[WorklistSubscription]:
    """Return what is subscribed to of the whole worklist, in order of AE titles."""
    column = worklist_subscriber.c
    statement = select(column.ae_title, column.has_lock, column.filter).where(column.partition_id == partition_id)
    return [
        WorklistSubscription(row.ae_title, row.has_lock, orjson.loads(row.filter))
        for row in connection.execute(statement.order_by(column.ae_title))
    ]


def set_worklist_subscription(
    connection: Connection, partition_id: int, worklist_uid: str, subscription: WorklistSubscription
) -> None:
    """Subscribe an AE to the items to come, or change how."""
    remove_worklist_subscription(connection, partition_id, worklist_uid, subscription.ae_title)
    connection.execute(
        insert(worklist_subscriber).values(
            partition_id=partition_id,
            worklist_uid=worklist_uid,
            ae_title=subscription.ae_title,
            has_lock=subscription.has_lock,
            filter=orjson.dumps(subscription.filter).decode(),
        )
    )


def remove_worklist_subscription(connection: Connection, partition_id: int, worklist_uid: str, ae_title: str) -> bool:
    """End a subscription to the items to come; False if there is none."""
    column = worklist_subscriber.c
    statement = delete(worklist_subscriber).where(
        column.partition_id == partition_id, column.worklist_uid == worklist_uid, column.ae_title == ae_title
    )
    return connection.execute(statement).rowcount == 1


def load_attributes(row: Row[Any]) -> Attributes:
    """Return the attributes of an item's row."""
    attributes: Attributes = orjson.loads(row.attributes)
    return attributes


def _insert_studies(connection: Connection, row_id: int, studies: Iterable[str]) -> None:
    rows = [{"workitem_row_id": row_id, "study_instance_uid": uid} for uid in dict.fromkeys(studies)]
    if rows:
        connection.execute(insert(workitem_study), rows)


def _delete_subscriber(connection: Connection, row_id: int, ae_title: str) -> int:
    column = workitem_subscriber.c
    statement = delete(workitem_subscriber).where(column.workitem_row_id == row_id, column.ae_title == ae_title)
    return connection.execute(statement).rowcount


def _tests(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    tests: list[ColumnElement[bool]] = []
    if narrowing.states:
        tests.append(workitem.c.state.in_(narrowing.states))
    if narrowing.sop_instance_uids:
        tests.append(workitem.c.sop_instance_uid.in_(narrowing.sop_instance_uids))
    if narrowing.patient_id:
        tests.append(workitem.c.patient_id == narrowing.patient_id)
    if narrowing.worklist_label:
        tests.append(workitem.c.worklist_label == narrowing.worklist_label)
    if narrowing.first_start:
        tests.append(workitem.c.start_key >= narrowing.first_start)
    if narrowing.last_start:
        tests.append(workitem.c.start_key <= narrowing.last_start)
    return tests
