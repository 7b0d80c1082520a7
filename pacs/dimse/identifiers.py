"""Identifiers of the query/retrieve service: a request's data set to a Query, a match to an answer (PS3.4 C.4.1.1).

The standard lets a hierarchical query name keys of its own level and unique keys of those above, nothing else. Devices
ask for more, so keys of any level match here, as they do in QIDO-RS; what belongs below the level has no one value
there and is not returned. Only the unique keys above are insisted on, without which relational matching is meant.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacs.errors import InvalidQuery, PacsError
from pacs.model import Attributes, Level
from pacs.names import join_groups
from pacs.query import Condition, Equals, Query, combine_moments, parse_key
from pacs.tags import ATTRIBUTES, BY_KEYWORD, Attribute, keyword_of, tag_of, text_of, vr_of

PAGE_SIZE = 200
HEADER_PAGE_SIZE = 20
"""Matches in memory at once; fewer if each brings its whole header, which may be large."""

_RELATIONAL, _DATE_TIME, _FUZZY_NAMES, _EMPTY_VALUES, _MULTIPLE_VALUES = 0, 1, 2, 5, 6
_SUPPORTED_OPTIONS = frozenset({_RELATIONAL, _DATE_TIME, _FUZZY_NAMES, _EMPTY_VALUES, _MULTIPLE_VALUES})
_MAX_OPTIONS = 7

_ORDER = tuple(Level)
_UNIQUE_KEYS = {attribute.level: attribute.keyword for attribute in ATTRIBUTES if attribute.key_type == "U"}
_LEVEL = tag_of("QueryRetrieveLevel")
# What describes the identifier itself, or the archive, and is no key to match.
_NO_KEYS = frozenset({_LEVEL, tag_of("SpecificCharacterSet"), tag_of("RetrieveAETitle")})
_NEVER_MATCHED = frozenset({"TimezoneOffsetFromUTC"})
_NEVER_EMPTY = frozenset({tag_of("TimezoneOffsetFromUTC"), tag_of("InstanceAvailability")})
_AT_EVERY_LEVEL = frozenset({"InstanceAvailability"})
_NOT_HERE = frozenset({"RetrieveURL"})


class InvalidIdentifier(PacsError):
    """The identifier does not match the SOP Class."""

    def __init__(self, message: str, tag: str = _LEVEL) -> None:
        super().__init__(message)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on by SOP Class Extended Negotiation (PS3.4 C.5.1.1); by default nothing."""

    relational: bool = False
    date_time: bool = False
    fuzzy_names: bool = False
    empty_values: bool = False
    multiple_values: bool = False

    @classmethod
    def of(cls, options: bytes) -> "Agreement":
        """Return what an answer of ``negotiate_options`` stands for."""
        agreed = {index for index, option in enumerate(options) if option}
        return cls(
            relational=_RELATIONAL in agreed,
            date_time=_DATE_TIME in agreed,
            fuzzy_names=_FUZZY_NAMES in agreed,
            empty_values=_EMPTY_VALUES in agreed,
            multiple_values=_MULTIPLE_VALUES in agreed,
        )


def negotiate_options(offered: bytes) -> bytes | None:
    """Return the answer to an offer of options, one byte each (PS3.4 Tables C.5-1 and C.5-2): 1 for what is supported.

    Supported are relational queries, combined date and time, fuzzy matching of names, empty values and multiple values.
    No times are converted between zones.
    """
    answer = bytes(
        int(option == 1 and index in _SUPPORTED_OPTIONS) for index, option in enumerate(offered[:_MAX_OPTIONS])
    )
    return answer or None


@dataclass(frozen=True, slots=True)
class Find:
    """A parsed request: what to search for, and which attributes of a match are answered.

    ``keys`` are the request's own elements. ``is_complete`` says that every key is supported like a required one.
    ``needs_header``: a key is not indexed, only in the header of an instance.
    """

    query: Query
    keys: Attributes
    is_complete: bool
    needs_header: bool

    def build_answer(self, attributes: Attributes) -> Attributes:
        """Return the requested attributes of a match; those without a value are empty (PS3.4 C.2.2.1.3).

        The offset from UTC and the availability are not: they are there with a value or not at all (C.4.1.1.3.2).
        """
        wanted = {tag: key for tag, key in self.keys.items() if tag not in _NEVER_EMPTY or tag in attributes}
        answer = {tag: _choose(tag, key, attributes.get(tag)) for tag, key in wanted.items()}
        answer[_LEVEL] = {"vr": "CS", "Value": [str(self.query.level)]}
        return answer


def parse_find(identifier: Attributes, levels: Sequence[Level], agreement: Agreement) -> Find:
    """Return the search that an identifier asks for in an information model of these levels.

    Raises InvalidIdentifier for what does not match the SOP Class: no level or one that the model has not, no single
    value for a unique key above without relational matching, a value that its attribute cannot have.
    """
    level = _parse_level(identifier, levels)
    keys = _Keys(level, agreement)
    for tag, element in identifier.items():
        if tag not in _NO_KEYS and not tag.endswith("0000"):
            keys.add(tag, element)
    if not agreement.relational:
        _check_unique_keys(keys.conditions, levels[: levels.index(level)])
    conditions = combine_moments(keys.conditions) if agreement.date_time else tuple(keys.conditions)
    limit = HEADER_PAGE_SIZE if keys.needs_header else PAGE_SIZE
    query = Query(level, conditions, limit=limit, is_fuzzy=agreement.fuzzy_names)
    return Find(query, keys.returned, keys.is_complete, keys.needs_header)


