"""Native frames to compressed ones, by imagecodecs: every lossless frame is decoded again before it is handed out.

An encoder takes only what comes back bit for bit from any decoder that follows the standard. JPEG, JPEG-LS and the
JPEG 2000 family count in Bits Stored, so anything in the bits above (an old overlay, rubbish) keeps an image out; RLE
and deflate keep every bit of the container. The one lossy syntax is JPEG Baseline, for frames asked for in it.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.imaging.codecs import PixelDescription, decode
from pacs.imaging.syntaxes import (
    DEFLATED_IMAGE_FRAME,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
)

Array = npt.NDArray[Any]

_THUMBNAIL_PIXELS = 64
_LEAST_LEVELS = 5
_MAX_RLE_SEGMENTS = 15
_HEADER_BYTES = 4096
_BY_RESOLUTION = 1  # OpenJPH's flag: a tile-part for every resolution
_JPEG_QUALITY = 90

VERSION = f"2-{imagecodecs.__version__}-{zlib.ZLIB_RUNTIME_VERSION}"
"""Of one version the same frame always gives the same bytes; the first number counts changes to this module."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame's bytes, not padded, and the attributes that encoding may have changed."""

    data: bytes
    photometric_interpretation: str
    planar_configuration: int


def encode(transfer_syntax_uid: str, pixels: bytes, description: PixelDescription) -> EncodedFrame:
    """Return one native frame, little endian, encoded without any loss and verified by decoding it.

    In a syntax of ``LOSSY`` it is with loss, and verified to decode. Raises UnsupportedTransferSyntax if the syntax, or
    this syntax's codec, cannot hold every bit of the frame, or not even its likeness; CorruptPixelData if the frame is
    not as long as ``description`` says.
    """
    encoder = (_ENCODERS | _LOSSY_ENCODERS).get(transfer_syntax_uid)
    is_subsampled = description.photometric_interpretation.endswith("_422")  # two pixels share their colour
    if encoder is None or is_subsampled or description.bits_allocated not in (8, 16, 32):
        raise UnsupportedTransferSyntax(UnsupportedTransferSyntax.__doc__)
    if len(pixels) != description.frame_bytes:
        raise CorruptPixelData("The frame is not as long as the data set says.")
    try:
        encoded = encoder(_to_array(pixels, description), description)
        decoded_as = replace(description, photometric_interpretation=encoded.photometric_interpretation)
        is_faithful = decode(transfer_syntax_uid, encoded.data, decoded_as).pixels == pixels
    except (CorruptPixelData, ValueError, RuntimeError, TypeError, OverflowError, NotImplementedError) as error:
        raise UnsupportedTransferSyntax("The codec cannot hold these pixels.") from error
    if not (is_faithful or transfer_syntax_uid in LOSSY):
        raise UnsupportedTransferSyntax("The codec did not give the same pixels back.")
    return encoded


def _to_array(pixels: bytes, description: PixelDescription) -> Array:
    """Return rows x columns x samples, signed as Pixel Representation says."""
    kind = np.dtype(f"<{'i' if description.pixel_representation else 'u'}{description.sample_bytes}")
    rows, columns, samples = description.rows, description.columns, description.samples_per_pixel
    array = np.frombuffer(pixels, kind)
    if description.planar_configuration == 1 and samples > 1:
        return array.reshape(samples, rows, columns).transpose(1, 2, 0)
    return array.reshape(rows, columns, samples)


def _for_codec(array: Array, description: PixelDescription) -> Array:
    """Return the samples for a codec that counts in Bits Stored; raise UnsupportedTransferSyntax if they do not fit."""
    stored, allocated = description.bits_stored, description.bits_allocated
    if allocated > 16 or not 1 <= stored <= allocated or description.samples_per_pixel not in (1, 3):
        raise UnsupportedTransferSyntax("The codec has no such samples.")
    low, high = (
        (-(1 << stored - 1), (1 << stored - 1) - 1) if description.pixel_representation else (0, (1 << stored) - 1)
    )
    if array.min() < low or array.max() > high:
        raise UnsupportedTransferSyntax("There are data in the bits above Bits Stored.")
    return np.ascontiguousarray(array if description.samples_per_pixel == 3 else array[:, :, 0])


