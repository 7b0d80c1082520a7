"""One pass over an encoded data set (PS3.5 chapter 7) that gives the DICOM JSON model and the places of bulk values.

Hostile bytes come here first. Every length is checked against what surrounds it before anything is read; nesting,
the number of elements and the bytes read are bounded; a sequence of known length that cannot be read is kept as bytes
and does not fail the rest; messages name tags and byte positions, never values.
"""

import struct

from pacs.errors import HeaderTooLarge, InvalidHeader, TruncatedDataSet
from pacs.imaging.fragments import Fragments, scan_fragments
from pacs.ingest.ambiguity import Scope
from pacs.ingest.charsets import TextDecoder
from pacs.ingest.findings import Findings, Parsed
from pacs.ingest.limits import Limits
from pacs.ingest.values import (
    ENCODED_KINDS,
    KINDS,
    MAX_KNOWN_UN_BYTES,
    PUBLIC_KINDS,
    SEQUENCE,
    VALUES,
    Kind,
    private_vr,
    repeating_vr,
)
from pacs.ingest.window import Window
from pacs.model import Attributes

PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
UNDEFINED = 0xFFFFFFFF
LONG_BYTES = 1024

_ITEM = 0xFFFEE000
_ITEM_DELIMITER = 0xFFFEE00D
_SEQUENCE_DELIMITER = 0xFFFEE0DD
_AFTER_PIXELS_GROUPS = (0xFFFA, 0xFFFC)
_SEARCH_BYTES = 1024 * 1024


class _TrailingBytes(InvalidHeader):
    """The data set is over, and what follows is no element."""


