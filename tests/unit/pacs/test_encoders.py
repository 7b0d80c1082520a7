"""Encoded frames come back bit for bit, in the form their syntax prescribes, or the syntax is not used at all."""

from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.pixels.decoders.rle import _rle_decode_frame

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.imaging import syntaxes
from pacs.imaging.codecs import PixelDescription, decode
from pacs.imaging.encoders import ENCODABLE, LOSSY, encode
from tests.codestream import ct_slice, parse

TRANSFORMS_COLOUR = [uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K]
COUNTS_BITS = [uid.JPEGLosslessSV1, uid.JPEGLSLossless, *TRANSFORMS_COLOUR]
KEEPS_ALL = [uid.RLELossless, syntaxes.DEFLATED_IMAGE_FRAME]
EVERY = [*COUNTS_BITS, *KEEPS_ALL]


def name(syntax):
    return syntaxes.lookup(syntax).uid


def image(kind="u2", bits_stored=12, samples=1, shape=(11, 7), **facts):
    """Return noise over all of Bits Stored, and its description."""
    size = np.dtype(kind).itemsize
    is_signed = np.dtype(kind).kind == "i"
    low, high = (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1) if is_signed else (0, (1 << bits_stored) - 1)
    full = (*shape, samples) if samples > 1 else shape
    array = np.random.default_rng(5).integers(low, high, full, dtype=np.dtype(kind), endpoint=True)
    colour = "RGB" if samples == 3 else "MONOCHROME2"
    described = {
        "rows": shape[0],
        "columns": shape[1],
        "samples_per_pixel": samples,
        "bits_allocated": size * 8,
        "bits_stored": bits_stored,
        "pixel_representation": int(is_signed),
        "photometric_interpretation": colour,
    }
    return array, PixelDescription(**(described | facts))


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "u1", "bits_stored": 8},
        {"kind": "u1", "bits_stored": 5},
        {"kind": "u2", "bits_stored": 16},
        {"kind": "u2", "bits_stored": 12},
        {"kind": "u2", "bits_stored": 8},
        {"kind": "i2", "bits_stored": 16},
        {"kind": "i2", "bits_stored": 12},
        {"kind": "i1", "bits_stored": 8},
        {"kind": "u1", "bits_stored": 8, "samples": 3},
        {"kind": "u2", "bits_stored": 10, "samples": 3},
        {"kind": "u1", "bits_stored": 8, "samples": 3, "photometric_interpretation": "YBR_FULL"},
        {"kind": "u1", "bits_stored": 8, "photometric_interpretation": "PALETTE COLOR"},
        {"kind": "u2", "bits_stored": 12, "shape": (1, 1)},
        {"kind": "u1", "bits_stored": 8, "samples": 3, "shape": (3, 1)},
        {"kind": "u2", "bits_stored": 12, "shape": (70, 130)},
    ],
    ids=lambda facts: "-".join(map(str, facts.values())),
)
@pytest.mark.parametrize("syntax", EVERY, ids=name)
def test_every_bit_comes_back(syntax, facts):
    """RULES.md: compares every stored bit; Photometric Interpretation and Planar Configuration set right."""
    array, description = image(**facts)
    is_left = description.photometric_interpretation == "YBR_FULL" or description.columns == 1
    if syntax in (uid.HTJ2KLosslessRPCL, uid.HTJ2K) and is_left:  # a viewer would take it for RGB, or break on it
        with pytest.raises(UnsupportedTransferSyntax):
            encode(syntax, array.tobytes(), description)
        return
    encoded = encode(syntax, array.tobytes(), description)
    decoded = decode(syntax, encoded.data, description)
    assert decoded.pixels == array.tobytes()
    is_transformed = syntax in TRANSFORMS_COLOUR and description.photometric_interpretation == "RGB"
    assert encoded.photometric_interpretation == (
        "YBR_RCT" if is_transformed else description.photometric_interpretation
    )


@pytest.mark.parametrize("syntax", EVERY, ids=name)
def test_planes_are_encoded_and_come_back_as_planes(syntax):
    array, description = image("u1", 8, samples=3, planar_configuration=1)
    planes = np.ascontiguousarray(array.transpose(2, 0, 1)).tobytes()
    encoded = encode(syntax, planes, description)
    assert decode(syntax, encoded.data, description).pixels == planes
    expected = {uid.RLELossless: 1, syntaxes.DEFLATED_IMAGE_FRAME: 1}
    assert encoded.planar_configuration == expected.get(syntax, 0)


