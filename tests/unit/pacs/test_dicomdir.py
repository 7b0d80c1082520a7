"""A DICOMDIR as pydicom reads it (PS3.3 F): every offset is the place of the record it means."""

import io

import pydicom
import pytest

from pacs.imaging.dicomdir import Directory, record_type_of


def header(series, instance, **values):
    elements = {
        "0020000D": ("UI", "1.2.3"), "0020000E": ("UI", series), "00080018": ("UI", instance),
        "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.2"), "00100020": ("LO", "P-1"),
    } | values  # fmt: skip
    return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in elements.items()} | {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "\u0642\u0628\u0627\u0646\u064a^\u0646\u0632\u0627\u0631"}]}
    }


def read(directory):
    return pydicom.dcmread(io.BytesIO(directory.encode()))


def test_offsets_lead_from_patient_to_study_to_series_to_instances():
    directory = Directory()
    for index, (series, instance) in enumerate([("1.1", "1.1.1"), ("1.1", "1.1.2"), ("1.2", "1.2.1")]):
        directory.add(f"DICOM/{index:08d}", header(series, instance), "1.2.840.10008.1.2.1")
    dataset = read(directory)
    records = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}

    def chain_from(offset):
        while offset:
            yield records[offset]
            offset = records[offset].OffsetOfTheNextDirectoryRecord

    root = dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    (patient,) = chain_from(root)
    (study,) = chain_from(patient.OffsetOfReferencedLowerLevelDirectoryEntity)
    tree = {
        series.SeriesInstanceUID: [
            (image.ReferencedSOPInstanceUIDInFile, list(image.ReferencedFileID))
            for image in chain_from(series.OffsetOfReferencedLowerLevelDirectoryEntity)
        ]
        for series in chain_from(study.OffsetOfReferencedLowerLevelDirectoryEntity)
    }
    assert tree == {
        "1.1": [("1.1.1", ["DICOM", "00000000"]), ("1.1.2", ["DICOM", "00000001"])],
        "1.2": [("1.2.1", ["DICOM", "00000002"])],
    }
    assert str(patient.PatientName) == "\u0642\u0628\u0627\u0646\u064a^\u0646\u0632\u0627\u0631"


def test_patients_and_their_studies_have_a_record_each_in_the_order_of_the_files():
    directory = Directory()
    files = [("A", "1"), ("B", "2"), ("A", "3"), ("A", "3")]
    for index, (patient, study) in enumerate(files):
        values = {"00100020": ("LO", patient), "0020000D": ("UI", study)}
        directory.add(f"{index}", header(f"{study}.1", f"{study}.1.{index}", **values), "1.2.840.10008.1.2.1")
    dataset = read(directory)
    records = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}
    found, offset = {}, dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    while offset:
        patient = records[offset]
        last, offset = offset, patient.OffsetOfTheNextDirectoryRecord
        study = patient.OffsetOfReferencedLowerLevelDirectoryEntity
        while study:
            found.setdefault(patient.PatientID, []).append(records[study].StudyInstanceUID)
            study = records[study].OffsetOfTheNextDirectoryRecord
    assert found == {"A": ["1", "3"], "B": ["2"]}
    assert dataset.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity == last
    kinds = [record.DirectoryRecordType for record in dataset.DirectoryRecordSequence]
    assert kinds.count("IMAGE") == 4


def test_the_same_files_give_the_same_bytes_and_none_give_an_empty_directory():
    first, second = Directory(), Directory()
    for directory in (first, second):
        directory.add("DICOM/00000000", header("1.1", "1.1.1"), "1.2.840.10008.1.2.1")
    assert first.encode() == second.encode()
    assert len(read(Directory()).DirectoryRecordSequence) == 0


def test_text_that_no_character_set_holds_does_not_stop_it():
    directory = Directory()
    directory.add("1", header("1.1", "1.1.1", **{"00081030": ("LO", "half \ud800")}), "1.2.840.10008.1.2.1")
    assert "half" in read(directory).DirectoryRecordSequence[1].StudyDescription


@pytest.mark.parametrize(
    ("rest", "kind"),
    [("2", "IMAGE"), ("88.11", "SR DOCUMENT"), ("88.59", "KEY OBJECT DOC"), ("104.1", "ENCAP DOC"),
     ("11.1", "PRESENTATION"), ("481.3", "RT STRUCTURE SET"), ("66.4", "IMAGE"), ("66", "RAW DATA"),
     ("66.1", "REGISTRATION"), ("481.1", "IMAGE"), ("4", "IMAGE"), ("4.2", "SPECTROSCOPY")],
)  # fmt: skip
def test_record_types_follow_the_sop_class(rest, kind):
    assert record_type_of(f"1.2.840.10008.5.1.4.1.1.{rest}") == kind
    assert record_type_of("1.2.3.4") == "IMAGE"
