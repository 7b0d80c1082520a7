"""A re-encoded instance says the same as the stored one, to a reader that is not ours, in every syntax we write."""

import io
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.sequence import Sequence

from pacs.errors import CorruptPixelData, PacsError, UnsupportedTransferSyntax
from pacs.imaging import codecs
from pacs.imaging.syntaxes import SYNTAXES, lookup
from tests import builders
from tests.imaging import Memory, flatten, leave, read

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
SAMPLE_DATA = Path(__file__).parents[3] / "sample_data"
ENCODABLE = [syntax.uid for syntax in SYNTAXES.values() if syntax.can_encode]
ENCAPSULATED = [uid for uid in ENCODABLE if lookup(uid).is_encapsulated]
NOT_IN_PYDICOM = "1.2.840.10008.1.2.8.1"


def assert_same(before, after, changed=(), syntax=uid.ExplicitVRLittleEndian):
    assert after.file_meta.TransferSyntaxUID == syntax
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
    before, after = read(builders.as_part10(dataset, syntax)), read(leave(builders.as_part10(dataset, syntax)))
    assert_same(before, after)
    if "PixelData" in dataset:
        # The builder writes words as they are.
        is_turned = syntax == uid.ExplicitVRBigEndian and dataset.BitsAllocated == 16
        pixels = np.frombuffer(dataset.PixelData, "u2" if is_turned else "u1")
        assert after.PixelData == (pixels.byteswap() if is_turned else pixels).tobytes()


def test_explicit_little_endian_keeps_its_values():
    dataset = builders.build_sr()
    data = builders.as_part10(dataset)
    assert_same(read(data), read(leave(data)))


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
    after = read(leave(builders.as_part10(dataset, uid.ExplicitVRBigEndian)))
    assert_same(read(builders.as_part10(dataset)), after)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_big_endian_pixels_are_turned_around_by_sample(bits):
    image = builders.build_multiframe(frames=2)
    image.update(builders.build_image(frames=2, bits=bits))
    image.PixelData = np.arange(128, dtype=f">u{bits // 8}").tobytes()
    image["PixelData"].VR = "OB" if bits == 8 else "OW"
    after = read(leave(builders.as_part10(image, uid.ExplicitVRBigEndian)))
    assert after.PixelData == np.arange(128, dtype=f"<u{bits // 8}").tobytes()


def test_eight_bit_pixels_in_big_endian_words_are_put_in_order():
    image = builders.build_multiframe(frames=1)
    image.update(builders.build_image(frames=1, bits=8))
    image.PixelData = np.arange(64, dtype="u1").view("u2").byteswap().tobytes()
    image["PixelData"].VR = "OW"
    after = read(leave(builders.as_part10(image, uid.ExplicitVRBigEndian)))
    assert after.pixel_array.ravel().tolist() == list(range(64))


def test_long_value_of_a_short_form_vr_becomes_un():
    dataset = builders.build_ct(ContourData=["1.5"] * 30_000)
    after = read(leave(builders.as_part10(dataset, uid.ImplicitVRLittleEndian)))
    assert after["ContourData"].VR == "UN"
    assert after["ContourData"].value.split(b"\\")[:2] == [b"1.5", b"1.5"]


def test_large_values_are_passed_on_in_chunks():
    image = builders.build_multiframe(frames=1, Rows=1024, Columns=1024)
    image.PixelData = np.arange(1024 * 1024, dtype="<u2").tobytes()
    source = Memory(builders.as_part10(image, uid.ImplicitVRLittleEndian))
    after = read(leave(None, source=source))
    assert after.PixelData == image.PixelData
    assert source.largest_read_bytes <= 128 * 1024


def test_elements_after_pixel_data_are_kept():
    dataset = builders.build_ct()
    dataset.add_new(0xFFFCFFFC, "OB", b"\0\0")
    dataset.DigitalSignaturesSequence = Sequence([builders.build_code("1", "S", "m")])
    after = read(leave(builders.as_part10(dataset, uid.ImplicitVRLittleEndian)))
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
    after = read(leave(data))
    assert_same(read(data), after)
    assert "ExtendedOffsetTable" not in after
    assert after["PixelData"].VR == "OW"
    assert after.PixelData == b"".join(frame.tobytes() for frame in frames)


