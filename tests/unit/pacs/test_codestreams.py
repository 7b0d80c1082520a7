"""What a compressed frame says of itself, of frames that codecs made which are not ours."""

import io
import random

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames

from pacs.errors import UnsupportedTransferSyntax
from pacs.imaging.codestreams import read_codestream
from tests.conftest import CORPUS
from tests.imaging import Memory

GREY = np.arange(12 * 20, dtype=np.uint16).reshape(12, 20)
COLOUR = (np.arange(12 * 20 * 3) % 256).astype(np.uint8).reshape(12, 20, 3)


def read(frame):
    return read_codestream(Memory(frame), 0, len(frame))


def jpeg(mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, (20, 12)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def high_throughput(image, *, is_reversible=True, **options):
    return imagecodecs.htj2k_encode(image, reversible=is_reversible, **options)


@pytest.mark.parametrize(
    ("frame", "syntax", "samples", "bits", "colour"),
    [
        (jpeg("L"), uid.JPEGBaseline8Bit, 1, 8, "MONOCHROME2"),
        (jpeg(subsampling=0), uid.JPEGBaseline8Bit, 3, 8, "YBR_FULL"),
        (jpeg(subsampling=1), uid.JPEGBaseline8Bit, 3, 8, "YBR_FULL_422"),
        (jpeg(subsampling=2), uid.JPEGBaseline8Bit, 3, 8, "YBR_FULL_422"),
        (jpeg(keep_rgb=True, subsampling=0), uid.JPEGBaseline8Bit, 3, 8, "RGB"),
        (imagecodecs.ljpeg_encode(GREY), uid.JPEGLossless, 1, 16, "MONOCHROME2"),
        (imagecodecs.jpegls_encode(GREY), uid.JPEGLSLossless, 1, 16, "MONOCHROME2"),
        (imagecodecs.jpegls_encode(COLOUR, level=3), uid.JPEGLSNearLossless, 3, 8, "RGB"),
        (
            imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True),
            uid.JPEG2000Lossless,
            1,
            16,
            "MONOCHROME2",
        ),
        (imagecodecs.jpeg2k_encode(COLOUR, codecformat="j2k", reversible=True), uid.JPEG2000Lossless, 3, 8, "YBR_RCT"),
        (imagecodecs.jpeg2k_encode(COLOUR, codecformat="j2k", level=20), uid.JPEG2000, 3, 8, "YBR_ICT"),
        (
            imagecodecs.jpeg2k_encode(COLOUR, codecformat="j2k", reversible=True, mct=False),
            uid.JPEG2000Lossless,
            3,
            8,
            "RGB",
        ),
        (high_throughput(GREY), uid.HTJ2KLossless, 1, 16, "MONOCHROME2"),
        (high_throughput(COLOUR), uid.HTJ2KLossless, 3, 8, "YBR_RCT"),
        (high_throughput(COLOUR, tlm=True), uid.HTJ2KLosslessRPCL, 3, 8, "YBR_RCT"),
        (high_throughput(COLOUR, is_reversible=False), uid.HTJ2K, 3, 8, "YBR_ICT"),
    ],
)
def test_a_frame_tells_its_syntax_and_what_image_it_is(frame, syntax, samples, bits, colour):
    found = read(frame)
    assert found.transfer_syntax_uid == syntax
    assert (found.rows, found.columns, found.samples_per_pixel) == (12, 20, samples)
    assert (found.bits_stored, found.is_signed, found.photometric_interpretation) == (bits, False, colour)


def test_what_it_says_is_the_image_pixel_description():
    described = {tag: element["Value"] for tag, element in read(jpeg(subsampling=0)).describe().items()}
    assert described == {
        "00280002": [3],
        "00280004": ["YBR_FULL"],
        "00280006": [0],
        "00280010": [12],
        "00280011": [20],
        "00280100": [8],
        "00280101": [8],
        "00280102": [7],
        "00280103": [0],
    }


def test_signed_samples_are_seen():
    frame = imagecodecs.jpeg2k_encode(GREY.astype(np.int16), codecformat="j2k", reversible=True)
    assert read(frame).is_signed


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xd8\xff",
        jpeg()[:100],
        jpeg(progressive=True),
        imagecodecs.png_encode(COLOUR),
        imagecodecs.jpeg2k_encode(GREY, codecformat="jp2"),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000,
        b"\xff\xd8\xff\xc0\x00\x02\xff\xda\x00\x02",
        b"\xff\x4f\xff\x51\x00\x02\xff\x90\x00\x02",
    ],
)
def test_what_has_no_transfer_syntax_is_unsupported(frame):
    with pytest.raises(UnsupportedTransferSyntax):
        read(frame)


def test_changed_bytes_are_read_or_unsupported():
    chooser = random.Random(20260101)
    frames = [jpeg(), imagecodecs.jpegls_encode(GREY), imagecodecs.jpeg2k_encode(GREY, codecformat="j2k")]
    for _ in range(600):
        frame = bytearray(chooser.choice(frames)[: chooser.randrange(2, 400)])
        for _ in range(chooser.randrange(4)):
            frame[chooser.randrange(len(frame))] = chooser.choice((0, 0xFF, 0xDA, 0xC0, chooser.randrange(256)))
        source = Memory(frame)
        try:
            found = read_codestream(source, 0, len(frame))
        except UnsupportedTransferSyntax:
            pass
        else:
            assert 0 < found.rows < 65536
            assert 0 < found.columns < 65536
        assert source.largest_read_bytes <= 256


@pytest.mark.slow
def test_the_corpus_says_the_same_in_its_header():
    """But for what an object may say otherwise: lossless in the syntax of lossy, MONOCHROME1, fewer Bits Stored."""
    count = 0
    for path in sorted(CORPUS.glob("ts/*.dcm")):
        dataset = dcmread(path)
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            continue
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        try:
            found = read(frame)
        except UnsupportedTransferSyntax:
            assert dataset.file_meta.TransferSyntaxUID == uid.RLELossless, path.name
            continue
        count += 1
        assert (found.rows, found.columns) == (dataset.Rows, dataset.Columns), path.name
        assert found.samples_per_pixel == dataset.SamplesPerPixel, path.name
    assert count > 5 or not CORPUS.exists()
