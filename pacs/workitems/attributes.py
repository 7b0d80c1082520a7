"""A work item's attributes from outside, made ready to keep: checked against PS3.4 Table CC.2.5-3, bounded, complete.

A sentence about a wrong value names its attribute and never repeats the value, which may be a patient's.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pacs.attributes import clean
from pacs.errors import InvalidEntry
from pacs.index.metadata import dump_text
from pacs.model import Attributes
from pacs.moments import format_moment, parse_moment
from pacs.tags import tag_of, text_of, values_of, vr_of
from pacs.workitems.problems import InvalidWorkitem
from pacs.workitems.requirements import TABLE, TOP, Need, fill_empty, find_missing, has_value
from pacs.workitems.states import State

MAX_CHARACTERS = 1024 * 1024
"""Of one work item as JSON; a list of inputs and parameters takes a few thousand."""

SOP_CLASS_UID = "1.2.840.10008.5.1.4.34.6.1"
"""Unified Procedure Step Push: every work item is of this class (PS3.4 CC.3.1)."""
DEFAULT_WORKLIST_LABEL = "DEFAULT"

_STATE, _LOCK = tag_of("ProcedureStepState"), tag_of("TransactionUID")
_INSTANCE, _MODIFIED_AT = tag_of("SOPInstanceUID"), tag_of("ScheduledProcedureStepModificationDateTime")
_OWN = frozenset({_STATE, _LOCK, _INSTANCE, _MODIFIED_AT, tag_of("SOPClassUID")})
"""What the archive itself says of an item; no request sets it."""
_COMMAND_INSTANCE = "00001000"
"""Affected SOP Instance UID, which DIMSE has in the command and some clients have in the data set."""

_VALUES = {
    "ScheduledProcedureStepPriority": ("HIGH", "MEDIUM", "LOW"),
    "InputReadinessState": ("READY", "UNAVAILABLE", "INCOMPLETE"),
}
_MOMENTS = (
    "ScheduledProcedureStepStartDateTime", "ExpectedCompletionDateTime", "ScheduledProcedureStepExpirationDateTime",
)  # fmt: skip
_UID = re.compile(r"[0-9.]{1,64}")
_NAMING_STUDIES = ("ReferencedRequestSequence", "InputInformationSequence", "OutputInformationSequence")
MAX_STUDIES = 1000


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item as it is to be kept. ``is_modified``: it is not what was sent."""

    sop_instance_uid: str
    attributes: Attributes
    is_modified: bool


def parse_new(payload: object, sop_instance_uid: str, now: datetime) -> NewItem:
    """Return the item that a request creates; raise InvalidWorkitem with one sentence if it may not be.

    Its UID is in the address or the payload; it is empty in the result if it is in neither.
    """
    given = _read_uid(payload, sop_instance_uid)
    cleaned = _clean(payload)
    for row in TOP:
        if row.create is Need.EMPTY and has_value(cleaned, row.path[0]):
            raise InvalidWorkitem(f"{row.name} must be empty in a new work item.")
    if has_value(cleaned, "TransactionUID"):
        raise InvalidWorkitem("TransactionUID must be empty in a new work item.")
    missing = find_missing(cleaned, [(row, row.create) for row in TABLE])
    if missing:
        raise InvalidWorkitem(f"{missing} is missing.")
    if text_of(cleaned, "ProcedureStepState") != State.SCHEDULED:
        raise InvalidWorkitem("ProcedureStepState must be SCHEDULED in a new work item.")
    _check_values(cleaned)
    kept = _without(cleaned, _OWN)
    own = _element("ScheduledProcedureStepModificationDateTime", format_moment(now))
    if not has_value(kept, "WorklistLabel"):
        own |= _element("WorklistLabel", DEFAULT_WORKLIST_LABEL)
    is_modified = not given or len(own) > 1 or _MODIFIED_AT in cleaned
    return NewItem(given, _sized(fill_empty(kept | own)), is_modified)


