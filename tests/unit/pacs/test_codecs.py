"""Decoded frames equal what was encoded, bit for bit where the syntax promises it, in the data set's own container."""

import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.imaging import codecs
from pacs.imaging.codecs import DEFLATED_FRAME, PixelDescription, decode
from pacs.imaging.syntaxes import SYNTAXES

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
ROWS, COLUMNS = 12, 10

LOSSLESS = {
    uid.JPEGLosslessSV1: lambda array: imagecodecs.jpeg8_encode(
        array, lossless=True, predictor=1, bitspersample=8 * array.itemsize
    ),
    uid.JPEGLossless: lambda array: imagecodecs.jpeg8_encode(
        array, lossless=True, predictor=4, bitspersample=8 * array.itemsize
    ),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda array: imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True),
    uid.HTJ2KLossless: imagecodecs.htj2k_encode,
    uid.HTJ2KLosslessRPCL: imagecodecs.htj2k_encode,
}


def describe(array, **overrides):
    samples = array.shape[2] if array.ndim == 3 else 1
    bits = array.dtype.itemsize * 8
    facts = {
        "rows": array.shape[0],
        "columns": array.shape[1],
        "samples_per_pixel": samples,
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": int(array.dtype.kind == "i"),
        "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
    }
    return PixelDescription(**(facts | overrides))


def noise(kind, samples=1):
    shape = (ROWS, COLUMNS, samples) if samples > 1 else (ROWS, COLUMNS)
    limits = np.iinfo(kind)
    return np.random.default_rng(7).integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


def smooth_colour():
    ramp = np.linspace(30, 220, 32, dtype=np.uint8)
    return np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[::-1], (32, 1)), np.tile(ramp, (32, 1)).T], axis=-1)


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_lossless_frames_come_back_bit_for_bit(syntax, samples, kind):
    array = noise(kind, samples)
    decoded = decode(syntax, bytes(LOSSLESS[syntax](array)), describe(array))
    assert decoded.pixels == array.tobytes()
    assert decoded.photometric_interpretation == describe(array).photometric_interpretation


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.HTJ2KLossless], ids=lambda syntax: syntax.keyword)
def test_signed_samples_keep_their_sign(syntax):
    array = noise("i2")
    assert decode(syntax, bytes(LOSSLESS[syntax](array)), describe(array)).pixels == array.tobytes()


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEGLosslessSV1], ids=lambda syntax: syntax.keyword)
def test_signed_samples_of_a_codec_without_signs_come_back(syntax):
    array = noise("i2")
    assert decode(syntax, bytes(LOSSLESS[syntax](array.view("u2"))), describe(array)).pixels == array.tobytes()


def test_sign_bit_of_a_twelve_bit_codestream_is_extended():
    values = np.array([[-2048, -1], [0, 2047]], dtype="i2")
    frame = imagecodecs.jpeg8_encode((values & 0xFFF).astype("u2"), lossless=True, bitspersample=12)
    assert decode(uid.JPEGLosslessSV1, frame, describe(values, bits_stored=12)).pixels == values.tobytes()


def test_samples_are_as_wide_as_bits_allocated():
    array = noise("u1")
    description = describe(array, bits_allocated=16, bits_stored=8)
    frame = bytes(imagecodecs.jpegls_encode(array))
    assert decode(uid.JPEGLSLossless, frame, description).pixels == array.astype("<u2").tobytes()


def test_planes_lie_as_planar_configuration_says():
    array = noise("u1", 3)
    frame = bytes(LOSSLESS[uid.JPEG2000Lossless](array))
    decoded = decode(uid.JPEG2000Lossless, frame, describe(array, planar_configuration=1))
    assert decoded.pixels == array.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize("declared", ["YBR_RCT", "YBR_ICT"])
def test_jpeg_2000_colour_transformation_is_undone(declared):
    array = noise("u1", 3)
    frame = bytes(LOSSLESS[uid.JPEG2000Lossless](array))
    decoded = decode(uid.JPEG2000Lossless, frame, describe(array, photometric_interpretation=declared))
    assert (decoded.pixels, decoded.photometric_interpretation) == (array.tobytes(), "RGB")


def test_lossless_ybr_stays_ybr_bit_for_bit():
    array = noise("u1", 3)
    frame = bytes(imagecodecs.jpegls_encode(array))
    decoded = decode(uid.JPEGLSLossless, frame, describe(array, photometric_interpretation="YBR_FULL"))
    assert (decoded.pixels, decoded.photometric_interpretation) == (array.tobytes(), "YBR_FULL")


