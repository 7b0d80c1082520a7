"""What a parser finds in a data set: values where they belong, bulk values by path, and what was wrong."""

from dataclasses import dataclass
from typing import Any

from pacs.errors import HeaderTooLarge
from pacs.ingest.ambiguity import Scope, Unresolved, choose_sign, resolve
from pacs.ingest.charsets import TextDecoder
from pacs.ingest.values import AMBIGUOUS, KEYS, VALUES, Kind, convert_anyway, inline
from pacs.model import Attributes, BulkValue, ByteRange

_CHARACTER_SET = 0x00080005
_MAX_WARNINGS = 100
_NAME_WEIGHT = 20


@dataclass(frozen=True, slots=True)
class Parsed:
    """A data set's attributes, its bulk values by path, which of those are encapsulated, and what was wrong."""

    attributes: Attributes
    bulk: dict[str, BulkValue]
    encapsulated: frozenset[str]
    warnings: tuple[str, ...]


class Findings:
    """Collects one data set. Warnings name tags, never values, and are at most a hundred.

    ``values`` counts those of attributes with several, a name for what it costs; past ``max_values`` HeaderTooLarge.
    """

    def __init__(self, fallbacks: tuple[str, ...], max_values: int, *, is_little_endian: bool) -> None:
        self._fallbacks = fallbacks
        self._is_little_endian = is_little_endian
        self._bulk: dict[str, BulkValue] = {}
        self._encapsulated: set[str] = set()
        self._unresolved: list[Unresolved] = []
        self._warnings: dict[str, None] = {}
        self.has_duplicates = False
        self.values = 0
        self._max_values = max_values

    def add_value(self, scope: Scope, tag: int, kind: Kind, value: bytes) -> None:
        """Put an element with this encoded value into ``scope``; bytes that are no value of their VR warn only."""
        key = KEYS.get(tag) or f"{tag:08X}"
        vr, _, treatment, _, convert = kind
        if treatment == VALUES:
            decoder = scope.decoder
            try:
                values = convert(value, decoder)
            except ValueError:
                scope.attributes[key] = convert_anyway(vr, value)
                self.warn(tag, f"not a value of VR {vr}")
                return
            scope.attributes[key] = {"vr": vr, "Value": values} if values else {"vr": vr}
            if len(values) > 1:
                self.values += len(values) * _NAME_WEIGHT if vr == "PN" else len(values)
                if self.values > self._max_values:
                    raise HeaderTooLarge(f"The data set has more than {self._max_values} values.")
            if decoder.is_troubled:
                decoder.is_troubled = False
                self.warn(tag, "text outside the declared character set")
            if vr == "SS":
                choose_sign(tag, vr, values)
            elif tag == _CHARACTER_SET:
                self._declare(scope, values)
        elif treatment == AMBIGUOUS:
            element = scope.attributes[key] = {"vr": vr}
            self._unresolved.append(Unresolved(element, scope, tag, value, "", is_encapsulated=False))
        else:
            scope.attributes[key] = inline(vr, value, is_little_endian=self._is_little_endian)

    def add_bulk(
        self, scope: Scope, tag: int, kind: Kind, start: int, end: int, *, is_encapsulated: bool = False
    ) -> None:
        """Put an element into ``scope`` whose value stays where it is, from ``start`` up to, not including, ``end``."""
        key = KEYS.get(tag) or f"{tag:08X}"
        path = scope.path + key
        element = scope.attributes[key] = {"vr": kind.vr}
        if end > start:
            element["BulkDataURI"] = path
            self._bulk[path] = BulkValue(path, kind.vr, ByteRange(start, end))
            if is_encapsulated:
                self._encapsulated.add(path)
        if kind.treatment == AMBIGUOUS:
            self._unresolved.append(Unresolved(element, scope, tag, None, path, is_encapsulated))

    def mark(self) -> tuple[int, int]:
        """Return a point to which ``roll_back`` can return."""
        return len(self._bulk), len(self._unresolved)

    def roll_back(self, mark: tuple[int, int]) -> None:
        """Forget what a sequence left behind that turned out to be none."""
        bulk_count, unresolved_count = mark
        while len(self._bulk) > bulk_count:
            self._bulk.popitem()
        del self._unresolved[unresolved_count:]

    def warn(self, tag: int | None, text: str) -> None:
        """Note what is wrong with an element, or with the data set."""
        if len(self._warnings) < _MAX_WARNINGS:
            self._warnings[text if tag is None else f"({tag >> 16:04X},{tag & 0xFFFF:04X}): {text}"] = None

    def finish(self, scope: Scope) -> Parsed:
        """Decide what was open and return everything; ``scope`` is the whole data set."""
        resolve(self._unresolved, self._bulk, is_little_endian=self._is_little_endian)
        bulk = self._bulk
        if self.has_duplicates:
            bulk = {path: value for path, value in bulk.items() if _is_referenced(scope.attributes, path)}
        return Parsed(scope.attributes, bulk, frozenset(self._encapsulated), tuple(self._warnings))

    def _declare(self, scope: Scope, character_sets: list[Any]) -> None:
        scope.decoder = TextDecoder(character_sets, self._fallbacks)
        if not scope.decoder.is_declaration_known:
            self.warn(_CHARACTER_SET, "unknown character set")


def _is_referenced(attributes: Attributes, path: str) -> bool:
    """Whether the data set still has the bulk value of this path, after a later element took an earlier one's place."""
    place: Any = attributes
    *steps, key = path.split("/")
    for sequence, index in zip(steps[::2], steps[1::2], strict=True):
        items = place.get(sequence, {}).get("Value", ())
        if int(index) >= len(items) or not isinstance(items[int(index)], dict):
            return False
        place = items[int(index)]
    element = place.get(key)
    return isinstance(element, dict) and element.get("BulkDataURI") == path
