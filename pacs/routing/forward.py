"""Forwards what the rules name: one job a destination and instance, sent in batches over one connection.

A rejection note goes where the images that it rejects went, whatever the rules say of it (IHE RAD TF-2 4.66).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.index import metadata, reader, withholding, writer
from pacs.jobs import queue
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.worker import Failed, Finished
from pacs.model import Change, ChangeKind, Door, InstanceRecord, Origin
from pacs.routing.destinations import Destination
from pacs.routing.rules import Rules

KIND = "send"
FOLLOWER = "forward"

_STORED = frozenset({ChangeKind.INSTANCE_STORED, ChangeKind.INSTANCE_REPLACED})


class Forwarder:
    """Plans what is to be sent when something was stored, and sends it. ``destinations`` are by name."""

    def __init__(
        self, database: Database, partition_id: int, rules: Rules, destinations: Mapping[str, Destination]
    ) -> None:
        self._database = database
        self._partition_id = partition_id
        self._rules = rules
        self._destinations = dict(destinations)

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:
        """Return a job for every destination and instance that these changes make necessary, in their order."""
        headers = self._read_headers(connection, changes) if self._rules.rules else {}
        jobs = []
        for change in changes:
            uid = change.sop_instance_uid
            if change.kind is ChangeKind.NOTE_STORED:
                lanes = self._find_lanes_of_note(connection, uid)
                jobs += [NewJob(KIND, lane, uid, {"is_note": True}) for lane in lanes]
            elif change.kind in _STORED and uid in headers:
                lanes = self._rules.find_destinations(orjson.loads(headers[uid]), _origin_of(change.facts))
                jobs += [NewJob(KIND, lane, uid) for lane in lanes]
        return jobs

    def send(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Send a batch to its destination: a task of the worker. What is not there any more need not be sent."""
        destination = self._destinations.get(jobs[0].lane)
        if destination is None:
            yield from (Failed(job, "There is no such destination in the settings.", is_final=True) for job in jobs)
            return
        with self._database.read() as connection:
            records = {job.key: self._find_record(connection, job) for job in jobs}
        by_uid = {job.key: job for job in jobs}
        yield from (Finished(by_uid[uid]) for uid, record in records.items() if record is None)
        to_send = [record for record in records.values() if record is not None]
        if not to_send:
            return
        for sent in destination.send(to_send):
            job = by_uid[sent.sop_instance_uid]
            yield Finished(job) if sent.is_delivered else Failed(job, sent.problem, sent.is_final)

    def _read_headers(self, connection: Connection, changes: Sequence[Change]) -> dict[str, bytes]:
        """Return the header of every instance that was stored and is still there, as it leaves, in DICOM JSON."""
        uids = dict.fromkeys(change.sop_instance_uid for change in changes if change.kind in _STORED)
        found = (writer.find_existing(connection, self._partition_id, uid) for uid in uids)
        row_ids = [existing.row_id for existing in found if existing is not None]
        return {record.sop_instance_uid: text for record, text in metadata.read_metadata(connection, row_ids)}

    def _find_lanes_of_note(self, connection: Connection, note_uid: str) -> tuple[str, ...]:
        rejected: list[str] = []
        after = 0
        while page := withholding.read_page(
            connection, self._partition_id, after=after, note_sop_instance_uid=note_uid, limit=queue.KEYS_AT_ONCE
        ):
            rejected += [copy.sop_instance_uid for copy in page if not copy.is_note]
            after = page[-1].id
        note = withholding.find_note(connection, self._partition_id, note_uid)
        sender = note.origin.calling_ae_title if note else ""
        return tuple(sorted(queue.find_lanes_of(connection, KIND, rejected) - {sender}))

    def _find_record(self, connection: Connection, job: Job) -> InstanceRecord | None:
        if job.payload.get("is_note"):
            note = withholding.find_note(connection, self._partition_id, job.key)
            return note.record() if note else None
        existing = writer.find_existing(connection, self._partition_id, job.key)
        if existing is None:
            return None
        uids = (existing.study_instance_uid, existing.series_instance_uid, job.key)
        return next(iter(reader.find_instances(connection, self._partition_id, *uids)), None)


def _origin_of(facts: Mapping[str, Any]) -> Origin:
    return Origin(
        Door(facts.get("door", Door.IMPORT)),
        address=facts.get("address", ""),
        calling_ae_title=facts.get("calling_ae_title", ""),
        called_ae_title=facts.get("called_ae_title", ""),
        issuer_of_patient_id=facts.get("issuer_of_patient_id", ""),
    )
