"""Compressed frames to native ones, by imagecodecs; as a function of ours and as a plugin of pydicom's pixel framework.

A decoder states what it made: the samples, and the Photometric Interpretation they are in. Lossless syntaxes keep the
colour space they stored, so that no bit changes; only the lossy JPEG processes, whose YCbCr is the codec's own affair,
come out as RGB. Everything else about the image stays as the data set says: the container is Bits Allocated wide and
the planes lie as Planar Configuration demands, so that metadata written before the decoding still fit.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.processing import convert_color_space

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.model import Attributes
from pacs.tags import text_of

PLUGIN = "imagecodecs"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression, PS3.5 A.4.13

Array = npt.NDArray[Any]

_JPEG = {str(syntax) for syntax in uid.JPEGTransferSyntaxes}
_JPEG_LOSSY = {str(uid.JPEGBaseline8Bit), str(uid.JPEGExtended12Bit)}
_JPEG_LS = {str(syntax) for syntax in uid.JPEGLSTransferSyntaxes}
_HTJ2K = {str(uid.HTJ2KLossless), str(uid.HTJ2KLosslessRPCL), str(uid.HTJ2K)}
_JPEG_2000 = {str(uid.JPEG2000Lossless), str(uid.JPEG2000)} | _HTJ2K
_RLE = {str(uid.RLELossless)}

DECODABLE = frozenset(_JPEG | _JPEG_LS | _JPEG_2000 | _RLE | {DEFLATED_FRAME})
"""The encapsulated transfer syntaxes whose frames ``decode`` understands."""


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """What the Image Pixel module (PS3.3 C.7.6.3) says of one frame."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int = 0

    @classmethod
    def from_attributes(cls, attributes: Attributes) -> Self:
        """Read the description from a data set; raise CorruptPixelData if it does not describe an image."""
        try:
            bits_allocated = int(text_of(attributes, "BitsAllocated"))
            return cls(
                rows=int(text_of(attributes, "Rows")),
                columns=int(text_of(attributes, "Columns")),
                samples_per_pixel=int(text_of(attributes, "SamplesPerPixel") or 1),
                bits_allocated=bits_allocated,
                bits_stored=int(text_of(attributes, "BitsStored") or bits_allocated),
                pixel_representation=int(text_of(attributes, "PixelRepresentation") or 0),
                photometric_interpretation=text_of(attributes, "PhotometricInterpretation"),
                planar_configuration=int(text_of(attributes, "PlanarConfiguration") or 0),
            )
        except ValueError as error:
            raise CorruptPixelData("The data set does not say how large its image is.") from error

    @property
    def sample_bytes(self) -> int:
        """The width of one sample's container."""
        return self.bits_allocated // 8

    @property
    def frame_bytes(self) -> int:
        """The length of one native frame; only for whole bytes a sample."""
        return self.rows * self.columns * self.samples_per_pixel * self.sample_bytes


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One native frame, little endian, and the only attribute that decoding may have changed."""

    pixels: bytes
    photometric_interpretation: str


@dataclass(frozen=True, slots=True)
class _Samples:
    """What a codec gave: rows x columns x samples. ``precision`` is the codestream's bits a sample, 0 if unknown."""

    array: Array
    precision: int
    photometric_interpretation: str


def decode(transfer_syntax_uid: str, frame: bytes, description: PixelDescription) -> DecodedFrame:
    """Return one encapsulated frame as native, exactly ``description.frame_bytes`` long.

    Raises UnsupportedTransferSyntax if there is no decoder, CorruptPixelData for whatever the codestream did wrong.
    Hostile codestreams may do worse to the process: outside tests and tools this runs behind ``sandbox``.
    """
    if transfer_syntax_uid not in DECODABLE or description.bits_allocated not in (8, 16, 32):
        raise UnsupportedTransferSyntax(UnsupportedTransferSyntax.__doc__)
    if transfer_syntax_uid == DEFLATED_FRAME:
        return DecodedFrame(_inflate(frame, description.frame_bytes), description.photometric_interpretation)
    samples = _decode_samples(transfer_syntax_uid, frame, description)
    array, photometric_interpretation = _correct_sign(samples, description), samples.photometric_interpretation
    if photometric_interpretation in ("YBR_FULL", "YBR_FULL_422") and transfer_syntax_uid in _JPEG_LOSSY:
        if array.dtype.itemsize == 1:
            array, photometric_interpretation = convert_color_space(array, "YBR_FULL", "RGB"), "RGB"
    elif photometric_interpretation == "YBR_FULL_422":
        # A codec gives every pixel its chroma, so the half that 422 leaves out is there now.
        photometric_interpretation = "YBR_FULL"
    array = _to_container(array, description)
    if description.planar_configuration == 1 and description.samples_per_pixel > 1:
        array = array.transpose(2, 0, 1)
    return DecodedFrame(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), photometric_interpretation)


