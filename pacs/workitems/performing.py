"""What an item says of how it was done: filled in where the archive itself ends it, or must (PS3.4 CC.2.5-3)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pacs.model import Attributes
from pacs.moments import format_moment
from pacs.tags import tag_of, values_of, vr_of
from pacs.workitems.events import CANCEL_KEYWORDS
from pacs.workitems.requirements import has_value

_PROGRESS = "ProcedureStepProgressInformationSequence"
_REASON = "ProcedureStepDiscontinuationReasonCodeSequence"
_UNSPECIFIED = {
    "CodeValue": "110513",
    "CodingSchemeDesignator": "DCM",
    "CodeMeaning": "Discontinued for unspecified reason",
}
"""PS3.16 CID 9300."""


def build_item(values: Mapping[str, Any]) -> Attributes:
    """Return a data set of values by keyword; a list is a sequence's items or several values."""
    return dict(
        sorted(
            (tag_of(keyword), {"vr": vr_of(keyword), "Value": value if isinstance(value, list) else [value]})
            for keyword, value in values.items()
        )
    )


def with_cancellation_time(attributes: Attributes, now: datetime) -> Attributes:
    """Return the attributes of an item that is being canceled with the time at which it was, unless they have one.

    An item that says nothing of its progress stays as it is.
    """
    items = _items(attributes, _PROGRESS)
    if not items or has_value(items[0], "ProcedureStepCancellationDateTime"):
        return attributes
    first = items[0] | build_item({"ProcedureStepCancellationDateTime": format_moment(now)})
    return _with_items(attributes, _PROGRESS, [dict(sorted(first.items())), *items[1:]])


def with_cancellation(attributes: Attributes, request: Attributes, now: datetime) -> Attributes:
    """Return the attributes of an item that nobody began and that is canceled because of a request.

    The reason is the request's, else unspecified.
    """
    kept = {tag_of(keyword): request[tag_of(keyword)] for keyword in CANCEL_KEYWORDS[:2] if has_value(request, keyword)}
    contact = {
        tag_of(keyword): request[tag_of(keyword)] for keyword in CANCEL_KEYWORDS[2:] if has_value(request, keyword)
    }
    if tag_of("ContactURI") in contact:
        kept |= build_item({"ProcedureStepCommunicationsURISequence": [dict(sorted(contact.items()))]})
    if tag_of(_REASON) not in kept:
        kept |= build_item({_REASON: [build_item(_UNSPECIFIED)]})
    kept |= build_item({"ProcedureStepCancellationDateTime": format_moment(now)})
    return _with_items(attributes, _PROGRESS, [dict(sorted(kept.items()))])


def _with_items(attributes: Attributes, keyword: str, items: list[Attributes]) -> Attributes:
    return dict(sorted((attributes | build_item({keyword: items})).items()))


def _items(attributes: Attributes, keyword: str) -> list[Any]:
    return [item for item in values_of(attributes, keyword) if isinstance(item, dict)]