class DatasetParser:
    """Parses one data set; used once."""

    def __init__(
        self, window: Window, limits: Limits, fallbacks: tuple[str, ...], *, is_little_endian: bool = True
    ) -> None:
        order = "<" if is_little_endian else ">"
        self._window = window
        self._limits = limits
        self._fallbacks = fallbacks
        self._is_little_endian = is_little_endian
        self._kinds = KINDS[is_little_endian]
        self._public_kinds = PUBLIC_KINDS[is_little_endian]
        self._encoded_kinds = ENCODED_KINDS[is_little_endian]
        self._implicit_header = struct.Struct(order + "HHL").unpack_from
        self._explicit_header = struct.Struct(order + "HH2sH").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._elements_left = limits.elements
        self._findings = Findings(fallbacks, limits.values, is_little_endian=is_little_endian)
        self._is_after_pixels = False

    def parse(self, start: int, *, is_implicit_vr: bool) -> Parsed:
        """Parse from ``start`` to the window's end; raise InvalidHeader or one of its kinds."""
        scope = Scope(None, TextDecoder((), self._fallbacks), "", None, self._window.end)
        scope.is_implicit_vr = is_implicit_vr
        try:
            self._parse_dataset(scope, start)
        except _TrailingBytes:
            self._findings.warn(None, "Bytes after the last element are ignored.")
            _sort(scope.attributes)
        return self._findings.finish(scope)

    # This is the loop that every element of every object goes through: it is one function, and calls nothing that it
    # need not for the common case, because calls are what costs here.
    def _parse_dataset(self, scope: Scope, start: int) -> int:  # noqa: C901, PLR0912, PLR0915
        """Parse elements into ``scope`` and return where to go on; its limits are checked before anything is read."""
        end, limit = scope.end, scope.limit
        stop = limit if end is None else end
        self._detect_implicit_vr(scope, start, stop)
        is_implicit, window, findings = scope.is_implicit_vr, self._window, self._findings
        add_value, many = findings.add_value, self._limits.inline_values
        unpack = self._implicit_header if is_implicit else self._explicit_header
        encoded_kinds, public_kinds = self._encoded_kinds, self._public_kinds
        kind: Kind | None
        data, origin = window.data, window.origin
        loaded = origin + len(data)
        position, last_tag, is_sorted, is_over = start, 0, True, scope.depth == 0 or end is not None
        while position < stop:
            if position + 12 > loaded or position < origin:
                if position + 8 > stop:
                    position = self._skip_remainder(position, stop, is_over=is_over)
                    break
                self._check_count()
                window.load(position, 12)
                data, origin = window.data, window.origin
                loaded = origin + len(data)
            self._elements_left -= 1
            value_start = position + 8
            if is_implicit:
                group, element, length = unpack(data, position - origin)
                tag = group << 16 | element
                kind = public_kinds.get(tag)
            else:
                group, element, code, length = unpack(data, position - origin)
                tag = group << 16 | element
                kind = encoded_kinds.get(code)
                if kind is None:
                    kind, length = self._read_odd_vr(scope, tag, code, position)
                elif kind.has_long_length:
                    value_start = position + 12
                    if value_start > limit:
                        raise self._overrun(tag, position, limit)
                    length = self._long(data, position - origin + 8)[0]
            if tag > last_tag and element and group < 0xFFFE:
                last_tag = tag
            else:
                passed = self._pass_over(scope, tag, last_tag, position, value_start + length)
                if passed is None:
                    is_sorted = False
                else:
                    position, is_over_now = passed
                    if is_over_now:
                        is_over = True
                        break
                    continue
            if length == UNDEFINED:
                position = self._parse_undefined(scope, tag, kind, value_start)
                data, origin = window.data, window.origin
                loaded = origin + len(data)
                continue
            if kind is None or kind.vr == "UN":
                kind = self._look_up(scope, tag, length, is_un=kind is not None)
            position = value_start + length
            if position > limit:
                raise self._overrun(tag, value_start, limit)
            if kind.treatment == SEQUENCE:
                self._parse_sequence(scope, tag, value_start, position)
                data, origin = window.data, window.origin
                loaded = origin + len(data)
            elif length > kind.inline_bytes or tag in PIXEL_TAGS or (length > LONG_BYTES and findings.values > many):
                self._add_bulk(scope, tag, kind, value_start, position)
            else:
                if position > loaded:
                    window.load(value_start, length)
                    data, origin = window.data, window.origin
                    loaded = origin + len(data)
                add_value(scope, tag, kind, data[value_start - origin : position - origin])
        if not is_over:
            raise self._overrun(_ITEM, start, limit)
        self._check_count()
        if not is_sorted:
            _sort(scope.attributes)
        return position

    def _add_bulk(
        self, scope: Scope, tag: int, kind: Kind, start: int, end: int, *, is_encapsulated: bool = False
    ) -> None:
        if scope.depth == 0 and tag in PIXEL_TAGS:
            self._is_after_pixels = True
        self._findings.add_bulk(scope, tag, kind, start, end, is_encapsulated=is_encapsulated)

    def _parse_sequence(self, scope: Scope, tag: int, start: int, end: int) -> None:
        """Parse a sequence of known length; keep it as bytes if it is none."""
        key = f"{tag:08X}"
        mark = self._findings.mark()
        try:
            items, _ = self._parse_items(scope, key, start, end)
        except HeaderTooLarge:
            raise
        except InvalidHeader:
            self._findings.warn(tag, "not a readable sequence, kept as bytes")
            self._findings.roll_back(mark)
            kind = self._kinds["UN"]
            if end - start > kind.inline_bytes:
                self._add_bulk(scope, tag, kind, start, end)
            else:
                self._findings.add_value(scope, tag, kind, self._window.read(start, end))
        else:
            scope.attributes[key] = {"vr": "SQ", "Value": items}

    def _parse_items(self, scope: Scope, key: str, start: int, end: int | None) -> tuple[list[Attributes], int]:
        """Return a sequence's items and where to go on; ``end`` None: a delimiter ends it."""
        if scope.depth >= self._limits.depth:
            raise HeaderTooLarge(f"Sequences nest deeper than {self._limits.depth} levels.")
        items: list[Attributes] = []
        limit = scope.limit if end is None else end
        position, tag = start, int(key, 16)
        while position < limit or end is None:
            if position + 8 > limit:
                raise self._overrun(tag, position, limit)
            self._window.load(position, 8)
            group, element, length = self._implicit_header(self._window.data, position - self._window.origin)
            item_tag = group << 16 | element
            position += 8
            if item_tag == _ITEM:
                self._elements_left -= 1
                item_end = None if length == UNDEFINED else position + length
                if item_end is not None and item_end > limit:
                    if end is None:
                        raise self._overrun(tag, position, limit)
                    self._findings.warn(tag, "item longer than its sequence")
                    item_end = limit
                item = Scope(scope, scope.decoder, f"{scope.path}{key}/{len(items)}/", item_end, limit)
                position = self._parse_dataset(item, position)
                items.append(item.attributes)
            elif item_tag == _SEQUENCE_DELIMITER:
                return items, position if end is None else end
            elif item_tag == _ITEM_DELIMITER:
                self._findings.warn(tag, "stray item delimiter")
            elif end is None and items:
                self._findings.warn(tag, "sequence delimiter missing")
                return items, position - 8
            else:
                raise InvalidHeader(f"There is no item where one must be, at byte {position - 8}.")
        return items, position

    def _parse_undefined(self, scope: Scope, tag: int, kind: Kind | None, start: int) -> int:
        """Parse a value of undefined length, a sequence or fragments, and return where to go on (PS3.5 6.2.2, A.4)."""
        is_declared = kind is not None and kind.vr != "UN" and not scope.is_implicit_vr
        if not is_declared and tag not in PIXEL_TAGS:
            kind = self._public_kinds.get(tag)
            is_declared = kind is not None and kind.treatment == SEQUENCE
            if self._is_item(start, scope.limit):
                kind = self._kinds["SQ"]
        if kind is not None and kind.treatment == SEQUENCE:
            mark = self._findings.mark()
            try:
                items, position = self._parse_items(scope, f"{tag:08X}", start, None)
            except InvalidHeader as error:
                if is_declared or isinstance(error, HeaderTooLarge):
                    raise
                self._findings.roll_back(mark)
                kind = None
            else:
                scope.attributes[f"{tag:08X}"] = {"vr": "SQ", "Value": items}
                return position
        return self._add_fragments(scope, tag, kind, start)

    def _add_fragments(self, scope: Scope, tag: int, kind: Kind | None, start: int) -> int:
        fragments = self._scan(start, scope.limit)
        if fragments.next_start == fragments.items_end:
            self._findings.warn(tag, "sequence delimiter missing")
        if kind is None or kind.treatment in (VALUES, SEQUENCE):
            kind = self._public_kinds[tag] if tag in PIXEL_TAGS else self._kinds["UN"]
        if tag in PIXEL_TAGS or fragments.items_end - start > kind.inline_bytes:
            self._add_bulk(scope, tag, kind, start, fragments.items_end, is_encapsulated=True)
        else:
            self._findings.add_value(scope, tag, kind, self._window.read(start, fragments.items_end))
        return fragments.next_start

    def _scan(self, start: int, limit: int) -> Fragments:
        """Return the fragments; if there are none, the one value that a sequence delimiter ends all the same."""
        source = self._window.source
        try:
            return scan_fragments(source, start, limit, is_little_endian=self._is_little_endian)
        except InvalidHeader as error:
            if isinstance(error, (HeaderTooLarge, TruncatedDataSet)) or self._is_item(start, limit):
                raise
            delimiter = struct.pack("<HHL" if self._is_little_endian else ">HHL", 0xFFFE, 0xE0DD, 0)
            for position in range(start, limit, _SEARCH_BYTES):
                found = source.read_range(position, min(position + _SEARCH_BYTES + 7, limit)).find(delimiter)
                if found >= 0:
                    return Fragments((), (), position + found, position + found + 8)
            raise

    def _is_item(self, start: int, limit: int) -> bool:
        """Whether an item, or the end of a sequence without items, stands at ``start``."""
        order = "<HH" if self._is_little_endian else ">HH"
        head = self._window.read(start, min(start + 4, limit))
        return head in (struct.pack(order, 0xFFFE, 0xE000), struct.pack(order, 0xFFFE, 0xE0DD))

    def _pass_over(
        self, scope: Scope, tag: int, last_tag: int, position: int, value_end: int
    ) -> tuple[int, bool] | None:
        """Say of an element that is not simply the next one where to go on, and whether the data set or item is over.

        None: it is an element like others, only out of order.
        """
        group, element = tag >> 16, tag & 0xFFFF
        if group == 0xFFFE:
            return self._meet_delimiter(scope, tag, position)
        is_behind_pixels = self._is_after_pixels and (tag <= last_tag or group == 0xFFFF)
        if scope.depth == 0 and (is_behind_pixels or group == 0):
            # No data set goes on with lower tags behind its pixels: these are somebody's padding.
            raise _TrailingBytes
        if element == 0:
            if value_end > scope.limit:
                raise self._overrun(tag, position, scope.limit)
            return value_end, False
        if group == 0xFFFF:
            raise InvalidHeader(f"There is no element where one must be, at byte {position}.")
        if f"{tag:08X}" in scope.attributes:
            self._findings.has_duplicates = True
            self._findings.warn(tag, "present more than once, the last one counts")
        else:
            self._findings.warn(tag, "out of order")
        return None

    def _meet_delimiter(self, scope: Scope, tag: int, position: int) -> tuple[int, bool]:
        is_open_item = scope.depth > 0 and scope.end is None
        if tag == _ITEM_DELIMITER and scope.depth > 0:
            return position + 8, True
        if tag in (_ITEM, _SEQUENCE_DELIMITER) and is_open_item:
            self._findings.warn(tag, "item delimiter missing")
            return position, True
        if tag in (_ITEM_DELIMITER, _SEQUENCE_DELIMITER):
            self._findings.warn(tag, "stray delimiter")
            return position + 8, False
        raise InvalidHeader(f"There is an item outside a sequence, at byte {position}.")

    def _read_odd_vr(self, scope: Scope, tag: int, code: bytes, position: int) -> tuple[Kind | None, int]:
        """Return kind and length of an explicit VR element whose VR is none: implicit VR, or a VR of the future."""
        at = position - self._window.origin
        if self._is_after_pixels and scope.depth == 0:
            raise _TrailingBytes
        if b"AA" <= code <= b"ZZ":
            self._findings.warn(tag, "unknown VR")
            length = self._window.data[at + 6 : at + 8]
            return self._kinds["UN"], int.from_bytes(length, "little" if self._is_little_endian else "big")
        return self._public_kinds.get(tag), self._long(self._window.data, at + 4)[0]

    def _look_up(self, scope: Scope, tag: int, length: int, *, is_un: bool) -> Kind:
        """Return how to read an element that does not say, or says UN (PS3.5 6.2.2), by the dictionaries."""
        group, element = tag >> 16, tag & 0xFFFF
        if group % 2:
            if 0x10 <= element < 0x100:
                return self._kinds["LO"]
            creator = scope.attributes.get(f"{group:04X}00{element >> 8:02X}", {}).get("Value", ())
            is_one_name = len(creator) == 1 and isinstance(creator[0], str) and element >= 0x100
            return self._kinds[private_vr(tag, creator[0]) if is_one_name else "UN"]
        if is_un and length > MAX_KNOWN_UN_BYTES:
            return self._kinds["UN"]
        kind = self._public_kinds.get(tag) or self._kinds[repeating_vr(tag)]
        if (
            self._is_after_pixels
            and scope.depth == 0
            and not is_un
            and group not in _AFTER_PIXELS_GROUPS
            and kind.vr == "UN"
        ):
            raise _TrailingBytes
        return kind

    def _detect_implicit_vr(self, scope: Scope, start: int, stop: int) -> None:
        """Correct the scope's ``is_implicit_vr`` by its first element; an item of an implicit one always is."""
        if (scope.depth and scope.is_implicit_vr) or start + 6 > stop:
            return
        self._window.load(start, 6)
        code = self._window.data[start - self._window.origin + 4 : start - self._window.origin + 6]
        is_implicit = not (0x40 < code[0] < 0x5B and 0x40 < code[1] < 0x5B)
        if is_implicit != scope.is_implicit_vr and not scope.depth:
            self._findings.warn(None, "The data set is not encoded as its transfer syntax says.")
        scope.is_implicit_vr = is_implicit

    def _skip_remainder(self, position: int, stop: int, *, is_over: bool) -> int:
        """Return ``stop`` for bytes too few to be an element: padding, unless they are the beginning of one."""
        if not is_over:
            raise self._overrun(_ITEM, position, stop)
        if self._window.read(position, stop).strip(b"\0"):
            if stop == self._window.end and not self._is_after_pixels:
                raise TruncatedDataSet(f"The data set is truncated: the element at byte {position} is not complete.")
            self._findings.warn(None, f"Trailing bytes at byte {position}.")
        return stop

    def _check_count(self) -> None:
        if self._elements_left < 0:
            raise HeaderTooLarge(f"The data set has more than {self._limits.elements} elements.")

    def _overrun(self, tag: int, position: int, limit: int) -> InvalidHeader:
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if limit == self._window.end:
            return TruncatedDataSet(f"The data set is truncated: {name} at byte {position} is not complete.")
        return InvalidHeader(f"{name} at byte {position} is longer than what surrounds it.")


def _sort(attributes: Attributes) -> None:
    ordered = sorted(attributes.items())
    attributes.clear()
    attributes.update(ordered)
