"""Identifiers of C-FIND parsed to a search, and matches to answers."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.dimse.data_sets import parse_data_set
from pacs.dimse.identifiers import Agreement, Find, InvalidIdentifier, negotiate_options, parse_find
from pacs.errors import InvalidHeader
from pacs.model import Level
from pacs.query import AnyOf, Equals, InMoments, InRange, IsEmpty, Wildcard
from tests.builders import as_dataset_bytes

EXPLICIT = "1.2.840.10008.1.2.1"
PATIENT_ROOT = tuple(Level)
RELATIONAL = Agreement(relational=True)


def build(level: str = "STUDY", **keys: object) -> dict:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, "" if value is None else value)
    return parse_data_set(BytesIO(as_dataset_bytes(identifier, EXPLICIT)), EXPLICIT, "ISO_IR 100")


def parse(level: str = "STUDY", agreement: Agreement = RELATIONAL, **keys: object) -> Find:
    return parse_find(build(level, **keys), PATIENT_ROOT, agreement)


@pytest.mark.parametrize(
    ("keys", "condition"),
    [
        ({"PatientID": None}, None),
        ({"PatientID": "*"}, None),
        ({"PatientID": "A 1 "}, Equals("PatientID", "A 1")),
        ({"PatientName": "ben*=x"}, Wildcard("PatientName", "ben*=x")),
        ({"SpecificCharacterSet": "ISO_IR 192", "PatientName": "=قباني"}, Equals("PatientName", "=قباني")),
        ({"StudyDate": "20240101-"}, InRange("StudyDate", "20240101", "")),
        ({"StudyInstanceUID": ["1.2", "1.3"]}, AnyOf("StudyInstanceUID", ("1.2", "1.3"))),
        ({"SeriesNumber": "7"}, Equals("SeriesNumber", "7")),
        ({"ModalitiesInStudy": ["CT", "MR"]}, AnyOf("ModalitiesInStudy", ("CT", "MR"))),
        ({"RequestAttributesSequence": Sequence([])}, None),
        ({"RequestAttributesSequence": Sequence([Dataset()])}, None),
    ],
)
def test_keys_become_the_conditions_that_a_query_string_would(keys, condition) -> None:
    assert parse(**keys).query.conditions == (() if condition is None else (condition,))


def test_a_date_and_a_time_range_of_one_form_are_one_condition_if_that_was_agreed() -> None:
    keys = {"StudyDate": "20240101-20240103", "StudyTime": "10-12", "SeriesDate": "20240101-", "SeriesTime": "-12"}
    apart = parse(**keys).query.conditions
    combined = parse(agreement=Agreement(relational=True, date_time=True), **keys).query.conditions
    assert set(apart) - set(combined) == {InRange("StudyTime", "10", "12")}
    assert set(combined) - set(apart) == {
        InMoments("StudyDate", "StudyTime", ("20240101", "10"), ("20240103", "12")),
    }


def test_an_empty_and_several_values_are_text_unless_agreed() -> None:
    agreement = Agreement(relational=True, empty_values=True, multiple_values=True)
    keys = {"StudyDescription": '""', "AccessionNumber": ["a", "b"]}
    assert parse(**keys).query.conditions == (Equals("AccessionNumber", "a\\b"), Equals("StudyDescription", '""'))
    assert parse(agreement=agreement, **keys).query.conditions == (
        AnyOf("AccessionNumber", ("a", "b")),
        IsEmpty("StudyDescription"),
    )


@pytest.mark.parametrize(
    ("keys", "is_complete"),
    [
        ({"PatientName": None, "StudyDate": None, "ModalitiesInStudy": None}, True),
        ({"TimezoneOffsetFromUTC": "+0100", "RetrieveAETitle": "X"}, True),
        ({"SeriesDescription": None}, False),
        ({"ImageType": None}, False),
        ({"NumberOfStudyRelatedSeries": "2"}, False),
        ({"NumberOfPatientRelatedStudies": None}, False),
        ({"RetrieveURL": None}, False),
        ({"ProcedureCodeSequence": Sequence([Dataset()])}, True),
    ],
)
def test_a_key_is_supported_or_the_answer_is_not_complete(keys, is_complete) -> None:
    find = parse(**keys)
    assert find.is_complete is is_complete
    assert not find.needs_header
    assert find.query.limit == 200


def test_a_value_in_a_sequence_that_cannot_be_matched_is_passed_over() -> None:
    code = Dataset()
    code.CodeValue = "X"
    find = parse(ProcedureCodeSequence=Sequence([code]))
    assert (find.query.conditions, find.is_complete) == ((), False)


def test_a_key_that_only_a_header_has_makes_smaller_pages() -> None:
    find = parse("IMAGE", ImageType=None)
    assert (find.needs_header, find.is_complete) == (True, True)
    assert find.query.limit < 200


def test_what_is_below_the_level_matches_and_is_not_returned() -> None:
    find = parse(Modality="CT")
    assert find.query.conditions == (Equals("Modality", "CT"),)
    assert not find.is_complete
    assert "00080060" not in find.build_answer({})


def test_an_answer_has_the_keys_that_were_asked_for_and_no_others() -> None:
    item = Dataset()
    item.CodeValue = ""
    item.CodeMeaning = ""
    find = parse(PatientName="x", PatientAge=None, ProcedureCodeSequence=Sequence([item]), PatientID=None)
    stored = {"00080100": {"vr": "SH", "Value": ["1"]}, "00080102": {"vr": "SH", "Value": ["SCT"]}}
    answer = find.build_answer(
        {
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A"}]},
            "00100020": {"vr": "LO", "Value": ["1"]},
            "00081032": {"vr": "SQ", "Value": [stored, stored]},
            "00081030": {"vr": "LO", "Value": ["not asked"]},
        }
    )
    chosen = {"00080100": {"vr": "SH", "Value": ["1"]}, "00080104": {"vr": "LO"}}
    assert answer == {
        "00080052": {"vr": "CS", "Value": ["STUDY"]},
        "00081032": {"vr": "SQ", "Value": [chosen, chosen]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A"}]},
        "00100020": {"vr": "LO", "Value": ["1"]},
        "00101010": {"vr": "AS"},
    }


@pytest.mark.parametrize(
    ("level", "levels", "keys"),
    [
        ("STUDY", PATIENT_ROOT, {}),
        ("STUDY", PATIENT_ROOT, {"PatientID": "A?"}),
        ("SERIES", PATIENT_ROOT[1:], {"StudyInstanceUID": ["1.2", "1.3"]}),
        ("IMAGE", PATIENT_ROOT[1:], {"SeriesInstanceUID": "1.2"}),
        ("PATIENT", PATIENT_ROOT[1:], {}),
        ("SERIES", PATIENT_ROOT[:2], {"PatientID": "A", "StudyInstanceUID": "1.2"}),
    ],
)
def test_a_hierarchical_query_without_its_unique_keys_does_not_match_the_model(level, levels, keys) -> None:
    with pytest.raises(InvalidIdentifier):
        parse_find(build(level, **keys), levels, Agreement())


def test_a_unique_key_of_the_level_itself_may_be_anything() -> None:
    assert parse_find(build("STUDY", StudyInstanceUID=["1.2", "1.3"]), PATIENT_ROOT[1:], Agreement()).query.conditions


@pytest.mark.parametrize("element", [{"vr": "UN", "InlineBinary": "AQI="}, {"vr": "LO", "BulkDataURI": "x"}])
def test_a_key_whose_value_cannot_be_read_is_never_a_key_without_a_value(element) -> None:
    with pytest.raises(InvalidIdentifier):
        parse_find(build() | {"00100020": element}, PATIENT_ROOT, RELATIONAL)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (b"", Agreement()),
        (b"\0\0", Agreement()),
        (b"\1", Agreement(relational=True)),
        (b"\1\1\1\1\1\1\1\1\1", Agreement(True, True, True, True, True)),
    ],
)
def test_what_is_answered_is_what_is_agreed(offered, agreed) -> None:
    answer = negotiate_options(offered)
    assert (answer is None) == (not offered)
    assert len(answer or b"") == min(len(offered), 7)
    assert Agreement.of(answer or b"") == agreed


VALID = as_dataset_bytes(
    Dataset.from_json(
        {
            "00080052": {"vr": "CS", "Value": ["STUDY"]},
            "00080020": {"vr": "DA", "Value": ["20240101-20240131"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "BEN*"}]},
            "0020000D": {"vr": "UI", "Value": ["1.2", "1.3"]},
            "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S"]}}]},
        }
    ),
    EXPLICIT,
)


@given(
    start=st.integers(0, len(VALID)),
    cut=st.integers(0, 12),
    inserted=st.binary(max_size=24),
    syntax=st.sampled_from([EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]),
)
def test_damaged_identifiers_are_searched_or_refused(start, cut, inserted, syntax) -> None:
    data = VALID[:start] + inserted + VALID[start + cut :]
    with suppress(InvalidHeader, InvalidIdentifier):
        find = parse_find(parse_data_set(BytesIO(data), syntax, "ISO_IR 100"), PATIENT_ROOT, RELATIONAL)
        find.build_answer({})