def register() -> None:
    """Make pydicom decode by this module where it has no decoder yet or a lesser one; safe to call again."""
    for syntax in sorted(DECODABLE - _RLE - {DEFLATED_FRAME}):
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_for_pydicom"))


DECODER_DEPENDENCIES = {uid.UID(syntax): (PLUGIN,) for syntax in DECODABLE}
"""Read by pydicom's ``add_plugin``."""


def is_available(transfer_syntax_uid: str) -> bool:
    """Whether pydicom may use this module for a syntax; read by its ``add_plugin``."""
    return transfer_syntax_uid in DECODABLE


def decode_for_pydicom(source: bytes, runner: DecodeRunner) -> bytes:
    """Return one frame as pydicom's runner expects it: the codec's own container, pixel by pixel, no colour changed."""
    syntax = str(runner.transfer_syntax)
    description = PixelDescription(
        rows=runner.rows,
        columns=runner.columns,
        samples_per_pixel=runner.samples_per_pixel,
        bits_allocated=runner.bits_allocated,
        bits_stored=runner.bits_stored,
        pixel_representation=runner.pixel_representation,
        photometric_interpretation=str(runner.photometric_interpretation),
    )
    samples = _decode_samples(syntax, source, description)
    runner.set_option("bits_allocated", samples.array.dtype.itemsize * 8)
    runner.set_option("photometric_interpretation", samples.photometric_interpretation)
    if description.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return samples.array.tobytes()


def _decode_samples(syntax: str, frame: bytes, description: PixelDescription) -> _Samples:
    decoder: Callable[[bytes, PixelDescription], _Samples]
    if syntax in _JPEG:
        decoder = _decode_jpeg
    elif syntax in _JPEG_LS:
        decoder = _decode_jpeg_ls
    elif syntax in _JPEG_2000:
        decoder = _decode_jpeg_2000
    else:
        decoder = _decode_rle
    try:
        samples = decoder(frame, description)
    except (ValueError, RuntimeError, TypeError, IndexError, OverflowError, NotImplementedError) as error:
        # imagecodecs' own errors are RuntimeErrors; the rest is what malformed bytes make of its arithmetic.
        raise CorruptPixelData(CorruptPixelData.__doc__) from error
    array = samples.array
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.shape != (description.rows, description.columns, description.samples_per_pixel):
        raise CorruptPixelData("The codestream is of another size than the data set says.")
    return replace(samples, array=array)


def _decode_jpeg(frame: bytes, description: PixelDescription) -> _Samples:
    """PS3.5 8.2.1: the samples as stored, whatever colour transformation libjpeg would guess.

    The one exception is a codestream that declares by Adobe's marker to be YCbCr in a data set that says RGB.
    """
    precision, components = _read_frame_header(frame)
    photometric_interpretation = _conform_to_codestream(frame, components, description)
    if len(components) != 3:
        return _Samples(imagecodecs.jpeg8_decode(frame), precision, photometric_interpretation)
    adobe = frame.find(b"\xff\xee\x00\x0eAdobe")
    is_transformed = photometric_interpretation == "RGB" and adobe >= 0 and frame[adobe + 15 : adobe + 16] == b"\x01"
    stored = "YCBCR" if is_transformed else "RGB"
    array = imagecodecs.jpeg8_decode(frame, colorspace=stored, outcolorspace="RGB")
    return _Samples(array, precision, photometric_interpretation)


def _decode_jpeg_ls(frame: bytes, description: PixelDescription) -> _Samples:
    precision, components = _read_frame_header(frame)
    array = imagecodecs.jpegls_decode(frame)
    return _Samples(array, precision, _conform_to_codestream(frame, components, description))


