"""What a work item must have and may not have (PS3.4 Table CC.2.5-3), as one table.

Rows that ask for nothing at all, and the contents of codes and of references to instances, are not listed. What a type
2 attribute asks for is that it is there: it is put there without a value.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pacs.model import Attributes
from pacs.tags import tag_of, values_of, vr_of
from pacs.workitems.states import State


class Need(StrEnum):
    """What an operation asks of an attribute."""

    VALUE = "1"
    PRESENCE = "2"
    NOTHING = "3"
    EMPTY = "0"
    """It may be there without a value only."""
    UNCHANGED = "-"
    """The operation may not set it."""


class Final(StrEnum):
    """Final State Codes (PS3.4 Table CC.2.5-1)."""

    REQUIRED = "R"
    IF_COMPLETED = "P"
    IF_CANCELED = "X"
    OPTIONAL = "O"

    def asks(self, state: State) -> bool:
        """Whether an item may not end in this state without a value."""
        match self:
            case Final.REQUIRED:
                return True
            case Final.IF_COMPLETED:
                return state is State.COMPLETED
            case Final.IF_CANCELED:
                return state is State.CANCELED
        return False


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute, by the sequences above it: what creating, updating and ending an item ask of it.

    ``is_returned``: a search returns it unasked, if only without a value (Return Key Type 1 and 2).
    """

    path: tuple[str, ...]
    create: Need
    update: Need
    final: Final
    is_returned: bool

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)


def _row(path: str, create: str, update: str, final: str, returned: str) -> Row:
    return Row(tuple(path.split(".")), Need(create), Need(update), Final(final), returned in ("1", "2"))


_PROGRESS = "ProcedureStepProgressInformationSequence"
_PERFORMED = "UnifiedProcedureStepPerformedProcedureSequence"

TABLE: tuple[Row, ...] = (
    # SOP Common; class, instance and lock are the archive's own
    _row("SOPClassUID", "3", "-", "O", "1"),
    _row("SOPInstanceUID", "3", "-", "O", "1"),
    # Unified Procedure Step Scheduled Procedure Information
    _row("ScheduledProcedureStepPriority", "1", "1", "R", "1"),
    _row("ScheduledProcedureStepModificationDateTime", "3", "3", "R", "3"),
    _row("ProcedureStepLabel", "1", "1", "O", "1"),
    _row("WorklistLabel", "2", "1", "O", "1"),
    _row("ScheduledProcessingParametersSequence", "2", "2", "O", "2"),
    _row("ScheduledStationNameCodeSequence", "2", "2", "O", "2"),
    _row("ScheduledStationClassCodeSequence", "2", "2", "O", "2"),
    _row("ScheduledStationGeographicLocationCodeSequence", "2", "2", "O", "2"),
    _row("ScheduledHumanPerformersSequence", "2", "2", "O", "2"),
    _row("ScheduledHumanPerformersSequence.HumanPerformerCodeSequence", "1", "1", "O", "3"),
    _row("ScheduledHumanPerformersSequence.HumanPerformerName", "1", "1", "O", "3"),
    _row("ScheduledHumanPerformersSequence.HumanPerformerOrganization", "1", "1", "O", "3"),
    _row("ScheduledProcedureStepStartDateTime", "1", "1", "R", "1"),
    _row("ExpectedCompletionDateTime", "3", "1", "O", "3"),
    _row("ScheduledWorkitemCodeSequence", "2", "1", "O", "2"),
    _row("CommentsOnTheScheduledProcedureStep", "2", "1", "O", "3"),
    _row("InputReadinessState", "1", "1", "R", "1"),
    _row("InputInformationSequence", "2", "2", "O", "2"),
    _row("StudyInstanceUID", "2", "2", "O", "2"),
    # Unified Procedure Step Relationship
    _row("PatientName", "2", "-", "O", "2"),
    _row("PatientID", "2", "-", "O", "2"),
    _row("IssuerOfPatientID", "2", "-", "O", "2"),
    _row("IssuerOfPatientIDQualifiersSequence", "2", "-", "O", "2"),
    _row("OtherPatientIDsSequence", "2", "3", "O", "2"),
    _row("OtherPatientIDsSequence.PatientID", "1", "1", "O", "3"),
    _row("PatientBirthDate", "2", "-", "O", "2"),
    _row("PatientSex", "2", "-", "O", "2"),
    _row("AdmissionID", "2", "-", "O", "2"),
    _row("IssuerOfAdmissionIDSequence", "2", "-", "O", "2"),
    _row("AdmittingDiagnosesDescription", "2", "-", "O", "2"),
    _row("AdmittingDiagnosesCodeSequence", "2", "-", "O", "2"),
    _row("ReferencedRequestSequence", "2", "-", "O", "2"),
    _row("ReferencedRequestSequence.StudyInstanceUID", "1", "-", "O", "3"),
    # Unified Procedure Step Progress Information
    _row("ProcedureStepState", "1", "-", "O", "1"),
    _row(_PROGRESS, "0", "2", "X", "2"),
    _row(f"{_PROGRESS}.ProcedureStepCancellationDateTime", "3", "1", "X", "3"),
    _row(f"{_PROGRESS}.ProcedureStepDiscontinuationReasonCodeSequence", "3", "1", "X", "3"),
    _row(f"{_PROGRESS}.ProcedureStepProgress", "3", "1", "O", "3"),
    _row(f"{_PROGRESS}.ProcedureStepProgressDescription", "3", "1", "O", "3"),
    _row(f"{_PROGRESS}.ReasonForCancellation", "3", "1", "O", "3"),
    _row(f"{_PROGRESS}.ProcedureStepCommunicationsURISequence", "3", "1", "O", "3"),
    _row(f"{_PROGRESS}.ProcedureStepCommunicationsURISequence.ContactURI", "3", "1", "O", "3"),
    # Unified Procedure Step Performed Procedure Information
    _row(_PERFORMED, "0", "2", "P", "3"),
    _row(f"{_PERFORMED}.PerformedStationNameCodeSequence", "3", "2", "P", "3"),
    _row(f"{_PERFORMED}.PerformedProcedureStepStartDateTime", "3", "1", "P", "3"),
    _row(f"{_PERFORMED}.PerformedWorkitemCodeSequence", "3", "1", "P", "3"),
    _row(f"{_PERFORMED}.PerformedProcedureStepEndDateTime", "3", "1", "P", "3"),
    _row(f"{_PERFORMED}.OutputInformationSequence", "3", "2", "P", "3"),
)

