"""A structured report (PS3.3 C.17.3) as a tree of headings and values that somebody can read; pure, and no markup.

Every item has its 1-based position in the document ("1.2.3", PS3.3 C.17.3.2.5), by which other items refer to it.
What is left out of a report could be its finding: what cannot be shown leaves a mark.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.config import IGNORE
from pydicom.uid import UID

from pacs.model import Attributes
from pacs.names import GROUPS
from pacs.tags import tag_of, text_of, values_of

MAX_ITEMS = 20_000
NOT_SHOWN = "[…]"
"""Stands for text that is too long to be shown, or whatever else could not be."""

LANGUAGE = "121049"
"""DCM, Language of Content Item and Descendants (PS3.16 TID 1204)."""

_DATE = re.compile(r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2}))?)?")
_TIME = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.[0-9]{1,6})?)?)?")
_DATE_TIME = re.compile(r"([0-9]{4,8})([0-9.]*)([+-][0-9]{4})?")
_TAGS = {"fra": "fr", "fre": "fr", "ara": "ar", "eng": "en"}


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a report refers to; study and series are empty where its evidence does not name them."""

    name: str
    sop_instance_uid: str
    frame_numbers: tuple[int, ...] = ()
    study_instance_uid: str = ""
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One content item. ``detail`` is for who looks closely: a code, a position; ``target`` another's position."""

    position: str
    heading: str
    value: str = ""
    detail: str = ""
    is_container: bool = False
    references: tuple[Reference, ...] = ()
    target: str = ""
    children: tuple["Item", ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A document. ``language`` is an RFC 5646 tag, or empty; ``is_cut`` if it has more than ``MAX_ITEMS`` items.

    ``facts`` say whose it is: a word for what it is ("patient"), and what is to be said of it, in parts because their
    scripts may differ: text that runs both ways has to be kept apart, or a date between names is read backwards.
    """

    title: str
    language: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    status: tuple[str, ...]
    observers: tuple[tuple[str, ...], ...]
    items: tuple[Item, ...]
    is_cut: bool


def read_report(attributes: Attributes) -> Report:
    """Return the document in a data set; one without content gives its title and whose it is."""
    reader = _Reader(attributes)
    items = tuple(reader.iter_children(attributes, "1"))
    series = text_of(attributes, "SeriesDescription")
    return Report(
        title=meaning(attributes, "ConceptNameCodeSequence") or series or text_of(attributes, "Modality"),
        language=_language(attributes),
        facts=tuple((word, said) for word, values in _facts(attributes) if (said := tuple(filter(None, values)))),
        status=tuple(
            value
            for keyword in ("CompletionFlag", "PreliminaryFlag", "VerificationFlag")
            if (value := text_of(attributes, keyword))
        ),
        observers=tuple(map(_observer, _items(attributes, "VerifyingObserverSequence"))),
        items=items,
        is_cut=reader.count > MAX_ITEMS,
    )


def meaning(attributes: Attributes, keyword: str) -> str:
    """Return what the first code of a sequence means; its value if that is all there is."""
    code = _first(attributes, keyword)
    return text_of(code, "CodeMeaning") or _code_value(code)


def format_names(value: object) -> tuple[str, ...]:
    """Return a person name as it is spoken, prefix first: each group of it that differs from the others."""
    groups = value if isinstance(value, dict) else {"Alphabetic": "" if value is None else str(value)}
    spoken: dict[str, None] = {}
    for group in GROUPS:
        parts = [part.strip() for part in str(groups.get(group) or "").split("^")]
        family, given, middle, prefix, suffix = (parts + [""] * 5)[:5]
        spoken[" ".join(part for part in (prefix, given, middle, family, suffix) if part)] = None
    return tuple(filter(None, spoken))


def format_name(value: object) -> str:
    """Return the same on one line."""
    return " · ".join(format_names(value))


def format_date(text: str) -> str:
    """Return a date (PS3.5 6.2, DA) as in ISO 8601, which is read alike everywhere; anything else as it is."""
    match = _DATE.fullmatch(text)
    return "-".join(part for part in match.groups() if part) if match else text


def format_time(text: str) -> str:
    """Return a time (TM) to the second; anything else as it is."""
    match = _TIME.fullmatch(text)
    return ":".join(part for part in match.groups() if part) if match else text


def format_date_time(text: str) -> str:
    """Return a date and time (DT), with its offset from UTC if it says so; anything else as it is."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return text
    return " ".join(part for part in (format_date(match[1]), format_time(match[2]), match[3] or "") if part)


_SPOKEN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "DATE": ("Date", format_date),
    "TIME": ("Time", format_time),
    "DATETIME": ("DateTime", format_date_time),
    "PNAME": ("PersonName", format_name),
    "UIDREF": ("UID", str),
}


