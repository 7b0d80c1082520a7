"""Worklist keys held against an entry in memory (PS3.4 K.2.2, C.2.2.2): every key at its place, sequences item by item.

The database narrows a query to the rows that can match; this decides, so that any key of the table can be a condition,
and names are compared folded as everywhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pacs.errors import InvalidQuery
from pacs.model import Attributes, Level
from pacs.names import join_groups
from pacs.normal import normal_date, normal_time
from pacs.predicates import passes
from pacs.query import Condition, InRange, parse_key
from pacs.tags import Attribute, Matching, keyword_of, tag_of, text_of, vr_of
from pacs.worklist import keys
from pacs.worklist.keys import is_supported

MAX_KEYS = 500
MAX_DEPTH = 8

_MATCHING = {
    "UI": Matching.UID,
    "DA": Matching.DATE,
    "TM": Matching.TIME,
    "PN": Matching.NAME,
    "CS": Matching.CODE,
    **dict.fromkeys(("AE", "AS", "LO", "LT", "SH", "ST", "UC", "UT", "DS", "IS", "US"), Matching.TEXT),
}


@dataclass(frozen=True, slots=True)
class Moments:
    """Start date and time together: from ``first`` to ``last``, both inclusive, as YYYYMMDDHHMMSS.FFFFFF or open."""

    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds of one data set: every condition, and for every sequence one item of which its conditions hold."""

    conditions: tuple[Condition | Moments, ...] = ()
    items: tuple[tuple[str, "Conditions"], ...] = ()

    def of(self, keyword: str) -> Condition | None:
        """Return the condition on an attribute of this data set, if there is one."""
        named = (one for one in self.conditions if not isinstance(one, Moments))
        return next((one for one in named if one.keyword == keyword), None)

    @property
    def moments(self) -> Moments | None:
        """The range of start date and time, if that is one."""
        return next((one for one in self.conditions if isinstance(one, Moments)), None)

    @property
    def step(self) -> "Conditions":
        """What holds of the scheduled step's item."""
        return next((item for tag, item in self.items if tag == keys.STEP_SEQUENCE), Conditions())


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """A parsed identifier: what must hold, and what is returned. ``has_unsupported`` asks for the status 0xFF01."""

    conditions: Conditions
    identifier: Attributes
    has_unsupported: bool


def parse_query(identifier: Attributes) -> WorklistQuery:
    """Return what an identifier in the DICOM JSON model asks for; raise InvalidQuery for a value a key cannot have."""
    unsupported: list[str] = []
    conditions = _parse(identifier, "", unsupported, 0)
    returned = {tag: element for tag, element in identifier.items() if tag != keys.CHARACTER_SET}
    return WorklistQuery(conditions, returned, bool(unsupported))


def holds(conditions: Conditions, attributes: Attributes) -> bool:
    """Whether a data set passes; a value that cannot be read passes nothing."""
    if not all(_holds_one(condition, attributes) for condition in conditions.conditions):
        return False
    for tag, wanted in conditions.items:
        items = [item for item in attributes.get(tag, {}).get("Value", []) if isinstance(item, dict)]
        if not any(holds(wanted, item) for item in items):
            return False
    return True


def build_answer(query: WorklistQuery, attributes: Attributes) -> Attributes:
    """Return the attributes that an identifier asks for; what the entry does not know is there without a value."""
    return _select(query.identifier, attributes, "")


def _select(identifier: Attributes, attributes: Attributes, sequence: str) -> Attributes:
    answer: Attributes = {}
    for tag, key in identifier.items():
        if tag == keys.TIMEZONE and not sequence and attributes.get(tag, {}).get("Value"):
            answer[tag] = attributes[tag]
        if tag == keys.CHARACTER_SET or not is_supported(tag, sequence) or not keyword_of(tag):
            continue
        found = attributes.get(tag, {"vr": key.get("vr", "UN")})
        wanted = _item_of(key) if found.get("vr") == "SQ" else {}
        if wanted:
            items = [_select(wanted, item, tag) for item in found.get("Value", []) if isinstance(item, dict)]
            found = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        answer[tag] = found
    return answer


