"""Storage commitment (PS3.4 Annex J): promising that instances are kept, and asking others for the same promise.

A request is durable before it is answered. Committed is what is in the index, without an open conflict, with its bytes
read again and equal to their digest. What is decided is kept, so that a report that has to be sent again says the same.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from pydicom.uid import generate_uid
from sqlalchemy import Connection

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.index import commitments
from pacs.index.commitments import Commitment, CommitmentState, Item, Kept, Role
from pacs.jobs import queue
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Failed, Finished, LaneBlocked, Postponed, Result
from pacs.model import Location

__all__ = ["REPORT", "REQUEST", "Commitment", "Committer", "Item", "Report"]

LOGGER = logging.getLogger(__name__)

REPORT, REQUEST = "commitment-report", "commitment-request"
"""Kinds of jobs: telling a peer what was committed, and asking one to commit."""

COMMITTED, PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_INSTANCE_CONFLICT = 0x0000, 0x0110, 0x0112, 0x0119
"""Failure Reason (0008,1197) (PS3.3 C.14.1.1)."""

GATHER_SECONDS = 5.0
"""How long what was sent to a peer waits for company, so that one request asks for many instances."""

MAX_ROUNDS = 3
"""How often an instance is sent to a peer that does not commit to it, before a person has to look."""

_LOOK_AGAIN_SECONDS = 1.0
_ANSWER_HOURS = 24


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer is told, or tells: every instance that was asked for, in the order of the request."""

    transaction_uid: str
    items: tuple[Item, ...]

    @property
    def committed(self) -> tuple[Item, ...]:
        """What is kept."""
        return tuple(item for item in self.items if item.failure == COMMITTED)

    @property
    def failed(self) -> tuple[Item, ...]:
        """What is not."""
        return tuple(item for item in self.items if item.failure != COMMITTED)


Deliver = Callable[[str, Report], None]
"""Tells the peer of an AE title what was committed, or asks it to; raises PacsError if that cannot be done now."""

Resend = Callable[[Connection, str, Sequence[str]], None]
"""Lists instances for a peer to be sent once more, in the caller's transaction: its AE title, SOP Instance UIDs."""