def _encode_jpeg_lossless(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 8.2.1, process 14 with selection value 1. It knows no sign: a signed sample goes as its Bits Stored."""
    colour, stored = _plain_colour(description), description.bits_stored
    bits = _for_codec(array, description).view(f"u{description.sample_bytes}") & ((1 << stored) - 1)
    # Named so, no colour is transformed; called YCbCr, this codec loses pixels of an odd width.
    space = "GRAYSCALE" if description.samples_per_pixel == 1 else "RGB" if colour == "RGB" else "UNKNOWN"
    data = imagecodecs.jpeg8_encode(
        bits.astype("u1" if stored <= 8 else "u2"),
        lossless=True,
        predictor=1,
        bitspersample=stored,
        colorspace=space,
        outcolorspace=space,
    )
    return EncodedFrame(bytes(data), colour, 0)


def _encode_jpeg_ls(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 8.2.3. JPEG-LS knows no sign: a signed sample goes as the bits it is stored in."""
    samples = _for_codec(array, description).view(f"u{description.sample_bytes}")
    # Noise grows; by itself the codec reckons with the size of the image and no more.
    room = 2 * samples.nbytes + _HEADER_BYTES
    return EncodedFrame(bytes(imagecodecs.jpegls_encode(samples, out=room)), _plain_colour(description), 0)


def _encode_jpeg_2000(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 8.2.4."""
    samples, is_rgb = _for_codec(array, description), description.photometric_interpretation == "RGB"
    data = imagecodecs.jpeg2k_encode(
        samples,
        codecformat="J2K",
        reversible=True,
        mct=is_rgb,
        planar=False,
        bitspersample=description.bits_stored,
        numthreads=1,
    )
    return EncodedFrame(bytes(data), "YBR_RCT" if is_rgb else _plain_colour(description), 0)


def _encode_high_throughput(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 8.2.14."""
    samples, is_rgb = _for_codec(array, description), description.photometric_interpretation == "RGB"
    data = imagecodecs.htj2k_encode(samples, reversible=True, rgb=is_rgb, planar=False)
    return EncodedFrame(bytes(data), "YBR_RCT" if is_rgb else _plain_colour(description), 0)


def _encode_high_throughput_rpcl(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 10.18: resolution first (as OpenJPH does unasked), down to a thumbnail, with tile-part lengths.

    YBR_FULL would be allowed, but the codestream cannot say so, and OHIF takes its three samples for RGB.
    """
    samples, is_rgb = _for_codec(array, description), description.photometric_interpretation == "RGB"
    if description.samples_per_pixel == 3 and not is_rgb:
        raise UnsupportedTransferSyntax("HTJ2K in resolution order holds grey and RGB.")
    levels = _LEAST_LEVELS
    while max(description.rows, description.columns) > _THUMBNAIL_PIXELS << levels:
        levels += 1
    # OpenJPH as the viewer has it aborts on a subband without samples.
    levels = min(levels, min(description.rows, description.columns).bit_length() - 1)
    if not levels or max(description.rows, description.columns) > _THUMBNAIL_PIXELS << levels:
        raise UnsupportedTransferSyntax("HTJ2K in resolution order is not for images this thin.")
    data = imagecodecs.htj2k_encode(
        samples,
        reversible=True,
        rgb=is_rgb,
        planar=False,
        resolutions=levels,
        tlm=True,
        tilepart=_BY_RESOLUTION,
    )
    return EncodedFrame(bytes(data), "YBR_RCT" if is_rgb else _plain_colour(description), 0)


def _encode_jpeg_baseline(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 8.2.1: grey, or colour with half the chroma across; no signs, and no indexes into a palette."""
    colour = description.photometric_interpretation
    if description.bits_allocated != 8 or description.pixel_representation:
        raise UnsupportedTransferSyntax("JPEG Baseline has eight bits and no sign.")
    samples = _for_codec(array, description)
    if description.samples_per_pixel == 1 and colour in ("MONOCHROME1", "MONOCHROME2"):
        data = imagecodecs.jpeg8_encode(samples, level=_JPEG_QUALITY, colorspace="GRAYSCALE")
        return EncodedFrame(bytes(data), colour, 0)
    if description.samples_per_pixel != 3 or colour not in ("RGB", "YBR_FULL"):
        raise UnsupportedTransferSyntax("JPEG Baseline holds grey and true colour.")
    space = "RGB" if colour == "RGB" else "YCBCR"
    data = imagecodecs.jpeg8_encode(
        samples, level=_JPEG_QUALITY, colorspace=space, outcolorspace="YCBCR", subsampling="422"
    )
    return EncodedFrame(bytes(data), "YBR_FULL_422", 0)


def _encode_rle(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 G: a segment for every byte of every sample, the most significant first, its rows packed one by one."""
    count = description.samples_per_pixel * description.sample_bytes
    if count > _MAX_RLE_SEGMENTS:
        raise UnsupportedTransferSyntax("RLE has no more than 15 segments.")
    octets = np.ascontiguousarray(array).view("u1").reshape(*array.shape, description.sample_bytes)
    segments = []
    for sample in range(description.samples_per_pixel):
        for place in reversed(range(description.sample_bytes)):
            packed = bytes(imagecodecs.packbits_encode(octets[:, :, sample, place].copy()))
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = [64 + sum(map(len, segments[:index])) for index in range(count)]
    header = np.array([count, *offsets, *[0] * (_MAX_RLE_SEGMENTS - count)], "<u4").tobytes()
    # Planar Configuration means nothing to segments; most readers expect to be told that the planes are apart.
    return EncodedFrame(header + b"".join(segments), _plain_colour(description), 1)


def _encode_deflated(array: Array, description: PixelDescription) -> EncodedFrame:
    """PS3.5 A.4.13: the native frame as it is, deflated."""
    planes = array.transpose(2, 0, 1) if description.planar_configuration == 1 else array
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(planes.tobytes()) + deflater.flush()
    return EncodedFrame(data, description.photometric_interpretation, description.planar_configuration)


def _plain_colour(description: PixelDescription) -> str:
    """Return the colour space of samples that all have their own chroma."""
    declared = description.photometric_interpretation
    return "YBR_FULL" if declared == "YBR_FULL_422" else declared


_ENCODERS: dict[str, Callable[[Array, PixelDescription], EncodedFrame]] = {
    RLE_LOSSLESS: _encode_rle,
    JPEG_LOSSLESS_SV1: _encode_jpeg_lossless,
    JPEG_LS_LOSSLESS: _encode_jpeg_ls,
    JPEG_2000_LOSSLESS: _encode_jpeg_2000,
    HTJ2K_LOSSLESS: _encode_high_throughput,
    HTJ2K_LOSSLESS_RPCL: _encode_high_throughput_rpcl,
    HTJ2K: _encode_high_throughput_rpcl,
    DEFLATED_IMAGE_FRAME: _encode_deflated,
}
ENCODABLE = frozenset(_ENCODERS)
"""The encapsulated transfer syntaxes that ``encode`` makes without loss."""

_LOSSY_ENCODERS: dict[str, Callable[[Array, PixelDescription], EncodedFrame]] = {JPEG_BASELINE: _encode_jpeg_baseline}
LOSSY = frozenset(_LOSSY_ENCODERS)
"""Those that it makes with loss: for frames, never for instances."""
