"""Where frames lie: for every kind of offset table and none, against pydicom's own frames, and as stored."""

import io
import logging
import struct
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.encaps import generate_frames

from pacs.errors import HeaderTooLarge, InvalidHeader, TruncatedDataSet
from pacs.imaging import fragments as fragments_module
from pacs.imaging.fragments import scan_fragments
from pacs.imaging.frames import decode_layout, encode_layout, plan_frames
from pacs.ingest.header import parse_header
from pacs.model import ByteRange, FrameLayout
from tests import builders

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
SERIES = {"ct-series", "mr-series", "many-studies", "mr-fmri"}
PYDICOM_CANNOT = {"emri_small_jpeg_2k_lossless_too_short.dcm", "trailing_garbage.dcm", "badVR.dcm"}
FRAMES = [b"\xff\xd8\xff" + bytes([number]) * (number * 2 + 1) + b"\xff\xd9" for number in range(1, 5)]


class Source:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def read_range(self, start: int, end: int) -> bytes:
        return self.content[start:end]


def frames_of(content: bytes) -> list[bytes]:
    """Return every frame by its planned ranges, after a round trip through storage."""
    source = Source(content)
    layout = plan_frames(parse_header(source, len(content)), source)
    assert decode_layout(encode_layout(layout)) == layout
    return [b"".join(content[part.start : part.end] for part in frame) for frame in layout.frames]


def encapsulated(items: list[bytes], table: bytes = b"", frames: int = 4, **overrides) -> bytes:
    value = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(part)) + part for part in (table, *items))
    dataset = builders.build_encapsulated(FRAMES, NumberOfFrames=frames, **overrides)
    dataset.PixelData = value + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return builders.as_part10(dataset, uid.JPEGBaseline8Bit)


def corpus_files() -> list[Path]:
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.suffix not in (".md", ".csv")]
    return [
        path
        for index, path in enumerate(files)
        if path.name not in PYDICOM_CANNOT and (path.parent.name not in SERIES or index % 20 == 0)
    ]


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus_frames_equal_pydicoms(path, caplog):
    caplog.set_level(logging.CRITICAL, logger="pydicom")
    content = path.read_bytes()
    try:
        header = parse_header(Source(content), len(content))
    except InvalidHeader:
        return
    frames = frames_of(content)
    if header.pixels is None or header.is_deflated:
        assert frames == []
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        count = int(dataset.get("NumberOfFrames") or 1)
        value = dataset[int(header.pixels.tag, 16)].value
        if header.pixels.is_encapsulated:
            assert frames == list(generate_frames(value, number_of_frames=count))
        elif int(dataset.get("BitsAllocated", 0)) != 1:
            joined = b"".join(frames)
            assert value.startswith(joined)
            assert "mismatch" in path.name or not frames or len(frames) == count


@pytest.mark.parametrize("fragments_per_frame", [1, 2, 3])
def test_frames_by_a_right_basic_offset_table(fragments_per_frame):
    dataset = builders.build_encapsulated(FRAMES, fragments_per_frame=fragments_per_frame)
    assert_frames(builders.as_part10(dataset, uid.JPEGBaseline8Bit))


@pytest.mark.parametrize("fragments_per_frame", [1, 2, 3])
def test_frames_without_a_table_by_their_end_markers(fragments_per_frame):
    dataset = builders.build_encapsulated(FRAMES, fragments_per_frame=fragments_per_frame, has_offset_table=False)
    assert_frames(builders.as_part10(dataset, uid.JPEGBaseline8Bit))


def test_frames_without_a_table_or_end_markers_by_their_start_markers():
    items = [b"\xff\xd8\xff\1", b"more", b"\xff\xd8\xff\2", b"\xff\xd8\xff\3", b"rest"]
    assert frames_of(encapsulated(items, frames=3)) == [items[0] + items[1], items[2], items[3] + items[4]]


def test_frames_by_an_extended_offset_table_leave_out_padding():
    dataset = builders.build_encapsulated(FRAMES, has_extended_offset_table=True)
    frames = frames_of(builders.as_part10(dataset, uid.JPEGBaseline8Bit))
    assert_same_but_padding(frames)


@pytest.mark.parametrize(
    "offsets", [(0, 1, 2, 3), (0, 0, 0, 0), (8, 20, 30, 40), (0, 0xFFFFFFFF, 5, 6), (0,), (0, 14, 14, 14)]
)
def test_wrong_basic_offset_table_is_not_believed(offsets):
    items = [frame + b"\0" * (len(frame) % 2) for frame in FRAMES]
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    assert frames_of(encapsulated(items, table)) == items


def test_wrong_extended_offset_table_is_not_believed():
    dataset = builders.build_encapsulated(FRAMES, has_extended_offset_table=True)
    dataset.ExtendedOffsetTable = struct.pack("<4Q", 0, 2**63, 5, 7)
    assert_same_but_padding(frames_of(builders.as_part10(dataset, uid.JPEGBaseline8Bit)))