class _Reader:
    """Walks the tree, which the header's parser has bounded in depth, and counts what it has seen."""

    def __init__(self, attributes: Attributes) -> None:
        self.count = 0
        self._places = dict(_iter_places(attributes))

    def iter_children(self, item: Attributes, position: str) -> Iterator[Item]:
        for number, child in enumerate(_items(item, "ContentSequence"), 1):
            self.count += 1
            if self.count > MAX_ITEMS:
                return
            yield self._read(child, f"{position}.{number}")

    def _read(self, item: Attributes, position: str) -> Item:
        kind = text_of(item, "ValueType")
        value, detail = _value(item, kind)
        target = ".".join(str(part) for part in values_of(item, "ReferencedContentItemIdentifier"))
        return Item(
            position=position,
            heading=meaning(item, "ConceptNameCodeSequence"),
            value=value,
            detail=detail,
            is_container=kind == "CONTAINER",
            references=tuple(self._iter_references(item)),
            target=target,
            children=tuple(self.iter_children(item, position)),
        )

    def _iter_references(self, item: Attributes) -> Iterator[Reference]:
        """Yield the instance that an item refers to, and the presentation state it is to be looked at with."""
        for reference in _items(item, "ReferencedSOPSequence")[:16]:
            uid = text_of(reference, "ReferencedSOPInstanceUID")
            frames = tuple(
                int(number) for number in values_of(reference, "ReferencedFrameNumber") if str(number).isdecimal()
            )
            name = UID(text_of(reference, "ReferencedSOPClassUID"), IGNORE).name.removesuffix(" Storage")
            yield Reference(name, uid, frames, *self._places.get(uid, ("", "")))
            yield from self._iter_references(reference)