def _decode_jpeg_2000(frame: bytes, description: PixelDescription) -> _Samples:
    """PS3.5 8.2.4: a codec undoes the reversible and irreversible colour transformation, which leaves RGB."""
    array = _decode_high_throughput(frame) if b"\xff\x50" in frame[:200] else imagecodecs.jpeg2k_decode(frame)
    size = frame.find(b"\xff\x4f\xff\x51")
    # Image size segment (ISO 15444-1 A.5.1): the first component's depth is 42 bytes behind the codestream's start,
    # its sign in the top bit.
    precision = (frame[size + 42] & 0x7F) + 1 if size >= 0 else 0
    photometric_interpretation = description.photometric_interpretation
    if photometric_interpretation in ("YBR_RCT", "YBR_ICT"):
        photometric_interpretation = "RGB"
    return _Samples(array, precision, photometric_interpretation)


def _decode_high_throughput(frame: bytes) -> Array:
    """Decode a codestream with a CAP marker (ISO 15444-15): OpenJPH is the faster, OpenJPEG the broader decoder."""
    try:
        # Asked for by name: left alone, colour without a transformation comes out in planes.
        return imagecodecs.htj2k_decode(frame, planar=False)
    except imagecodecs.Htj2kError:
        return imagecodecs.jpeg2k_decode(frame)


def _decode_rle(frame: bytes, description: PixelDescription) -> _Samples:
    """PS3.5 G: planes of whole samples, which imagecodecs joins to little endian."""
    kind = np.dtype(f"<u{description.sample_bytes}")
    decoded = imagecodecs.dicomrle_decode(frame, kind, out=bytearray(description.frame_bytes))
    if len(decoded) != description.frame_bytes:
        raise CorruptPixelData("The frame is shorter than the data set says.")
    planes = np.frombuffer(decoded, kind).reshape(description.samples_per_pixel, description.rows, description.columns)
    return _Samples(planes.transpose(1, 2, 0), description.bits_allocated, description.photometric_interpretation)


def _read_frame_header(frame: bytes) -> tuple[int, bytes]:
    """Return the precision and the component identifiers of a JPEG or JPEG-LS frame header (ISO 10918-1 B.2.2)."""
    position = 2
    while position + 10 <= len(frame):
        if frame[position] != 0xFF:
            break
        marker = frame[position + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            count = frame[position + 9]
            return frame[position + 4], frame[position + 10 : position + 10 + 3 * count : 3]
        if marker == 0xDA:
            break
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    raise CorruptPixelData("The codestream has no frame header.")


def _conform_to_codestream(frame: bytes, components: bytes, description: PixelDescription) -> str:
    """Return the colour space the codestream declares, as pydicom does, where the data set contradicts it."""
    declared = description.photometric_interpretation
    if description.samples_per_pixel != 3:
        return declared
    if components in (b"RGB", b"rgb"):
        return "RGB"
    if frame[6:10] == b"JFIF" and "YBR" not in declared:
        return "YBR_FULL"
    return declared


def _correct_sign(samples: _Samples, description: PixelDescription) -> Array:
    """Return the samples as two's complement or not, as Pixel Representation demands.

    JPEG and JPEG-LS know no sign and some JPEG 2000 encoders write the wrong one: the bits are right, the sign bit is
    the codestream's highest.
    """
    array = samples.array
    is_signed = array.dtype.kind == "i"
    if is_signed == bool(description.pixel_representation):
        return array
    width = array.dtype.itemsize * 8
    viewed = array.view(f"{'i' if description.pixel_representation else 'u'}{array.dtype.itemsize}")
    spare = width - samples.precision if samples.precision else 0
    return (viewed << spare) >> spare if spare > 0 else viewed


def _to_container(array: Array, description: PixelDescription) -> Array:
    """Return the samples in containers of Bits Allocated, which a codec sizes by precision instead."""
    if array.dtype.itemsize > description.sample_bytes:
        raise CorruptPixelData("The codestream has more bits a sample than the data set says.")
    return array.astype(f"{array.dtype.kind}{description.sample_bytes}", copy=False)


def _inflate(frame: bytes, length_bytes: int) -> bytes:
    try:
        pixels = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, length_bytes)
    except zlib.error as error:
        raise CorruptPixelData(CorruptPixelData.__doc__) from error
    if len(pixels) != length_bytes:
        raise CorruptPixelData("The frame is shorter than the data set says.")
    return pixels