@pytest.mark.parametrize("kind", ["u2", "i2"])
@pytest.mark.parametrize("syntax", EVERY, ids=name)
def test_data_above_bits_stored_keep_an_image_out_of_what_cannot_hold_them(syntax, kind):
    """RULES.md: skip objects with overlays or data in unused high bits."""
    array, description = image(kind, 12)
    array[3, 3] = 0x4000 | 5
    if syntax in COUNTS_BITS:
        with pytest.raises(UnsupportedTransferSyntax):
            encode(syntax, array.tobytes(), description)
    else:
        assert decode(syntax, encode(syntax, array.tobytes(), description).data, description).pixels == array.tobytes()


@pytest.mark.parametrize("syntax", EVERY, ids=name)
def test_samples_of_32_bits_are_only_for_what_packs_bytes(syntax):
    array, description = image("u4", 32)
    if syntax in COUNTS_BITS:
        with pytest.raises(UnsupportedTransferSyntax):
            encode(syntax, array.tobytes(), description)
    else:
        assert decode(syntax, encode(syntax, array.tobytes(), description).data, description).pixels == array.tobytes()


@pytest.mark.parametrize("facts", [{"bits_allocated": 1}, {"bits_allocated": 64}, {"bits_allocated": 12}])
@pytest.mark.parametrize("syntax", EVERY, ids=name)
def test_other_containers_are_unsupported(syntax, facts):
    _, description = image("u1", 8, **facts)
    with pytest.raises(UnsupportedTransferSyntax):
        encode(syntax, b"\0" * 100, description)


@pytest.mark.parametrize("syntax", [uid.JPEG2000, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.MPEG2MPML, "1.2"])
def test_what_is_not_in_the_table_is_not_made(syntax):
    array, description = image("u1", 8)
    with pytest.raises(UnsupportedTransferSyntax):
        encode(syntax, array.tobytes(), description)


def gradient(samples=1, **facts):
    """Return a smooth picture of eight bits, as JPEG likes them, and its description."""
    slope = np.add.outer(np.arange(40), np.arange(70)).astype("u1")
    array = slope if samples == 1 else np.stack([slope, slope[::-1], slope[:, ::-1]], axis=2)
    _, description = image("u1", 8, samples=samples, shape=(40, 70), **facts)
    return array, description


@pytest.mark.parametrize(
    ("facts", "becomes"),
    [
        ({}, "MONOCHROME2"),
        ({"photometric_interpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"samples": 3}, "YBR_FULL_422"),
        ({"samples": 3, "planar_configuration": 1}, "YBR_FULL_422"),
    ],
)
def test_jpeg_is_near_to_what_it_was_made_of(facts, becomes):
    """PS3.5 8.2.1; issue 4: JPEG baseline for 8 bit, lossy only if asked."""
    array, description = gradient(**facts)
    planar = description.planar_configuration
    pixels = (array.transpose(2, 0, 1) if planar else array).tobytes()
    encoded = encode(uid.JPEGBaseline8Bit, pixels, description)
    assert encoded.photometric_interpretation == becomes
    described = replace(description, photometric_interpretation=becomes)
    decoded = np.frombuffer(decode(uid.JPEGBaseline8Bit, encoded.data, described).pixels, "u1").astype(int)
    assert np.abs(decoded - np.frombuffer(pixels, "u1")).max() <= 6
    assert len(encoded.data) < len(pixels) / 2


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "u2", "bits_stored": 12},
        {"kind": "i1", "bits_stored": 8},
        {"kind": "u1", "bits_stored": 8, "photometric_interpretation": "PALETTE COLOR"},
        {"kind": "u1", "bits_stored": 8, "samples": 3, "photometric_interpretation": "YBR_FULL_422"},
        {"kind": "u1", "bits_stored": 8, "samples": 3, "photometric_interpretation": "HSV"},
        {"kind": "u4", "bits_stored": 32},
    ],
    ids=lambda facts: "-".join(map(str, facts.values())),
)
def test_what_loses_its_meaning_does_not_become_jpeg(facts):
    array, description = image(**facts)
    with pytest.raises(UnsupportedTransferSyntax):
        encode(uid.JPEGBaseline8Bit, array.tobytes(), description)


@pytest.mark.parametrize("length", [0, 153, 155])
def test_frame_of_another_length_is_corrupt(length):
    _, description = image()
    with pytest.raises(CorruptPixelData):
        encode(uid.RLELossless, b"\0" * length, description)


def test_frame_that_does_not_come_back_is_not_handed_out(monkeypatch):
    array, description = image()
    spoiled = array.copy()
    spoiled[0, 0] ^= 1
    wrong = bytes(imagecodecs.jpegls_encode(spoiled))
    monkeypatch.setattr("imagecodecs.jpegls_encode", lambda _, out: wrong)
    with pytest.raises(UnsupportedTransferSyntax):
        encode(uid.JPEGLSLossless, array.tobytes(), description)


