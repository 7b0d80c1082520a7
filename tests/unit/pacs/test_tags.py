import pytest

from pacs.tags import ATTRIBUTES, BY_KEYWORD, DERIVED, keyword_of, snake_case, tag_of, text_of, values_of, vr_of


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("StudyInstanceUID", "study_instance_uid"),
        ("SOPClassUID", "sop_class_uid"),
        ("PatientID", "patient_id"),
        ("IssuerOfPatientID", "issuer_of_patient_id"),
        ("SOPClassesInStudy", "sop_classes_in_study"),
        ("OtherPatientIDsSequence", "other_patient_ids_sequence"),
    ],
)
def test_keywords_become_snake_case(keyword: str, name: str) -> None:
    assert snake_case(keyword) == name


def test_every_indexed_keyword_is_one_of_the_standard_and_stands_once() -> None:
    keywords = [attribute.keyword for attribute in (*ATTRIBUTES, *DERIVED)]
    assert len(keywords) == len(set(keywords)) == len(BY_KEYWORD)
    assert all(keyword_of(tag_of(keyword)) == keyword and vr_of(keyword) for keyword in keywords)


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"vr": "PN", "Value": [{"Alphabetic": "A^B"}, {"Alphabetic": "C"}]}, "A^B"),
        ({"vr": "PN", "Value": [{"Ideographic": "x"}]}, ""),
        ({"vr": "PN", "Value": [None]}, ""),
        ({"vr": "PN"}, ""),
        ({"vr": "PN", "Value": "odd"}, ""),
        ({"vr": "LO", "Value": [" padded \0"]}, "padded"),
        ({"vr": "IS", "Value": [7]}, "7"),
    ],
)
def test_the_first_value_is_read_as_text(element: dict[str, object], text: str) -> None:
    assert text_of({tag_of("PatientName"): element}, "PatientName") == text


def test_an_absent_attribute_has_no_values() -> None:
    assert values_of({}, "PatientName") == []
    assert keyword_of("00091001") == ""
    with pytest.raises(KeyError):
        tag_of("NoSuchKeyword")
