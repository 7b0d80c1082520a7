"""Hostile XML: whatever was done to a document, the parser gives a data set or InvalidXml, however it is cut."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb import dicom_xml
from dicomweb.dicom_xml import ModelParser
from dicomweb.errors import InvalidXml
from tests import builders
from tests.fuzz.amount import FACTOR

MAX_ELEMENTS = 2000
DOCUMENTS = [
    dicom_xml.encode(build().to_json_dict())
    for build in (builders.build_ct, builders.build_mr, builders.build_sr, builders.build_unicode, builders.build_pdf)
]
CRUMBS = [
    b"<NativeDicomModel>", b"</NativeDicomModel>", b'<DicomAttribute tag="00081115" vr="SQ">', b"</DicomAttribute>",
    b'<DicomAttribute tag="00290010" vr="LO">', b'<DicomAttribute tag="00290001" vr="OB" privateCreator="A">',
    b'<Item number="1">', b"</Item>", b'<Value number="2">', b"</Value>", b'<PersonName number="1">', b"</PersonName>",
    b"<Alphabetic>", b"</Alphabetic>", b"<FamilyName>", b"</FamilyName>", b'<BulkData uri="x"/>', b"<InlineBinary/>",
    b"<!DOCTYPE a [", b'<!ENTITY b "c">', b"]>", b"&b;", b"&#0;", b"&#xD800;", b"<![CDATA[", b"]]>", b"<!--", b"-->",
    b"<?xml version='1.0' encoding='UTF-16'?>", b"\xff\xfe", b"\0", b"1", b"-1", b"A^B", b'number="99999999"',
]  # fmt: skip


def survives(content: bytes, step: int = 1000) -> bool:
    parser = ModelParser(MAX_ELEMENTS)
    try:
        for position in range(0, len(content), step):
            parser.feed(content[position : position + step])
        model = parser.finish()
    except InvalidXml:
        return False
    orjson.dumps(model)
    again = ModelParser(10 * MAX_ELEMENTS)
    again.feed(dicom_xml.encode(model))
    again.finish()
    return True


def test_documents_are_valid_before_anything_is_done_to_them():
    assert all(map(survives, DOCUMENTS))


@settings(deadline=None, max_examples=100 * FACTOR)
@given(st.data(), st.sampled_from((1, 7, 1000)))
def test_bytes_changed_anywhere(data, step):
    content = bytearray(data.draw(st.sampled_from(DOCUMENTS)))
    changes = st.tuples(
        st.integers(0, len(content)), st.integers(0, 40), st.sampled_from(CRUMBS) | st.binary(max_size=4)
    )
    for start, length, change in data.draw(st.lists(changes, min_size=1, max_size=6)):
        content[start : start + length] = change
    survives(bytes(content), step)


@settings(deadline=None, max_examples=100 * FACTOR)
@given(st.data())
def test_pieces_moved_and_repeated(data):
    content = data.draw(st.sampled_from(DOCUMENTS))
    places = st.integers(0, len(content))
    start, end, target = data.draw(places), data.draw(places), data.draw(places)
    survives(content[:target] + content[min(start, end) : max(start, end)] * 3 + content[target:])


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.lists(st.sampled_from(CRUMBS) | st.binary(max_size=8), max_size=30), st.sampled_from((1, 1000)))
def test_arbitrary_documents(pieces, step):
    survives(b"".join(pieces), step)
    survives(b"<NativeDicomModel>" + b"".join(pieces) + b"</NativeDicomModel>", step)


def test_one_piece_repeated_many_times():
    for piece in CRUMBS:
        survives(piece * 20_000, 100_000)
        survives(CRUMBS[0] + piece * 20_000, 100_000)
        survives(CRUMBS[0] + CRUMBS[2] + piece * 20_000, 100_000)
