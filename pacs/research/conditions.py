"""What a cohort may ask for, as data: the conditions of a QIDO search as far as they tell nobody, and those of science.

Everything else is refused: whoever could ask for a name, a number, a day or a word of free text could find out by
counting whether somebody is here. What devices and people wrote is compared as the catalogue has cleaned it. Each set
of conditions has one spelling, so that the same question is known to be the same.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pacs.errors import InvalidQuery
from pacs.names import fold
from pacs.query import AnyOf, Condition, Equals, InRange, Wildcard, parse_key
from pacs.tags import BY_KEYWORD

TOP_AGE = 90
"""This age and all above are one (PS3.15 E.3.5)."""

_LOWER_AGES = frozenset({*range(0, TOP_AGE + 1, 5), 18})
_UPPER_AGES = frozenset(age - 1 for age in _LOWER_AGES if age)
_MAX_LENGTH, _MAX_VALUES = 256, 100
_YEARS = re.compile(r"(?P<first>[0-9]{4})(?:-(?P<last>[0-9]{4})|(?:0101)-(?P<end>[0-9]{4})1231)?")
_WORD = re.compile(r"[\w.+/-]{2,64}")


@dataclass(frozen=True, slots=True)
class Among:
    """One of these values."""

    column: str
    values: tuple[str | int | bool, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """What one of these patterns makes, with ``*`` and ``?`` as in a search."""

    column: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A number within a range, both ends inclusive, None where it is open."""

    column: str
    first: int | None
    last: int | None


CatalogueTest = Among | Like | Between


@dataclass(frozen=True, slots=True)
class Conditions:
    """Every one holds of a series: ``clinical`` in the index, ``catalogue`` in the catalogue.

    ``spelling`` is the one form of all of them, by keyword in order.
    """

    clinical: tuple[Condition, ...] = ()
    catalogue: tuple[CatalogueTest, ...] = ()
    spelling: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def parse_conditions(given: Mapping[str, str]) -> Conditions:
    """Return the conditions that are given by keyword or by their short names; an empty text asks for nothing.

    Raises InvalidQuery with one sentence that names what is wrong, and no value.
    """
    clinical: list[Condition] = []
    catalogue: list[CatalogueTest] = []
    spelling: dict[str, str] = {}
    for keyword, value in sorted((SHORT_NAMES.get(name, name), value) for name, value in given.items()):
        parse = _PARSERS.get(keyword)
        if parse is None:
            raise InvalidQuery(_refusal(keyword))
        if keyword in spelling:
            raise InvalidQuery(f"{keyword} is given twice.")
        text = value.strip()
        if not text.strip("*"):
            continue
        if len(text) > _MAX_LENGTH * (1 + text.count("\\")):
            raise InvalidQuery(f"The value for {keyword} is too long.")
        test, spelled = parse(keyword, text)
        (catalogue if isinstance(test, CatalogueTest) else clinical).append(test)  # type: ignore[arg-type]
        spelling[keyword] = spelled
    _check_ages(spelling)
    return Conditions(tuple(clinical), tuple(catalogue), MappingProxyType(spelling))


def _refusal(keyword: str) -> str:
    known = BY_KEYWORD.get(keyword)
    if known is not None and known.matching is not None:
        return f"{keyword} could tell of one patient; no cohort can ask for it."
    return f"A cohort cannot ask for that; it can ask for {', '.join(NAMES)}."


_Parsed = tuple[Condition | CatalogueTest, str]


def _parse_clinical(keyword: str, text: str) -> _Parsed:
    condition = parse_key(BY_KEYWORD[keyword], text, empties=False, multiples=True)
    match condition:
        case Equals(_, value) | Wildcard(_, value):
            return condition, _upper(keyword, value)
        case AnyOf(_, values):
            listed = tuple(sorted({_upper(keyword, value) for value in values}))
            return AnyOf(keyword, listed), "\\".join(listed)
    raise InvalidQuery(f"{keyword} must be one value or several.")


def _upper(keyword: str, value: str) -> str:
    return value.upper() if keyword in _CODES else value


def _parse_years(keyword: str, text: str) -> _Parsed:
    """Return a range of whole years: by days or months, a cohort of one would tell by how much its dates were moved."""
    match = _YEARS.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InvalidQuery(f"{keyword} must be whole years, as YYYY or YYYY-YYYY.")
    first = match["first"]
    last = match["last"] or match["end"] or first
    if last < first or not "1900" <= first <= "2999":
        raise InvalidQuery(f"{keyword} must be whole years, the first one first.")
    return InRange(keyword, f"{first}0101", f"{last}1231"), first if first == last else f"{first}-{last}"


