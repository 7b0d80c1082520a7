"""A report that is stored completes the work item that waits for it: whoever reads need not tick it off by hand.

What waits is an item whose Scheduled Workitem Code (PS3.16 CID 9231) is Interpretation, Transcription or Report
Verification and that names the study of the report; nothing else is touched, so that no analysis that is under way is
ended by what another one produced. What is a report is said by its SOP Class and, for a structured one, by its title:
titles that are coded in DCM are those of measurements that devices and programs make.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from pacs.database.base import Database
from pacs.index import metadata, reader, writer
from pacs.index import workitems as rows
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Finished
from pacs.model import Attributes, Change, ChangeKind, InstanceRecord
from pacs.moments import format_moment
from pacs.tags import text_of, values_of
from pacs.workitems.performing import build_item
from pacs.workitems.requirements import has_value
from pacs.workitems.states import State
from pacs.workitems.worklist import UnifiedWorklist

FOLLOWER = "workitem-reports"
KIND = "complete-workitems"
LANE = "reports"

_BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
_STRUCTURED = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
        "1.2.840.10008.5.1.4.1.1.88.35",  # Extensible SR
    }
)
_ENCAPSULATED = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.104.1",  # PDF
        "1.2.840.10008.5.1.4.1.1.104.2",  # CDA
    }
)
REPORT_CLASSES = frozenset({_BASIC_TEXT_SR}) | _STRUCTURED | _ENCAPSULATED

_WRITTEN_REPORTS = frozenset({"111400"})
"""Titles in DCM that are reports all the same: Breast Imaging Report."""
_INTERPRETATION, _TRANSCRIPTION, _VERIFICATION = "110005", "110006", "110007"
_KINDS = (_INTERPRETATION, _TRANSCRIPTION, _VERIFICATION)

_STORED = frozenset({ChangeKind.INSTANCE_STORED, ChangeKind.INSTANCE_REPLACED})
_MAX_ITEMS = 100
_PERFORMED = "UnifiedProcedureStepPerformedProcedureSequence"
_STATION = {"CodeValue": "ARCHIVE", "CodingSchemeDesignator": "99PACS", "CodeMeaning": "Archive that received a report"}


@dataclass(frozen=True, slots=True)
class Report:
    """A stored report, and which kinds of work it ends."""

    record: InstanceRecord
    ends: frozenset[str]


class ReportCompleter:
    """Lists the reports that are stored, and completes what waited for them. ``ae_title`` is where to get them."""

    def __init__(self, database: Database, worklist: UnifiedWorklist, partition_id: int, ae_title: str) -> None:
        self._database = database
        self._worklist = worklist
        self._partition_id = partition_id
        self._ae_title = ae_title

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:
        """Return a job for every report among these changes whose study some item names."""
        uids = list(dict.fromkeys(change.sop_instance_uid for change in changes if change.kind in _STORED))
        found = rows.find_stored(connection, self._partition_id, uids, REPORT_CLASSES) if uids else ()
        return [NewJob(KIND, LANE, uid) for uid in found]

    def complete(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Complete what waits for the reports of these jobs: a task of the worker.

        Doing it again changes nothing: an item that names a report as its output shows that the report did its work.
        """
        for job in jobs:
            with self._database.read() as connection:
                report = self._find_report(connection, job.key)
            if report is not None and report.ends:
                self._complete(report)
            yield Finished(job, leaves_receipt=False)

    def _complete(self, report: Report) -> None:
        now = datetime.now(UTC)

        def change(connection: Connection) -> None:
            record = report.record
            items = rows.find_items_of_study(connection, self._partition_id, record.study_instance_uid, _MAX_ITEMS)
            for row in _choose(items, report):
                attributes = _with_output(rows.load_attributes(row), record, self._ae_title, now)
                self._worklist.end(connection, row, State.COMPLETED, attributes, now)

        self._database.write(change)

    def _find_report(self, connection: Connection, sop_instance_uid: str) -> Report | None:
        """Return a stored report, None if it is gone."""
        existing = writer.find_existing(connection, self._partition_id, sop_instance_uid)
        if existing is None:
            return None
        uids = (existing.study_instance_uid, existing.series_instance_uid, sop_instance_uid)
        records = reader.find_instances(connection, self._partition_id, *uids)
        headers = list(metadata.read_metadata(connection, [record.row_id for record in records]))
        if not headers:
            return None
        record, text = headers[0]
        return Report(record, find_ended(record.sop_class_uid, orjson.loads(text)))


