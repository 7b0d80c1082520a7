"""Files made of metadata and bulk data (PS3.18 10.5), read back by another reader."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames, parse_basic_offsets

from pacs.ingest import assembly
from pacs.ingest.assembly import BulkPart, CannotAssemble, plan_file
from pacs.ingest.header import parse_header
from pacs.ingest.outcome import Reason
from tests.builders import build_ct, build_mr, build_multiframe, build_sr, build_unicode
from tests.imaging import Memory

PIXELS = "7FE00010"


def part(data, media_type="application/octet-stream", syntax=""):
    source = Memory(b"before" + data + b"behind")
    return BulkPart(source, 6, 6 + len(data), media_type, syntax)


def assemble(metadata, **bulk):
    """Return the file's bytes, and what pydicom reads there."""
    found = {uri: parts if isinstance(parts, list) else [parts] for uri, parts in bulk.items()}
    content = b"".join(plan_file(metadata, lambda uri: found.get(uri, [])).iter_chunks())
    return content, dcmread(io.BytesIO(content))


def refuse(metadata, **bulk):
    with pytest.raises(CannotAssemble) as error:
        assemble(metadata, **bulk)
    return error.value.reason


def described(dataset, **elements):
    """Return a data set's metadata with its pixel data elsewhere."""
    metadata = dataset.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: "pixels")
    return metadata | elements


def without_description(dataset):
    return {
        tag: element
        for tag, element in described(dataset).items()
        if not tag.startswith("0028") or tag in ("00281050", "00281051")
    }


def jpeg():
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 77).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("build", [build_ct, build_mr, build_sr, build_unicode, build_multiframe])
def test_what_went_apart_comes_together_again(build):
    dataset = build()
    pixels = part(dataset.PixelData) if "PixelData" in dataset else []
    content, read = assemble(described(dataset), pixels=pixels)
    assert read.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert read.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert read.SpecificCharacterSet == "ISO_IR 192"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    assert read.to_json_dict() == dataset.to_json_dict()
    assert parse_header(Memory(content), len(content)).warnings == ()


def test_every_kind_of_value_is_written():
    values = {
        "00080008": ("CS", ["A", None, "C"]),
        "00080018": ("UI", ["1.2.3"]),
        "00100010": ("PN", [{"Alphabetic": "A^B", "Phonetic": "x"}]),
        "00180050": ("DS", ["1.50"]),
        "00180060": ("DS", [0.1, 120.0]),
        "00200013": ("IS", [7]),
        "00280009": ("AT", ["0018106A"]),
        "00280010": ("US", [65535]),
        "00289503": ("SV", ["-9223372036854775808"]),
        "00189073": ("FD", [None, "inf"]),
        "00720064": ("IS", ["-5"]),
        "00720074": ("SV", [5]),
        "00720082": ("UV", [2**64 - 1]),
    }
    metadata = {tag: {"vr": vr, "Value": value} for tag, (vr, value) in values.items()}
    metadata["00081115"] = {"vr": "SQ", "Value": [None, {"00081155": {"Value": ["1.2"]}}]}
    metadata["00282000"] = {"vr": "OB", "InlineBinary": base64.b64encode(b"odd").decode()}
    _, read = assemble(metadata)
    assert list(read.ImageType) == ["A", "", "C"]
    assert str(read.PatientName) == "A^B==x"
    assert read["SliceThickness"].value.original_string == "1.50"
    assert [one.original_string for one in read["KVP"].value] == ["0.1", "120"]
    assert (read.InstanceNumber, read.Rows) == (7, 65535)
    assert read.FrameIncrementPointer == 0x0018106A
    assert math.isnan(read[0x00189073].value[0])
    assert math.isinf(read[0x00189073].value[1])
    assert read[0x00720082].value == 2**64 - 1
    assert [len(item) for item in read.ReferencedSeriesSequence] == [0, 1]
    assert read.ICCProfile == b"odd\0"


def test_text_kept_apart_becomes_unicode():
    metadata = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00104000": {"vr": "LT", "BulkDataURI": "latin"},
        "00081115": {"vr": "SQ", "Value": [{"00104000": {"vr": "LT", "BulkDataURI": "latin"}}]},
        "40000010": {"vr": "LT", "BulkDataURI": "unicode"},
    }
    _, read = assemble(metadata, latin=part("été".encode("latin-1")), unicode=part("été".encode()))
    assert read.PatientComments == read[0x40000010].value == "été"
    assert read.ReferencedSeriesSequence[0].PatientComments == "été"


@pytest.mark.parametrize("media_type", ["image/jpeg", "application/octet-stream"])
def test_compressed_pixels_are_encapsulated_in_the_syntax_they_are_in(media_type):
    frame = jpeg()
    _, read = assemble(described(build_ct()), pixels=part(frame, media_type, uid.JPEGBaseline8Bit))
    assert read.file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit
    assert read["PixelData"].is_undefined_length
    assert next(generate_frames(read.PixelData, number_of_frames=1)).rstrip(b"\0") == frame


def test_the_frames_of_a_compressed_image_are_one_fragment_each_behind_an_offset_table():
    frames = [b"\xff\xd8odd", b"\xff\xd8even"]
    parts = [part(frame, "image/jls", uid.JPEGLSLossless) for frame in frames]
    _, read = assemble(described(build_multiframe(2)), pixels=parts)
    assert parse_basic_offsets(read.PixelData) == [0, 14]
    assert [frame.rstrip(b"\0") for frame in generate_frames(read.PixelData, number_of_frames=2)] == frames


