"""What people ask an archive for, as keys with values taken from studies that it has: the same questions at any size.

Every question finds about as much in a small archive as in a large one, so that what grows is the search alone: a
range of dates is as long as it takes to hold some studies, a name is given with the first letters of its given name.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, func, select

from pacs.database.tables import series, study
from pacs.model import Level
from pacs.query import Query, parse_key
from pacs.tags import BY_KEYWORD, text_of

PAGE = 50
STUDIES_IN_RANGE = 25
STUDIES_IN_LONG_RANGE = 50

Keys = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A study that is in the archive; ``end`` is the day of the study so many further on, which a range reaches to."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    accession_number: str
    study_id: str
    day: str
    end: str
    far_end: str
    modality: str


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of search. ``is_selective``: few match, and nothing but what matches may be walked over."""

    name: str
    keys: Callable[[Sample], Keys]
    level: Level = Level.STUDY
    is_selective: bool = True
    is_fuzzy: bool = False

    def query(self, sample: Sample) -> Query:
        """Return the question as the Searcher takes it."""
        parsed = (
            parse_key(BY_KEYWORD[keyword], text, empties=True, multiples=True)
            for keyword, text in self.keys(sample).items()
        )
        return Query(self.level, tuple(one for one in parsed if one), limit=PAGE, is_fuzzy=self.is_fuzzy)


QUESTIONS = (
    Question("patient ID", lambda one: {"PatientID": one.patient_id}),
    Question("study UID", lambda one: {"StudyInstanceUID": one.study_instance_uid}),
    Question("accession number", lambda one: {"AccessionNumber": one.accession_number}),
    Question("study ID", lambda one: {"StudyID": one.study_id}),
    Question("name prefix", lambda one: {"PatientName": _prefix(one.patient_name)}),
    Question(
        "name and birth date", lambda one: {"PatientName": one.patient_name, "PatientBirthDate": one.patient_birth_date}
    ),
    Question("birth date", lambda one: {"PatientBirthDate": one.patient_birth_date}),
    Question("date range", lambda one: {"StudyDate": f"{one.day}-{one.end}"}),
    Question(
        "modality in a date range",
        lambda one: {"ModalitiesInStudy": one.modality, "StudyDate": f"{one.day}-{one.far_end}"},
    ),
    Question(
        "name in a date range",
        lambda one: {"PatientName": f"{_family(one.patient_name)}*", "StudyDate": f"{one.day}-{one.far_end}"},
    ),
    Question("patients by name prefix", lambda one: {"PatientName": _prefix(one.patient_name)}, Level.PATIENT),
    Question("series of a study", lambda one: {"StudyInstanceUID": one.study_instance_uid}, Level.SERIES),
    Question("newest studies", lambda _: {}, is_selective=False),
    Question("newest of a modality", lambda one: {"ModalitiesInStudy": one.modality}, is_selective=False),
    Question("family name", lambda one: {"PatientName": f"{_family(one.patient_name)}*"}, is_selective=False),
    Question("wildcard first", lambda one: {"PatientName": f"*{_family(one.patient_name)[1:]}*"}, is_selective=False),
    Question("fuzzy name", lambda one: {"PatientName": one.patient_name}, is_selective=False, is_fuzzy=True),
)


def take_samples(connection: Connection, count: int, seed: int = 5) -> list[Sample]:
    """Return ``count`` studies of a generated index at random; a small index gives some of them twice."""
    chance = random.Random(seed)
    last = connection.execute(select(func.max(study.c.id))).scalar_one()
    return [_take(connection, chance.randint(1, max(1, last - STUDIES_IN_LONG_RANGE)), last) for _ in range(count)]


def _take(connection: Connection, row_id: int, last: int) -> Sample:
    row = connection.execute(select(study).where(study.c.id == row_id)).one()

    def day_of(number: int) -> str:
        found = connection.execute(select(study.c.study_date).where(study.c.id == min(number, last)))
        return str(found.scalar_one())

    modality = connection.execute(select(func.min(series.c.modality)).where(series.c.study_row_id == row_id))
    return Sample(
        study_instance_uid=row.study_instance_uid,
        patient_id=row.patient_id,
        patient_name=text_of(orjson.loads(row.attributes), "PatientName"),
        patient_birth_date=row.patient_birth_date,
        accession_number=row.accession_number,
        study_id=row.study_id,
        day=row.study_date,
        end=day_of(row_id + STUDIES_IN_RANGE),
        far_end=day_of(row_id + STUDIES_IN_LONG_RANGE),
        modality=modality.scalar_one(),
    )


def _family(name: str) -> str:
    return name.partition("^")[0]


def _prefix(name: str) -> str:
    family, _, given = name.partition("^")
    return f"{family}^{given[:3]}*"
