"""A re-encoded instance says the same as the stored one, to a reader that is not ours, in Explicit VR Little Endian."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from pacs.errors import CorruptPixelData, PacsError, UnsupportedTransferSyntax
from pacs.imaging import codecs
from pacs.imaging.frames import plan_frames
from pacs.imaging.opened import OpenInstance
from pacs.imaging.syntaxes import SYNTAXES
from pacs.imaging.transcode import to_explicit_little_endian
from pacs.ingest.header import parse_header
from tests import builders

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
PIXEL_ELEMENTS = (0x7FE00001, 0x7FE00002, 0x7FE00010)


class Memory:
    """A source, and a scratch space, in memory; its chunks are small and odd."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.is_closed = False
        self.largest_read_bytes = 0

    @property
    def size_bytes(self):
        return len(self.data)

    def read_range(self, start, end):
        self.largest_read_bytes = max(self.largest_read_bytes, end - start)
        return bytes(self.data[start:end])

    def iter_range(self, start, end):
        for offset in range(start, end, 65_537):
            yield self.read_range(offset, min(offset + 65_537, end))

    def write(self, data):
        self.data += data
        return len(data)

    def close(self):
        self.is_closed = True


class InProcess:
    """A decoder without a sandbox."""

    def decode_frame(self, transfer_syntax_uid, frame, description):
        return codecs.decode(transfer_syntax_uid, frame, description)


def transcode(data, source=None):
    source = source or Memory(data)
    header = parse_header(source, source.size_bytes, inflate_into=Memory())
    opened = OpenInstance(header, plan_frames(header, source), source)
    if header.is_deflated:
        opened.inflate(Memory())
    scratches = []

    def open_scratch():
        scratches.append(Memory())
        return scratches[-1]

    transcoded = to_explicit_little_endian(opened.header, opened.layout, opened.source, InProcess(), open_scratch)
    encoded = b"".join(transcoded.iter_chunks())
    assert len(encoded) == transcoded.length_bytes
    transcoded.close()
    assert all(scratch.is_closed for scratch in scratches)
    return encoded


def read(data):
    return pydicom.dcmread(io.BytesIO(data))


def flatten(dataset, is_big_endian=False, prefix=""):
    """Return path -> value of every element but group lengths and pixels, words as little endian has them."""
    values = {}
    for element in dataset:
        if element.tag.element == 0 or element.tag in PIXEL_ELEMENTS:
            continue
        path = f"{prefix}{element.tag}"
        if element.VR == "SQ":
            values[path] = len(element.value)
            for index, item in enumerate(element.value):
                values |= flatten(item, is_big_endian, f"{path}[{index}]")
        elif is_big_endian and element.VR == "OW":
            values[path] = normal(np.frombuffer(element.value, "u2").byteswap().tobytes())
        else:
            values[path] = normal(element.value)
    return values


def normal(value):
    if isinstance(value, (list, MultiValue)):
        return [normal(entry) for entry in value]
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    return "NaN" if isinstance(value, float) and value != value else value


def assert_same(before, after, changed=()):
    assert after.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert after.file_meta.MediaStorageSOPInstanceUID == after.get("SOPInstanceUID", "")
    is_big_endian = before.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    expected, actual = flatten(before, is_big_endian), flatten(after)
    different = {path for path in expected | actual if expected.get(path) != actual.get(path)}
    assert different <= set(changed)


NATIVE = [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
BUILT = {
    "ct": builders.build_ct,
    "private": builders.build_mr,
    "multiframe": builders.build_multiframe,
    "one bit": builders.build_segmentation,
    "nested": builders.build_sr,
    "document": builders.build_pdf,
    "unicode": builders.build_unicode,
}


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_native_syntaxes_become_explicit_little_endian(build, syntax):
    dataset = build()
    before, after = read(builders.as_part10(dataset, syntax)), read(transcode(builders.as_part10(dataset, syntax)))
    assert_same(before, after)
    if "PixelData" in dataset:
        # The builder writes words as they are.
        is_turned = syntax == uid.ExplicitVRBigEndian and dataset.BitsAllocated == 16
        pixels = np.frombuffer(dataset.PixelData, "u2" if is_turned else "u1")
        assert after.PixelData == (pixels.byteswap() if is_turned else pixels).tobytes()


def test_explicit_little_endian_keeps_its_values():
    dataset = builders.build_sr()
    data = builders.as_part10(dataset)
    assert_same(read(data), read(transcode(data)))


def test_words_of_every_size_are_turned_around():
    item = Dataset()
    item.SelectorULValue = [1, 0x01020304]
    dataset = builders.build_ct(
        SelectorFDValue=[1.5, -2.25],
        SelectorFLValue=[0.5],
        SelectorSLValue=-5,
        SelectorUVValue=[1 << 40],
        SelectorATValue=[0x00280010, 0x7FE00010],
        SelectorSequencePointerItems=None,
        SelectorSSValue=[-3, 4],
        ReferencedImageSequence=Sequence([item]),
    )
    after = read(transcode(builders.as_part10(dataset, uid.ExplicitVRBigEndian)))
    assert_same(read(builders.as_part10(dataset)), after)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_big_endian_pixels_are_turned_around_by_sample(bits):
    image = builders.build_multiframe(frames=2)
    image.update(builders.build_image(frames=2, bits=bits))
    image.PixelData = np.arange(128, dtype=f">u{bits // 8}").tobytes()
    image["PixelData"].VR = "OB" if bits == 8 else "OW"
    after = read(transcode(builders.as_part10(image, uid.ExplicitVRBigEndian)))
    assert after.PixelData == np.arange(128, dtype=f"<u{bits // 8}").tobytes()


def test_eight_bit_pixels_in_big_endian_words_are_put_in_order():
    image = builders.build_multiframe(frames=1)
    image.update(builders.build_image(frames=1, bits=8))
    image.PixelData = np.arange(64, dtype="u1").view("u2").byteswap().tobytes()
    image["PixelData"].VR = "OW"
    after = read(transcode(builders.as_part10(image, uid.ExplicitVRBigEndian)))
    assert after.pixel_array.ravel().tolist() == list(range(64))


def test_long_value_of_a_short_form_vr_becomes_un():
    dataset = builders.build_ct(ContourData=["1.5"] * 30_000)
    after = read(transcode(builders.as_part10(dataset, uid.ImplicitVRLittleEndian)))
    assert after["ContourData"].VR == "UN"
    assert after["ContourData"].value.split(b"\\")[:2] == [b"1.5", b"1.5"]


def test_large_values_are_passed_on_in_chunks():
    image = builders.build_multiframe(frames=1, Rows=1024, Columns=1024)
    image.PixelData = np.arange(1024 * 1024, dtype="<u2").tobytes()
    source = Memory(builders.as_part10(image, uid.ImplicitVRLittleEndian))
    after = read(transcode(None, source))
    assert after.PixelData == image.PixelData
    assert source.largest_read_bytes <= 128 * 1024


def test_elements_after_pixel_data_are_kept():
    dataset = builders.build_ct()
    dataset.add_new(0xFFFCFFFC, "OB", b"\0\0")
    dataset.DigitalSignaturesSequence = Sequence([builders.build_code("1", "S", "m")])
    after = read(transcode(builders.as_part10(dataset, uid.ImplicitVRLittleEndian)))
    assert after.DigitalSignaturesSequence[0].CodeValue == "1"
    assert after[0xFFFCFFFC].value == b"\0\0"


def encapsulated(frames, syntax=uid.JPEG2000Lossless, **overrides):
    rows, columns = frames[0].shape[:2]
    encoded = [bytes(imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True)) for frame in frames]
    dataset = builders.build_encapsulated(encoded, has_extended_offset_table=True)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = frames[0].dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    if frames[0].ndim == 3:
        dataset.SamplesPerPixel = 3
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
    for keyword, value in overrides.items():
        setattr(dataset, keyword, value)
    return dataset


