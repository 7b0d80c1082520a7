"""Key object selections for tests: what a technician marks, and the four titles that reject (IHE RAD TF-2 4.66)."""

from collections.abc import Iterable
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.builders import build_code, build_dataset

QUALITY, SAFETY, WORKLIST, EXPIRED = "113001", "113037", "113038", "113039"
OF_INTEREST = "113000"


def build_key_objects(title: str, instances: Iterable[Dataset], scheme: str = "DCM", **overrides: Any) -> Dataset:
    """Return a key object selection with this title over the instances, in the study of the first one."""
    named = list(instances)
    note = build_dataset(Modality="KO", SeriesNumber=999)
    note.SOPClassUID = str(uid.KeyObjectSelectionDocumentStorage)
    if named:
        note.StudyInstanceUID = named[0].StudyInstanceUID
        note.PatientID, note.PatientName = named[0].PatientID, named[0].PatientName
    note.ReferencedPerformedProcedureStepSequence = Sequence([])
    note.ValueType = "CONTAINER"
    note.ContinuityOfContent = "SEPARATE"
    note.ConceptNameCodeSequence = Sequence([build_code(title, scheme, "Title")])
    note.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(instance) for instance in named])
    for keyword, value in overrides.items():
        setattr(note, keyword, value)
    return note


def _evidence(instance: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.SOPClassUID
    reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID = instance.SeriesInstanceUID
    series.ReferencedSOPSequence = Sequence([reference])
    study = Dataset()
    study.StudyInstanceUID = instance.StudyInstanceUID
    study.ReferencedSeriesSequence = Sequence([series])
    return study