def _parse_list(column: str, allowed: Callable[[str], bool] | None = None) -> Callable[[str, str], _Parsed]:
    def parse(keyword: str, text: str) -> _Parsed:
        values = tuple(sorted({value.strip().upper() for value in text.split("\\") if value.strip()}))
        if len(values) > _MAX_VALUES or (allowed is not None and not all(map(allowed, values))):
            raise InvalidQuery(f"{keyword} has a value that it cannot have.")
        return Like(column, values), "\\".join(values)

    return parse


def _parse_text(column: str) -> Callable[[str, str], _Parsed]:
    def parse(_: str, text: str) -> _Parsed:
        values = tuple(sorted({" ".join(fold(value).split()) for value in text.split("\\") if value.strip()}))
        return Like(column, values[:_MAX_VALUES]), "\\".join(values[:_MAX_VALUES])

    return parse


def _parse_words(_: str, text: str) -> _Parsed:
    words = sorted(set(fold(text).split()))
    if not all(_WORD.fullmatch(word) for word in words):
        raise InvalidQuery("words must be whole words of two letters or more, with spaces between them.")
    spelled = " ".join(words)
    return Like("words", (f"* {' * '.join(words)} *",)), spelled


def _parse_flag(keyword: str, text: str) -> _Parsed:
    if text.lower() not in ("yes", "no"):
        raise InvalidQuery(f"{keyword} must be yes or no.")
    return Among("has_contrast", (text.lower() == "yes",)), text.lower()


def _parse_age(keyword: str, text: str) -> _Parsed:
    bounds = _LOWER_AGES if keyword == "age_min" else _UPPER_AGES
    age = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else -1
    if age not in bounds:
        shown = "0, 5, 10 and so on to 90, or 18" if keyword == "age_min" else "4, 9, 14 and so on to 89, or 17"
        raise InvalidQuery(f"{keyword} must be the edge of a band of ages in years: {shown}.")
    return (Between("age_years", age, None) if keyword == "age_min" else Between("age_years", None, age)), str(age)


def _parse_field_strength(keyword: str, text: str) -> _Parsed:
    values = [value.strip() for value in text.split("\\") if value.strip()]
    if not all(re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", value) for value in values):
        raise InvalidQuery(f"{keyword} must be in tesla, as 1.5 or 3.")
    listed = tuple(sorted({round(float(value) * 1000) for value in values}))
    return Among("field_strength", listed), "\\".join(f"{value / 1000:g}" for value in listed)


def _check_ages(spelling: Mapping[str, str]) -> None:
    first, last = spelling.get("age_min"), spelling.get("age_max")
    if first is not None and last is not None and int(first) > int(last):
        raise InvalidQuery("age_min must not be above age_max.")


_CODES = frozenset({"Modality", "ModalitiesInStudy", "Laterality"})
_PARSERS: dict[str, Callable[[str, str], _Parsed]] = {
    "Modality": _parse_clinical,
    "ModalitiesInStudy": _parse_clinical,
    "Laterality": _parse_clinical,
    "SOPClassUID": _parse_clinical,
    "ManufacturerModelName": _parse_clinical,
    "StudyDate": _parse_years,
    "PatientSex": _parse_list("sex", {"M", "F", "O"}.__contains__),
    "BodyPartExamined": _parse_list("body_part"),
    "Manufacturer": _parse_list("manufacturer"),
    "ConvolutionKernel": _parse_list("kernel"),
    "StudyDescription": _parse_text("study_description"),
    "SeriesDescription": _parse_text("series_description"),
    "ProtocolName": _parse_text("protocol_name"),
    "MagneticFieldStrength": _parse_field_strength,
    "age_min": _parse_age,
    "age_max": _parse_age,
    "contrast": _parse_flag,
    "words": _parse_words,
}
NAMES = tuple(_PARSERS)
"""Everything that a cohort can ask for."""

SHORT_NAMES = {
    "modality": "Modality",
    "year": "StudyDate",
    "sex": "PatientSex",
    "body_part": "BodyPartExamined",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "kernel": "ConvolutionKernel",
    "protocol": "ProtocolName",
    "field_strength": "MagneticFieldStrength",
}
"""Names that people type, and the keywords that they stand for."""
