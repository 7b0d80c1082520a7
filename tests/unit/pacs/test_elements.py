"""Values that people give are checked against their VR, and a refusal never repeats them."""

import pytest

from pacs.elements import parse_element, parse_empty
from pacs.errors import InvalidValue
from pacs.tags import tag_of


@pytest.mark.parametrize(
    ("keyword", "text", "values"),
    [
        ("PatientName", "قباني^نزار", [{"Alphabetic": "قباني^نزار"}]),
        ("PatientName", "Bénali^Amine=山田^太郎=やまだ", [{"Alphabetic": "Bénali^Amine", "Ideographic": "山田^太郎",
                                                     "Phonetic": "やまだ"}]),
        ("PatientName", "=山田", [{"Ideographic": "山田"}]),
        ("PatientBirthDate", "20240229", ["20240229"]),
        ("PatientBirthTime", "235960.5", ["235960.5"]),
        ("PatientSex", "F", ["F"]),
        ("PatientAge", "054Y", ["054Y"]),
        ("PatientWeight", "71.5", [71.5]),
        ("InstanceNumber", "-3", [-3]),
        ("OtherPatientIDs", "A\\B", ["A", "B"]),
        ("PatientComments", "two\nlines \\ and more", ["two\nlines \\ and more"]),
        ("AcquisitionDateTime", "20240229120000.5+0100", ["20240229120000.5+0100"]),
        ("AcquisitionDateTime", "2024", ["2024"]),
        ("FrameOfReferenceUID", "2.25.1", ["2.25.1"]),
    ],
)  # fmt: skip
def test_value_becomes_an_element_of_the_dicom_json_model(keyword, text, values):
    assert parse_element(keyword, text)[tag_of(keyword)]["Value"] == values


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_text_empties_the_attribute(text):
    assert parse_element("PatientSex", text) == parse_empty("PatientSex") == {"00100040": {"vr": "CS"}}


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("PatientBirthDate", "20230229"),
        ("PatientBirthDate", "29.02.2024"),
        ("PatientBirthDate", "٢٠٢٤٠٢٢٩"),
        ("PatientBirthTime", "2500"),
        ("PatientSex", "female"),
        ("PatientSex", "F\nM"),
        ("PatientAge", "77Y"),
        ("PatientWeight", "nan"),
        ("PatientWeight", "1" * 17),
        ("InstanceNumber", "9" * 11),
        ("AccessionNumber", "X" * 17),
        ("AccessionNumber", "A\\B"),
        ("PatientID", "A\x00B"),
        ("PatientID", "\ud800"),
        ("PatientName", "A=B=C=D"),
        ("PatientName", "X" * 65),
        ("PatientName", "A^B^C^D^E^F"),
        ("AcquisitionDateTime", "20241301"),
        ("AcquisitionDateTime", "2024T12"),
        ("FrameOfReferenceUID", "1.02"),
        ("OtherPatientIDsSequence", "CANARY"),
    ],
)
def test_what_is_no_value_of_its_vr_is_refused_without_being_repeated(keyword, text):
    with pytest.raises(InvalidValue) as refused:
        parse_element(keyword, text)
    assert keyword in str(refused.value)
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    "keyword",
    ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "SpecificCharacterSet", "Rows",
     "TransferSyntaxUID", "PixelData", "NoSuchKeyword"],
)  # fmt: skip
def test_what_makes_another_object_cannot_be_changed(keyword):
    with pytest.raises(InvalidValue):
        parse_element(keyword, "1.2.3")
    with pytest.raises(InvalidValue):
        parse_empty(keyword)
