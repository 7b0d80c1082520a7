"""A worklist entry as it comes from outside -> scheduled steps ready to be kept, checked against PS3.4 Table K.6-1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from pydicom.uid import generate_uid

from pacs.errors import InvalidEntry
from pacs.model import Attributes
from pacs.normal import normal_date, normal_time
from pacs.tags import tag_of, text_of, values_of
from pacs.worklist import keys
from pacs.worklist.attributes import clean

MAX_STEPS = 100
"""Of one entry; each is a row and an answer of its own."""


class StepState(StrEnum):
    """How far a scheduled step is. The first three are before it begins, the last two are its end."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"

    @property
    def has_begun(self) -> bool:
        """Whether somebody has started on it."""
        return self not in (StepState.SCHEDULED, StepState.ARRIVED, StepState.READY)


OPEN_STATES = (StepState.SCHEDULED, StepState.ARRIVED, StepState.READY, StepState.IN_PROGRESS)

_STATE_OF_STATUS = {
    "STARTED": StepState.IN_PROGRESS,
    "DEPARTED": StepState.IN_PROGRESS,
    "CANCELED": StepState.DISCONTINUED,
    "CANCELLED": StepState.DISCONTINUED,
    **{state.value: state for state in StepState},
}
"""Scheduled Procedure Step Status (0040,0020) and what others write there; the defined terms are PS3.3 C.4.10.1.1."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One scheduled step that is not kept yet: ``attributes`` have exactly one Scheduled Procedure Step item."""

    attributes: Attributes
    state: StepState

    @property
    def step(self) -> Attributes:
        """The item of the Scheduled Procedure Step Sequence."""
        item: Attributes = values_of(self.attributes, "ScheduledProcedureStepSequence")[0]
        return item

    @property
    def study_instance_uid(self) -> str:
        """Its study's UID; empty if the entry was given none."""
        return text_of(self.attributes, "StudyInstanceUID")

    def in_study(self, study_instance_uid: str) -> "Entry":
        """Return the same entry with this Study Instance UID."""
        element = {"vr": "UI", "Value": [study_instance_uid]}
        attributes = {**self.attributes, tag_of("StudyInstanceUID"): element}
        return replace(self, attributes=dict(sorted(attributes.items())))


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A scheduled step as it is kept. ``attributes`` are the whole entry, its status that of ``state``."""

    id: int
    state: StepState
    attributes: Attributes
    is_from_folder: bool
    updated_at: datetime

    @property
    def step(self) -> Attributes:
        """The item of the Scheduled Procedure Step Sequence."""
        item: Attributes = values_of(self.attributes, "ScheduledProcedureStepSequence")[0]
        return item


def parse_entries(attributes: object) -> tuple[Entry, ...]:
    """Return the scheduled steps of one entry, one for every item of its Scheduled Procedure Step Sequence.

    Raises InvalidEntry with one sentence that names the first attribute that is missing or wrong, never a value. An
    entry without Study Instance UID keeps none; ``give_study`` gives one.
    """
    entry = clean(attributes)
    _require(entry, keys.REQUIRED, keys.DESCRIPTIONS)
    _require_single(entry, ("PatientID", "RequestedProcedureID", "AccessionNumber", "StudyInstanceUID"))
    uid = text_of(entry, "StudyInstanceUID")
    if uid and not (len(uid) <= 64 and set(uid) <= set("0123456789.")):
        raise InvalidEntry("StudyInstanceUID is no UID.")
    items = [item for item in values_of(entry, "ScheduledProcedureStepSequence") if item]
    if not items:
        raise InvalidEntry("A worklist entry needs an item in ScheduledProcedureStepSequence (PS3.4 Table K.6-1).")
    if len(items) > MAX_STEPS:
        raise InvalidEntry(f"A worklist entry has at most {MAX_STEPS} scheduled steps.")
    return tuple(_build_entry(entry, item) for item in items)


def give_study(entries: Sequence[Entry], study_instance_uid: str = "") -> tuple[Entry, ...]:
    """Return the entries with this Study Instance UID, or a new one, where they have none: the same one for all."""
    uid = study_instance_uid or str(generate_uid(prefix=None))
    return tuple(entry if entry.study_instance_uid else entry.in_study(uid) for entry in entries)


def with_state(attributes: Attributes, state: StepState) -> Attributes:
    """Return an entry's attributes with the status that its state stands for."""
    status = "STARTED" if state is StepState.IN_PROGRESS else state.value
    item = values_of(attributes, "ScheduledProcedureStepSequence")[0]
    item = dict(sorted({**item, keys.STEP_STATUS: {"vr": "CS", "Value": [status]}}.items()))
    return {**attributes, keys.STEP_SEQUENCE: {"vr": "SQ", "Value": [item]}}


def _build_entry(entry: Attributes, item: Attributes) -> Entry:
    _require(item, keys.REQUIRED_IN_STEP, keys.DESCRIPTIONS_IN_STEP)
    _require_single(item, [keyword for keyword in keys.REQUIRED_IN_STEP if keyword != "ScheduledStationAETitle"])
    if normal_date(text_of(item, "ScheduledProcedureStepStartDate")) is None:
        raise InvalidEntry("ScheduledProcedureStepStartDate must be YYYYMMDD.")
    if normal_time(text_of(item, "ScheduledProcedureStepStartTime")) is None:
        raise InvalidEntry("ScheduledProcedureStepStartTime must be HHMMSS.")
    state = _STATE_OF_STATUS.get(text_of(item, "ScheduledProcedureStepStatus").upper(), StepState.SCHEDULED)
    return Entry({**entry, keys.STEP_SEQUENCE: {"vr": "SQ", "Value": [item]}}, state)


def _require(attributes: Attributes, required: Sequence[str], one_of: Sequence[str]) -> None:
    for keyword in required:
        if not any(values_of(attributes, keyword)):
            raise InvalidEntry(f"A worklist entry needs a value for {keyword} (PS3.4 Table K.6-1).")
    if not any(any(values_of(attributes, keyword)) for keyword in one_of):
        raise InvalidEntry(f"A worklist entry needs {' or '.join(one_of)} (PS3.4 Table K.6-1).")


def _require_single(attributes: Attributes, keywords: Iterable[str]) -> None:
    """Check what identifies and orders steps: the columns hold one value of each."""
    for keyword in keywords:
        if len(values_of(attributes, keyword)) > 1:
            raise InvalidEntry(f"{keyword} has one value.")
