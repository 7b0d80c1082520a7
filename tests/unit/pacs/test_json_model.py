"""A stranger's DICOM JSON is made like our own, or refused."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.ingest.json_model import InvalidDataSet, read_data_set
from tests.builders import build_sr


def one(tag, **element):
    return read_data_set({tag: element})[tag.upper()]


@pytest.mark.parametrize(
    ("tag", "vr"),
    [
        ("00100020", "LO"),
        ("0020000d", "UI"),
        ("00280106", "US"),
        ("60003000", "OW"),
        ("00290010", "LO"),
        ("00291008", "UN"),
    ],
)
def test_a_missing_vr_is_looked_up(tag, vr):
    assert one(tag)["vr"] == vr


def test_a_private_element_is_known_by_its_creator():
    creator = {"00290010": {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]}}
    assert read_data_set(creator | {"00291008": {"Value": ["IMAGE"]}})["00291008"] == {"vr": "CS", "Value": ["IMAGE"]}


def test_a_vr_that_is_open_follows_the_value():
    assert one("00280106", Value=[-5]) == {"vr": "SS", "Value": [-5]}
    assert one("00280106", Value=[5]) == {"vr": "US", "Value": [5]}


def test_values_of_a_known_attribute_that_is_called_unknown_are_read():
    assert one("00100020", vr="UN", Value=["A"]) == {"vr": "LO", "Value": ["A"]}


@pytest.mark.parametrize("element", [{"vr": "LO"}, {"vr": "LO", "Value": []}, {"vr": "LO", "Value": None}, {}])
def test_an_empty_value_is_none(element):
    assert one("00100020", **element) == {"vr": "LO"}


@pytest.mark.parametrize(
    ("vr", "value", "read"),
    [
        ("DS", "1.50", "1.50"),
        ("DS", 1.5, 1.5),
        ("IS", 5.0, 5),
        ("IS", "0005", "0005"),
        ("UV", "18446744073709551615", 2**64 - 1),
        ("US", 5.0, 5),
        ("FD", "-Infinity", -math.inf),
        ("AT", "0028000a", "0028000A"),
        ("PN", "A^B", {"Alphabetic": "A^B"}),
        ("PN", {"Alphabetic": None, "Phonetic": "X"}, {"Phonetic": "X"}),
        ("SQ", None, {}),
    ],
)
def test_values_become_of_the_type_of_their_vr(vr, value, read):
    assert one("00290010", vr=vr, Value=[value])["Value"] == [read]


def test_a_number_that_is_none_comes_as_null():
    assert math.isnan(one("00290010", vr="FD", Value=[None])["Value"][0])


def test_group_lengths_and_file_meta_information_are_left_out():
    item = {"00020010": {"vr": "UI", "Value": ["1.2"]}, "00080000": {"vr": "UL", "Value": [1]}, "00100020": {}}
    assert list(read_data_set(item)) == ["00100020"]


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        "CANARY",
        {"CANARY": {"vr": "LO"}},
        {"PatientID": {"vr": "LO"}},
        {"0010002": {"vr": "LO"}},
        {"FFFEE000": {"vr": "SQ"}},
        {"00100020": "CANARY"},
        {"00100020": {"vr": "CANARY"}},
        {"00100020": {"vr": 5}},
        {"00100020": {"vr": "US or SS"}},
        {"00100020": {"vr": "LO", "Value": "CANARY"}},
        {"00100020": {"vr": "LO", "Value": [5]}},
        {"00100020": {"vr": "LO", "Value": [{"CANARY": 1}]}},
        {"00100020": {"vr": "LO", "Value": ["A"], "InlineBinary": "AAAA"}},
        {"00100020": {"vr": "LO", "InlineBinary": "AAAA"}},
        {"00100010": {"vr": "PN", "Value": [{"Given": "CANARY"}]}},
        {"00280010": {"vr": "US", "Value": [True]}},
        {"00280010": {"vr": "US", "Value": ["CANARY"]}},
        {"00280010": {"vr": "US", "Value": [1.5]}},
        {"00280010": {"vr": "US", "Value": [None]}},
        {"00280030": {"vr": "DS", "Value": [True]}},
        {"00420011": {"vr": "OB", "Value": ["CANARY"]}},
        {"00420011": {"vr": "OB", "BulkDataURI": ["CANARY"]}},
        {"00081115": {"vr": "SQ", "BulkDataURI": "CANARY"}},
        {"00081115": {"vr": "SQ", "Value": ["CANARY"]}},
        {"00280009": {"vr": "AT", "Value": ["CANARY"]}},
    ],
)
def test_what_is_no_data_set_is_refused_without_being_repeated(item):
    with pytest.raises(InvalidDataSet) as error:
        read_data_set(item)
    assert "CANARY" not in str(error.value)


def test_nesting_is_bounded():
    item = {}
    for _ in range(70):
        item = {"00081115": {"vr": "SQ", "Value": [item]}}
    with pytest.raises(InvalidDataSet, match="nest deeper"):
        read_data_set(item)


def test_our_own_is_left_as_it_is():
    own = build_sr().to_json_dict()
    assert read_data_set(own) == own


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["00100020", "00081115", "SQ", "PN", "US", "1.2"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vr", "Value", "BulkDataURI", "InlineBinary", "00081115", "00280010"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_any_json_is_read_or_refused(item):
    try:
        read = read_data_set(item)
    except InvalidDataSet:
        return
    assert all(len(tag) == 8 and len(element["vr"]) == 2 for tag, element in read.items())
    orjson.dumps(read, option=orjson.OPT_NON_STR_KEYS)
