"""An RT Structure Set over a series of slices, as a planning system writes one (PS3.3 A.19, C.8.8.5, C.8.8.6)."""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

STRUCTURE_SET = UID("1.2.840.10008.5.1.4.1.1.481.3")
_CORNERS = 24
_RED = [255, 0, 0]


def build_structures(slices: Sequence[Dataset], series: UID, instance: UID) -> FileDataset:
    """Return one structure, a ring around the middle of every slice, in a series of its own of the same study."""
    first = slices[0]
    made = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = STRUCTURE_SET
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = instance
    made.SpecificCharacterSet = first.get("SpecificCharacterSet")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(made, keyword, first.get(keyword))
    for keyword in ("AccessionNumber", "StudyInstanceUID", "ReferringPhysicianName", "FrameOfReferenceUID"):
        setattr(made, keyword, first.get(keyword))
    made.SeriesInstanceUID, made.SeriesNumber, made.Modality = series, 99, "RTSTRUCT"
    made.SeriesDescription = made.StructureSetLabel = "RING"
    made.StructureSetDate, made.StructureSetTime = "20240101", "120000"
    referenced = _item(
        SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=[_reference(one) for one in slices]
    )
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[referenced],
    )
    frame = first.FrameOfReferenceUID
    made.ReferencedFrameOfReferenceSequence = [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])]
    made.StructureSetROISequence = [
        _item(ROINumber=1, ReferencedFrameOfReferenceUID=frame, ROIName="RING", ROIGenerationAlgorithm="AUTOMATIC")
    ]
    rings = [_ring(one) for one in slices]
    made.ROIContourSequence = [_item(ROIDisplayColor=_RED, ContourSequence=rings, ReferencedROINumber=1)]
    made.RTROIObservationsSequence = [
        _item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="ORGAN", ROIInterpreter="")
    ]
    return made


def _ring(one: Dataset) -> Dataset:
    """Return a contour of a third of the slice's width, in the patient's millimetres."""
    origin, orientation = np.float64(one.ImagePositionPatient), np.float64(one.ImageOrientationPatient)
    row_spacing, column_spacing = np.float64(one.PixelSpacing)
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    columns = (one.Columns / 2 + one.Columns / 6 * np.cos(angles)) * column_spacing
    rows = (one.Rows / 2 + one.Columns / 6 * np.sin(angles)) * row_spacing
    points = origin + np.outer(columns, orientation[:3]) + np.outer(rows, orientation[3:])
    return _item(
        ContourImageSequence=[_reference(one)],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=_CORNERS,
        ContourData=[f"{value:.3f}" for value in points.ravel()],
    )


def _reference(one: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
