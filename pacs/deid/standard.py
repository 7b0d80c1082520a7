"""The tables of PS3.15 Annex E as data: ``ps315.json`` beside this module, which names its edition and its sources."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pacs.deid.profile import Option, SafePrivate

COLUMNS = {
    "SAFE": Option.RETAIN_SAFE_PRIVATE,
    "UIDS": Option.RETAIN_UIDS,
    "DEVICE": Option.RETAIN_DEVICE_IDENTITY,
    "INST": Option.RETAIN_INSTITUTION_IDENTITY,
    "PATIENT": Option.RETAIN_PATIENT_CHARACTERISTICS,
    "FULL": Option.RETAIN_FULL_DATES,
    "MODIFIED": Option.RETAIN_MODIFIED_DATES,
    "DESC": Option.CLEAN_DESCRIPTORS,
    "STRUCT": Option.CLEAN_STRUCTURED_CONTENT,
    "GRAPH": Option.CLEAN_GRAPHICS,
}
"""The columns of Table E.1-1, as the data name them."""


@dataclass(frozen=True, slots=True)
class Row:
    """What Table E.1-1 says of one attribute: the action of the Basic Profile, and those of options."""

    basic: str
    options: dict[Option, str]


@dataclass(frozen=True, slots=True)
class Standard:
    """Table E.1-1 by tag, and the safe private attributes of Table E.3.10-1."""

    edition: str
    rows: dict[int, Row]
    safe_private: tuple[SafePrivate, ...]


@cache
def load_standard() -> Standard:
    """Return the tables; they are read once."""
    stored = json.loads(files("pacs.deid").joinpath("ps315.json").read_text(encoding="utf-8"))
    rows = {}
    for tag, text in stored["rows"].items():
        basic, *options = text.split()
        if not set(tag) - set("0123456789ABCDEF"):
            pairs = (option.split("=") for option in options)
            rows[int(tag, 16)] = Row(basic, {COLUMNS[column]: action for column, action in pairs})
    safe = tuple(
        SafePrivate(creator, int(group, 16), int(element, 16), vr)
        for creator, group, element, vr in stored["safe_private"]
    )
    return Standard(stored["edition"], rows, safe)
