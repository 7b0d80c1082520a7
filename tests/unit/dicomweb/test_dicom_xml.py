"""The Native DICOM Model in XML (PS3.19 A.1)."""

import base64
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb import dicom_xml
from dicomweb.dicom_xml import ModelParser
from dicomweb.errors import InvalidXml

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def parse(text, step=0):
    data = text.encode() if isinstance(text, str) else text
    parser = ModelParser()
    for position in range(0, len(data), step or len(data) or 1):
        parser.feed(data[position : position + (step or len(data))])
    return parser.finish()


def document(*inside):
    return "<NativeDicomModel>" + "".join(inside) + "</NativeDicomModel>"


def attribute(tag, vr, *inside, **fields):
    extra = "".join(f' {name}="{value}"' for name, value in fields.items())
    return f'<DicomAttribute tag="{tag}" vr="{vr}"{extra}>' + "".join(inside) + "</DicomAttribute>"


def elements(model):
    return ET.fromstring(dicom_xml.encode(model))


def test_a_document_names_its_namespace_and_preserves_space():
    root = elements({})
    assert root.tag == NAMESPACE + "NativeDicomModel"
    assert root.attrib == {"{http://www.w3.org/XML/1998/namespace}space": "preserve"}


def test_an_attribute_has_tag_vr_keyword_and_numbered_values():
    (image_type,) = elements({"00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]}})
    assert image_type.attrib == {"tag": "00080008", "vr": "CS", "keyword": "ImageType"}
    assert [(value.get("number"), value.text) for value in image_type] == [("1", "ORIGINAL"), ("2", "PRIMARY")]


def test_a_name_has_its_groups_and_components():
    (name,) = elements({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B^^D", "Ideographic": "山田"}]}})
    (person,) = name
    assert [(group.tag.removeprefix(NAMESPACE), [part.text for part in group]) for group in person] == [
        ("Alphabetic", ["A", "B", "D"]),
        ("Ideographic", ["山田"]),
    ]
    assert [part.tag.removeprefix(NAMESPACE) for part in person[0]] == ["FamilyName", "GivenName", "NamePrefix"]


def test_bulk_data_inline_binaries_and_items():
    uri = 'http://host/bulk?a=1&b="2"'
    model = {
        "00081115": {"vr": "SQ", "Value": [{"00020010": {"vr": "UI", "Value": ["1.2"]}}, {}]},
        "00282000": {"vr": "OB", "InlineBinary": "AAEC"},
        "7FE00010": {"vr": "OW", "BulkDataURI": uri},
    }
    sequence, inline, bulk = elements(model)
    assert [(item.get("number"), len(item)) for item in sequence] == [("1", 1), ("2", 0)]
    assert inline[0].text == "AAEC"
    assert bulk[0].attrib == {"uri": uri}
    assert parse(dicom_xml.encode(model)) == model


def test_private_elements_name_their_creator_and_leave_the_block_out():
    model = {
        "00290011": {"vr": "LO", "Value": ["MADE BY A"]},
        "00291110": {"vr": "UN", "InlineBinary": "AAE="},
        "00291210": {"vr": "UN", "InlineBinary": "AAE="},
    }
    creator, owned, orphan = elements(model)
    assert creator.attrib == {"tag": "00290011", "vr": "LO"}
    assert owned.attrib == {"tag": "00290010", "vr": "UN", "privateCreator": "MADE BY A"}
    assert orphan.attrib == {"tag": "00291210", "vr": "UN"}
    assert parse(dicom_xml.encode(model)) == model


def test_a_creator_with_two_blocks_keeps_them_apart():
    model = {
        "00290010": {"vr": "LO", "Value": ["A"]},
        "00290011": {"vr": "LO", "Value": ["A"]},
        "00291001": {"vr": "SH", "Value": ["1"]},
        "00291101": {"vr": "SH", "Value": ["2"]},
    }
    assert parse(dicom_xml.encode(model)) == model


@pytest.mark.parametrize("order", [1, -1])
def test_private_elements_without_reserved_blocks_get_free_ones(order):
    parts = [
        attribute("00290010", "LO", '<Value number="1">B</Value>'),
        attribute("00290001", "SH", '<Value number="1">b</Value>', privateCreator="B"),
        attribute("00290001", "SH", '<Value number="1">a</Value>', privateCreator="A"),
        attribute("00291001", "SH", '<Value number="1">c</Value>', privateCreator="C"),
    ]
    model = parse(document(*parts[::order]))
    found = {model[f"002900{tag[4:6]}"]["Value"][0]: model[tag]["Value"][0] for tag in model if tag[4:6] != "00"}
    assert found == {"A": "a", "B": "b", "C": "c"}


def test_characters_that_xml_has_no_place_for_are_replaced_and_others_kept():
    text = "a\x00b\x1bc\ud800d\uffffe\r\n\t<&>]]>\"' ' 👍"
    (value,) = parse(dicom_xml.encode({"00104000": {"vr": "LT", "Value": [text]}}))["00104000"]["Value"]
    assert value == text.translate(dict.fromkeys((0, 0x1B, 0xD800, 0xFFFF), "\ufffd"))


@pytest.mark.parametrize("step", [0, 1, 7])
def test_how_a_document_is_cut_changes_nothing(step):
    model = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Bénali^أمين"}]}, "00280010": {"vr": "US", "Value": [5]}}
    assert parse(dicom_xml.encode(model), step) == model


def test_values_are_put_where_their_numbers_say():
    inside = '<Value number="3">C</Value><Value number="1">A</Value>'
    assert parse(document(attribute("00080008", "CS", inside))) == {"00080008": {"vr": "CS", "Value": ["A", None, "C"]}}


@pytest.mark.parametrize(
    ("vr", "text", "value"),
    [
        ("DS", "1.50", 1.5),
        ("IS", " 7 ", 7),
        ("US", "65535", 65535),
        ("UV", "18446744073709551615", 18446744073709551615),
        ("FD", "1e-3", 0.001),
        ("FD", "NaN", "NaN"),
        ("IS", "1_0", "1_0"),
        ("DS", "\uff11", "\uff11"),
        ("AT", "0028000a", "0028000A"),
        ("SH", "", None),
        ("LO", " a ", " a "),
    ],
)
def test_values_by_vr(vr, text, value):
    parsed = parse(document(attribute("00190010", vr, f"<Value>{text}</Value>")))["00190010"]
    assert parsed == ({"vr": vr} if value is None else {"vr": vr, "Value": [value]})


def test_a_missing_vr_is_the_dictionarys():
    assert parse(document('<DicomAttribute tag="0020000d"><Value>1.2</Value></DicomAttribute>')) == {
        "0020000D": {"vr": "UI", "Value": ["1.2"]}
    }


LAUGHS = '<!DOCTYPE a [<!ENTITY b "CANARY"><!ENTITY c "&b;&b;">]>' + document(
    attribute("00100020", "LO", "<Value>&c;</Value>")
)
DEEP = attribute("00081115", "SQ", "<Item>")[: -len("</DicomAttribute>")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CANARY",
        "<NativeDicomModel>",
        "<Other/>",
        '<NativeDicomModel xmlns="http://elsewhere/CANARY"/>',
        LAUGHS,
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + document(),
        '<?xml version="1.0" encoding="CANARY"?>' + document(),
        document("CANARY"),
        document(attribute("0010002", "LO")),
        document(attribute("00100020", "lo")),
        document(attribute("00100020", "LO"), attribute("00100020", "LO")),
        document(attribute("00100020", "LO", "CANARY")),
        document(attribute("00100020", "LO", '<Value number="0">CANARY</Value>')),
        document(attribute("00100020", "LO", '<Value number="x">CANARY</Value>')),
        document(attribute("00100020", "LO", '<Value number="1">A</Value><Value number="1">B</Value>')),
        document(attribute("00100020", "LO", '<Value number="999999999">A</Value>')),
        document(attribute("00100020", "LO", "<Item/>")),
        document(attribute("00100010", "PN", "<Value>CANARY</Value>")),
        document(attribute("00081115", "SQ", "<Value>CANARY</Value>")),
        document(attribute("00420011", "OB", '<BulkData uri="a"/><InlineBinary>AA==</InlineBinary>')),
        document(attribute("00100020", "LO", "<Value>&CANARY;</Value>")),
        "<NativeDicomModel>" + DEEP * 70,
    ],
)
def test_what_is_no_data_set_is_told_in_one_sentence_that_repeats_nothing(text):
    with pytest.raises(InvalidXml) as error:
        parse(text)
    assert "CANARY" not in str(error.value)
    assert str(error.value).endswith(".")


def test_counts_are_bounded(monkeypatch):
    with pytest.raises(InvalidXml, match="too many elements"):
        ModelParser(100).feed(document(attribute("00100020", "LO", "<Value/>" * 200)).encode())
    monkeypatch.setattr(dicom_xml, "MAX_VALUES", 10)
    with pytest.raises(InvalidXml, match="too many values"):
        parse(document(attribute("00100020", "LO", "<Value/>" * 20)))


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\\^=\ufffe\uffff", exclude_categories=("Cc", "Cs")), min_size=1
)
NAMES = st.lists(st.just("") | TEXTS, min_size=1, max_size=5).map("^".join).map(lambda name: name.rstrip("^"))
NUMBERS = {
    "US": st.integers(0, 65535),
    "SS": st.integers(-32768, 32767),
    "SV": st.integers(-(2**63), 2**63 - 1),
    "UV": st.integers(0, 2**64 - 1),
    "IS": st.integers(-(2**31), 2**31 - 1),
    "DS": st.floats(allow_nan=False, allow_infinity=False),
    "FD": st.floats(allow_nan=False, allow_infinity=False),
    "FL": st.floats(allow_nan=False, allow_infinity=False, width=32),
}


def listed(vr, values):
    """Return an element whose last value is one: trailing empty ones are not told apart from none."""
    return st.lists(st.none() | values, max_size=4).map(
        lambda found: {"vr": vr, "Value": found} if found and found != [None] else {"vr": vr}
    )


LEAVES = st.one_of(
    *(listed(vr, TEXTS) for vr in ("LO", "SH", "UT", "CS", "UI")),
    *(listed(vr, values) for vr, values in NUMBERS.items()),
    listed("AT", st.integers(0, 2**32 - 1).map("{:08X}".format)),
    listed(
        "PN",
        st.fixed_dictionaries({}, optional=dict.fromkeys(("Alphabetic", "Ideographic", "Phonetic"), NAMES))
        .map(lambda name: {group: text for group, text in name.items() if text})
        .filter(bool),
    ),
    st.binary(max_size=9).map(lambda data: {"vr": "OB", "InlineBinary": base64.b64encode(data).decode()}),
    TEXTS.map(lambda uri: {"vr": "OW", "BulkDataURI": uri}),
)
TAGS = st.integers(0x00080001, 0x7FE00010).filter(lambda tag: tag & 0xFFFF).map("{:08X}".format)
CREATORS = st.tuples(st.sampled_from(["0029", "0031"]), st.integers(0x10, 0x14)).map(
    lambda one: f"{one[0]}00{one[1]:02X}"
)


def merge(*parts):
    return dict(sorted({tag: element for part in parts for tag, element in part.items()}.items()))


def data_sets(inner):
    private = st.dictionaries(
        st.tuples(st.sampled_from(["0029", "0031"]), st.integers(0x1000, 0x14FF)).map(
            lambda one: f"{one[0]}{one[1]:04X}"
        ),
        inner,
        max_size=3,
    )
    creators = st.dictionaries(
        CREATORS, st.sampled_from("ABC").map(lambda name: {"vr": "LO", "Value": [name]}), max_size=4
    )
    return st.builds(merge, st.dictionaries(TAGS, inner, max_size=4), private, creators)


ELEMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(data_sets(inner), min_size=1, max_size=2).map(lambda items: {"vr": "SQ", "Value": items}),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(data_sets(ELEMENTS))
def test_json_to_xml_to_json_is_the_same(model):
    assert parse(dicom_xml.encode(model)) == model
