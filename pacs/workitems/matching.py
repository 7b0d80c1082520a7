"""Keys of a search or a subscription held against work items (PS3.4 CC.2.8.3): conditions by path, as in routing rules.

The database narrows a search to the rows that can match; ``pacs.predicates`` decides, so that any attribute can be a
key, also inside sequences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pacs.errors import InvalidQuery
from pacs.index.workitems import Narrowing
from pacs.model import Attributes, Door, Origin
from pacs.moments import parse_span, sortable
from pacs.normal import MAX_TEXT_LENGTH, clean
from pacs.predicates import ORIGIN_KEYWORDS, Predicate, parse_predicate

MAX_CONDITIONS = 100

_ORIGIN = Origin(Door.STOW)
_ZONES = timedelta(days=1)
"""What is added at both ends: a start that names its offset from UTC may be recorded as another day."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """What has to hold of an item, and what columns can say of it; never more than that."""

    predicate: Predicate
    narrowing: Narrowing

    def fits(self, attributes: Attributes) -> bool:
        """Whether an item as it is shown passes."""
        return self.predicate.holds(attributes, _ORIGIN)


def parse_matcher(conditions: Mapping[str, str]) -> Matcher:
    """Return what conditions ask for, by keyword or by ``Sequence.Keyword``; raise InvalidQuery for nonsense."""
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidQuery("There are too many keys.")
    for path in conditions:
        if path.split(".")[-1] == "TransactionUID" or path in ORIGIN_KEYWORDS:
            raise InvalidQuery(f"{path} cannot be matched.")
    predicate = parse_predicate(conditions)
    first, last = _bounds(conditions.get("ScheduledProcedureStepStartDateTime", ""))
    narrowing = Narrowing(
        states=tuple(state.upper() for state in _exact(conditions.get("ProcedureStepState", ""))),
        sop_instance_uids=_exact(conditions.get("SOPInstanceUID", "")),
        patient_id=_single(conditions.get("PatientID", "")),
        worklist_label=_single(conditions.get("WorklistLabel", "")),
        first_start=first,
        last_start=last,
    )
    return Matcher(predicate, narrowing)


def key_text(text: str) -> str:
    """Return text as the key columns hold it: no control characters, no half of a surrogate pair, cut."""
    return clean(text).strip(" ")[:MAX_TEXT_LENGTH]


def _exact(text: str) -> tuple[str, ...]:
    """Return the values of which one has to be there; none if any other value may do as well."""
    if any(char in text for char in '*?"'):
        return ()
    return tuple(value for part in text.split("\\") if (value := key_text(part.strip(" \0"))))


def _single(text: str) -> str:
    values = _exact(text)
    return values[0] if len(values) == 1 else ""


def _bounds(text: str) -> tuple[str, str]:
    span = parse_span(text)
    if span is None:
        return "", ""
    return (
        _key(span.first.first, -_ZONES) if span.first else "",
        _key(span.last.last, _ZONES) if span.last else "",
    )


def _key(at: datetime, by: timedelta) -> str:
    try:
        return sortable(at + by)
    except OverflowError:
        return ""