def test_pixels_beyond_32_bits_get_the_extended_offset_table(monkeypatch):
    monkeypatch.setattr(assembly, "BASIC_OFFSET_LIMIT", 16)
    parts = [part(b"12345", "image/jls", uid.JPEGLSLossless) for _ in range(2)]
    _, read = assemble(described(build_multiframe(2)), pixels=parts)
    assert parse_basic_offsets(read.PixelData) == []
    assert np.frombuffer(read.ExtendedOffsetTable, "<u8").tolist() == [0, 14]
    assert np.frombuffer(read.ExtendedOffsetTableLengths, "<u8").tolist() == [5, 5]


def test_a_video_is_one_part_however_many_frames_it_has(monkeypatch):
    monkeypatch.setattr(assembly, "MAX_FRAGMENT_BYTES", 4)
    _, read = assemble(described(build_multiframe(9)), pixels=part(b"1234567", "video/mp4", uid.MPEG4HP41))
    assert read.file_meta.TransferSyntaxUID == uid.MPEG4HP41
    assert next(generate_frames(read.PixelData, number_of_frames=1)) == b"1234567\0"


def test_an_offset_table_of_somewhere_else_is_made_anew():
    table = {"7FE00001": {"vr": "OV", "InlineBinary": base64.b64encode(bytes(8)).decode()}}
    _, read = assemble(described(build_ct()) | table, pixels=part(jpeg(), "image/jpeg"))
    assert "ExtendedOffsetTable" not in read


def test_without_a_syntax_the_codestream_says_it():
    _, read = assemble(described(build_ct()), pixels=part(jpeg(), "image/jpeg"))
    assert read.file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit
    assert "LossyImageCompression" not in read, "an image that is described is left as it is"


def test_an_image_that_is_not_described_is_described_by_its_codestream():
    parts = [part(jpeg(), "image/jpeg") for _ in range(2)]
    _, read = assemble(without_description(build_ct()), pixels=parts)
    assert (read.Rows, read.Columns, read.SamplesPerPixel, read.BitsAllocated) == (8, 8, 1, 8)
    assert (read.PhotometricInterpretation, read.LossyImageCompression) == ("MONOCHROME2", "01")
    assert read.NumberOfFrames == 2
    assert (read.pixel_array == 77).all()


@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [
        ("image/png", ""),
        ("application/pdf", ""),
        ("image/jpeg", uid.JPEG2000),
        ("image/jpeg", "1.2.3"),
        ("image/jpeg", uid.ExplicitVRLittleEndian),
        ("image/jpeg", "nonsense"),
        ("image/jp2", ""),
        ("application/octet-stream", uid.ImplicitVRLittleEndian),
        ("application/octet-stream", uid.ExplicitVRBigEndian),
    ],
)
def test_pixels_in_a_form_that_is_not_known_are_refused(media_type, syntax):
    pixels = part(b"\x89PNG", media_type, syntax)
    assert refuse(described(build_ct()), pixels=pixels) is Reason.UNSUPPORTED_TRANSFER_SYNTAX


@pytest.mark.parametrize(
    ("bulk", "reason"),
    [
        ({}, Reason.BULK_DATA_MISSING),
        ({"pixels": [part(b"", "image/jls", uid.JPEGLSLossless)] * 3}, Reason.BULK_DATA_MISSING),
        ({"pixels": [part(b"a", "image/jls", uid.JPEGLSLossless)] * 2}, Reason.FRAMES_MISMATCH),
        ({"pixels": [part(b"a", "image/jls", uid.JPEGLSLossless)] * 4}, Reason.FRAMES_MISMATCH),
        ({"pixels": [part(b"a", "image/jls"), part(b"a"), part(b"a")]}, Reason.UNSUPPORTED_TRANSFER_SYNTAX),
    ],
)
def test_pixels_that_are_not_all_there_are_refused(bulk, reason):
    assert refuse(described(build_multiframe(3)), **bulk) is reason


def test_an_image_that_nothing_describes_is_refused():
    assert refuse(without_description(build_ct()), pixels=part(b"x", "image/dicom-rle")) is Reason.INVALID_METADATA


@pytest.mark.parametrize(
    "element",
    [
        {"00280010": {"vr": "US", "Value": [65536]}},
        {"00280010": {"vr": "US", "Value": [-1]}},
        {"00282000": {"vr": "OB", "InlineBinary": "no base64!"}},
        {"00080060": {"vr": "CS", "Value": ["محمد"]}},
        {"00189073": {"vr": "FL", "Value": [1e300]}},
        {"00100020": {"vr": "LO", "Value": [5]}},
    ],
)
def test_a_value_that_cannot_be_written_fails_the_instance_and_is_not_left_out(element):
    assert refuse(element) is Reason.INVALID_METADATA


def test_a_large_value_is_read_in_chunks():
    source = Memory(bytes(3_000_000))
    metadata = described(build_ct())
    plan = plan_file(metadata, lambda _: [BulkPart(source, 0, 3_000_000)])
    assert sum(map(len, plan.iter_chunks())) > 3_000_000
    assert source.largest_read_bytes < 100_000
