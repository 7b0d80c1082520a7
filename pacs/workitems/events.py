"""Event reports of work items (PS3.4 Table CC.2.4-1) as DICOM JSON, the form in which subscribers get them."""

from enum import IntEnum
from typing import Any

import orjson

from pacs.index.metadata import dump_text
from pacs.model import Attributes
from pacs.tags import tag_of, values_of, vr_of
from pacs.workitems.attributes import SOP_CLASS_UID
from pacs.workitems.requirements import has_value
from pacs.workitems.states import State

_CLASS, _MESSAGE, _INSTANCE, _EVENT = "00000002", "00000110", "00001000", "00001002"
_MESSAGE_IDS = 0xFFFF

_ASSIGNED = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")
_OF_PERFORMER = ("HumanPerformerCodeSequence", "HumanPerformerOrganization")
_PROGRESS = "ProcedureStepProgressInformationSequence"
_PROGRESSING = (
    "ProcedureStepProgress", "ProcedureStepProgressDescription", "ProcedureStepCommunicationsURISequence",
)  # fmt: skip
_REASONS = ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
CANCEL_KEYWORDS = (*_REASONS, "ContactURI", "ContactDisplayName")
"""What a request to cancel may say (PS3.4 Table CC.2.2-1)."""


class EventType(IntEnum):
    """Event Type ID. SCP Status Change (4) is never sent: who is connected when the archive stops is disconnected."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS = 3
    ASSIGNED = 5


def report_state(sop_instance_uid: str, state: State, attributes: Attributes) -> str:
    """Return a UPS State Report."""
    content = _pick(attributes, "InputReadinessState")
    for item in _items(attributes, _PROGRESS)[:1]:
        content |= _pick(item, *_REASONS)
    content[tag_of("ProcedureStepState")] = {"vr": "CS", "Value": [state.value]}
    return _build(sop_instance_uid, EventType.STATE_REPORT, content)


def report_cancel_requested(sop_instance_uid: str, requesting_ae: str, request: Attributes) -> str:
    """Return a UPS Cancel Requested report."""
    content = _pick(request, *CANCEL_KEYWORDS)
    content[tag_of("RequestingAE")] = {"vr": "AE", "Value": [requesting_ae]}
    return _build(sop_instance_uid, EventType.CANCEL_REQUESTED, content)


def find_reports(sop_instance_uid: str, state: State, old: Attributes, new: Attributes) -> list[str]:
    """Return what is to be reported of an update (PS3.4 CC.2.4.3)."""
    reports = []
    if _pick(old, "InputReadinessState") != _pick(new, "InputReadinessState"):
        reports.append(report_state(sop_instance_uid, state, new))
    if _progress_of(old) != _progress_of(new):
        reports.append(_build(sop_instance_uid, EventType.PROGRESS, _pick(new, _PROGRESS)))
    if any(_pick(old, keyword) != _pick(new, keyword) for keyword in _ASSIGNED):
        reports.append(_report_assigned(sop_instance_uid, new))
    return reports


def report_new(sop_instance_uid: str, attributes: Attributes) -> list[str]:
    """Return what is to be reported of a new item."""
    reports = [report_state(sop_instance_uid, State.SCHEDULED, attributes)]
    if any(has_value(attributes, keyword) for keyword in _ASSIGNED):
        reports.append(_report_assigned(sop_instance_uid, attributes))
    return reports


def number_report(report: str, sequence: int) -> str:
    """Return a report with its Message ID, which is that of the event for everybody."""
    data_set = orjson.loads(report)
    data_set[_MESSAGE] = {"vr": "US", "Value": [sequence % _MESSAGE_IDS + 1]}
    return orjson.dumps(data_set, option=orjson.OPT_SORT_KEYS).decode()


def _report_assigned(sop_instance_uid: str, attributes: Attributes) -> str:
    content = _pick(attributes, *_ASSIGNED)
    for item in _items(attributes, "ScheduledHumanPerformersSequence")[:1]:
        content |= _pick(item, *_OF_PERFORMER)
    return _build(sop_instance_uid, EventType.ASSIGNED, content)


def _build(sop_instance_uid: str, event_type: EventType, content: Attributes) -> str:
    command = {
        _CLASS: {"vr": "UI", "Value": [SOP_CLASS_UID]},
        _INSTANCE: {"vr": "UI", "Value": [sop_instance_uid]},
        _EVENT: {"vr": "US", "Value": [int(event_type)]},
    }
    return dump_text(dict(sorted((command | content).items())))


def _progress_of(attributes: Attributes) -> list[Attributes]:
    return [_pick(item, *_PROGRESSING) for item in _items(attributes, _PROGRESS)]


def _pick(attributes: Attributes, *keywords: str) -> Attributes:
    """Return those of the attributes that have a value."""
    found = (keyword for keyword in keywords if has_value(attributes, keyword))
    return {tag_of(keyword): {"vr": vr_of(keyword), "Value": values_of(attributes, keyword)} for keyword in found}


def _items(attributes: Attributes, keyword: str) -> list[Any]:
    return [item for item in values_of(attributes, keyword) if isinstance(item, dict)]
