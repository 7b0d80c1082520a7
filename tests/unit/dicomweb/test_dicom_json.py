"""DICOM JSON on its way out (PS3.18 F.2)."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import dicom_json

json_values = st.recursive(
    st.text() | st.sampled_from(['"BulkDataURI":"', '","BulkDataURI":"', "\\", '\\"BulkDataURI":"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_an_element_has_its_vr_and_values():
    assert dicom_json.element("PatientID", "A") == {"00100020": {"vr": "LO", "Value": ["A"]}}
    assert dicom_json.element("PatientID") == {"00100020": {"vr": "LO"}}


def test_an_item_is_in_the_order_of_its_tags():
    merged = dicom_json.item(dicom_json.element("PatientID", "A"), dicom_json.element("StudyDate", "20240101"))
    assert list(merged) == ["00080020", "00100020"]


def test_the_available_transfer_syntax_is_in_its_place_among_the_tags():
    encoded = dicom_json.encode(dicom_json.item(dicom_json.element("StudyDate", "1"), dicom_json.element("Rows", 2)))
    named = orjson.loads(dicom_json.with_transfer_syntax(encoded, "1.2.840.10008.1.2.4.102"))
    assert list(named) == ["00080020", "00083002", "00280010"]
    assert named["00083002"] == {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.102"]}


@given(st.lists(json_values, max_size=4))
def test_joined_items_are_one_array(items):
    assert orjson.loads(b"".join(dicom_json.join_array(map(orjson.dumps, items)))) == items


@given(json_values, st.text(max_size=5))
def test_only_the_bulk_address_gets_a_base_whatever_text_says(value, base):
    item = {"00104000": {"vr": "LT", "Value": [value]}, "7FE00010": {"vr": "OW", "BulkDataURI": "bulkdata/7FE00010"}}
    changed = orjson.loads(dicom_json.with_bulk_base(orjson.dumps(item), base))
    assert changed == item | {"7FE00010": {"vr": "OW", "BulkDataURI": base + "bulkdata/7FE00010"}}


def test_bulk_addresses_inside_sequences_get_the_base_too():
    item = {"40000000": {"vr": "SQ", "Value": [{"54001010": {"vr": "OB", "BulkDataURI": "x"}}]}}
    changed = orjson.loads(dicom_json.with_bulk_base(orjson.dumps(item), "http://h/"))
    assert changed["40000000"]["Value"][0]["54001010"]["BulkDataURI"] == "http://h/x"


def test_an_item_without_bulk_data_is_left_as_it_is():
    encoded = orjson.dumps(dicom_json.element("PatientID", "A"))
    assert dicom_json.with_bulk_base(encoded, "http://h") is encoded