def find_ended(sop_class_uid: str, header: Attributes) -> frozenset[str]:
    """Return the workitem codes that an instance ends; none if it is no report, or one that is still being written."""
    if sop_class_uid not in REPORT_CLASSES or text_of(header, "CompletionFlag") == "PARTIAL":
        return frozenset()
    if sop_class_uid in _STRUCTURED:
        titles: list[Any] = values_of(header, "ConceptNameCodeSequence")
        if any(_is_of_measurements(title) for title in titles if isinstance(title, dict)):
            return frozenset()
    is_unverified = text_of(header, "VerificationFlag") == "UNVERIFIED"
    return frozenset(_KINDS) - ({_VERIFICATION} if is_unverified else set())


def _is_of_measurements(title: Attributes) -> bool:
    is_dcm = text_of(title, "CodingSchemeDesignator") == "DCM"
    return is_dcm and text_of(title, "CodeValue") not in _WRITTEN_REPORTS


def _choose(items: Sequence[Row[Any]], report: Report) -> Iterator[Row[Any]]:
    """Yield one item of every kind that the report ends: one in progress before one that nobody began, else the oldest.

    One report is one piece of work: where a study is read twice, the second item waits for the second report. What was
    created after the report was stored waits for another one.
    """
    chosen: set[int] = set()
    for kind in _KINDS:
        of_kind = [(row, attributes) for row in items if kind in _kinds_of(attributes := rows.load_attributes(row))]
        is_done = any(_names_output(attributes, report.record.sop_instance_uid) for _, attributes in of_kind)
        if kind not in report.ends or is_done:
            continue
        waiting = [
            row
            for row, _ in of_kind
            if not State(row.state).is_final and row.created_at <= report.record.stored_at and row.id not in chosen
        ]
        for row in sorted(waiting, key=lambda row: row.state != State.IN_PROGRESS)[:1]:
            chosen.add(row.id)
            yield row


def _kinds_of(attributes: Attributes) -> set[str]:
    codes: list[Any] = values_of(attributes, "ScheduledWorkitemCodeSequence")
    return {
        text_of(code, "CodeValue")
        for code in codes
        if isinstance(code, dict) and text_of(code, "CodingSchemeDesignator") == "DCM"
    }


def _names_output(attributes: Attributes, sop_instance_uid: str) -> bool:
    return any(
        text_of(reference, "ReferencedSOPInstanceUID") == sop_instance_uid
        for performed in _items(attributes, _PERFORMED)
        for output in _items(performed, "OutputInformationSequence")
        for reference in _items(output, "ReferencedSOPSequence")
    )


def _with_output(attributes: Attributes, record: InstanceRecord, ae_title: str, now: datetime) -> Attributes:
    """Return an item's attributes with the report as output, and with what its performer has not said yet."""
    first, *rest = _items(attributes, _PERFORMED) or [{}]
    said: dict[str, Any] = {
        "PerformedStationNameCodeSequence": [build_item(_STATION)],
        "PerformedProcedureStepStartDateTime": format_moment(now),
        "PerformedWorkitemCodeSequence": values_of(attributes, "ScheduledWorkitemCodeSequence"),
        "PerformedProcedureStepEndDateTime": format_moment(now),
    }
    missing = build_item({keyword: value for keyword, value in said.items() if not has_value(first, keyword)})
    outputs = [*_items(first, "OutputInformationSequence"), _reference(record, ae_title)]
    performed = first | missing | build_item({"OutputInformationSequence": outputs})
    changed = build_item({_PERFORMED: [dict(sorted(performed.items())), *rest]})
    return dict(sorted((attributes | changed).items()))


def _reference(record: InstanceRecord, ae_title: str) -> Attributes:
    """Return the item that refers to a report (PS3.3 Table 10-3b)."""
    values: Mapping[str, Any] = {
        "TypeOfInstances": "DICOM",
        "StudyInstanceUID": record.study_instance_uid,
        "SeriesInstanceUID": record.series_instance_uid,
        "ReferencedSOPSequence": [
            build_item(
                {"ReferencedSOPClassUID": record.sop_class_uid, "ReferencedSOPInstanceUID": record.sop_instance_uid}
            )
        ],
        "DICOMRetrievalSequence": [build_item({"RetrieveAETitle": ae_title})],
    }
    return build_item(values)


def _items(attributes: Attributes, keyword: str) -> list[Any]:
    found: Iterable[Any] = values_of(attributes, keyword)
    return [item for item in found if isinstance(item, dict)]