def test_single_frame_is_all_its_fragments():
    assert frames_of(encapsulated(FRAMES, frames=1)) == [b"".join(FRAMES)]


def test_video_is_one_stream_however_many_frames():
    dataset = builders.build_encapsulated([b"stream"], NumberOfFrames=250)
    assert frames_of(builders.as_part10(dataset, uid.MPEG4HP41)) == [b"stream"]
    dataset = builders.build_encapsulated([b"stream, part", b" two"], NumberOfFrames=250)
    assert frames_of(builders.as_part10(dataset, uid.MPEG4HP41F)) == [b"stream, part two"]


def test_rle_frames_are_one_fragment_each():
    items = [b"one ", b"two ", b"three "]
    dataset = builders.build_encapsulated(items, has_offset_table=False, NumberOfFrames=2)
    assert frames_of(builders.as_part10(dataset, uid.RLELossless)) == items


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_native_frames(syntax):
    dataset = builders.build_multiframe(5)
    size = len(dataset.PixelData) // 5
    expected = [dataset.PixelData[start : start + size] for start in range(0, 5 * size, size)]
    assert frames_of(builders.as_part10(dataset, syntax)) == expected


def test_no_number_of_frames_is_one_frame():
    dataset = builders.build_ct()
    assert frames_of(builders.as_part10(dataset)) == [dataset.PixelData]


def test_frames_that_are_not_there_are_not_planned():
    dataset = builders.build_multiframe(5, NumberOfFrames=1_000_000)
    assert len(frames_of(builders.as_part10(dataset))) == 5
    assert frames_of(builders.as_part10(builders.build_ct(Rows=0))) == []
    assert frames_of(builders.as_part10(builders.build_ct(Rows=60000))) == []


def test_bit_packed_frames_overlap_in_a_byte_and_say_so():
    content = builders.as_part10(builders.build_segmentation(frames=3, rows=5, columns=5))
    source = Source(content)
    header = parse_header(source, len(content))
    layout = plan_frames(header, source)
    assert header.pixels is not None
    start = header.pixels.range.start
    assert layout.bit_offset_step == 25
    assert layout.frames == (
        (ByteRange(start, start + 4),),
        (ByteRange(start + 3, start + 7),),
        (ByteRange(start + 6, start + 10),),
    )
    assert decode_layout(encode_layout(layout)) == layout


def test_bit_packed_frames_on_bytes_are_like_others():
    content = builders.as_part10(builders.build_segmentation(frames=3, rows=8, columns=8))
    source = Source(content)
    assert plan_frames(parse_header(source, len(content)), source).bit_offset_step == 0


@pytest.mark.parametrize(("length", "expected"), [(8 * 8 * 2, 128), (8 * 8 * 3, 192)])
def test_native_ybr_full_422_has_two_bytes_a_pixel_unless_there_are_three(length, expected):
    dataset = builders.build_dataset()
    dataset.update(builders.build_image(bits=8, samples=3))
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = bytes(length)
    assert [len(frame) for frame in frames_of(builders.as_part10(dataset))] == [expected]


def test_float_pixels_have_frames():
    dataset = builders.build_ct(PixelData=None, BitsAllocated=32, FloatPixelData=bytes(256))
    assert [len(frame) for frame in frames_of(builders.as_part10(dataset))] == [256]


def test_deflated_data_set_has_no_byte_ranges():
    assert frames_of(builders.as_part10(builders.build_ct(), uid.DeflatedExplicitVRLittleEndian)) == []


def test_native_layout_is_small_however_many_frames():
    frames = tuple((ByteRange(5000 + 524288 * index, 5000 + 524288 * (index + 1)),) for index in range(500))
    assert len(encode_layout(FrameLayout(frames))) < 32


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**34)), max_size=4).map(
            lambda parts: tuple(ByteRange(start, start + length) for start, length in parts)
        ),
        max_size=20,
    ),
    st.integers(0, 2**20),
)
def test_any_layout_survives_encoding(frames, step):
    layout = FrameLayout(tuple(frames), step if frames else 0)
    assert decode_layout(encode_layout(layout)) == layout


@given(st.binary(max_size=50))
def test_bytes_that_are_no_layout_raise_value_error(encoded):
    try:
        decode_layout(encoded)
    except ValueError:
        return


def test_fragments_are_bounded(monkeypatch):
    monkeypatch.setattr(fragments_module, "MAX_FRAGMENTS", 10)
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 20
    with pytest.raises(HeaderTooLarge):
        scan_fragments(Source(items), 0, len(items))


def test_fragment_past_the_end_is_truncated():
    with pytest.raises(TruncatedDataSet):
        scan_fragments(Source(b"\xfe\xff\x00\xe0\x64\0\0\0abc"), 0, 11)


def assert_frames(content: bytes) -> None:
    assert frames_of(content) == [frame + b"\0" * (len(frame) % 2) for frame in FRAMES]


def assert_same_but_padding(frames: list[bytes]) -> None:
    assert [frame.rstrip(b"\0") for frame in frames] == FRAMES