def _iter_places(attributes: Attributes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield instance -> study and series, as the evidence has it (PS3.3 C.17.2.1)."""
    for keyword in ("PertinentOtherEvidenceSequence", "CurrentRequestedProcedureEvidenceSequence"):
        for study in _items(attributes, keyword):
            for series in _items(study, "ReferencedSeriesSequence"):
                place = text_of(study, "StudyInstanceUID"), text_of(series, "SeriesInstanceUID")
                for instance in _items(series, "ReferencedSOPSequence"):
                    yield text_of(instance, "ReferencedSOPInstanceUID"), place


def _value(item: Attributes, kind: str) -> tuple[str, str]:
    """Return what an item says, and the detail of it (PS3.3 C.17.3.2.1)."""
    if kind in _SPOKEN:
        keyword, spoken = _SPOKEN[kind]
        return spoken(next(iter(values_of(item, keyword)), "") if kind == "PNAME" else text_of(item, keyword)), ""
    if kind == "TEXT":
        return _shown(item, "TextValue"), ""
    if kind == "CODE":
        return meaning(item, "ConceptCodeSequence"), _code_detail(_first(item, "ConceptCodeSequence"))
    if kind == "NUM":
        return _number(item), ""
    return _region(item, kind)


def _region(item: Attributes, kind: str) -> tuple[str, str]:
    if kind in ("SCOORD", "SCOORD3D"):
        return _graphic(item, 2 if kind == "SCOORD" else 3)
    keywords = ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime")
    positions = next((found for keyword in keywords if (found := values_of(item, keyword))), [])
    return text_of(item, "TemporalRangeType"), ", ".join(str(position) for position in positions[:16])


def _shown(item: Attributes, keyword: str) -> str:
    """Return a text; a mark if it is kept apart because of its length."""
    return text_of(item, keyword) or (NOT_SHOWN if "BulkDataURI" in item.get(tag_of(keyword), {}) else "")


def _number(item: Attributes) -> str:
    measured = _first(item, "MeasuredValueSequence")
    numbers = values_of(measured, "NumericValue")
    if not numbers:
        return meaning(item, "NumericValueQualifierCodeSequence")
    number = numbers[0]
    text = f"{number:g}" if isinstance(number, float) and abs(number) < 1e6 and number == round(number) else str(number)
    unit = _first(measured, "MeasurementUnitsCodeSequence")
    # Of UCUM the code is what people write: mm, HU in brackets is not, and 1 is no unit at all.
    code = _code_value(unit)
    is_symbol = text_of(unit, "CodingSchemeDesignator") == "UCUM" and not re.search(r"[\[{]", code)
    symbol = code if is_symbol else text_of(unit, "CodeMeaning") or code
    return text if symbol in ("1", "") or code == "1" else f"{text} {symbol}"


def _graphic(item: Attributes, dimensions: int) -> tuple[str, str]:
    data = values_of(item, "GraphicData")
    numbers = ", ".join(f"{value:g}" for value in data[:12] if isinstance(value, int | float))
    rest = f", {NOT_SHOWN}" if len(data) > 12 or "BulkDataURI" in item.get(tag_of("GraphicData"), {}) else ""
    count = len(data) // dimensions
    return text_of(item, "GraphicType") + (f" ({count})" if count > 1 else ""), numbers + rest


def _facts(attributes: Attributes) -> Iterator[tuple[str, tuple[str, ...]]]:
    patient = format_names(next(iter(values_of(attributes, "PatientName")), ""))
    yield "patient", (*patient, text_of(attributes, "PatientID"))
    yield "born", (format_date(text_of(attributes, "PatientBirthDate")),)
    yield "sex", (text_of(attributes, "PatientSex"),)
    yield "study", (text_of(attributes, "StudyDescription"),)
    yield "study_date", (format_date(text_of(attributes, "StudyDate")),)
    yield "accession", (text_of(attributes, "AccessionNumber"),)
    yield "referring", format_names(next(iter(values_of(attributes, "ReferringPhysicianName")), ""))
    yield "institution", (text_of(attributes, "InstitutionName"),)
    written = format_date(text_of(attributes, "ContentDate")), format_time(text_of(attributes, "ContentTime"))
    yield "written", (" ".join(part for part in written if part),)


def _observer(item: Attributes) -> tuple[str, ...]:
    names = format_names(next(iter(values_of(item, "VerifyingObserverName")), ""))
    at = format_date_time(text_of(item, "VerificationDateTime"))
    return tuple(part for part in (*names, text_of(item, "VerifyingOrganization"), at) if part)


def _language(attributes: Attributes) -> str:
    """Return the language that the document says its text is in, as a browser understands it."""
    for item in _items(attributes, "ContentSequence")[:64]:
        if _code_value(_first(item, "ConceptNameCodeSequence")) == LANGUAGE:
            code = _code_value(_first(item, "ConceptCodeSequence")).replace("_", "-")
            if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code):
                return _TAGS.get(code.lower(), code)
    return ""


def _code_value(code: Attributes) -> str:
    keywords = ("CodeValue", "LongCodeValue", "URNCodeValue")
    return next((value for keyword in keywords if (value := text_of(code, keyword))), "")


def _code_detail(code: Attributes) -> str:
    return ", ".join(part for part in (_code_value(code), text_of(code, "CodingSchemeDesignator")) if part)


def _first(attributes: Attributes, keyword: str) -> Attributes:
    return next(iter(_items(attributes, keyword)), {})


def _items(attributes: Attributes, keyword: str) -> list[Attributes]:
    return [item for item in values_of(attributes, keyword) if isinstance(item, dict)]