def merge_changes(old: Attributes, payload: object, now: datetime) -> tuple[Attributes, bool]:
    """Return the attributes of an item after an update, and whether they are not quite what was asked for.

    A sequence is replaced as a whole (PS3.4 CC.2.6.2). Raises InvalidWorkitem for another value of what may not be set,
    and for a value that an attribute cannot have.
    """
    given = _clean(payload)
    # Some clients send back the whole item; what is as it was is no change.
    changes = {tag: element for tag, element in given.items() if tag not in _OWN and element != old.get(tag)}
    for row in TOP:
        if row.update is Need.UNCHANGED and tag_of(row.path[0]) in changes:
            raise InvalidWorkitem(f"{row.name} cannot be changed.")
    missing = find_missing(changes, _needs_of(changes))
    if missing:
        raise InvalidWorkitem(f"{missing} must have a value.")
    _check_values(changes)
    own = _element("ScheduledProcedureStepModificationDateTime", format_moment(now))
    new = old | changes | own
    return _sized(dict(sorted(new.items()))), _MODIFIED_AT in given


def read_transaction_uid(payload: object, given: str = "") -> str:
    """Return the Transaction UID of a request, from its address or its payload; empty if it has none.

    Raises InvalidWorkitem for one that is no UID, or two that differ.
    """
    return _one_uid("TransactionUID", given, _peek(payload, _LOCK))


def show(sop_instance_uid: str, state: str, attributes: Attributes) -> Attributes:
    """Return an item as everybody may see it: without its lock."""
    own = (
        _element("SpecificCharacterSet", "ISO_IR 192")
        | _element("SOPClassUID", SOP_CLASS_UID)
        | _element("SOPInstanceUID", sop_instance_uid)
        | _element("ProcedureStepState", state)
    )
    return dict(sorted((attributes | own).items()))


def find_studies(attributes: Attributes) -> list[str]:
    """Return the Study Instance UIDs that an item names: as its request, its input, its output, or its own."""
    performed = values_of(attributes, "UnifiedProcedureStepPerformedProcedureSequence")
    found = list(_studies_in([attributes, *(item for item in performed if isinstance(item, dict))]))
    return list(dict.fromkeys(uid for uid in found if _UID.fullmatch(uid)))[:MAX_STUDIES]


def _studies_in(data_sets: Iterable[Attributes]) -> Iterator[str]:
    for data_set in data_sets:
        yield text_of(data_set, "StudyInstanceUID")
        for keyword in _NAMING_STUDIES:
            items: list[Any] = values_of(data_set, keyword)
            yield from (text_of(item, "StudyInstanceUID") for item in items if isinstance(item, dict))


def _clean(payload: object) -> Attributes:
    try:
        return clean(payload)
    except InvalidEntry as error:
        raise InvalidWorkitem(str(error)) from None


def _read_uid(payload: object, given: str) -> str:
    return _one_uid("SOPInstanceUID", given, _peek(payload, _INSTANCE), _peek(payload, _COMMAND_INSTANCE))


def _peek(payload: object, tag: str) -> str:
    """Return the first value of an element of what may be no data set at all."""
    element = payload.get(tag) if isinstance(payload, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def _one_uid(keyword: str, *texts: str) -> str:
    uids = {text.strip(" \0") for text in texts} - {""}
    if len(uids) > 1:
        raise InvalidWorkitem(f"The address and the data set name different values of {keyword}.")
    for uid in uids:
        if not _UID.fullmatch(uid):
            raise InvalidWorkitem(f"{keyword} must be a UID.")
    return next(iter(uids), "")


def _needs_of(changes: Attributes) -> list[tuple[Any, Need]]:
    """Return the rows that an update touches, and what is asked of them."""
    return [(row, row.update) for row in TABLE if tag_of(row.path[0]) in changes]


def _check_values(attributes: Attributes) -> None:
    for keyword, allowed in _VALUES.items():
        if has_value(attributes, keyword) and text_of(attributes, keyword) not in allowed:
            raise InvalidWorkitem(f"{keyword} must be one of {', '.join(allowed)}.")
    for keyword in _MOMENTS:
        if has_value(attributes, keyword) and parse_moment(text_of(attributes, keyword)) is None:
            raise InvalidWorkitem(f"{keyword} must be a date and time.")


def _sized(attributes: Attributes) -> Attributes:
    if len(dump_text(attributes)) > MAX_CHARACTERS:
        raise InvalidWorkitem("The work item is too large.")
    return attributes


def _without(attributes: Attributes, tags: frozenset[str]) -> Attributes:
    return {tag: element for tag, element in attributes.items() if tag not in tags}


def _element(keyword: str, value: str) -> Attributes:
    return {tag_of(keyword): {"vr": vr_of(keyword), "Value": [value]}}
