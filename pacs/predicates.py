"""Match conditions held against one data set in memory: what routing and coercion rules are made of.

The same conditions as a query's, with the same meaning (PS3.4 C.2.2.2), on any attribute that has a keyword, and on
the way in: CallingAETitle, CalledAETitle, Door. An indexed attribute matches as the index does, by its first value;
of any other one value has to match. Conditions inside one sequence have to hold of one item of it. A date with its time
in one value (DT) matches ranges too.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pacs.errors import InvalidQuery
from pacs.model import Attributes, Door, Level, Origin
from pacs.moments import Span, parse_moment, parse_span
from pacs.names import fold_pattern, name_keys
from pacs.normal import MAX_TEXT_LENGTH, normal_value
from pacs.query import AnyOf, Condition, Equals, InRange, IsEmpty, Wildcard, parse_condition
from pacs.tags import BY_KEYWORD, DERIVED, Attribute, Matching, tag_of, values_of, vr_of

_MATCHING_OF_VR = {
    **dict.fromkeys(("AE", "AS", "DT", "LO", "LT", "SH", "ST", "UC", "UR", "UT"), Matching.TEXT),
    **dict.fromkeys(("IS", "SL", "SS", "SV", "UL", "US", "UV"), Matching.NUMBER),
    "CS": Matching.CODE,
    "DA": Matching.DATE,
    "PN": Matching.NAME,
    "TM": Matching.TIME,
    "UI": Matching.UID,
}
_DECIMAL = frozenset({"DS", "FD", "FL"})
_OF_ORIGIN: dict[str, tuple[Matching, Callable[[Origin], str]]] = {
    "CallingAETitle": (Matching.TEXT, lambda origin: origin.calling_ae_title),
    "CalledAETitle": (Matching.TEXT, lambda origin: origin.called_ae_title),
    "Door": (Matching.CODE, lambda origin: origin.door.value),
}
ORIGIN_KEYWORDS = frozenset(_OF_ORIGIN)
"""Names of conditions that are no attributes, but say how an instance came in."""
_NOT_OF_AN_INSTANCE = frozenset(attribute.keyword for attribute in DERIVED)
_PADDING = {Matching.DATE: ("00000000", "99999999"), Matching.TIME: ("000000.000000", "235960.999999")}
"""What completes the ends of a range, as in the index (a minute may have a leap second, PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class _Decimals:
    """One of these numbers."""

    keyword: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Moments:
    """A date and time in one value, within a range."""

    keyword: str
    span: Span


@dataclass(frozen=True, slots=True)
class _Test:
    """One condition on one attribute. ``matching`` of None compares decimal numbers, and dates with times."""

    condition: Condition | _Decimals | _Moments
    matching: Matching | None

    def holds(self, values: list[Any]) -> bool:
        """Whether one of the values passes; an empty list is an attribute without a value."""
        if isinstance(self.condition, _Decimals):
            return any(isinstance(value, int | float) and value in self.condition.values for value in values)
        if isinstance(self.condition, _Moments):
            moments = (parse_moment(value) for value in values if isinstance(value, str))
            return any(moment is not None and self.condition.span.covers(moment) for moment in moments)
        return passes(self.condition, self.matching, values)


@dataclass(frozen=True, slots=True)
class _Item:
    """What has to hold of a data set or of one item of a sequence, and of items below it."""

    tests: tuple[_Test, ...] = ()
    below: tuple[tuple[str, "_Item"], ...] = ()

    def holds(self, attributes: Attributes) -> bool:
        """Whether all tests hold, and for every sequence below all that is said of it of one of its items."""
        return all(test.holds(_values(attributes, test.condition.keyword)) for test in self.tests) and all(
            _holds_of_items(inner, [item for item in values_of(attributes, keyword) if isinstance(item, dict)])
            for keyword, inner in self.below
        )


@dataclass(frozen=True, slots=True)
class Predicate:
    """Every condition holds. Made by ``parse_predicate``."""

    of_origin: tuple[_Test, ...]
    of_instance: _Item

    def holds(self, attributes: Attributes, origin: Origin) -> bool:
        """Whether a data set that came in this way passes; a value that cannot be read passes nothing."""
        if not all(test.holds([_OF_ORIGIN[test.condition.keyword][1](origin)]) for test in self.of_origin):
            return False
        if origin.issuer_of_patient_id and not _values(attributes, "IssuerOfPatientID"):
            issuer = {"vr": "LO", "Value": [origin.issuer_of_patient_id]}
            attributes = attributes | {tag_of("IssuerOfPatientID"): issuer}
        return self.of_instance.holds(attributes)


def parse_predicate(conditions: Mapping[str, str]) -> Predicate:
    """Return the predicate for conditions by keyword, or by ``Sequence.Keyword`` for what is inside a sequence.

    Raises InvalidQuery with one sentence that names what is wrong.
    """
    of_origin = []
    of_instance: list[tuple[tuple[str, ...], _Test]] = []
    for name, text in conditions.items():
        path = tuple(name.split("."))
        if name in _OF_ORIGIN:
            test = _parse_test(name, text, _OF_ORIGIN[name][0])
            if name == "Door" and text.strip(" *") and text.strip(" ").lower() not in set(Door):
                raise InvalidQuery(f"Door must be one of {', '.join(Door)}.")
            of_origin += [test] if test else []
            continue
        *above, keyword = path
        vr = _vr_of(keyword)
        for sequence in above:
            if _vr_of(sequence) != "SQ":
                raise InvalidQuery(f"{sequence} is no sequence.")
        indexed = BY_KEYWORD.get(keyword)
        if indexed is not None and indexed.sequence and not above:
            above = [indexed.sequence]
        matching = (indexed.matching if indexed else None) or _MATCHING_OF_VR.get(vr)
        if matching is None and vr not in _DECIMAL:
            raise InvalidQuery(f"{keyword} cannot be matched.")
        test = _parse_test(keyword, text, matching, vr)
        of_instance += [(tuple(above), test)] if test else []
    return Predicate(tuple(of_origin), _build_item(of_instance))


def _vr_of(keyword: str) -> str:
    if keyword in _NOT_OF_AN_INSTANCE:
        raise InvalidQuery(f"{keyword} is no attribute of one instance.")
    try:
        if tag_of(keyword).startswith("0002"):
            raise InvalidQuery(f"{keyword} is no attribute of the data set.")
        return vr_of(keyword)
    except KeyError:
        raise InvalidQuery(f"There is no attribute {keyword}.") from None


def _parse_test(keyword: str, text: str, matching: Matching | None, vr: str = "") -> _Test | None:
    """Return the test, None for universal matching."""
    if matching is None:
        return _parse_decimals(keyword, text)
    span = parse_span(text) if vr == "DT" else None
    if span is not None:
        return _Test(_Moments(keyword, span), None)
    attribute = Attribute(keyword, Level.INSTANCE, matching, returned_by_default=False)
    condition = parse_condition(attribute, text)
    if condition is None:
        return None
    if matching is Matching.NUMBER and isinstance(condition, AnyOf):
        for value in condition.values:
            parse_condition(attribute, value)  # a list of numbers holds nothing but numbers
    return _Test(condition, matching)


def _parse_decimals(keyword: str, text: str) -> _Test | None:
    text = text.strip(" \0")
    if not text.strip("*"):
        return None
    if text == '""':
        return _Test(IsEmpty(keyword), None)
    try:
        return _Test(_Decimals(keyword, tuple(float(value) for value in text.split("\\"))), None)
    except ValueError:
        raise InvalidQuery(f"{keyword} must be a number.") from None


def _build_item(tests: list[tuple[tuple[str, ...], _Test]]) -> _Item:
    own = tuple(test for above, test in tests if not above)
    sequences = dict.fromkeys(above[0] for above, _ in tests if above)
    return _Item(
        own,
        tuple(
            (name, _build_item([(above[1:], test) for above, test in tests if above and above[0] == name]))
            for name in sequences
        ),
    )


def _holds_of_items(inner: _Item, items: list[Attributes]) -> bool:
    """Whether one item passes. Emptiness is of the whole sequence: no item has a value, as in the index."""
    empties = tuple(test for test in inner.tests if isinstance(test.condition, IsEmpty))
    if not all(test.holds(_values(item, test.condition.keyword)) for test in empties for item in items):
        return False
    rest = _Item(tuple(test for test in inner.tests if test not in empties), inner.below)
    return not (rest.tests or rest.below) or any(rest.holds(item) for item in items)


def _values(attributes: Attributes, keyword: str) -> list[Any]:
    """Return the values that are compared: those of a name, else the first if it is indexed."""
    values = values_of(attributes, keyword)
    indexed = BY_KEYWORD.get(keyword)
    if indexed is None or indexed.matching in (None, Matching.NAME):
        return values
    return values[:1]


def passes(condition: Condition, matching: Matching | None, values: Iterable[Any]) -> bool:
    """Whether one of the values passes, compared as ``matching`` says; no values are an attribute without one."""
    if matching is Matching.NAME:
        keys = tuple(key for value in values if isinstance(value, dict | str) for key in name_keys(value))
        return _name_passes(condition, keys)
    texts = ("" if value is None else str(value).strip(" \0") for value in values)
    found = [normal for text in texts if (normal := normal_value(matching, text)) is not None]
    if isinstance(condition, IsEmpty):
        return not found
    return any(_passes(condition, matching, value) for value in found)


def _passes(condition: Condition, matching: Matching | None, value: str | int) -> bool:
    """Whether one value in its normal form passes, as ``index.matching`` has it in SQL."""
    match condition:
        case Equals(_, wanted):
            return value == _normal(wanted, matching)
        case AnyOf(_, wanted) if matching is not Matching.NUMBER:
            return any(matches_pattern(str(value), str(_normal(one, matching))) for one in wanted)
        case AnyOf(_, wanted):
            return value in [_normal(one, matching) for one in wanted]
        case Wildcard(_, pattern):
            return matches_pattern(str(value), str(_normal(pattern, matching)))
        case InRange(_, first, last) if matching in _PADDING:
            low, high = _PADDING[matching]
            return first + low[len(first) :] <= str(value) <= (last or high) + high[len(last or high) :]
    return False


def _normal(value: str, matching: Matching | None) -> str | int:
    if matching is Matching.NUMBER:
        return int(value)
    value = value.strip(" ").replace("\0", "")[:MAX_TEXT_LENGTH]
    return value.upper() if matching is Matching.CODE else value


def _name_passes(condition: Condition, keys: tuple[str, ...]) -> bool:
    match condition:
        case IsEmpty():
            return not keys
        case Equals(_, text) | Wildcard(_, text):
            return _name_text_passes(text, keys)
        case AnyOf(_, texts):
            return any(_name_text_passes(text, keys) for text in texts)
    return False


def _name_text_passes(text: str, keys: tuple[str, ...]) -> bool:
    """Whether every component group given matches some group of one of the names."""
    patterns = fold_pattern(text)
    return bool(patterns) and all(
        any(matches_pattern(key, form) for form in _name_forms(pattern) for key in keys) for pattern in patterns
    )


def _name_forms(pattern: str) -> Iterator[str]:
    """Yield the pattern, and without its empty components, which keys do not keep: ``benali^*`` finds ``benali``."""
    yield pattern
    bare = re.sub(r"\^[\^*]*$", "", pattern)
    if bare and bare != pattern:
        yield bare


def matches_pattern(text: str, pattern: str) -> bool:
    """Whether ``*`` and ``?`` make ``text`` of the pattern (PS3.4 C.2.2.2.4), in time that no pattern can blow up."""
    at = position = 0
    star, resumed_at = -1, 0
    while at < len(text):
        if position < len(pattern) and pattern[position] == "*":
            star, resumed_at = position, at
            position += 1
        elif position < len(pattern) and pattern[position] in ("?", text[at]):
            at, position = at + 1, position + 1
        elif star >= 0:
            resumed_at += 1
            at, position = resumed_at, star + 1
        else:
            return False
    return not pattern[position:].strip("*")