TOP = tuple(row for row in TABLE if len(row.path) == 1)
RETURNED = frozenset(tag_of(row.path[0]) for row in TOP if row.is_returned)
"""What a search returns unasked. What is of Return Key Type 1C or 2C is added if it is there."""
RETURNED_IF_PRESENT = frozenset(tag_of(keyword) for keyword in ("MedicalAlerts", "PregnancyStatus", "SpecialNeeds"))

_MAY_BE_WITHOUT_ITEMS = "OutputInformationSequence"
"""If there is no relevant output, the sequence is there without items; it has a value as soon as it is there."""
_OBLIGATORY_IN_ITEM = frozenset(
    {"ScheduledHumanPerformersSequence", "OtherPatientIDsSequence", "ReferencedRequestSequence"}
)
"""Sequences whose items have attributes of type 1 that may not be left out; elsewhere they are left out or valued."""


def find_missing(attributes: Attributes, needs: Iterable[tuple[Row, Need]]) -> str:
    """Return the path of the first attribute that should have a value and has none; empty if there is none.

    An attribute inside a sequence is asked for in every item.
    """
    for row, need in needs:
        *above, keyword = row.path
        for item in _items_at(attributes, above):
            is_there = tag_of(keyword) in item
            if need is Need.VALUE and not has_value(item, keyword) and (is_there or _is_obligatory(above)):
                return row.name
    return ""


def find_unmet(attributes: Attributes, state: State) -> str:
    """Return the path of the first attribute that an item lacks to end in this state; empty if there is none."""
    for row in TABLE:
        if not row.final.asks(state):
            continue
        *above, keyword = row.path
        for item in _items_at(attributes, above):
            is_met = tag_of(keyword) in item if keyword == _MAY_BE_WITHOUT_ITEMS else has_value(item, keyword)
            if not is_met:
                return row.name
    return ""


def fill_empty(attributes: Attributes) -> Attributes:
    """Return the attributes of a new item with those of type 2 that were left out, without a value."""
    filled = {
        tag_of(row.path[0]): {"vr": vr_of(row.path[0])} for row in TOP if row.create in (Need.PRESENCE, Need.EMPTY)
    }
    return dict(sorted((filled | attributes).items()))


def has_value(attributes: Attributes, keyword: str) -> bool:
    """Whether an attribute has a value other than an empty one."""
    return any(value not in (None, "") for value in values_of(attributes, keyword))


def _is_obligatory(above: list[str]) -> bool:
    return not above or above[-1] in _OBLIGATORY_IN_ITEM


def _items_at(attributes: Attributes, path: list[str]) -> Iterator[Attributes]:
    """Yield the data sets that a path leads to, all items of each sequence on it."""
    if not path:
        yield attributes
        return
    items: list[Any] = values_of(attributes, path[0])
    for item in items:
        if isinstance(item, dict):
            yield from _items_at(item, path[1:])
