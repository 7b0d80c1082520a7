"""Worklist entries and performed steps for tests: valid, small, and as DICOM JSON or pydicom data sets."""

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.tags import tag_of, vr_of
from tests.builders import new_uid

IN_STEP = frozenset(
    {
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepStatus",
        "ScheduledStationName",
        "ScheduledProcedureStepLocation",
        "ScheduledProtocolCodeSequence",
    }
)


def build_entry(**overrides: Any) -> Dataset:
    """Return a worklist entry with one step; a value of None leaves the attribute out, of the step's item too."""
    step = Dataset()
    step.ScheduledStationAETitle = "CT1"
    step.ScheduledProcedureStepStartDate = "20260706"
    step.ScheduledProcedureStepStartTime = "101500"
    step.Modality = "CT"
    step.ScheduledPerformingPhysicianName = "DUPONT^ANNE"
    step.ScheduledProcedureStepDescription = "CT thorax"
    step.ScheduledProcedureStepID = "S1"
    entry = Dataset()
    entry.SpecificCharacterSet = "ISO_IR 192"
    entry.AccessionNumber = "A1"
    entry.ReferringPhysicianName = None
    entry.PatientName = "TEST^WORKLIST"
    entry.PatientID = "W-1"
    entry.PatientBirthDate = "19800229"
    entry.PatientSex = "F"
    entry.StudyInstanceUID = new_uid()
    entry.RequestedProcedureID = "R1"
    entry.RequestedProcedureDescription = "Thorax"
    for keyword, value in overrides.items():
        target = step if keyword in IN_STEP else entry
        if value is None:
            delattr(target, keyword)
        else:
            setattr(target, keyword, value)
    entry.ScheduledProcedureStepSequence = Sequence([step])
    return entry


def build_entry_json(**overrides: Any) -> dict[str, Any]:
    """Return the same in the DICOM JSON model."""
    return build_entry(**overrides).to_json_dict()


def build_key(**keys: Any) -> Dataset:
    """Return an identifier with these keys, each where it belongs; the step's item asks for what matching needs."""
    step = Dataset()
    identifier = Dataset()
    identifier.PatientName = ""
    identifier.PatientID = ""
    for keyword, value in keys.items():
        setattr(step if keyword in IN_STEP else identifier, keyword, value)
    if len(step):
        identifier.ScheduledProcedureStepSequence = Sequence([step])
    return identifier


def build_key_json(**keys: Any) -> dict[str, Any]:
    """Return an identifier in the DICOM JSON model, whose values pydicom has not looked at."""
    identifier: dict[str, Any] = {}
    item: dict[str, Any] = {}
    for keyword, value in keys.items():
        values = [
            {"Alphabetic": one} if vr_of(keyword) == "PN" else one
            for one in (value if isinstance(value, list) else [value])
        ]
        (item if keyword in IN_STEP else identifier)[tag_of(keyword)] = {"vr": vr_of(keyword), "Value": values}
    return identifier | ({tag_of("ScheduledProcedureStepSequence"): {"vr": "SQ", "Value": [item]}} if item else {})


def build_performed(*entries: Dataset, **overrides: Any) -> Dataset:
    """Return what N-CREATE carries for a step of these entries; without entries it is unscheduled."""
    performed = Dataset()
    performed.SpecificCharacterSet = "ISO_IR 192"
    items = []
    for entry in entries:
        item = Dataset()
        item.StudyInstanceUID = entry.StudyInstanceUID
        item.ReferencedStudySequence = []
        item.AccessionNumber = entry.get("AccessionNumber", "")
        item.RequestedProcedureID = entry.RequestedProcedureID
        item.RequestedProcedureDescription = ""
        item.ScheduledProcedureStepID = entry.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID
        item.ScheduledProcedureStepDescription = ""
        item.ScheduledProtocolCodeSequence = []
        items.append(item)
    if not entries:
        item = Dataset()
        item.StudyInstanceUID = new_uid()
        for keyword in ("AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"):
            setattr(item, keyword, "")
        items.append(item)
    performed.ScheduledStepAttributesSequence = Sequence(items)
    performed.PatientName = entries[0].PatientName if entries else "TEST^UNSCHEDULED"
    performed.PatientID = entries[0].PatientID if entries else "U-1"
    performed.PatientBirthDate = ""
    performed.PatientSex = ""
    performed.PerformedProcedureStepID = "P1"
    performed.PerformedStationAETitle = "CT1"
    performed.PerformedProcedureStepStartDate = "20260706"
    performed.PerformedProcedureStepStartTime = "102000"
    performed.PerformedProcedureStepStatus = "IN PROGRESS"
    performed.PerformedProcedureStepEndDate = ""
    performed.PerformedProcedureStepEndTime = ""
    performed.Modality = "CT"
    performed.StudyID = ""
    performed.PerformedSeriesSequence = []
    for keyword, value in overrides.items():
        if value is None:
            delattr(performed, keyword)
        else:
            setattr(performed, keyword, value)
    return performed


def build_ending(state: str = "COMPLETED", **overrides: Any) -> Dataset:
    """Return what the last N-SET of a performed step carries."""
    ending = Dataset()
    ending.PerformedProcedureStepStatus = state
    ending.PerformedProcedureStepEndDate = "20260706"
    ending.PerformedProcedureStepEndTime = "103000"
    series = Dataset()
    series.SeriesInstanceUID = new_uid()
    series.ProtocolName = "THORAX"
    ending.PerformedSeriesSequence = Sequence([series])
    for keyword, value in overrides.items():
        setattr(ending, keyword, value)
    return ending
