"""How many match, before anybody has access: counts and facets that tell of many and of no one (docs/research.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, select

from pacs.access import Principal
from pacs.database.base import Database
from pacs.database.identity_tables import audit
from pacs.database.research_tables import research_catalogue
from pacs.database.tables import series
from pacs.errors import InvalidQuery, NotNow
from pacs.research.answers import Answers
from pacs.research.catalogue_values import BODY_PARTS, MAKERS
from pacs.research.conditions import NAMES, SHORT_NAMES, TOP_AGE, Conditions, parse_conditions
from pacs.research.exclusions import Exclusions
from pacs.research.gate import Right, admit, check_is_running
from pacs.research.keyring import Keyring
from pacs.research.model import Facet, Project, ShownCounts
from pacs.research.population import AGE_BAND, PatientCounts, Population
from pacs.research.recording import note
from pacs.tags import BY_KEYWORD

_COUNT, _FACETS, _REFUSED = "cohort.count", "cohort.facets", "cohort.count-refused"
_DAY = timedelta(days=1)

OTHER = "other"
"""What has no value, or one that is not named: counted together."""

_MODALITIES = """
AR AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS MG MR NM OAM OCT OP
OPM OPT OPV OSS OT PLAN PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG
US VA XA XC
"""
MODALITIES = frozenset(_MODALITIES.split())
"""Defined terms of PS3.3 C.7.3.1.1.1."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One attribute to count by. With ``always`` each of these values is counted, also where there is none.

    Otherwise only those of ``known`` that enough patients have are named: that a rare one is here at all may tell.
    """

    name: str
    column: ColumnElement[Any]
    spell: Callable[[Any], str] = str
    always: tuple[Any, ...] = ()
    known: Callable[[Any], bool] = lambda _: True


def _spell_band(first: int) -> str:
    return f"{first}+" if first == TOP_AGE else f"{first}-{first + 9}"


_AXES = (
    _Axis("modality", series.c.modality, known=MODALITIES.__contains__),
    _Axis("body_part", research_catalogue.c.body_part, known=BODY_PARTS.__contains__),
    _Axis("sex", research_catalogue.c.sex, always=("F", "M")),
    _Axis("age", AGE_BAND, _spell_band, always=tuple(range(0, TOP_AGE + 1, 10))),
    _Axis("manufacturer", research_catalogue.c.manufacturer, known=frozenset(MAKERS.values()).__contains__),
    _Axis("contrast", research_catalogue.c.has_contrast, lambda has: "yes" if has else "no", always=(True, False)),
    _Axis("field_strength", research_catalogue.c.field_strength, lambda field: f"{field / 1000:g}"),
)
FACETS = tuple(axis.name for axis in _AXES)
"""What is counted by. No date is among them: how many there are of a year would help to tell how far dates moved."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What may be known of a set of conditions; ``spelling`` is their one form."""

    spelling: Mapping[str, str]
    counts: ShownCounts
    facets: tuple[Facet, ...] = ()


class Counting:
    """Counts what matches. Any number of threads may call it at once; every question goes on record."""

    def __init__(self, database: Database, keys: Keyring, exclusions: Exclusions, questions_per_day: int) -> None:
        self._database = database
        self._keys = keys
        self._exclusions = exclusions
        self._questions_per_day = questions_per_day

    def count(self, principal: Principal, slug: str, given: Mapping[str, str]) -> Answer:
        """Return how many match, for a member; raise InvalidQuery for what cannot be asked."""
        return self._answer(principal, slug, given, with_facets=False)

    def count_by_facet(self, principal: Principal, slug: str, given: Mapping[str, str]) -> Answer:
        """Return how many match, and how many patients have each value of each of ``FACETS``."""
        return self._answer(principal, slug, given, with_facets=True)

    def _answer(self, principal: Principal, slug: str, given: Mapping[str, str], *, with_facets: bool) -> Answer:
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.WORK).project
            check_is_running(project)
        conditions = self._parse(principal, project, given)
        with self._database.read() as connection:
            self._check_budget(connection, principal, project, conditions.spelling)
            key = self._keys.open(connection, project)
            population = Population(connection, conditions, self._exclusions.find_excluded(connection, project))
            patients = population.read_patients()
            axes = _AXES if with_facets and len(patients) >= project.k else ()
            found = population.read_facets([axis.column for axis in axes]) if axes else []

        def write(connection: Connection) -> Answer:
            answers = Answers(connection, project, key)
            counts = _show_counts(answers, patients)
            is_shown = counts.patients.number is not None
            facets = tuple(_count_by(axis, answers, own) for axis, own in zip(axes, found, strict=True) if is_shown)
            kind = _FACETS if with_facets else _COUNT
            asked, shown = dict(conditions.spelling), str(counts.patients)
            note(connection, principal, project, kind, conditions=asked, patients=shown)
            return Answer(conditions.spelling, counts, facets)

        return self._database.write(write)

    def _parse(self, principal: Principal, project: Project, given: Mapping[str, str]) -> Conditions:
        """Return the conditions; what cannot be asked goes on record as well, by its keywords and without a value."""
        try:
            return parse_conditions(given)
        except InvalidQuery:
            asked = sorted(name for name in given if name in BY_KEYWORD or name in NAMES or name in SHORT_NAMES)
            self._database.write(lambda connection: note(connection, principal, project, _REFUSED, keywords=asked))
            raise

    def _check_budget(
        self, connection: Connection, principal: Principal, project: Project, spelling: Mapping[str, str]
    ) -> None:
        """Raise NotNow for one question too many; one that was asked already teaches nothing, and costs nothing."""
        since = datetime.now(UTC) - _DAY
        asked = {"project": project.slug, "principal": principal.name, "since": since}
        known = [orjson.loads(facts)["conditions"] for facts in connection.execute(_ASKED, asked).scalars()]
        if dict(spelling) not in known and len(known) >= self._questions_per_day:
            raise NotNow(f"{self._questions_per_day} questions were answered within a day; ask again tomorrow.")


_ASKED = (
    select(audit.c.facts)
    .where(
        audit.c.project == bindparam("project"),
        audit.c.principal == bindparam("principal"),
        audit.c.kind.in_([f"research.{kind}" for kind in (_COUNT, _FACETS)]),
        audit.c.at >= bindparam("since"),
    )
    .distinct()
)


def _show_counts(answers: Answers, found: Sequence[PatientCounts]) -> ShownCounts:
    levels = {
        name: {one.patient_row_id: int(getattr(one, name)) for one in found}
        for name in ("studies", "series", "instances")
    }
    return ShownCounts(**answers.show({one.patient_row_id: 1 for one in found}, levels))


def _count_by(axis: _Axis, answers: Answers, found: Mapping[Any, set[int]]) -> Facet:
    values = [(axis.spell(value), answers.show_patients(found.get(value, ()))) for value in axis.always]
    rest: set[int] = set()
    for value in sorted(found.keys() - set(axis.always), key=str):
        shown = answers.show_patients(found[value])
        if value is None or shown.number is None or not axis.known(value):
            rest |= found[value]
        else:
            values.append((axis.spell(value), shown))
    if not axis.always:
        values.sort(key=lambda one: (-(one[1].number or 0), one[0]))
    return Facet(axis.name, (*values, (OTHER, answers.show_patients(rest))))
