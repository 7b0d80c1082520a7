"""Hostile bytes: whatever was done to a data set, the parser gives a header or InvalidHeader, within its limits."""

import struct

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.errors import InvalidHeader
from pacs.imaging.frames import plan_frames
from pacs.ingest.header import parse_header
from pacs.ingest.limits import Limits
from tests import builders
from tests.fuzz.amount import FACTOR

LIMITS = Limits(elements=5000, header_bytes=4 * 1024 * 1024, inflated_bytes=1024 * 1024)
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
# Built once: hypothesis must see the same bytes for the same draw.
FILES = [
    *(builders.as_part10(builders.build_mr(), syntax) for syntax in NATIVE),
    *(builders.as_part10(builders.build_sr(), syntax) for syntax in NATIVE[:3]),
    builders.as_part10(builders.build_unicode()),
    builders.as_part10(builders.build_encapsulated(), uid.JPEGBaseline8Bit),
    builders.as_part10(builders.build_encapsulated(has_extended_offset_table=True), uid.JPEG2000),
    builders.as_dataset_bytes(builders.build_ct()),
    builders.as_dataset_bytes(builders.build_ct(), uid.ImplicitVRLittleEndian),
]
INTERESTING = [
    struct.pack("<HHL", 0xFFFE, element, length)
    for element in (0xE000, 0xE00D, 0xE0DD)
    for length in (0, 8, 0xFFFFFFFF)
] + [b"\xff" * 4, b"\0" * 4, b"SQ\0\0", b"UN\0\0\xff\xff\xff\xff", b"\xff\xff", b"\x7f\xe0\x00\x10"]


class Source:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read_bytes = 0

    def read_range(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= len(self.content), "nothing past the end may be read"
        self.read_bytes += end - start
        return self.content[start:end]


def survives(content: bytes) -> None:
    source = Source(content)
    try:
        header = parse_header(source, len(content), limits=LIMITS)
        layout = plan_frames(header, source)
    except InvalidHeader:
        return
    orjson.dumps(header.attributes)
    for bulk in header.bulk:
        assert 0 <= bulk.range.start < bulk.range.end
        assert header.is_deflated or bulk.range.end <= len(content)
    assert all(part.end <= len(content) for frame in layout.frames for part in frame)


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.sampled_from(FILES), st.floats(0, 1))
def test_truncated_anywhere(content, share):
    survives(content[: int(len(content) * share)])


@settings(deadline=None, max_examples=400 * FACTOR)
@given(st.data())
def test_bytes_changed_anywhere(data):
    content = bytearray(data.draw(st.sampled_from(FILES)))
    changes = st.tuples(
        st.integers(0, len(content) - 1), st.one_of(st.sampled_from(INTERESTING), st.binary(max_size=4))
    )
    for position, change in data.draw(st.lists(changes, min_size=1, max_size=8)):
        content[position : position + len(change)] = change
    survives(bytes(content))


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.data())
def test_pieces_moved_and_repeated(data):
    content = data.draw(st.sampled_from(FILES))
    places = st.integers(0, len(content))
    start, end, target = data.draw(places), data.draw(places), data.draw(places)
    survives(content[:target] + content[min(start, end) : max(start, end)] * 3 + content[target:])


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.lists(st.one_of(st.sampled_from(INTERESTING), st.binary(max_size=16)), max_size=60), st.sampled_from(NATIVE))
def test_arbitrary_data_sets(pieces, syntax):
    survives(builders.as_part10(Dataset(), syntax) + b"".join(pieces))


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="\\=^")
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "PatientComments": TEXTS,
        "PatientID": TEXTS,
        "PatientWeight": st.floats(0, 1000).map(lambda weight: f"{weight:.3f}"),
        "Rows": st.integers(0, 65535),
        "SmallestImagePixelValue": st.integers(0, 32767),
        "NumberOfFrames": st.integers(1, 2**31 - 1),
        "FrameIncrementPointer": st.just(0x00181063),
        "EncapsulatedDocument": st.binary(min_size=8, max_size=8),
        "RealWorldValueSlope": st.floats(allow_nan=False, allow_infinity=False),
    },
)


def build(values: dict) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@settings(deadline=None, max_examples=100 * FACTOR)
@given(VALUES, st.lists(VALUES, max_size=3), st.sampled_from(NATIVE))
def test_generated_data_sets_round_trip_in_every_encoding(values, items, syntax):
    dataset = build(values)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ContentSequence = Sequence([build(item) for item in items])
    dataset.PixelRepresentation = 0
    content = builders.as_part10(dataset, syntax)
    attributes = parse_header(Source(content), len(content)).attributes
    assert attributes["0040A730"]["Value"] == [expected(item) for item in items]
    assert {key: attributes[key] for key in expected(values)} == expected(values)


def expected(values: dict) -> dict:
    """Return the DICOM JSON of the values, with the VR that an unsigned image gives an open one."""
    attributes = build(values).to_json_dict()
    if smallest := attributes.get("00280106"):
        smallest["vr"] = "US"
    return attributes


@pytest.mark.parametrize("piece", INTERESTING)
def test_one_piece_repeated_many_times(piece):
    survives(builders.as_part10(Dataset()) + piece * 50_000)
    survives(builders.as_part10(Dataset(), uid.ImplicitVRLittleEndian) + piece * 50_000)
