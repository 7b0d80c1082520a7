"""A DICOM file's header, parsed once on its way in (PS3.10 7.1, PS3.5): everything that the index and the edges need.

Files come with and without preamble and file meta, as archives and devices write them. What can be read is read, with
warnings; what is truncated or too large to be honest raises. Messages name tags and byte positions, never values.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pacs.errors import InvalidHeader, TruncatedDataSet
from pacs.imaging import syntaxes
from pacs.imaging.fragments import ByteSource
from pacs.imaging.inflation import MemorySink, Sink, inflate
from pacs.ingest.charsets import python_names
from pacs.ingest.dataset import DatasetParser
from pacs.ingest.findings import Parsed
from pacs.ingest.limits import Limits
from pacs.ingest.values import ENCODED_KINDS
from pacs.ingest.window import Window
from pacs.model import Header, PixelElement
from pacs.tags import text_of

__all__ = ["Limits", "parse_header"]

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010
_PIXEL_KEYS = ("7FE00010", "7FE00008", "7FE00009")
_MAX_META_BYTES = 1024 * 1024
_UID = re.compile(r"[0-9.]{1,64}")
# A data set without file meta must begin with one of these groups, or anything at all would be one.
_FIRST_GROUPS = {0x0000, 0x0002, 0x0004, 0x0008}
_MEMORY_INFLATED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Meta:
    """What file meta say, and the first byte after them; empty texts where they say nothing."""

    end: int
    transfer_syntax_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    is_present: bool = False


def parse_header(
    source: ByteSource,
    size_bytes: int,
    fallback_character_sets: Sequence[str] = ("ISO_IR 100",),
    limits: Limits = Limits(),  # noqa: B008 - frozen
    *,
    inflate_into: Sink | None = None,
    on_large: Callable[[], None] = lambda: None,
) -> Header:
    """Return the header of the file that ``source`` holds in its first ``size_bytes`` bytes.

    Text that no declared character set explains is read as UTF-8, then in each of ``fallback_character_sets``. A
    deflated data set is inflated into ``inflate_into``, which the caller closes; without one it must be small.
    ``on_large`` is called once if the header turns out to be large, before it is read.
    Raises InvalidHeader, TruncatedDataSet or HeaderTooLarge; a value that cannot be read is only a warning.
    """
    window = Window(source, size_bytes, limits.header_bytes, on_large)
    meta = _read_meta(window)
    uid = meta.transfer_syntax_uid or _guess_transfer_syntax(window, meta)
    syntax = syntaxes.lookup(uid)
    start = meta.end
    if syntax.is_deflated:
        window, start = _inflated(window, meta.end, limits, inflate_into, on_large), 0
    fallbacks = python_names(tuple(fallback_character_sets))
    parser = DatasetParser(window, limits, fallbacks, is_little_endian=syntax.is_little_endian)
    parsed = parser.parse(_skip_command_set(window, start), is_implicit_vr=syntax.is_implicit_vr)
    if not meta.is_present and not (
        text_of(parsed.attributes, "SOPClassUID") and text_of(parsed.attributes, "SOPInstanceUID")
    ):
        raise InvalidHeader("There is neither file meta information nor a SOP Class and Instance UID.")
    return Header(
        transfer_syntax_uid=uid,
        dataset_offset=meta.end,
        attributes=parsed.attributes,
        bulk=tuple(parsed.bulk.values()),
        pixels=_find_pixels(parsed),
        is_deflated=syntax.is_deflated,
        warnings=parsed.warnings if meta.transfer_syntax_uid else ("No transfer syntax; guessed.", *parsed.warnings),
        media_storage_sop_class_uid=meta.sop_class_uid,
        media_storage_sop_instance_uid=meta.sop_instance_uid,
    )


def _read_meta(window: Window) -> _Meta:
    """Read group 0002 element by element: its length element is often absent or wrong."""
    head = window.read(0, _PREAMBLE_BYTES + len(_MAGIC))
    if head[_PREAMBLE_BYTES:] == _MAGIC:
        start = _PREAMBLE_BYTES + len(_MAGIC)
    else:
        start = len(_MAGIC) if head.startswith(_MAGIC) else 0
    texts: dict[int, str] = {}
    position, is_present = start, start > len(_MAGIC)
    # Always explicit VR little endian (PS3.10 7.1), but for writers that did not know.
    first_vr = window.read(start + 4, start + 6)
    is_implicit_vr = not (first_vr.isalpha() and first_vr.isupper())
    while True:
        element = window.read(position, position + 12)
        if len(element) < 8 or element[:2] != b"\x02\x00":
            break
        is_present = True
        tag, value_start, value_end = _measure(element, position, is_implicit_vr=is_implicit_vr)
        if value_end > window.end:
            raise TruncatedDataSet(f"The file meta information is truncated at byte {position}.")
        if value_end - start > _MAX_META_BYTES:
            raise InvalidHeader("The file meta information is too large.")
        if tag in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX):
            texts[tag] = window.read(value_start, value_end).decode("latin-1").strip(" \0")
        position = value_end
    uid = texts.get(_TRANSFER_SYNTAX, "")
    return _Meta(
        end=position,
        # What is no UID is as good as none: it would go out again in headers of our answers.
        transfer_syntax_uid=uid if _UID.fullmatch(uid) else "",
        sop_class_uid=texts.get(_SOP_CLASS, ""),
        sop_instance_uid=texts.get(_SOP_INSTANCE, ""),
        is_present=is_present,
    )


def _measure(element: bytes, position: int, *, is_implicit_vr: bool) -> tuple[int, int, int]:
    """Return the tag of a little endian element and where its value starts and ends."""
    group, number, code, length = struct.unpack_from("<HH2sH", element)
    start = position + 8
    kind = ENCODED_KINDS[True].get(code)
    if is_implicit_vr or kind is None:
        length = struct.unpack_from("<L", element, 4)[0]
    elif kind.has_long_length:
        if len(element) < 12:
            raise TruncatedDataSet(f"The file meta information is truncated at byte {position}.")
        length, start = struct.unpack_from("<L", element, 8)[0], position + 12
    return group << 16 | number, start, start + length


def _guess_transfer_syntax(window: Window, meta: _Meta) -> str:
    """Return the native syntax that the first element looks like; raise InvalidHeader if it looks like none."""
    head = window.read(meta.end, meta.end + 6)
    if len(head) < 6:
        if meta.is_present:
            return syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
        raise InvalidHeader("There are too few bytes for a data set.")
    group, code = int.from_bytes(head[:2], "little"), head[4:]
    is_explicit_vr = code in ENCODED_KINDS[True]
    # A group below 0100 reads as 0100 or more in the wrong byte order.
    is_big_endian = is_explicit_vr and group >= 0x0400 and head[0] == 0
    if not meta.is_present and (head[1] if is_big_endian else group) not in _FIRST_GROUPS:
        raise InvalidHeader("The bytes do not begin as a DICOM file or data set does.")
    if is_big_endian:
        return syntaxes.EXPLICIT_VR_BIG_ENDIAN
    return syntaxes.EXPLICIT_VR_LITTLE_ENDIAN if is_explicit_vr else syntaxes.IMPLICIT_VR_LITTLE_ENDIAN


def _inflated(
    window: Window, start: int, limits: Limits, inflate_into: Sink | None, on_large: Callable[[], None]
) -> Window:
    max_bytes = limits.inflated_bytes
    if inflate_into is None:
        max_bytes = min(max_bytes, _MEMORY_INFLATED_BYTES)
    sink = inflate_into or MemorySink()
    size_bytes = inflate(window.source, start, window.end, sink, max_bytes=max_bytes, max_ratio=limits.inflation_ratio)
    return Window(sink, size_bytes, limits.header_bytes, on_large)


def _skip_command_set(window: Window, start: int) -> int:
    """Return the first byte after a command set (PS3.7 6.3), which some receivers write before the data set."""
    position = start
    while True:
        head = window.read(position, position + 8)
        if len(head) < 8 or head[:2] != b"\0\0" or (head[:4] == b"\0\0\0\0" and position > start):
            return position
        end = position + 8 + int.from_bytes(head[4:8], "little")
        if end > window.end:
            return position
        position = end


def _find_pixels(parsed: Parsed) -> PixelElement | None:
    for key in _PIXEL_KEYS:
        if bulk := parsed.bulk.get(key):
            return PixelElement(key, bulk.vr, bulk.range, key in parsed.encapsulated)
    return None