def test_encapsulated_frames_become_native_pixels():
    frames = [np.full((6, 5), value, "u2") for value in (1, 500, 65535)]
    dataset = encapsulated(frames)
    data = builders.as_part10(dataset, uid.JPEG2000Lossless)
    after = read(transcode(data))
    assert_same(read(data), after)
    assert "ExtendedOffsetTable" not in after
    assert after["PixelData"].VR == "OW"
    assert after.PixelData == b"".join(frame.tobytes() for frame in frames)


def test_odd_length_of_decoded_pixels_is_padded():
    dataset = encapsulated([np.arange(15, dtype="u1").reshape(5, 3)])
    after = read(transcode(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert after.PixelData == bytes(range(15)) + b"\0"


def test_photometric_interpretation_is_what_was_decoded():
    frame = np.arange(60, dtype="u1").reshape(4, 5, 3)
    dataset = encapsulated([frame], PhotometricInterpretation="YBR_RCT")
    del dataset.PlanarConfiguration
    after = read(transcode(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert (after.PhotometricInterpretation, after.PlanarConfiguration) == ("RGB", 0)
    assert after.PixelData == frame.tobytes()


def test_compressed_icon_is_left_alone():
    icon = encapsulated([np.zeros((4, 4), "u1")])
    icon["PixelData"].is_undefined_length = True
    dataset = encapsulated([np.full((6, 5), 3, "u2")], IconImageSequence=Sequence([icon]))
    after = read(transcode(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert after.IconImageSequence[0].PixelData == icon.PixelData


@pytest.mark.parametrize("frames", [[b"nothing"], [b"a", b"b"]])
def test_pixels_that_do_not_decode_are_corrupt(frames):
    with pytest.raises(CorruptPixelData):
        transcode(builders.as_part10(builders.build_encapsulated(frames), uid.JPEG2000Lossless))


def test_missing_frame_is_corrupt():
    dataset = encapsulated([np.zeros((4, 4), "u1")], NumberOfFrames=2)
    with pytest.raises(CorruptPixelData):
        transcode(builders.as_part10(dataset, uid.JPEG2000Lossless))


def test_syntax_without_decoder_is_unsupported():
    with pytest.raises(UnsupportedTransferSyntax):
        transcode(builders.as_part10(builders.build_encapsulated(), uid.MPEG2MPML))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.dcm")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_corpus_reads_the_same(path):
    data = path.read_bytes()
    try:
        encoded = transcode(data)
    except PacsError:
        assert not _must_transcode(data, path)
        return
    before = pydicom.dcmread(path, force=True)
    syntax = before.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return
    after = read(encoded)
    changed = {"(0028,0004)"} if before.get("PhotometricInterpretation", "").startswith("YBR") else set()
    if syntax == uid.ExplicitVRBigEndian:
        # pydicom reads UN as big endian; PS3.5 6.2.2 says that its content never is.
        changed |= {path for path in flatten(before) if path.startswith("(0045")}
    assert_same(before, after, changed)
    codecs.register()
    try:
        expected = before.pixel_array
    except Exception:  # noqa: BLE001 - what pydicom cannot read is no measure
        return
    assert np.array_equal(after.pixel_array, expected)


def _must_transcode(data, path):
    if "broken" in path.parts[-2]:
        return False
    syntax = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True).file_meta.TransferSyntaxUID
    return SYNTAXES[syntax].can_decode