def test_odd_length_of_decoded_pixels_is_padded():
    dataset = encapsulated([np.arange(15, dtype="u1").reshape(5, 3)])
    after = read(leave(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert after.PixelData == bytes(range(15)) + b"\0"


def test_photometric_interpretation_is_what_was_decoded():
    frame = np.arange(60, dtype="u1").reshape(4, 5, 3)
    dataset = encapsulated([frame], PhotometricInterpretation="YBR_RCT")
    del dataset.PlanarConfiguration
    after = read(leave(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert (after.PhotometricInterpretation, after.PlanarConfiguration) == ("RGB", 0)
    assert after.PixelData == frame.tobytes()


def test_compressed_icon_is_left_alone():
    icon = encapsulated([np.zeros((4, 4), "u1")])
    icon["PixelData"].is_undefined_length = True
    dataset = encapsulated([np.full((6, 5), 3, "u2")], IconImageSequence=Sequence([icon]))
    after = read(leave(builders.as_part10(dataset, uid.JPEG2000Lossless)))
    assert after.IconImageSequence[0].PixelData == icon.PixelData


@pytest.mark.parametrize("frames", [[b"nothing"], [b"a", b"b"]])
def test_pixels_that_do_not_decode_are_corrupt(frames):
    with pytest.raises(CorruptPixelData):
        leave(builders.as_part10(builders.build_encapsulated(frames), uid.JPEG2000Lossless))


def test_missing_frame_is_corrupt():
    dataset = encapsulated([np.zeros((4, 4), "u1")], NumberOfFrames=2)
    with pytest.raises(CorruptPixelData):
        leave(builders.as_part10(dataset, uid.JPEG2000Lossless))


def test_syntax_without_decoder_is_unsupported():
    with pytest.raises(UnsupportedTransferSyntax):
        leave(builders.as_part10(builders.build_encapsulated(), uid.MPEG2MPML))


def pixels_of(dataset):
    """Return the pixels as pydicom decodes them, or inflates them where it does not know how."""
    codecs.register()
    if dataset.file_meta.TransferSyntaxUID != NOT_IN_PYDICOM:
        return dataset.pixel_array
    count = int(dataset.get("NumberOfFrames") or 1)
    native = b"".join(
        zlib.decompress(frame, -15) for frame in generate_frames(dataset.PixelData, number_of_frames=count)
    )
    dataset.PixelData = native + b"\0" * (len(native) % 2)
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return dataset.pixel_array


def assert_every_encodable_syntax_holds(data):
    """Compare with what the object decodes to; return the syntaxes that cannot have it."""
    native = read(leave(data))
    before = read(data)
    expected = native.pixel_array
    if SYNTAXES[before.file_meta.TransferSyntaxUID].is_lossless:
        assert np.array_equal(expected, pixels_of(before))
    refused = []
    for syntax in ENCODABLE:
        try:
            after = read(leave(data, syntax))
        except UnsupportedTransferSyntax:
            refused.append(syntax)
            continue
        # Private value representations are lost with Implicit VR, by its nature.
        changed = {"(0028,0004)", "(0028,0006)"}
        if lookup(syntax).is_implicit_vr:
            changed |= {path for path in flatten(native) if path[4] in "13579BDF"}
        assert_same(native, after, changed, syntax)
        assert np.array_equal(pixels_of(after), expected), lookup(syntax).name
    return refused


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
@pytest.mark.parametrize(
    "path",
    [
        *sorted((SAMPLE_DATA / "syntaxes").iterdir()),
        *(SAMPLE_DATA / name / "1.dcm" for name in ("cr-pattern", "us-cine")),
    ],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_syntax_we_write_gives_the_same_pixels(path):
    """Issue 3: if the peer does not accept the stored syntax, transcode losslessly."""
    assert assert_every_encodable_syntax_holds(path.read_bytes()) == []


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda syntax: lookup(syntax).uid)
@pytest.mark.parametrize("source_syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEG2000])
def test_frames_are_encapsulated_with_an_offset_table(source_syntax, syntax):
    """PS3.5 A.4: one even fragment a frame, the Basic Offset Table says where each begins."""
    arrays = [np.full((5, 3), value, "u2") for value in (1, 500, 4095)]
    dataset = encapsulated(arrays)
    if source_syntax != uid.JPEG2000:
        is_turned = source_syntax == uid.ExplicitVRBigEndian
        del dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
        dataset.PixelData = b"".join((array.byteswap() if is_turned else array).tobytes() for array in arrays)
        dataset["PixelData"].VR = "OW"
        dataset["PixelData"].is_undefined_length = False
    after = read(leave(builders.as_part10(dataset, source_syntax), syntax))
    assert "ExtendedOffsetTable" not in after
    assert after["PixelData"].VR == "OB"
    assert after["PixelData"].is_undefined_length
    offsets = parse_basic_offsets(after.PixelData)
    first = 8 + 4 * len(offsets)
    for offset in offsets:
        tag, length = after.PixelData[first + offset :][:4], after.PixelData[first + offset + 4 :][:4]
        assert (tag, int.from_bytes(length, "little") % 2) == (b"\xfe\xff\x00\xe0", 0)
    assert len(offsets) == 3
    assert np.array_equal(pixels_of(after), arrays)


DCMTK = {uid.JPEGLosslessSV1: "dcmdjpeg", uid.JPEGLSLossless: "dcmdjpls", uid.RLELossless: "dcmdrle"}


@pytest.mark.parametrize("name", ["ct-head", "us-cine"])
@pytest.mark.parametrize("syntax", DCMTK, ids=lambda syntax: syntax.keyword)
@pytest.mark.skipif(
    not all(map(shutil.which, DCMTK.values())) and os.environ.get("CI") != "true", reason="DCMTK is not installed"
)
def test_dcmtk_reads_what_we_encode(tmp_path, syntax, name):
    """Issue 3: DCMTK as a real peer."""
    data = min((SAMPLE_DATA / name).iterdir()).read_bytes()
    encoded, decoded = tmp_path / "encoded.dcm", tmp_path / "decoded.dcm"
    encoded.write_bytes(leave(data, syntax))
    subprocess.run([DCMTK[syntax], encoded, decoded], check=True)
    assert np.array_equal(pydicom.dcmread(decoded).pixel_array, read(leave(data)).pixel_array)


def test_offsets_beyond_32_bits_are_in_the_extended_table(monkeypatch):
    monkeypatch.setattr("pacs.imaging.transcode._BASIC_OFFSET_LIMIT", 100)
    dataset = builders.build_multiframe(frames=3)
    after = read(leave(builders.as_part10(dataset), uid.RLELossless))
    assert parse_basic_offsets(after.PixelData) == []
    assert len(after.ExtendedOffsetTable) == len(after.ExtendedOffsetTableLengths) == 24
    assert np.array_equal(after.pixel_array, dataset_pixels(dataset))


def dataset_pixels(dataset):
    return read(builders.as_part10(dataset)).pixel_array


def test_colour_says_what_became_of_it():
    """RULES.md: Photometric Interpretation and Planar Configuration set right."""
    dataset = builders.build_multiframe(frames=1)
    dataset.update(builders.build_image(frames=1, bits=8, samples=3))
    dataset.PlanarConfiguration = 1
    data = builders.as_part10(dataset)
    forms = {}
    for syntax in ENCAPSULATED:
        after = read(leave(data, syntax))
        forms[syntax] = (after.PhotometricInterpretation, after.PlanarConfiguration)
        assert np.array_equal(pixels_of(after), dataset_pixels(dataset))
    assert forms == {
        uid.JPEGLosslessSV1: ("RGB", 0),
        uid.JPEGLSLossless: ("RGB", 0),
        uid.JPEG2000Lossless: ("YBR_RCT", 0),
        uid.HTJ2KLossless: ("YBR_RCT", 0),
        uid.HTJ2KLosslessRPCL: ("YBR_RCT", 0),
        uid.HTJ2K: ("YBR_RCT", 0),
        uid.RLELossless: ("RGB", 1),
        NOT_IN_PYDICOM: ("RGB", 1),
    }


def test_lossy_pixels_are_not_compressed_any_further():
    data = (SAMPLE_DATA / "syntaxes" / "jpeg-baseline.dcm").read_bytes()
    before, native, after = read(data), read(leave(data)), read(leave(data, uid.JPEGLSLossless))
    assert np.array_equal(pixels_of(after), native.pixel_array)
    assert (
        after.get("LossyImageCompression") == native.get("LossyImageCompression") == before.get("LossyImageCompression")
    )


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda syntax: lookup(syntax).uid)
@pytest.mark.parametrize("build", [builders.build_segmentation, builders.build_sr], ids=["one bit", "no pixels"])
def test_what_no_codec_holds_is_unsupported(build, syntax):
    """RULES.md: skip 1-bit."""
    with pytest.raises(UnsupportedTransferSyntax):
        leave(builders.as_part10(build()), syntax)


def build_parametric_map():
    dataset = builders.build_multiframe(frames=2)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = np.linspace(0, 1, 128, dtype="<f4").tobytes()
    return dataset


@pytest.mark.parametrize("syntax", ENCODABLE, ids=lambda syntax: lookup(syntax).uid)
def test_float_pixels_leave_in_native_syntaxes_only(syntax):
    """RULES.md: skip float; PS3.5 A.4."""
    dataset = build_parametric_map()
    data = builders.as_part10(dataset)
    if lookup(syntax).is_encapsulated:
        with pytest.raises(UnsupportedTransferSyntax):
            leave(data, syntax)
    else:
        assert read(leave(data, syntax)).FloatPixelData == dataset.FloatPixelData


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_explicit_becomes_implicit_or_deflated(build, syntax):
    dataset = build()
    data = builders.as_part10(dataset)
    before, after = read(data), read(leave(data, syntax))
    private = {path for path in flatten(before) if path[4] in "13579BDF"} if after.original_encoding[0] else set()
    assert_same(before, after, private, syntax)
    assert after.get("PixelData") == dataset.get("PixelData")


def test_implicit_keeps_the_bytes_of_what_it_cannot_name():
    dataset = builders.build_mr()
    data = builders.as_part10(dataset)
    there_and_back = read(leave(leave(data, uid.ImplicitVRLittleEndian)))
    private = [element for element in dataset if element.tag.is_private and not element.tag.is_private_creator]
    assert private
    for element in private:
        kept, value = there_and_back[element.tag].value, element.value
        assert kept in (value, str(value).encode().ljust(len(kept)))


def test_compressed_icon_has_no_place_in_implicit_vr():
    icon = encapsulated([np.zeros((4, 4), "u1")])
    icon["PixelData"].is_undefined_length = True
    dataset = encapsulated([np.full((6, 5), 3, "u2")], IconImageSequence=Sequence([icon]))
    with pytest.raises(UnsupportedTransferSyntax):
        leave(builders.as_part10(dataset, uid.JPEG2000Lossless), uid.ImplicitVRLittleEndian)


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRBigEndian, uid.JPEG2000, uid.JPEGBaseline8Bit, uid.MPEG2MPML, "1.2.3"]
)
def test_what_is_not_in_the_table_as_encodable_is_never_made(syntax):
    with pytest.raises(UnsupportedTransferSyntax):
        leave(builders.as_part10(builders.build_ct()), syntax)


def test_frames_are_read_and_encoded_one_by_one():
    dataset = builders.build_multiframe(frames=64)
    dataset.update(builders.build_image(rows=512, columns=512, frames=64, bits=16))
    source = Memory(builders.as_part10(dataset))
    after = read(leave(None, uid.RLELossless, source=source))
    assert int(after.NumberOfFrames) == 64
    assert source.largest_read_bytes <= 4 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.dcm")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_corpus_is_the_same_in_every_syntax_we_write(path):
    data = path.read_bytes()
    try:
        native = read(leave(data))
        pixels = native.pixel_array
    except Exception:  # noqa: BLE001 - what neither of us can read is no measure
        return
    for syntax in ENCODABLE:
        try:
            after = read(leave(data, syntax))
        except UnsupportedTransferSyntax:
            continue
        assert np.array_equal(pixels_of(after), pixels), lookup(syntax).name


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*.dcm")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_corpus_reads_the_same(path):
    data = path.read_bytes()
    try:
        encoded = leave(data)
    except PacsError:
        assert not _must_transcode(data, path)
        return
    before = pydicom.dcmread(path, force=True)
    syntax = before.file_meta.get("TransferSyntaxUID")
    if syntax is None or not before:  # pydicom gives up where a delimiter is missing, and is no measure then
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