def _parse_level(identifier: Attributes, levels: Sequence[Level]) -> Level:
    text = text_of(identifier, "QueryRetrieveLevel").upper()
    if not text:
        raise InvalidIdentifier("There is no Query/Retrieve Level.")
    if text not in levels:
        raise InvalidIdentifier("The Query/Retrieve Level is not one of this model.")
    return Level(text)


def _check_unique_keys(conditions: Iterable[Condition], above: Iterable[Level]) -> None:
    single = {condition.keyword for condition in conditions if isinstance(condition, Equals)}
    for keyword in (_UNIQUE_KEYS[level] for level in above):
        if keyword not in single:
            raise InvalidIdentifier(f"{keyword} needs a single value at this level.", tag_of(keyword))


class _Keys:
    """The keys of one identifier, sorted into conditions and what is returned."""

    def __init__(self, level: Level, agreement: Agreement) -> None:
        self.conditions: list[Condition] = []
        self.returned: Attributes = {}
        self.is_complete = True
        self.needs_header = False
        self._level = level
        self._agreement = agreement

    def add(self, tag: str, element: dict[str, Any]) -> None:
        """Take in one key."""
        attribute = BY_KEYWORD.get(keyword_of(tag))
        if element["vr"] == "SQ":
            self._add_item(tag, element)
        elif attribute is not None and attribute.matching is not None and not attribute.sequence:
            self._add_condition(tag, attribute, element)
        elif _has_value(element) and keyword_of(tag) not in _NEVER_MATCHED:
            self.is_complete = False
        if self._is_returned(tag, attribute):
            self.returned[tag] = element
        else:
            self.is_complete = False

    def _add_item(self, tag: str, sequence: dict[str, Any]) -> None:
        """Take in a sequence's item: no item, and an empty one, match everything (PS3.4 C.2.2.2.6)."""
        items = sequence.get("Value") or []
        if len(items) > 1:
            raise InvalidIdentifier("A sequence to match has more than one item.", tag)
        for nested, element in _elements_of(items):
            attribute = BY_KEYWORD.get(keyword_of(nested))
            if attribute is not None and attribute.sequence == keyword_of(tag):
                self._add_condition(nested, attribute, element)
            elif _has_value(element):
                self.is_complete = False

    def _add_condition(self, tag: str, attribute: Attribute, element: dict[str, Any]) -> None:
        if not set(element) <= {"vr", "Value"}:
            raise InvalidIdentifier(f"The value for {attribute.keyword} cannot be read.", tag)
        agreement = self._agreement
        try:
            condition = parse_key(
                attribute, _text_of(element), empties=agreement.empty_values, multiples=agreement.multiple_values
            )
        except InvalidQuery as error:
            raise InvalidIdentifier(str(error), tag) from None
        if condition is not None:
            self.conditions.append(condition)

    def _is_returned(self, tag: str, attribute: Attribute | None) -> bool:
        keyword = keyword_of(tag)
        if attribute is None or attribute.sequence:
            # What the index does not keep is in the header, of instances only.
            is_in_header = self._level is Level.INSTANCE and bool(keyword)
            self.needs_header = self.needs_header or is_in_header
            return is_in_header
        if keyword in _NOT_HERE:
            return False
        is_above = _ORDER.index(attribute.level) <= _ORDER.index(self._level)
        return keyword in _AT_EVERY_LEVEL or (is_above and not self._is_patients_count(attribute))

    def _is_patients_count(self, attribute: Attribute) -> bool:
        """Whether this is counted for an answer at the patient level only."""
        return attribute.keyword.startswith("NumberOfPatient") and self._level is not Level.PATIENT


def _elements_of(items: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((tag, element) for item in items if isinstance(item, dict) for tag, element in item.items())


def _has_value(element: Mapping[str, Any]) -> bool:
    if element["vr"] == "SQ":
        return any(_has_value(nested) for _, nested in _elements_of(element.get("Value") or []))
    return bool(set(element) - {"vr", "Value"}) or bool(_text_of(element).strip(" \0*"))


def _text_of(element: Mapping[str, Any]) -> str:
    """Return a key's values as they stood in the identifier, backslashes between them."""
    return "\\".join(map(_text_of_value, element.get("Value") or []))


def _text_of_value(value: Any) -> str:
    if isinstance(value, dict):
        return join_groups(value)
    return "" if value is None else str(value)


def _choose(tag: str, key: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """Return the element to answer a key with: of a sequence's items what the key's item asks for, or all of it."""
    if found is None:
        return {"vr": vr_of(keyword_of(tag)).split(" or ")[0] if keyword_of(tag) else key["vr"]}
    asked = dict(_elements_of(key.get("Value") or [])) if key["vr"] == "SQ" else {}
    if found["vr"] != "SQ" or not asked:
        return found
    items = [item for item in found.get("Value") or [] if isinstance(item, dict)]
    chosen = [{nested: _choose(nested, one, item.get(nested)) for nested, one in asked.items()} for item in items]
    return {"vr": "SQ", "Value": chosen} if chosen else {"vr": "SQ"}
