"""How well a release hides who is in it: k-anonymity over what somebody may know of a patient from elsewhere.

A patient is one row, however many series he has. What counts as known is what a neighbour or an employer may know: age
and sex, and that there was such an examination. Dates do not count: they are moved by days that only the project's key
tells. Pixels do not count either, though whoever has the same image somewhere else can always find it again.

pycanon measures. Nothing is suppressed here: what is rare is listed, for a steward to decide before he publishes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pacs.research.exports.extra import load

UNKNOWN = "unknown"
"""Stands for what is not said: of two patients of unknown age neither can be told by it."""

MAX_LISTED = 200
"""Small classes that are listed; how many there are beyond them is said."""

_BAND_YEARS = 10
_SENSITIVE = "StudyDescription"
_BUCKETS = ((1, "1"), (4, "2-4"), (9, "5-9"), (19, "10-19"), (49, "20-49"))
_LARGEST = "50 or more"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What somebody is supposed to know of a patient."""

    name: str
    attributes: tuple[str, ...]


DEMOGRAPHIC = Knowledge("age and sex", ("PatientAge", "PatientSex"))
EXAMINATION = Knowledge("age, sex and examination", ("PatientAge", "PatientSex", "Modality", "BodyPartExamined"))
ROUGHLY = Knowledge("age in tens, sex and examination", ("AgeBand", "PatientSex", "Modality", "BodyPartExamined"))

LEVELS = (DEMOGRAPHIC, EXAMINATION, ROUGHLY)
"""``ROUGHLY`` shows what bands of ages would win, should the steward wish for them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What pycanon found for one level of knowledge.

    ``k`` patients at least share each combination of what is known, with ``l`` different kinds of studies at least.
    ``distribution`` tells how many patients are in classes of each size.
    """

    knowledge: str
    attributes: tuple[str, ...]
    k: int
    l: int  # noqa: E741 - its name since 2006
    classes: int
    patients_below_k: int
    distribution: dict[str, int]


@dataclass(frozen=True, slots=True)
class AnonymityReport:
    """The report of one release. ``small_classes`` are combinations that fewer than ``wanted_k`` patients share."""

    patients: int
    wanted_k: int
    levels: tuple[Measured, ...] = ()
    small_classes: tuple[dict[str, Any], ...] = ()
    small_classes_in_all: int = 0
    measured_by: str = ""
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "AnonymityReport":
        """Return the report that ``to_json`` was made of."""
        levels = tuple(Measured(**level | {"attributes": tuple(level["attributes"])}) for level in value["levels"])
        kept = {"levels": levels} | {name: tuple(value[name]) for name in ("small_classes", "warnings")}
        return cls(**value | kept)


def assess(rows: Iterable[Mapping[str, Any]], wanted_k: int) -> AnonymityReport:
    """Return the report for the rows of an index; raise NotInstalled without pycanon.

    Of each patient a few short values are kept in memory.
    """
    people = _gather(rows)
    if not people:
        return AnonymityReport(0, wanted_k, warnings=("The release holds no patient.",))
    pandas, pycanon = load("pandas"), load("pycanon.anonymity")
    table = pandas.DataFrame.from_records(people)
    levels = tuple(_measure(pycanon, table, people, level, wanted_k) for level in LEVELS)
    small = _small_classes(people, EXAMINATION, wanted_k)
    return AnonymityReport(
        patients=len(people),
        wanted_k=wanted_k,
        levels=levels,
        small_classes=tuple(small[:MAX_LISTED]),
        small_classes_in_all=len(small),
        measured_by=f"pycanon {load('importlib.metadata').version('pycanon')}",
        warnings=tuple(_warnings(len(people), wanted_k, levels)),
    )


def _gather(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return one record a patient: the age at the first study, and all that he was examined for."""
    ages: dict[str, tuple[float, str]] = {}
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        patient = str(row["PatientID"] or "")
        age = row["PatientAge_years"]
        if age is not None:
            ages[patient] = min(ages.get(patient, (age, row["PatientAge"])), (age, row["PatientAge"]))
        values = found.setdefault(patient, {})
        for name in ("PatientSex", "Modality", "BodyPartExamined", _SENSITIVE):
            if row[name]:
                values.setdefault(name, set()).add(str(row[name]))
    return [_record_of(ages.get(patient), values) for patient, values in found.items()]


def _record_of(age: tuple[float, str] | None, values: Mapping[str, set[str]]) -> dict[str, str]:
    joined = {
        name: " + ".join(sorted(values.get(name, ()))) or UNKNOWN
        for name in ("PatientSex", "Modality", "BodyPartExamined", _SENSITIVE)
    }
    return {"PatientAge": age[1] if age else UNKNOWN, "AgeBand": _band_of(age[0]) if age else UNKNOWN, **joined}


def _band_of(years: float) -> str:
    start = min(int(years) // _BAND_YEARS * _BAND_YEARS, 90)
    return "90 or older" if start == 90 else f"{start}-{start + _BAND_YEARS - 1}"


def _measure(
    pycanon: Any, table: Any, people: Sequence[Mapping[str, str]], level: Knowledge, wanted_k: int
) -> Measured:
    attributes = list(level.attributes)
    sizes = _classes_of(people, level)
    distribution = {name: 0 for _, name in _BUCKETS} | {_LARGEST: 0}
    for size in sizes.values():
        distribution[_bucket_of(size)] += size
    return Measured(
        knowledge=level.name,
        attributes=level.attributes,
        k=int(pycanon.k_anonymity(table, attributes)),
        l=int(pycanon.l_diversity(table, attributes, [_SENSITIVE])),
        classes=len(sizes),
        patients_below_k=sum(size for size in sizes.values() if size < wanted_k),
        distribution=distribution,
    )


def _classes_of(people: Sequence[Mapping[str, str]], level: Knowledge) -> Counter[tuple[str, ...]]:
    return Counter(tuple(person[name] for name in level.attributes) for person in people)


def _bucket_of(size: int) -> str:
    return next((name for largest, name in _BUCKETS if size <= largest), _LARGEST)


def _small_classes(people: Sequence[Mapping[str, str]], level: Knowledge, wanted_k: int) -> list[dict[str, Any]]:
    """Return the combinations that fewer than ``wanted_k`` patients share, the smallest first."""
    found = [(size, values) for values, size in _classes_of(people, level).items() if size < wanted_k]
    return [dict(zip(level.attributes, values, strict=True)) | {"patients": size} for size, values in sorted(found)]


def _warnings(patients: int, wanted_k: int, levels: Sequence[Measured]) -> Iterable[str]:
    if patients < wanted_k:
        yield f"The release holds {patients} patients, fewer than k = {wanted_k}."
    for level in levels:
        if level.patients_below_k:
            yield (
                f"Who knows {level.knowledge} can narrow down {level.patients_below_k} of {patients} patients "
                f"to fewer than {wanted_k}; k is {level.k}."
            )
        if level.l < 2 <= level.k:
            yield f"Who knows {level.knowledge} knows for some of the patients also what the study was for; l is 1."
