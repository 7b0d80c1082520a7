"""Search parameters, without HTTP (PS3.18 8.3.4)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb.params import find_attribute, parse_fields, parse_search
from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.query import AnyOf, Equals, InRange, IsEmpty, Wildcard


def search(query_string, level=Level.STUDY):
    return parse_search(level, (), parse_fields(query_string))


def conditions(query_string, level=Level.STUDY):
    parsed = search(query_string, level)
    assert parsed.warnings == ()
    return parsed.query.conditions


@pytest.mark.parametrize(
    ("query_string", "condition"),
    [
        ("PatientID=A1", Equals("PatientID", "A1")),
        ("00100020=A1", Equals("PatientID", "A1")),
        ("PatientName=ben%2A", Wildcard("PatientName", "ben*")),
        ("PatientName=ben*", Wildcard("PatientName", "ben*")),
        ("PatientName=%D8%A8%D9%86", Equals("PatientName", "بن")),
        ("PatientName=A%20B", Equals("PatientName", "A B")),
        ("PatientID=a%2Fb%2Bc%26d%3De", Equals("PatientID", "a/b+c&d=e")),
        ("StudyDate=20240101-20240131", InRange("StudyDate", "20240101", "20240131")),
        ("StudyDate=-20240131", InRange("StudyDate", "", "20240131")),
        ("StudyDate=20240101", InRange("StudyDate", "20240101", "20240101")),
        ("StudyInstanceUID=1.2,1.3", AnyOf("StudyInstanceUID", ("1.2", "1.3"))),
        ("StudyInstanceUID=1.2%5C1.3", AnyOf("StudyInstanceUID", ("1.2", "1.3"))),
        ("StudyInstanceUID=1.2&StudyInstanceUID=1.3", AnyOf("StudyInstanceUID", ("1.2", "1.3"))),
        ("StudyInstanceUID=1.2&0020000D=1.2", Equals("StudyInstanceUID", "1.2")),
        ("StudyInstanceUID=1.2,", Equals("StudyInstanceUID", "1.2")),
        ("ModalitiesInStudy=CT%5CMR", AnyOf("ModalitiesInStudy", ("CT", "MR"))),
        ("ModalitiesInStudy=CT,MR", AnyOf("ModalitiesInStudy", ("CT", "MR"))),
        ("PatientID=a,b", Equals("PatientID", "a,b")),
        ("PatientID=a%5Cb", Equals("PatientID", "a\\b")),
        ("PatientID=a%5Cb&multiplevaluematching=true", AnyOf("PatientID", ("a", "b"))),
        ("PatientID=a&PatientID=b&multiplevaluematching=true", AnyOf("PatientID", ("a", "b"))),
        ("PatientID=a&PatientID=a", Equals("PatientID", "a")),
        ("PatientID=%22%22&emptyvaluematching=true", IsEmpty("PatientID")),
        ("StudyDate=%22%22&emptyvaluematching=true", IsEmpty("StudyDate")),
        ("PatientID=%22%22", Equals("PatientID", '""')),
        ("PatientID=", None),
        ("PatientID=*", None),
        ("StudyInstanceUID=*", None),
    ],
)
def test_conditions(query_string, condition):
    assert conditions(query_string) == (() if condition is None else (condition,))


def test_tags_are_read_in_any_case():
    assert find_attribute("0008103e") is find_attribute("0008103E") is find_attribute("SeriesDescription")


@pytest.mark.parametrize(
    "name",
    ["RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009", "00400275.ScheduledProcedureStepID"],
)
def test_an_attribute_inside_a_sequence_is_named_by_its_path(name):
    assert conditions(f"{name}=S1", Level.SERIES) == (Equals("ScheduledProcedureStepID", "S1"),)


@pytest.mark.parametrize(
    "query_string",
    [
        "StudyDate=2024",
        "StudyDate=20240230",
        "StudyDate=20240101-2024",
        "StudyDate=%22%22",
        "StudyTime=25",
        "StudyInstanceUID=1.2.a",
        "StudyInstanceUID=../../etc/passwd",
        "StudyInstanceUID=" + "1" * 65,
        "StudyInstanceUID=" + "1,2," * 600,
        "PatientID=a&PatientID=b",
        "PatientID=" + "x" * 300,
        "PatientName=a%00b",
        "PatientName=%FF",
        "limit=-1",
        "limit=many",
        "limit=",
        "limit=1&limit=2",
        "offset=-1",
        "offset=99999999999",
        "fuzzymatching=perhaps",
        "emptyvaluematching=1",
        "multiplevaluematching=true&multiplevaluematching=false",
        "&".join(["a=1"] * 1001),
    ],
)
def test_malformed_values_are_invalid_queries(query_string):
    with pytest.raises(InvalidQuery):
        search(query_string)


@pytest.mark.parametrize(
    "name", ["Foo", "_", "PixelSpacing", "00280030", "00091001", "ScheduledProcedureStepID", "PatientComments", "A.B.C"]
)
def test_what_cannot_be_matched_is_named_in_a_warning(name):
    parsed = search(f"{name}=secret")
    assert parsed.query.conditions == ()
    (warning,) = parsed.warnings
    assert name in warning
    assert "secret" not in warning


def test_a_parameter_name_that_is_no_name_is_not_repeated():
    (warning,) = search("Benali%5EAmine=1").warnings
    assert "Benali" not in warning


def test_an_error_never_repeats_the_value():
    for query_string in ("StudyDate=CANARY", "StudyInstanceUID=CANARY", "limit=CANARY", "PatientID=CANARY&PatientID=B"):
        with pytest.raises(InvalidQuery) as caught:
            search(query_string)
        assert "CANARY" not in str(caught.value)


def test_a_study_can_be_found_by_what_is_below_it():
    assert conditions("Modality=CT") == (Equals("Modality", "CT"),)


def test_paging():
    query = search("limit=5&offset=10").query
    assert (query.limit, query.offset) == (5, 10)
    assert search("limit=0").query.limit == 0
    assert search("").query.limit is None


def test_included_fields_are_lists_tags_keywords_and_paths():
    parsed = search("includefield=00081030,PatientAge&includefield=0040a730&includefield=00400275.00400009")
    assert parsed.included_tags == {"00081030", "00101010", "0040A730", "00400275"}
    assert not parsed.includes_all
    assert search("includefield=all").includes_all


def test_an_included_field_that_is_no_attribute_is_a_warning():
    parsed = search("includefield=Nonsense,PatientAge")
    assert parsed.included_tags == {"00101010"}
    assert len(parsed.warnings) == 1


def test_matched_attributes_are_returned():
    assert search("PatientAge=054Y&InstitutionName=&StudyDescription=x*").included_tags == {"00081030", "00080080"}


def test_fuzzy_matching_is_asked_for_and_warns_of_nothing():
    assert search("fuzzymatching=true").query.is_fuzzy
    assert search("fuzzymatching=true").warnings == ()
    assert not search("fuzzymatching=false").query.is_fuzzy
    assert not search("").query.is_fuzzy


@given(
    st.lists(st.tuples(st.sampled_from(["PatientName", "StudyDate", "limit", "00080061", "x"]), st.text(max_size=12)))
)
def test_any_fields_give_a_search_or_an_invalid_query(fields):
    with suppress(InvalidQuery):
        parse_search(Level.INSTANCE, (), fields)
