"""Work items (UPS) for tests, as DICOM JSON that a client sends. An override of None leaves an attribute out."""

from typing import Any

from pacs.tags import tag_of, vr_of

READING = ("110005", "DCM", "Interpretation")
SEGMENTING = ("110001", "DCM", "Image Processing")


def element(keyword: str, *values: Any) -> dict[str, Any]:
    """Return one attribute; items of a sequence are data sets already, names are texts."""
    vr = vr_of(keyword)
    shown = [{"Alphabetic": value} if vr == "PN" and isinstance(value, str) else value for value in values]
    return {tag_of(keyword): {"vr": vr, "Value": shown} if shown else {"vr": vr}}


def data_set(**values: Any) -> dict[str, Any]:
    """Return a data set of attributes by keyword; a list is several values, an empty list none."""
    merged: dict[str, Any] = {}
    for keyword, value in values.items():
        if value is not None:
            merged |= element(keyword, *(value if isinstance(value, list) else [value]))
    return merged


def code(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    return data_set(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def build_workitem(**overrides: Any) -> dict[str, Any]:
    """Return what creates a reading of study 1.2.3."""
    values: dict[str, Any] = {
        "ProcedureStepState": "SCHEDULED",
        "ScheduledProcedureStepPriority": "MEDIUM",
        "ProcedureStepLabel": "Read the chest",
        "WorklistLabel": "READING",
        "InputReadinessState": "READY",
        "ScheduledProcedureStepStartDateTime": "20260706090000",
        "ScheduledWorkitemCodeSequence": [code(*READING)],
        "PatientName": "Bénali^Omar",
        "PatientID": "P1",
        "ReferencedRequestSequence": [data_set(StudyInstanceUID="1.2.3", AccessionNumber="A1")],
    }
    return data_set(**(values | overrides))


def build_performed(**overrides: Any) -> dict[str, Any]:
    """Return an update after which an item may be COMPLETED."""
    values: dict[str, Any] = {
        "PerformedStationNameCodeSequence": [code("STATION1", "99TEST", "Station 1")],
        "PerformedProcedureStepStartDateTime": "20260706090500",
        "PerformedWorkitemCodeSequence": [code(*READING)],
        "PerformedProcedureStepEndDateTime": "20260706091000",
        "OutputInformationSequence": [],
    }
    return data_set(UnifiedProcedureStepPerformedProcedureSequence=[data_set(**(values | overrides))])


def build_discontinued(**overrides: Any) -> dict[str, Any]:
    """Return an update after which an item may be CANCELED."""
    reason = code("110513", "DCM", "Discontinued for unspecified reason")
    values: dict[str, Any] = {"ProcedureStepDiscontinuationReasonCodeSequence": [reason]}
    return data_set(ProcedureStepProgressInformationSequence=[data_set(**(values | overrides))])


def build_change(state: str | None, transaction_uid: str | None = "2.25.1") -> dict[str, Any]:
    """Return the payload that changes a state."""
    return data_set(ProcedureStepState=state, TransactionUID=transaction_uid)
