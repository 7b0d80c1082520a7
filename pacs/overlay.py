"""What leaves differs from what was received: corrections and coercions as a list of steps laid over a data set.

Stored bytes never change. A step says which top-level attributes have another value now, and why; what was there
before goes into Original Attributes Sequence (0400,0561), one item a step (PS3.3 C.12.1.1.9).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self

from pacs.model import Attributes
from pacs.tags import tag_of, vr_of

COERCE, CORRECT = "COERCE", "CORRECT"
"""Reason for the Attribute Modification (0400,0565), its defined terms."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change. ``changes`` has top-level tags with their new element; one without ``Value`` becomes empty.

    ``correction_id`` is the row of the correction that made it, 0 for a coercion on the way in. ``system`` goes into
    Modifying System (0400,0563), ``source`` into Source of Previous Values (0400,0564).
    """

    changes: Attributes
    at: datetime
    reason: str = CORRECT
    system: str = "PACS"
    source: str = ""
    correction_id: int = 0


@dataclass(frozen=True, slots=True)
class StudyOverlay:
    """What a study's row keeps: its attributes ``received``, as whoever corrects needs them, and the ``steps``."""

    received: Any = None
    steps: tuple[Step, ...] = ()

    @classmethod
    def load(cls, text: str) -> Self:
        """Return what ``dump`` made; an empty string is no overlay at all."""
        if not text:
            return cls()
        content = json.loads(text)
        return cls(content["received"], tuple(map(_from_json, content["steps"])))

    def dump(self) -> str:
        """Return the overlay as compact JSON for a column; an empty string if there is nothing to keep."""
        if not self.steps and self.received is None:
            return ""
        return _dump({"received": self.received, "steps": [_to_json(step) for step in self.steps]})


def apply(attributes: Attributes, steps: Sequence[Step]) -> Attributes:
    """Return the data set as it leaves: every step applied in turn, each recorded in Original Attributes Sequence.

    A step whose changes make no difference to this data set leaves no item; an attribute that is absent and one that
    has no value are the same. What was absent is recorded without a value. The input is not changed.
    """
    applied = dict(attributes)
    for step in steps:
        changes = {tag: new for tag, new in step.changes.items() if _content(new) != _content(applied.get(tag, {}))}
        if changes:
            previous = {tag: applied.get(tag, {"vr": new["vr"]}) for tag, new in sorted(changes.items())}
            items = changes.get(_SEQUENCE, applied.get(_SEQUENCE, {})).get("Value", [])
            applied |= changes
            applied[_SEQUENCE] = {"vr": "SQ", "Value": [*items, _describe(step, previous)]}
    return dict(sorted(applied.items())) if applied != attributes else applied


def dump_steps(steps: Sequence[Step]) -> str:
    """Return steps as compact JSON for a column; an empty string for none."""
    return _dump([_to_json(step) for step in steps]) if steps else ""


def load_steps(text: str) -> tuple[Step, ...]:
    """Return what ``dump_steps`` made."""
    return tuple(map(_from_json, json.loads(text))) if text else ()


def load_study_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a ``StudyOverlay`` as dumped: those of corrections, in the order they were made."""
    return StudyOverlay.load(text).steps


def load_overlay(coercions: str, study: str) -> tuple[Step, ...]:
    """Return what is laid over one instance: its own steps as dumped, then those of its study's ``StudyOverlay``."""
    if not (coercions or study):  # as nearly everywhere, and metadata asks for every instance of a study
        return ()
    return load_steps(coercions) + load_study_steps(study)


_SEQUENCE = tag_of("OriginalAttributesSequence")


def _content(element: Attributes) -> Attributes:
    """Return what an element holds; nothing for one without a value."""
    return {key: held for key, held in element.items() if key != "vr" and held not in ([], "")}


def _describe(step: Step, previous: Attributes) -> Attributes:
    """Return the item of Original Attributes Sequence (PS3.3 Table C.12-1) that records a step."""
    return {
        tag: {"vr": vr, "Value": values} if values else {"vr": vr}
        for tag, vr, values in sorted(
            (
                _element("ModifiedAttributesSequence", previous),
                _element("AttributeModificationDateTime", step.at.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")),
                _element("ModifyingSystem", step.system),
                _element("SourceOfPreviousValues", step.source),
                _element("ReasonForTheAttributeModification", step.reason),
            ),
            key=lambda element: element[0],
        )
    }


def _element(keyword: str, value: object) -> tuple[str, str, list[Any]]:
    return *_tag_and_vr(keyword), [value] if value else []


@cache
def _tag_and_vr(keyword: str) -> tuple[str, str]:
    return tag_of(keyword), vr_of(keyword)


def _to_json(step: Step) -> dict[str, Any]:
    return {
        "changes": step.changes,
        "at": step.at.isoformat(),
        "reason": step.reason,
        "system": step.system,
        "source": step.source,
        "correction_id": step.correction_id,
    }


def _from_json(content: dict[str, Any]) -> Step:
    return Step(**content | {"at": datetime.fromisoformat(content["at"])})


def _dump(content: object) -> str:
    # Not orjson, which refuses half a surrogate pair and a giant integer: both come in headers.
    return json.dumps(content, separators=(",", ":"))
