"""What was done to one object and by which rule: written down for people, and never a value of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Deed(StrEnum):
    """What was done to an attribute."""

    REMOVED = "removed"
    EMPTIED = "emptied"
    REPLACED = "replaced"
    MAPPED = "mapped"
    SHIFTED = "shifted"
    CLEANED = "cleaned"
    KEPT = "kept"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Action:
    """One attribute: its path (``00400275[0].00321060``), what was done, and the rule that says so."""

    path: str
    deed: Deed
    rule: str


@dataclass(frozen=True, slots=True)
class Report:
    """One object that was de-identified: its new UIDs, and what was done. ``cleaned_pixels``: some were blacked out."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    profile: str
    cleaned_pixels: bool
    released_reasons: tuple[str, ...]
    actions: tuple[Action, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "sop_class_uid": self.sop_class_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "study_instance_uid": self.study_instance_uid,
            "series_instance_uid": self.series_instance_uid,
            "transfer_syntax_uid": self.transfer_syntax_uid,
            "profile": self.profile,
            "cleaned_pixels": self.cleaned_pixels,
            "released_reasons": list(self.released_reasons),
            "actions": [[action.path, action.deed.value, action.rule] for action in self.actions],
        }