def test_lossy_jpeg_becomes_rgb():
    array = smooth_colour()
    frame = imagecodecs.jpeg8_encode(array, level=98, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
    decoded = decode(uid.JPEGBaseline8Bit, frame, describe(array, photometric_interpretation="YBR_FULL_422"))
    assert decoded.photometric_interpretation == "RGB"
    pixels = np.frombuffer(decoded.pixels, "u1").reshape(array.shape).astype(int)
    assert np.abs(pixels - array).mean() < 3


def test_jpeg_that_says_rgb_is_not_transformed():
    array = smooth_colour()
    frame = imagecodecs.jpeg8_encode(array, level=100, colorspace="RGB", outcolorspace="RGB")
    decoded = decode(uid.JPEGBaseline8Bit, frame, describe(array))
    assert decoded.photometric_interpretation == "RGB"
    pixels = np.frombuffer(decoded.pixels, "u1").reshape(array.shape).astype(int)
    assert np.abs(pixels - array).max() < 6


def test_twelve_bit_jpeg_is_decoded():
    array = np.tile(np.linspace(0, 4095, 32, dtype="u2"), (32, 1))
    frame = imagecodecs.jpeg8_encode(array, level=100, bitspersample=12)
    decoded = np.frombuffer(decode(uid.JPEGExtended12Bit, frame, describe(array, bits_stored=12)).pixels, "<u2")
    assert np.abs(decoded.reshape(array.shape).astype(int) - array).max() < 16


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_rle_frames_come_back_bit_for_bit(kind):
    array = noise(kind, 3)
    encoder = pydicom.pixels.get_encoder(uid.RLELossless)
    facts = describe(array)
    encoded = encoder.encode(
        array,
        rows=ROWS,
        columns=COLUMNS,
        number_of_frames=1,
        samples_per_pixel=3,
        bits_allocated=facts.bits_allocated,
        bits_stored=facts.bits_stored,
        pixel_representation=0,
        photometric_interpretation="RGB",
        planar_configuration=0,
    )
    assert decode(uid.RLELossless, encoded, facts).pixels == array.tobytes()


def test_deflated_frame_is_inflated():
    array = noise("u2")
    deflated = zlib.compressobj(wbits=-15)
    frame = deflated.compress(array.tobytes()) + deflated.flush()
    assert decode(DEFLATED_FRAME, frame, describe(array)).pixels == array.tobytes()


@pytest.mark.parametrize("syntax", sorted(codecs.DECODABLE))
@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51" + bytes(60), bytes(64)])
def test_bytes_that_are_no_codestream_are_corrupt(syntax, frame):
    with pytest.raises(CorruptPixelData):
        decode(syntax, frame, describe(noise("u2")))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_codestream_of_another_size_is_corrupt(syntax):
    array = noise("u1")
    frame = bytes(LOSSLESS[syntax](array))
    with pytest.raises(CorruptPixelData):
        decode(syntax, frame, describe(array, rows=ROWS + 1))
    with pytest.raises(CorruptPixelData):
        decode(syntax, frame, describe(array, samples_per_pixel=3))


def test_syntax_without_decoder_is_unsupported():
    with pytest.raises(UnsupportedTransferSyntax):
        decode(uid.MPEG2MPML, b"", describe(noise("u1")))


def test_table_of_syntaxes_and_decoders_agree():
    decodable = {syntax.uid for syntax in SYNTAXES.values() if syntax.can_decode and syntax.is_encapsulated}
    assert decodable == codecs.DECODABLE


def test_description_needs_a_size():
    with pytest.raises(CorruptPixelData):
        PixelDescription.from_attributes({"00280010": {"vr": "US", "Value": [1]}})


def test_pydicom_decodes_by_the_plugin():
    codecs.register()
    codecs.register()
    array = noise("i2")
    pixels, properties = get_decoder(uid.HTJ2KLossless).as_array(
        pydicom.encaps.encapsulate([bytes(imagecodecs.htj2k_encode(array))]),
        decoding_plugin=codecs.PLUGIN,
        rows=ROWS,
        columns=COLUMNS,
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=1,
        photometric_interpretation="MONOCHROME2",
        pixel_keyword="PixelData",
    )
    assert (pixels == array).all()
    assert properties["bits_allocated"] == 16


SAME_CT = [path for path in sorted(CORPUS.glob("ts/ct_*.dcm")) if "baseline" not in path.name and "12" not in path.name]


@pytest.mark.parametrize("path", SAME_CT, ids=lambda path: path.stem)
def test_every_lossless_copy_of_the_corpus_ct_has_the_same_pixels(path):
    dataset = pydicom.dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    description = PixelDescription.from_attributes(dataset.group_dataset(0x28).to_json_dict())
    expected = pydicom.dcmread(CORPUS / "ts" / "ct_explicit_le.dcm")
    assert decode(syntax, frame, description).pixels == expected.PixelData