class Committer:
    """Storage commitment of one partition, as SCP and as SCU. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        partition_id: int,
        is_sound: Callable[[Location], bool],
        *,
        wait_seconds: float,
        resend: Resend = lambda *_: None,
    ) -> None:
        """Make a committer; ``is_sound`` reads stored bytes again and compares them with their digest."""
        self._database = database
        self._partition_id = partition_id
        self._is_sound = is_sound
        self._wait = timedelta(seconds=wait_seconds)
        self._resend = resend

    def accept(self, principal: Principal, transaction_uid: str, items: Sequence[Item]) -> bool:
        """List a peer's request durably; False if its Transaction UID was used before. The report is a job."""
        now = datetime.now(UTC)

        def work(connection: Connection) -> bool:
            peer = principal.name
            if not commitments.insert(
                connection,
                self._partition_id,
                Role.SCP,
                peer=peer,
                transaction_uid=transaction_uid,
                items=items,
                asked_at=now,
            ):
                return False
            queue.enqueue(connection, [NewJob(REPORT, peer, transaction_uid)], now)
            return True

        return self._database.write(work)

    def report(self, jobs: Sequence[Job], deliver: Deliver) -> Iterator[Result]:
        """Do jobs of the kind REPORT: decide what still can be decided, and tell the peer."""
        for job in jobs:
            with self._database.read() as connection:
                asked = commitments.find(connection, self._partition_id, Role.SCP, job.lane, job.key)
            if asked is None:
                yield Failed(job, "There is no such request.", is_final=True)
                continue
            if asked.state is CommitmentState.REPORTED:
                yield Finished(job)
                continue
            report = self._decide(asked)
            if report is None:
                yield Postponed(job, datetime.now(UTC) + timedelta(seconds=_LOOK_AGAIN_SECONDS))
                continue
            try:
                deliver(asked.peer, report)
            except PacsError as error:
                raise LaneBlocked(str(error)) from error
            self._finish(asked, report)
            yield Finished(job)

    def request(self, peer: str, sent: Iterable[Item]) -> None:
        """Promise to ask ``peer`` to commit to instances that it has got."""
        now = datetime.now(UTC)
        due_at = now + timedelta(seconds=GATHER_SECONDS)

        def work(connection: Connection) -> None:
            jobs = [
                NewJob(
                    REQUEST,
                    peer,
                    item.sop_instance_uid,
                    {"sop_class_uid": item.sop_class_uid, "round": _round_of(connection, peer, item)},
                    due_at,
                )
                for item in sent
            ]
            queue.enqueue(connection, jobs, now)

        self._database.write(work)

    def ask(self, jobs: Sequence[Job], deliver: Deliver) -> Iterator[Result]:
        """Do jobs of the kind REQUEST, all of one peer: ask for them in one transaction of storage commitment."""
        peer = jobs[0].lane
        transaction_uid = str(generate_uid(prefix=None))
        items = tuple(Item(job.payload["sop_class_uid"], job.key) for job in jobs)
        now = datetime.now(UTC)
        self._database.write(
            lambda connection: commitments.insert(
                connection,
                self._partition_id,
                Role.SCU,
                peer=peer,
                transaction_uid=transaction_uid,
                items=items,
                asked_at=now,
            )
        )
        try:
            deliver(peer, Report(transaction_uid, items))
        except PacsError as error:
            self._database.write(
                lambda connection: commitments.forget(connection, self._partition_id, Role.SCU, peer, transaction_uid)
            )
            raise LaneBlocked(str(error)) from error
        yield from (Finished(job) for job in jobs)

    def take_report(self, principal: Principal, report: Report) -> bool:
        """Note what a peer committed to; False if it was not asked. What it did not commit to is sent again."""

        def work(connection: Connection) -> bool:
            asked = commitments.find(connection, self._partition_id, Role.SCU, principal.name, report.transaction_uid)
            if asked is None:
                return False
            if asked.state is CommitmentState.REPORTED:
                return True
            answers = {item.sop_instance_uid: item.failure for item in report.items}
            items = [
                replace(item, failure=answers.get(item.sop_instance_uid, PROCESSING_FAILURE)) for item in asked.items
            ]
            now = datetime.now(UTC)
            commitments.finish(connection, asked.id, items, now)
            self._send_again(connection, asked.peer, [item for item in items if item.failure != COMMITTED], now)
            return True

        return self._database.write(work)

    def find(self, role: Role, peer: str, transaction_uid: str) -> Commitment | None:
        """Return a request and what became of it, or None."""
        with self._database.read() as connection:
            return commitments.find(connection, self._partition_id, role, peer, transaction_uid)

    def _decide(self, asked: Commitment) -> Report | None:
        """Return what to report; None while it is worth waiting for instances that are still on their way."""
        if asked.state is CommitmentState.DECIDED:
            return Report(asked.transaction_uid, asked.items)
        may_wait = datetime.now(UTC) < asked.asked_at + self._wait
        with self._database.read() as connection:
            kept = commitments.find_kept(
                connection, self._partition_id, {item.sop_instance_uid for item in asked.items}
            )
        if may_wait and any(kept.get(item.sop_instance_uid) is None for item in asked.items):
            return None
        is_sound = cache(self._is_sound)  # each object is read once, however often it is named
        items = tuple(replace(item, failure=_judge(item, kept, is_sound)) for item in asked.items)
        self._database.write(lambda connection: commitments.decide(connection, asked.id, items))
        return Report(asked.transaction_uid, items)

    def _finish(self, asked: Commitment, report: Report) -> None:
        now = datetime.now(UTC)
        self._database.write(lambda connection: commitments.finish(connection, asked.id, report.items, now))

    def _send_again(self, connection: Connection, peer: str, failed: Sequence[Item], now: datetime) -> None:
        """List what a peer did not commit to for sending, and for asking again once it is sent, a few times."""
        rounds = [(item, _round_of(connection, peer, item) + 1) for item in failed]
        hopeless = sum(number >= MAX_ROUNDS for _, number in rounds)
        if hopeless:
            LOGGER.error("%s does not commit to %d instances, however often they are sent", peer, hopeless)
        again = [(item, number) for item, number in rounds if number < MAX_ROUNDS]
        # Sending asks anew; this is for when nothing is sent, because the peer has got the instance after all.
        late = now + timedelta(hours=_ANSWER_HOURS)
        jobs = [
            NewJob(REQUEST, peer, item.sop_instance_uid, {"sop_class_uid": item.sop_class_uid, "round": number}, late)
            for item, number in again
        ]
        queue.enqueue(connection, jobs, now)
        self._resend(connection, peer, [item.sop_instance_uid for item, _ in again])


def _judge(item: Item, kept: Mapping[str, Kept | None], is_sound: Callable[[Location], bool]) -> int:
    """Return 0 for what can be promised, else why not: a Failure Reason (0008,1197)."""
    if item.sop_instance_uid not in kept:
        return NO_SUCH_INSTANCE
    place = kept[item.sop_instance_uid]
    if place is None:
        return PROCESSING_FAILURE
    if place.sop_class_uid != item.sop_class_uid:
        return CLASS_INSTANCE_CONFLICT
    if not is_sound(place.location):
        LOGGER.error("Instance %s is damaged in the store: not committed", item.sop_instance_uid)
        return PROCESSING_FAILURE
    return COMMITTED


def _round_of(connection: Connection, peer: str, item: Item) -> int:
    """Return how often this peer did not commit to an instance, as far as it is remembered."""
    listed = queue.find_job(connection, REQUEST, peer, item.sop_instance_uid)
    return int(listed.payload.get("round", 0)) if listed is not None else 0
