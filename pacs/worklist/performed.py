"""Modality performed procedure steps (PS3.4 F.7): what a device says it does, and what that makes of the worklist."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import Connection

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import InvalidEntry, NotFound, PacsError
from pacs.index import worklist as rows
from pacs.index.metadata import dump_text
from pacs.index.worklist import Reference
from pacs.jobs.queue import Job, NewJob, enqueue
from pacs.jobs.worker import Failed, Finished, LaneBlocked
from pacs.model import Attributes
from pacs.tags import tag_of, text_of, values_of
from pacs.worklist.attributes import clean
from pacs.worklist.entries import StepState

FORWARD_JOB = "forward-mpps"
"""Kind of the job that tells a peer what a performed step is by now; its key is the SOP Instance UID."""

STATUS = tag_of("PerformedProcedureStepStatus")
MAX_REFERENCES = 100

_REQUIRED = (
    "ScheduledStepAttributesSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepStatus",
    "Modality",
)
"""Type 1 at N-CREATE (PS3.4 Table F.7.2-1). What is type 2 there and absent counts as empty: devices leave it out."""

FIXED = frozenset(
    tag_of(keyword)
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "ScheduledStepAttributesSequence", "PatientName", "PatientID",
        "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthDate",
        "PatientSex", "ReferencedPatientSequence", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID",
        "IssuerOfServiceEpisodeIDSequence", "ServiceEpisodeDescription",
        "PerformedProcedureStepID", "PerformedStationAETitle", "PerformedStationName", "PerformedLocation",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Modality", "StudyID",
    )
)  # fmt: skip
"""What N-SET may not change (PS3.4 Table F.7.2-1)."""

_WRONG_ENTRY = "110514"
"""DCM, Incorrect worklist entry selected: the scheduled step was not done, and is still to do (IHE RAD TF-2 4.7)."""


class PerformedState(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


class PerformedStepNotFound(NotFound):
    """There is no such performed step."""


class PerformedStepExists(PacsError):
    """There is a performed step with this SOP Instance UID already."""


class PerformedStepEnded(PacsError):
    """Performed Procedure Step Object may no longer be updated"""  # noqa: D400, D415 - the words of PS3.4 F.7.2.2.4


class InvalidState(PacsError):
    """The status is not one that this operation may set."""


class MissingAttribute(PacsError):
    """A required attribute is absent, or empty if ``is_empty``."""

    def __init__(self, keyword: str, *, is_empty: bool) -> None:
        super().__init__(f"{keyword} {'has no value' if is_empty else 'is missing'}.")
        self.keyword = keyword
        self.is_empty = is_empty


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """A performed step as it is kept."""

    sop_instance_uid: str
    state: PerformedState
    attributes: Attributes
    created_at: datetime
    updated_at: datetime


Tell = Callable[[str, PerformedStep], str]
"""Tells the peer of an AE title; returns what it has against the step, nothing if it took it. Raises PacsError if it
cannot be told now."""


class PerformedSteps:
    """The performed steps of one partition. Any number of threads may use it at once."""

    def __init__(self, database: Database, partition_id: int, *, forward_to: Sequence[str] = ()) -> None:
        self._database = database
        self._partition_id = partition_id
        self._forward_to = tuple(forward_to)

    def create(self, principal: Principal, sop_instance_uid: str, attributes: object) -> str:
        """Keep a step that has begun, and return its SOP Instance UID: a new one if it was given none.

        The scheduled steps it refers to are in progress from now on. Any number may be referred to, also none, and also
        some that an earlier performed step was of. Raises MissingAttribute, InvalidState unless it is in progress,
        PerformedStepExists, and InvalidEntry for what is no data set.
        """
        cleaned = clean(attributes)
        for keyword in _REQUIRED:
            _require(cleaned, keyword)
        if _parse_state(cleaned) is not PerformedState.IN_PROGRESS:
            raise InvalidState("A performed step begins IN PROGRESS.")
        references = _read_references(cleaned)
        uid = sop_instance_uid or str(generate_uid(prefix=None))
        now = datetime.now(UTC)
        row = {
            "sop_instance_uid": uid,
            "state": PerformedState.IN_PROGRESS.value,
            "study_instance_uids": " ".join(dict.fromkeys(one.study_instance_uid for one in references)),
            "calling_ae_title": principal.name,
            "attributes": dump_text(cleaned),
            "created_at": now,
            "updated_at": now,
        }

        def keep(connection: Connection) -> None:
            if rows.insert_performed(connection, self._partition_id, row) is None:
                raise PerformedStepExists
            self._move(connection, references, StepState.IN_PROGRESS, now)
            self._forward(connection, uid, now)

        self._database.write(keep)
        return uid

    def update(self, principal: Principal, sop_instance_uid: str, attributes: object) -> tuple[str, ...]:
        """Replace top-level attributes of a step in progress; return the tags that may not change and did not.

        Its state moves that of the scheduled steps it refers to. Raises PerformedStepNotFound, PerformedStepEnded,
        InvalidState, and InvalidEntry for what is no data set.
        """
        del principal
        changes = clean(attributes)
        state = _parse_state(changes) if STATUS in changes else None
        now = datetime.now(UTC)

        def change(connection: Connection) -> tuple[str, ...]:
            row = rows.find_performed(connection, self._partition_id, sop_instance_uid, is_locked=True)
            if row is None:
                raise PerformedStepNotFound
            if row.state != PerformedState.IN_PROGRESS:
                raise PerformedStepEnded
            old = rows.load_attributes(row)
            refused = tuple(tag for tag in changes if tag in FIXED and changes[tag] != old.get(tag))
            new = old | {tag: element for tag, element in changes.items() if tag not in FIXED}
            new_state = state or PerformedState.IN_PROGRESS
            rows.update_performed(connection, row.id, new_state.value, dict(sorted(new.items())), now)
            if new_state is not PerformedState.IN_PROGRESS:
                self._move(connection, _read_references(old), _state_after(new_state, new), now)
            self._forward(connection, sop_instance_uid, now)
            return refused

        return self._database.write(change)

    def get(self, principal: Principal, sop_instance_uid: str) -> PerformedStep:
        """Return a step; raise PerformedStepNotFound."""
        del principal
        with self._database.read() as connection:
            row = rows.find_performed(connection, self._partition_id, sop_instance_uid)
        if row is None:
            raise PerformedStepNotFound
        state, attributes = PerformedState(row.state), rows.load_attributes(row)
        return PerformedStep(row.sop_instance_uid, state, attributes, row.created_at, row.updated_at)

    def forward(self, jobs: Sequence[Job], tell: Tell) -> Iterator[Finished | Failed]:
        """Tell one peer what the performed steps of its jobs are by now: a task of the worker."""
        for job in jobs:
            step = self.get(Principal(job.lane), job.key)
            try:
                problem = tell(job.lane, step)
            except PacsError as error:
                raise LaneBlocked(str(error)) from error
            yield Failed(job, problem) if problem else Finished(job)

    def _move(self, connection: Connection, references: Sequence[Reference], state: StepState, now: datetime) -> None:
        """Set the state of the scheduled steps; what is completed stays so, whatever is appended to it."""
        for row in rows.find_referenced(connection, self._partition_id, references):
            if row.state != StepState.COMPLETED:
                rows.update_step(connection, self._partition_id, row.id, {"state": state.value, "updated_at": now})

    def _forward(self, connection: Connection, sop_instance_uid: str, now: datetime) -> None:
        jobs = [NewJob(FORWARD_JOB, peer, sop_instance_uid) for peer in self._forward_to]
        if jobs:
            enqueue(connection, jobs, now)


def _require(attributes: Attributes, keyword: str) -> None:
    if tag_of(keyword) not in attributes:
        raise MissingAttribute(keyword, is_empty=False)
    if not any(values_of(attributes, keyword)):
        raise MissingAttribute(keyword, is_empty=True)


def _parse_state(attributes: Attributes) -> PerformedState:
    try:
        return PerformedState(text_of(attributes, "PerformedProcedureStepStatus").upper())
    except ValueError:
        raise InvalidState("PerformedProcedureStepStatus is none of its values.") from None


def _read_references(attributes: Attributes) -> list[Reference]:
    items: list[Any] = [item for item in values_of(attributes, "ScheduledStepAttributesSequence") if item]
    if len(items) > MAX_REFERENCES:
        raise InvalidEntry(f"A performed step is of at most {MAX_REFERENCES} scheduled steps.")
    for item in items:
        _require(item, "StudyInstanceUID")
    patient_id = rows.key_text(text_of(attributes, "PatientID"))
    return [
        Reference(
            scheduled_procedure_step_id=rows.key_text(text_of(item, "ScheduledProcedureStepID")),
            study_instance_uid=rows.key_text(text_of(item, "StudyInstanceUID")),
            requested_procedure_id=rows.key_text(text_of(item, "RequestedProcedureID")),
            accession_number=rows.key_text(text_of(item, "AccessionNumber")),
            patient_id=patient_id,
        )
        for item in items
    ]


def _state_after(state: PerformedState, attributes: Attributes) -> StepState:
    """Return what an ended performed step makes of the scheduled one."""
    reasons = values_of(attributes, "PerformedProcedureStepDiscontinuationReasonCodeSequence")
    is_wrong_entry = any(text_of(reason, "CodeValue") == _WRONG_ENTRY for reason in reasons if reason)
    if state is PerformedState.DISCONTINUED and is_wrong_entry:
        return StepState.SCHEDULED
    return StepState(state.value)
