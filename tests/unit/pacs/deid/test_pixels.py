"""Pixels: bit for bit what they were, or black where text is; compressed frames without their comments."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.app.deidentification import frame_decoder
from pacs.deid import RELEASE_DEFAULT, DeviceRectangles, Profile, Quarantine, Reason
from pacs.deid.codestreams import find_text
from pacs.deid.icc import clean_profile
from pacs.deid.reading import PixelSource
from pacs.imaging.sandbox import Sandbox
from tests.builders import as_part10, build_ct, build_encapsulated, build_image
from tests.unit.pacs.deid.running import run, run_bytes

GREY = (np.arange(40 * 60) % 251).astype(np.uint8).reshape(40, 60)
COLOUR = (np.arange(40 * 60 * 3) % 241).astype(np.uint8).reshape(40, 60, 3)
PATIENT = b"Zorbakhit^Ali"


@pytest.fixture(scope="module")
def decode():
    sandbox = Sandbox(workers=1)
    yield frame_decoder(sandbox)
    sandbox.close()


def region(left, top, right, bottom):
    area = Dataset()
    area.RegionLocationMinX0, area.RegionLocationMinY0 = left, top
    area.RegionLocationMaxX1, area.RegionLocationMaxY1 = right, bottom
    return area


def ultrasound(regions, samples=1, frames=0, planar=0):
    dataset = build_ct(SOPClassUID=str(uid.UltrasoundImageStorage), Modality="US")
    dataset.update(build_image(rows=40, columns=60, frames=frames, bits=8, samples=samples))
    if samples > 1:
        dataset.PlanarConfiguration = planar
    pixels = np.full(40 * 60 * samples * max(frames, 1), 200, dtype=np.uint8)
    dataset.PixelData = pixels.tobytes()
    dataset.SequenceOfUltrasoundRegions = Sequence(regions)
    return dataset


@pytest.mark.parametrize(("samples", "planar", "frames"), [(1, 0, 0), (3, 0, 0), (3, 1, 0), (1, 0, 3), (3, 0, 2)])
def test_ultrasound_is_black_outside_of_its_regions(samples, planar, frames):
    after = run(ultrasound([region(10, 5, 29, 19), region(40, 20, 49, 29)], samples, frames, planar))
    array = after.pixel_array.reshape(max(frames, 1), 40, 60, samples)
    seen = np.zeros((40, 60), dtype=bool)
    seen[5:20, 10:30] = True
    seen[20:30, 40:50] = True
    for frame in array:
        assert (frame[seen] == 200).all()
        assert (frame[~seen] == 0).all()
    assert after.BurnedInAnnotation == "NO"


@pytest.mark.parametrize("regions", [[], [region(0, 0, 59, 39)], [region(70, 50, 80, 60)]])
def test_regions_that_say_nothing_hold_an_image_back(regions):
    with pytest.raises(Quarantine) as held:
        run(ultrasound(regions))
    assert held.value.reasons == (Reason.NO_REGIONS,)


@pytest.mark.parametrize(("photometric", "black"), [("MONOCHROME2", 0), ("MONOCHROME1", 4095)])
def test_a_devices_rectangles_are_black_and_all_else_is_what_it_was(photometric, black):
    device = DeviceRectangles("ACME", "One", 8, 8, ((0, 0, 8, 2),))
    before = build_ct(Manufacturer="Acme", ManufacturerModelName="ONE", PhotometricInterpretation=photometric)
    after = run(before, Profile("devices", RELEASE_DEFAULT.options, (device,)))
    assert (after.pixel_array[:2] == black).all()
    assert after.pixel_array[2:] == before.pixel_array[2:] if hasattr(before, "file_meta") else True
    original = np.frombuffer(before.PixelData, "<u2").reshape(8, 8)
    assert (after.pixel_array[2:] == original[2:]).all()


@pytest.mark.parametrize(
    ("syntax", "frame", "samples"),
    [
        (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(COLOUR, level=0, codecformat="J2K"), 3),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode(GREY), 1),
    ],
)
def test_what_is_compressed_is_decoded_blacked_out_and_written_native(syntax, frame, samples, decode):
    dataset = build_encapsulated([frame, frame], SOPClassUID=str(uid.UltrasoundMultiFrameImageStorage))
    dataset.Rows, dataset.Columns = 40, 60
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        dataset.PlanarConfiguration = 0
    dataset.SequenceOfUltrasoundRegions = Sequence([region(0, 10, 59, 39)])
    after = run(dataset, syntax=syntax, decode=decode)
    assert after.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    original = GREY if samples == 1 else COLOUR
    for frame_array in after.pixel_array:
        assert (frame_array[10:] == original[10:]).all()
        assert not frame_array[:10].any()


def test_a_frame_without_measure_makes_no_mask():
    dataset = build_encapsulated([b"\xff\xd8\xff\xd9"], SOPClassUID=str(uid.UltrasoundImageStorage))
    dataset.Rows = dataset.Columns = 65535
    dataset.SequenceOfUltrasoundRegions = Sequence([region(0, 2, 7, 7)])
    with pytest.raises(Quarantine) as held:
        run(dataset, syntax=uid.JPEGBaseline8Bit)
    assert held.value.reasons == (Reason.NO_REGIONS,)


def test_pixels_that_must_be_cleaned_and_do_not_decode_hold_the_object_back(decode):
    dataset = build_encapsulated([b"\xff\xd8broken\xff\xd9"], SOPClassUID=str(uid.UltrasoundImageStorage))
    dataset.SequenceOfUltrasoundRegions = Sequence([region(0, 2, 7, 7)])
    for given in (None, decode):
        with pytest.raises(Quarantine) as held:
            run(dataset, syntax=uid.JPEGBaseline8Bit, decode=given)
        assert held.value.reasons == (Reason.UNDECODABLE,)


def test_what_native_pixels_are_longer_than_the_image_is_left_out():
    before = build_ct()
    before.PixelData += PATIENT
    output, _ = run_bytes(as_part10(before))
    assert PATIENT not in output
    assert len(pydicom.dcmread(io.BytesIO(output)).PixelData) == 128


# Compressed frames.


def with_comment(frame: bytes) -> bytes:
    """Put a comment, and an application segment, behind the first marker of a JPEG."""
    segments = b"".join(
        b"\xff" + marker + (len(PATIENT) + 2).to_bytes(2, "big") + PATIENT for marker in (b"\xfe", b"\xe1", b"\xed")
    )
    return frame[:2] + segments + frame[2:]


def with_j2k_comment(frame: bytes) -> bytes:
    size = int.from_bytes(frame[4:6], "big") + 4
    comment = b"\xff\x64" + (len(PATIENT) + 4).to_bytes(2, "big") + b"\0\1" + PATIENT
    return frame[:size] + comment + frame[size:]


JPEG = imagecodecs.jpeg8_encode(COLOUR)
FRAMES = {
    "jpeg": (uid.JPEGBaseline8Bit, with_comment(JPEG), imagecodecs.jpeg8_decode),
    "jpeg, behind its end": (uid.JPEGBaseline8Bit, JPEG + PATIENT, imagecodecs.jpeg8_decode),
    "jpeg-ls": (uid.JPEGLSLossless, with_comment(imagecodecs.jpegls_encode(GREY)), imagecodecs.jpegls_decode),
    "jpeg 2000": (
        uid.JPEG2000Lossless,
        with_j2k_comment(imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="J2K")),
        imagecodecs.jpeg2k_decode,
    ),
}


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("name", FRAMES)
def test_comments_of_compressed_frames_are_blanked_and_no_pixel_changes(name, fragments):
    syntax, frame, decode_frame = FRAMES[name]
    frame += b"\0" * (len(frame) % 2)
    dataset = build_encapsulated([frame, frame], fragments_per_frame=fragments)
    output, report = run_bytes(as_part10(dataset, syntax), released_reasons=list(Reason))
    assert PATIENT in frame
    assert PATIENT not in output
    assert len(output) < len(frame) * 2 + 4000
    after = pydicom.dcmread(io.BytesIO(output))
    for cleaned in pydicom.encaps.generate_frames(after.PixelData, number_of_frames=2):
        assert (decode_frame(cleaned) == decode_frame(frame)).all()
    assert ("7FE00010", "cleaned") in [(action.path, action.deed.value) for action in report.actions]


def test_a_frame_without_text_is_copied_bit_for_bit():
    frame = imagecodecs.jpegls_encode(GREY)
    frame += b"\0" * (len(frame) % 2)
    before = build_encapsulated([frame, frame])
    after = run(before, syntax=uid.JPEGLSLossless, released_reasons=list(Reason))
    assert after.PixelData == before.PixelData


def test_what_an_encoder_calls_itself_stays():
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="J2K")
    frame += b"\0" * (len(frame) % 2)
    assert b"OpenJPEG" in frame
    before = build_encapsulated([frame])
    assert run(before, syntax=uid.JPEG2000Lossless, released_reasons=list(Reason)).PixelData == before.PixelData


@pytest.mark.parametrize(
    "frame", [b"\xff\xd8\xff\xfe\xff", b"\xff\xd8plain text", b"\xff\x4f\xff\x64\0", b"\0\0\0\x0cjP  \r\n\x87\n"]
)
def test_frames_that_hide_their_text_hold_the_object_back(frame):
    stream = io.BytesIO(frame)
    with pytest.raises(Quarantine) as held:
        find_text(stream, PixelSource(0x7FE00010, "OB", 0, 0, is_encapsulated=True, fragments=((0, len(frame)),)))
    assert held.value.reasons == (Reason.CODESTREAM,)


# ICC profiles.


def icc_profile(text: bytes) -> bytes:
    tags = [
        (b"desc", b"desc\0\0\0\0" + (len(text) + 1).to_bytes(4, "big") + text + b"\0" + bytes(79)),
        (b"cprt", b"text\0\0\0\0" + text + b"\0"),
        (b"dmnd", b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS\0\0\0\x10\0\0\0\x1c" + text.decode().encode("utf-16-be")[:16]),
        (b"wtpt", b"XYZ \0\0\0\0" + bytes(range(12))),
    ]
    offset = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, element in tags:
        padded = element + bytes(-len(element) % 4)
        table += name + (offset + len(body)).to_bytes(4, "big") + len(padded).to_bytes(4, "big")
        body += padded
    header = bytearray(128)
    header[36:40] = b"acsp"
    header[24:36] = bytes(range(12))
    return bytes(header) + len(tags).to_bytes(4, "big") + table + body


def test_an_icc_profile_loses_its_text_and_keeps_its_numbers():
    before = icc_profile(b"Zorbakhit's display")
    after = clean_profile(before)
    assert len(after) == len(before)
    assert b"orbak" not in after
    assert "Zorb".encode("utf-16-be") not in after
    assert bytes(range(12)) in after[132:]
    assert after[24:36] == bytes(12)


def test_what_is_no_icc_profile_goes():
    before = build_ct(ICCProfile=b"Zorbakhit" * 40)
    assert "ICCProfile" not in run(before)