def _item_of(key: dict[str, Any]) -> Attributes:
    """Return the item of a sequence key; empty for an absent, an empty and a universal one."""
    items = [item for item in key.get("Value", []) if isinstance(item, dict)]
    if len(items) > 1:
        raise InvalidQuery("A sequence key has one item (PS3.4 C.2.2.2.6).")
    return items[0] if items else {}


def _parse(identifier: Attributes, sequence: str, unsupported: list[str], depth: int) -> Conditions:
    if depth > MAX_DEPTH or len(identifier) > MAX_KEYS:
        raise InvalidQuery("The identifier has too many keys.")
    conditions: list[Condition | Moments] = []
    items: list[tuple[str, Conditions]] = []
    for tag, key in identifier.items():
        if tag in (keys.CHARACTER_SET, keys.TIMEZONE) or tag.endswith("0000"):
            continue
        if not keyword_of(tag) or not is_supported(tag, sequence):
            unsupported.append(tag)
        elif key.get("vr") == "SQ":
            inner = _parse(_item_of(key), tag, unsupported, depth + 1)
            if inner.conditions or inner.items:
                items.append((tag, inner))
        else:
            condition = _parse_key(tag, key, unsupported)
            conditions += [condition] if condition is not None else []
    if sequence == keys.STEP_SEQUENCE:
        conditions = _join_moments(conditions)
    return Conditions(tuple(conditions), tuple(items))


def _parse_key(tag: str, key: dict[str, Any], unsupported: list[str]) -> Condition | None:
    if not set(key) <= {"vr", "Value"}:
        raise InvalidQuery(f"The value for {keyword_of(tag)} cannot be read.")
    text = "\\".join(_text(value) for value in key.get("Value", []))
    if not text.strip("* \0"):
        return None
    matching = _MATCHING.get(vr_of(keyword_of(tag)))
    if matching is None:
        unsupported.append(tag)
        return None
    attribute = Attribute(keyword_of(tag), Level.STUDY, matching, returned_by_default=False)
    return parse_key(attribute, text, empties=False, multiples=True)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return join_groups(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _join_moments(conditions: Sequence[Condition | Moments]) -> list[Condition | Moments]:
    """Make one range of start date and time (PS3.4 Table K.6-1): from 10 h on the first day to 18 h on the last.

    A time that is no range stays a condition of its own, on every day.
    """
    found = Conditions(tuple(conditions))
    date, time = found.of("ScheduledProcedureStepStartDate"), found.of("ScheduledProcedureStepStartTime")
    if not (isinstance(date, InRange) and isinstance(time, InRange)) or time.first == time.last:
        return list(conditions)
    first = date.first + _pad_time(time.first, "000000.000000") if date.first else ""
    last = date.last + _pad_time(time.last, "235960.999999") if date.last else ""
    rest: list[Condition | Moments] = [one for one in conditions if one is not date and one is not time]
    return [*rest, Moments(first, last)]


def _pad_time(time: str, filling: str) -> str:
    """Return a time that may be cut short, completed by the end of ``filling``."""
    return time + filling[len(time) :]


def _holds_one(condition: Condition | Moments, attributes: Attributes) -> bool:
    if isinstance(condition, Moments):
        return _holds_moments(condition, attributes)
    element = attributes.get(tag_of(condition.keyword), {})
    matching = _MATCHING.get(element.get("vr", ""))
    values = element.get("Value", [])
    return passes(condition, matching, values if matching is Matching.NAME else map(_text, values))


def _holds_moments(moments: Moments, attributes: Attributes) -> bool:
    date = normal_date(text_of(attributes, "ScheduledProcedureStepStartDate"))
    time = normal_time(text_of(attributes, "ScheduledProcedureStepStartTime"))
    if not date or not time:
        return False
    return moments.first <= date + time and (not moments.last or date + time <= moments.last)