def test_rle_is_read_by_pydicom():
    array, description = image("u2", 12, shape=(30, 300))
    array[5:20] = 7
    data = encode(uid.RLELossless, array.tobytes(), description).data
    planes = np.frombuffer(_rle_decode_frame(data, 30, 300, 1, 16), "u2")
    assert np.array_equal(planes.reshape(30, 300), array)
    assert len(data) < array.nbytes


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL], ids=name)
def test_high_throughput_is_read_by_another_codec(syntax, samples):
    array, description = image("u1", 8, samples)
    assert np.array_equal(imagecodecs.jpeg2k_decode(encode(syntax, array.tobytes(), description).data), array)


def test_precision_of_jpeg_2000_is_bits_stored():
    """PS3.5 8.2.4."""
    array, description = image("i2", 12)
    data = encode(uid.JPEG2000Lossless, array.tobytes(), description).data
    assert data[42] == 0x80 | 11


@pytest.mark.parametrize(("shape", "levels"), [((64, 64), 5), ((2048, 2049), 6), ((3, 5), 1)])
def test_rpcl_has_a_thumbnail_resolution_first_and_tile_part_lengths(shape, levels):
    """PS3.5 10.18: RPCL order, a base resolution of at most 64, TLM present; no subband is empty."""
    array, description = image("u1", 1, shape=shape)
    data = encode(uid.HTJ2KLosslessRPCL, array.tobytes(), description).data
    style = data.index(b"\xff\x52")
    assert data[style + 5] == 2  # ISO 15444-1 Table A.16: resolution, position, component, layer
    assert data[style + 9] == levels
    assert b"\xff\x55" in data[: data.index(b"\xff\x90")]


@pytest.mark.parametrize("shape", [(8, 5000), (1, 1), (3, 1)])
def test_rpcl_refuses_what_has_no_thumbnail_without_an_empty_subband(shape):
    array, description = image("u1", 1, shape=shape)
    with pytest.raises(UnsupportedTransferSyntax, match="thin"):
        encode(uid.HTJ2KLosslessRPCL, array.tobytes(), description)


@pytest.mark.parametrize("syntax", [uid.HTJ2KLosslessRPCL, uid.HTJ2K], ids=name)
@pytest.mark.parametrize("shape", [(512, 512), (300, 1000)])
def test_codestream_says_where_every_resolution_ends(syntax, shape):
    """Issue 4: RPCL order with tile-part lengths, so that a byte range gives a lower resolution (ISO 15444-1 A)."""
    array, description = ct_slice(shape)
    data = encode(syntax, array.tobytes(), description).data
    stream = parse(data)
    assert (stream.columns, stream.rows, stream.progression, stream.is_reversible) == (*shape[::-1], 2, True)
    assert stream.tile_columns == shape[1]
    assert stream.tile_rows == shape[0]
    assert [part.index for part in stream.tile_parts] == list(range(stream.levels + 1))
    assert {part.count for part in stream.tile_parts} == {stream.levels + 1}
    assert stream.lengths == [part.length_bytes for part in stream.tile_parts]
    assert stream.tile_parts[-1].end + 2 == len(data)


@pytest.mark.parametrize("skipped", [1, 2, 3])
def test_a_prefix_decodes_to_a_lower_resolution(skipped):
    """Issue 4: a byte range gives a lower resolution, the same that the whole codestream has."""
    array, description = ct_slice((512, 512))
    data = encode(uid.HTJ2KLosslessRPCL, array.tobytes(), description).data
    stream = parse(data)
    prefix = data[: stream.tile_parts[stream.levels - skipped].end]
    small = imagecodecs.htj2k_decode(prefix, skipres=skipped, resilient=True)
    assert small.shape == (512 >> skipped, 512 >> skipped)
    assert np.array_equal(small, imagecodecs.htj2k_decode(data, skipres=skipped))
    # It is the picture, and not any picture: like the mean of the pixels that each of its own stands for.
    size = 1 << skipped
    means = array.reshape(512 // size, size, 512 // size, size).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), means.ravel())[0, 1] > 0.97
    assert len(prefix) < len(data) * (0.4, 0.15, 0.06)[skipped - 1]


def test_the_same_frame_gives_the_same_bytes():
    """A strong entity tag says so."""
    for syntax in [*EVERY, uid.JPEGBaseline8Bit]:
        array, description = gradient()
        assert len({encode(syntax, array.tobytes(), description).data for _ in range(3)}) == 1


def test_what_the_table_promises_is_what_is_made():
    encapsulated = [syntax for syntax in syntaxes.SYNTAXES.values() if syntax.is_encapsulated]
    assert {syntax.uid for syntax in encapsulated if syntax.can_encode} == ENCODABLE
    assert {syntax.uid for syntax in encapsulated if syntax.can_encode_lossy} == LOSSY
