"""Every transfer syntax of PS3.6 Table A-1 as data: how its data sets are encoded and what this archive can do with it.

Parsing, negotiation, transcoding, media types and the conformance statement read this one table. A syntax that nobody
has heard of is read as encapsulated Explicit VR Little Endian (PS3.5 A.4) and kept as it came.
"""

from dataclasses import dataclass
from types import MappingProxyType

OCTET_STREAM = "application/octet-stream"

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
JPEG_XL_LOSSLESS = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSION = "1.2.840.10008.1.2.4.111"
JPEG_XL = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """One transfer syntax. ``media_type`` is that of a single frame's bytes (PS3.18 Table 8.7.3-5).

    ``is_deflated``: the whole data set is, so no byte range of a frame exists. ``is_lossless``: what the syntax's name
    promises of the pixels; native is lossless. ``has_pixels``: pixel data lie in the file and not elsewhere (JPIP).
    ``can_decode``: frames can become native here. ``can_encode``: native frames can become this here without loss,
    also where the syntax allows it. ``can_encode_lossy``: they can, with loss, for whoever asks for frames in it.
    """

    uid: str
    name: str
    is_implicit_vr: bool = False
    is_little_endian: bool = True
    is_deflated: bool = False
    is_encapsulated: bool = True
    is_lossless: bool = False
    is_video: bool = False
    is_retired: bool = False
    has_pixels: bool = True
    can_decode: bool = False
    can_encode: bool = False
    can_encode_lossy: bool = False
    media_type: str = OCTET_STREAM
    is_known: bool = True

    @property
    def is_native(self) -> bool:
        """Whether pixel data lie uncompressed in the data set, or in the inflated one."""
        return not self.is_encapsulated


def _native(
    uid: str, name: str, *, is_implicit_vr: bool = False, is_little_endian: bool = True, is_deflated: bool = False
) -> TransferSyntax:
    return TransferSyntax(
        uid,
        name,
        is_implicit_vr=is_implicit_vr,
        is_little_endian=is_little_endian,
        is_deflated=is_deflated,
        is_encapsulated=False,
        is_lossless=True,
        is_retired=not is_little_endian,
        can_decode=True,
        # Big endian is retired: it is read and never written.
        can_encode=is_little_endian,
    )


def _compressed(uid: str, name: str, media_type: str, facts: str = "") -> TransferSyntax:
    """``facts`` are words: lossless, decode, encode, lossy (encoded with loss), retired."""
    words = facts.split()
    return TransferSyntax(
        uid,
        name,
        is_lossless="lossless" in words,
        is_retired="retired" in words,
        can_decode="decode" in words,
        can_encode="encode" in words,
        can_encode_lossy="lossy" in words,
        media_type=media_type,
    )


def _video(uid: str, name: str, media_type: str) -> TransferSyntax:
    return TransferSyntax(uid, name, is_video=True, media_type=media_type)


def _elsewhere(uid: str, name: str, *, is_deflated: bool = False, is_retired: bool = False) -> TransferSyntax:
    """Pixels that the file only refers to, or that travel beside it."""
    return TransferSyntax(
        uid, name, is_deflated=is_deflated, is_encapsulated=False, is_retired=is_retired, has_pixels=False
    )


_JPEG, _JLS, _JP2, _JPX, _JPHC, _JXL = "image/jpeg", "image/jls", "image/jp2", "image/jpx", "image/jphc", "image/jxl"
_MPEG2, _MP4, _H265 = "video/mpeg", "video/mp4", "video/H265"
_4 = "1.2.840.10008.1.2.4."

_TABLE = (
    _native(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", is_implicit_vr=True),
    _native(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian"),
    _compressed(
        ENCAPSULATED_UNCOMPRESSED, "Encapsulated Uncompressed Explicit VR Little Endian", OCTET_STREAM, "lossless"
    ),
    _native(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "Deflated Explicit VR Little Endian", is_deflated=True),
    _native(EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian", is_little_endian=False),
    _compressed(JPEG_BASELINE, "JPEG Baseline (Process 1)", _JPEG, "decode lossy"),
    _compressed(JPEG_EXTENDED, "JPEG Extended (Process 2 and 4)", _JPEG, "decode"),
    _compressed(_4 + "52", "JPEG Extended (Process 3 and 5)", _JPEG, "retired"),
    _compressed(_4 + "53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)", _JPEG, "retired"),
    _compressed(_4 + "54", "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)", _JPEG, "retired"),
    _compressed(_4 + "55", "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)", _JPEG, "retired"),
    _compressed(_4 + "56", "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)", _JPEG, "retired"),
    _compressed(JPEG_LOSSLESS, "JPEG Lossless, Non-Hierarchical (Process 14)", _JPEG, "lossless decode"),
    _compressed(_4 + "58", "JPEG Lossless, Non-Hierarchical (Process 15)", _JPEG, "lossless retired"),
    _compressed(_4 + "59", "JPEG Extended, Hierarchical (Process 16 and 18)", _JPEG, "retired"),
    _compressed(_4 + "60", "JPEG Extended, Hierarchical (Process 17 and 19)", _JPEG, "retired"),
    _compressed(_4 + "61", "JPEG Spectral Selection, Hierarchical (Process 20 and 22)", _JPEG, "retired"),
    _compressed(_4 + "62", "JPEG Spectral Selection, Hierarchical (Process 21 and 23)", _JPEG, "retired"),
    _compressed(_4 + "63", "JPEG Full Progression, Hierarchical (Process 24 and 26)", _JPEG, "retired"),
    _compressed(_4 + "64", "JPEG Full Progression, Hierarchical (Process 25 and 27)", _JPEG, "retired"),
    _compressed(_4 + "65", "JPEG Lossless, Hierarchical (Process 28)", _JPEG, "lossless retired"),
    _compressed(_4 + "66", "JPEG Lossless, Hierarchical (Process 29)", _JPEG, "lossless retired"),
    _compressed(
        JPEG_LOSSLESS_SV1,
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        _JPEG,
        "lossless decode encode",
    ),
    _compressed(JPEG_LS_LOSSLESS, "JPEG-LS Lossless Image Compression", _JLS, "lossless decode encode"),
    _compressed(JPEG_LS_NEAR_LOSSLESS, "JPEG-LS Lossy (Near-Lossless) Image Compression", _JLS, "decode"),
    _compressed(JPEG_2000_LOSSLESS, "JPEG 2000 Image Compression (Lossless Only)", _JP2, "lossless decode encode"),
    _compressed(JPEG_2000, "JPEG 2000 Image Compression", _JP2, "decode"),
    _compressed(_4 + "92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)", _JPX, "lossless"),
    _compressed(_4 + "93", "JPEG 2000 Part 2 Multi-component Image Compression", _JPX),
    _elsewhere(_4 + "94", "JPIP Referenced"),
    _elsewhere(_4 + "95", "JPIP Referenced Deflate", is_deflated=True),
    _video(_4 + "100", "MPEG2 Main Profile / Main Level", _MPEG2),
    _video(_4 + "100.1", "Fragmentable MPEG2 Main Profile / Main Level", _MPEG2),
    _video(_4 + "101", "MPEG2 Main Profile / High Level", _MPEG2),
    _video(_4 + "101.1", "Fragmentable MPEG2 Main Profile / High Level", _MPEG2),
    _video(_4 + "102", "MPEG-4 AVC/H.264 High Profile / Level 4.1", _MP4),
    _video(_4 + "102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", _MP4),
    _video(_4 + "103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", _MP4),
    _video(_4 + "103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", _MP4),
    _video(_4 + "104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", _MP4),
    _video(_4 + "104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", _MP4),
    _video(_4 + "105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", _MP4),
    _video(_4 + "105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", _MP4),
    _video(_4 + "106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", _MP4),
    _video(_4 + "106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", _MP4),
    _video(_4 + "107", "HEVC/H.265 Main Profile / Level 5.1", _H265),
    _video(_4 + "108", "HEVC/H.265 Main 10 Profile / Level 5.1", _H265),
    _compressed(JPEG_XL_LOSSLESS, "JPEG XL Lossless", _JXL, "lossless"),
    # It gives back its JPEG bit for bit, but that JPEG was lossy already.
    _compressed(JPEG_XL_RECOMPRESSION, "JPEG XL JPEG Recompression", _JXL),
    _compressed(JPEG_XL, "JPEG XL", _JXL),
    _compressed(
        HTJ2K_LOSSLESS,
        "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        _JPHC,
        "lossless decode encode",
    ),
    _compressed(
        HTJ2K_LOSSLESS_RPCL,
        "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        _JPHC,
        "lossless decode encode",
    ),
    # Reversible codestreams belong in it as well (PS3.5 10.18); no other are written here.
    _compressed(HTJ2K, "High-Throughput JPEG 2000 Image Compression", _JPHC, "decode encode"),
    _elsewhere(_4 + "204", "JPIP HTJ2K Referenced"),
    _elsewhere(_4 + "205", "JPIP HTJ2K Referenced Deflate", is_deflated=True),
    _compressed(RLE_LOSSLESS, "RLE Lossless", "image/dicom-rle", "lossless decode encode"),
    _elsewhere("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation", is_retired=True),
    _elsewhere("1.2.840.10008.1.2.6.2", "XML Encoding", is_retired=True),
    _elsewhere("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video"),
    _elsewhere("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video"),
    _elsewhere("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio"),
    _compressed(DEFLATED_IMAGE_FRAME, "Deflated Image Frame Compression", OCTET_STREAM, "lossless decode encode"),
)

SYNTAXES = MappingProxyType({syntax.uid: syntax for syntax in _TABLE})
"""UID -> transfer syntax, of every one in PS3.6 Table A-1 that data sets can be encoded in."""

ACCEPTED_ORDER: tuple[str, ...] = (
    # Lossless compressed: what decodes fastest and compresses best first.
    HTJ2K_LOSSLESS_RPCL,
    HTJ2K_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LOSSLESS,
    RLE_LOSSLESS,
    DEFLATED_IMAGE_FRAME,
    JPEG_XL_LOSSLESS,
    _4 + "92",
    ENCAPSULATED_UNCOMPRESSED,
    # Lossy compressed: whoever offers one has the pixels in it already.
    HTJ2K,
    JPEG_2000,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_EXTENDED,
    JPEG_BASELINE,
    JPEG_XL_RECOMPRESSION,
    JPEG_XL,
    _4 + "93",
    *(syntax.uid for syntax in _TABLE if syntax.is_video),
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""The syntaxes an acceptor takes, most wanted first. Not here: retired JPEG processes, which nothing decodes, and JPIP
and ST 2110, whose pixels would not come with the object (they are stored all the same when a file brings them)."""


def lookup(transfer_syntax_uid: str) -> TransferSyntax:
    """Return the table's entry; for an unknown UID one that is encapsulated Explicit VR Little Endian, undecodable."""
    return SYNTAXES.get(transfer_syntax_uid) or TransferSyntax(
        transfer_syntax_uid, "Unknown transfer syntax", is_known=False
    )
