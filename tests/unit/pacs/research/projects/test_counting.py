"""Counts and facets before access, over what is stored: of many, of no one, and of nobody who objected."""

import random

import orjson
import pytest

from pacs.access import LOCAL
from pacs.correction import PatientKey
from pacs.database.research_tables import research_project
from pacs.deid import ProjectKey
from pacs.errors import ExclusionNotFound, InvalidQuery, InvalidValue, NotNow, NotPermitted
from pacs.model import Level
from pacs.query import Equals, Query
from pacs.research import perturbation
from pacs.research.answers import Answers
from pacs.research.exclusions import Whom
from pacs.research.model import ExclusionScope
from tests.builders import build_dataset
from tests.unit.pacs.research.projects.conftest import ADMINISTRATOR, RESEARCHER, STEWARD, on_both_engines

SEXES = "FM"


@pytest.fixture
def exact(monkeypatch):
    """Count without noise, so that what is counted can be seen."""
    monkeypatch.setattr(perturbation, "noise", lambda *_: 0)


@pytest.fixture
def population(store_patients, project):
    """Forty patients: half of them women, aged 0 to 78, ten with contrast, one by a maker whom nobody else has."""
    return store_patients(
        range(40),
        PatientSex=lambda number: SEXES[number % 2],
        PatientAge=lambda number: f"{number * 2:03}Y",
        Manufacturer=lambda number: "SIEMENS" if number else "UIH",
        ContrastBolusAgent=lambda number: "Iopamidol" if number < 10 else None,
        StudyDescription=lambda number: "TDM thorax" if number < 20 else "TDM abdomen BENALI",
        StudyDate=lambda number: f"{2015 + number // 10}0615",
        ConvolutionKernel="Br40",
    )


QUESTIONS = [
    ({}, "40"),
    ({"sex": "F"}, "20"),
    ({"sex": "F\\M"}, "40"),
    ({"age_min": "50"}, "15"),
    ({"age_min": "40", "age_max": "59"}, "10"),
    ({"age_min": "90"}, "fewer than 5"),
    ({"contrast": "yes"}, "10"),
    ({"contrast": "no", "sex": "M"}, "15"),
    ({"year": "2015"}, "10"),
    ({"year": "2015-2016"}, "20"),
    ({"words": "thorax"}, "20"),
    ({"words": "TDM Abdomen"}, "20"),
    ({"words": "benali"}, "fewer than 5"),
    ({"StudyDescription": "*thorax*"}, "20"),
    ({"StudyDescription": "*BENALI*"}, "fewer than 5"),
    ({"kernel": "br4*"}, "40"),
    ({"kernel": "br5*"}, "fewer than 5"),
    ({"manufacturer": "SIEMENS"}, "40"),
    ({"manufacturer": "UNITED IMAGING"}, "fewer than 5"),
    ({"modality": "MR"}, "fewer than 5"),
    ({"modality": "MR\\CT", "ModalitiesInStudy": "CT"}, "40"),
]


@on_both_engines
def test_conditions_find_what_they_ask_for(research, population, exact):
    for given, expected in QUESTIONS:
        assert str(research.counting.count(RESEARCHER, "lungs", given).counts.patients) == expected, given


@on_both_engines
def test_facets_count_patients_and_name_nothing_that_is_rare(research, population, exact):
    answer = research.counting.count_by_facet(RESEARCHER, "lungs", {})
    facets = {facet.name: {name: str(shown) for name, shown in facet.values} for facet in answer.facets}
    few = "fewer than 5"
    assert facets["sex"] == {"F": "20", "M": "20", "other": few}
    assert facets["manufacturer"] == {"SIEMENS": "40", "other": few}
    assert facets["modality"] == {"CT": "40", "other": few}
    assert facets["contrast"] == {"yes": "10", "no": "30", "other": few}
    assert list(facets["age"]) == [*(f"{age}-{age + 9}" for age in range(0, 90, 10)), "90+", "other"]
    assert facets["age"]["0-9"] == "5"
    assert facets["age"]["90+"] == few
    assert facets["body_part"] == {"other": "40"}
    assert "2015" not in repr(answer)
    assert research.counting.count_by_facet(RESEARCHER, "lungs", {"modality": "MR"}).facets == ()


def test_a_cell_counts_as_the_question_for_it_does(research, population):
    """So that nothing is averaged out by asking for the same patients in several ways."""
    women = research.counting.count(RESEARCHER, "lungs", {"sex": "F"}).counts.patients
    facets = research.counting.count_by_facet(RESEARCHER, "lungs", {"modality": "CT"}).facets
    assert dict(next(facet.values for facet in facets if facet.name == "sex"))["F"] == women
    for given in ({"PatientSex": "f"}, {"sex": "F", "kernel": "*"}, {"sex": "F", "year": "2000-2030"}):
        assert research.counting.count(STEWARD, "lungs", given).counts.patients == women


def test_two_projects_see_noise_of_their_own(research, make_project, population):
    make_project("brains")
    questions = [{"age_min": str(age)} for age in range(0, 50, 5)] + [{"age_max": str(age)} for age in range(49, 90, 5)]

    def ask(slug):
        return [research.counting.count(RESEARCHER, slug, given).counts for given in questions]

    assert ask("lungs") == ask("lungs")
    assert ask("lungs") != ask("brains")


@on_both_engines
def test_whoever_objected_is_not_counted(research, archive, population, exact, audited):
    def count(slug="lungs"):
        return str(research.counting.count(RESEARCHER, slug, {"contrast": "yes"}).counts.patients)

    for number in range(5):
        exclude = research.exclusions.exclude
        assert exclude(STEWARD, "lungs", Whom(f"P{number}"), reason="He objected.") is ExclusionScope.PATIENT
    assert count() == "5"
    study = population[5].StudyInstanceUID
    scope = research.exclusions.exclude(ADMINISTRATOR, None, Whom(study_instance_uid=study), reason="Asked.")
    assert scope is ExclusionScope.STUDY
    assert count() == "fewer than 5"
    kept = research.exclusions.list_all(STEWARD, "lungs")
    assert len(kept) == 6
    assert "P1" not in repr(kept)
    assert study not in repr(kept)
    research.exclusions.lift(ADMINISTRATOR, None, kept[-1].id, reason="He agreed after all.")
    assert count() == "5"
    with pytest.raises(ExclusionNotFound):
        research.exclusions.lift(STEWARD, "lungs", kept[-1].id, reason="x")
    assert audited().count("research.exclusion.add") == 6


@on_both_engines
def test_an_objection_holds_after_a_merge_and_for_who_comes_later(parts, research, archive, store_patients, project):
    def count_excluded():
        with parts.database.read() as connection:
            found = research.exclusions.find_excluded(connection, project)
            some = research.exclusions.find_excluded(connection, project, sorted(found.patient_row_ids))
        assert some == found
        return len(found.patient_row_ids)

    research.exclusions.exclude(STEWARD, "lungs", Whom("P7"), reason="He objected before he came.")
    assert count_excluded() == 0
    store_patients(range(5, 15))
    assert count_excluded() == 1
    research.exclusions.exclude(STEWARD, "lungs", Whom("P8"), reason="He objected.")
    assert count_excluded() == 2
    archive.correct.merge_patients(LOCAL, PatientKey("P8", ""), PatientKey("P9", ""), reason="The same person.")
    assert count_excluded() >= 2
    (study,) = archive.search.search(LOCAL, Query(Level.STUDY, (Equals("PatientID", "P9"),), limit=1)).matches
    with parts.database.read() as connection:
        everybody = research.cohorts.create(RESEARCHER, "lungs", "all", {})
        found, _ = research.cohorts.read_candidates(connection, project, everybody, 0, 100)
    assert len(found) == 7  # of ten: two objected, and one is now who one of them was merged into
    assert study.study_instance_uid not in {one.study_instance_uid for one in found}


def test_an_objection_names_one_of_both_and_a_reason(research, project):
    for whom in (Whom(), Whom("P1", study_instance_uid="1.2")):
        with pytest.raises(InvalidValue):
            research.exclusions.exclude(STEWARD, "lungs", whom, reason="x")
    with pytest.raises(InvalidValue):
        research.exclusions.exclude(STEWARD, "lungs", Whom("P1"), reason=" ")
    with pytest.raises(NotPermitted):
        research.exclusions.exclude(STEWARD, None, Whom("P1"), reason="x")


def test_every_question_is_on_record_with_what_was_shown(research, population, audited):
    answer = research.counting.count(RESEARCHER, "lungs", {"sex": "f", "words": "thorax"})
    (entry,) = audited("research.cohort.count")
    assert (entry.principal, entry.project) == (RESEARCHER.name, "lungs")
    assert orjson.loads(entry.facts) == {
        "conditions": {"PatientSex": "F", "words": "thorax"},
        "patients": str(answer.counts.patients),
    }
    with pytest.raises(InvalidQuery):
        research.counting.count(RESEARCHER, "lungs", {"PatientName": "BENALI", "BENALI": "x", "sex": "F"})
    (refused,) = audited("research.cohort.count-refused")
    assert orjson.loads(refused.facts) == {"keywords": ["PatientName", "sex"]}


def test_nothing_below_is_shown_as_less_than_what_is_above_it(research, population):
    for given in ({}, {"sex": "F"}, {"sex": "M"}, {"contrast": "yes"}, {"age_min": "50"}, {"words": "thorax"}):
        counts = research.counting.count(RESEARCHER, "lungs", given).counts
        numbers = [one.number for one in (counts.patients, counts.studies, counts.series, counts.instances)]
        assert None in numbers[:1] or numbers == sorted(numbers)


def test_what_was_withheld_is_not_counted(research, archive, population, exact):
    for dataset in population[:20]:
        archive.withhold.withhold(LOCAL, dataset.StudyInstanceUID)
    counts = research.counting.count(RESEARCHER, "lungs", {}).counts
    assert (str(counts.patients), str(counts.instances)) == ("20", "20")


def test_nothing_is_counted_after_the_approval_has_ended(research, population, parts):
    values = {"approval_ends_on": "2020-01-01"}
    parts.database.write(lambda connection: connection.execute(research_project.update().values(values)))
    with pytest.raises(NotNow, match="2020-01-01"):
        research.counting.count(RESEARCHER, "lungs", {})


@on_both_engines
def test_one_person_is_answered_so_many_questions_a_day_and_not_another_persons(research, project, monkeypatch):
    monkeypatch.setattr(research.counting, "_questions_per_day", 2)
    for given in ({}, {"sex": "F"}, {"sex": "F"}, {}):
        research.counting.count(RESEARCHER, "lungs", given)
    research.counting.count_by_facet(RESEARCHER, "lungs", {"PatientSex": "f"})
    with pytest.raises(NotNow, match="tomorrow"):
        research.counting.count(RESEARCHER, "lungs", {"sex": "M"})
    research.counting.count(STEWARD, "lungs", {"sex": "M"})


@on_both_engines
def test_no_answer_changes_for_fewer_than_k_patients(research, project, store_patients):
    """Neither one number nor all of them together tell whether somebody is among those who match."""
    store_patients(
        range(40),
        PatientSex=lambda number: "F" if number < 30 else "M",
        PatientAge=lambda number: "040Y" if number < 26 else "072Y",
        ContrastBolusAgent=lambda number: "Iopamidol" if number == 0 else None,
    )

    def ask(**given):
        return research.counting.count_by_facet(RESEARCHER, "lungs", given)

    women = ask(sex="F")
    assert ask(sex="F", contrast="no").counts == women.counts
    assert ask(sex="F", age_max="69").counts == women.counts
    assert ask(sex="F", contrast="no", age_max="69").counts == ask(sex="F", contrast="no", age_max="69").counts
    cells = {facet.name: dict(facet.values) for facet in women.facets}
    assert cells["contrast"]["no"] == women.counts.patients
    assert cells["age"]["40-49"] == women.counts.patients
    everybody = ask()
    assert everybody.counts.patients.number is not None
    assert everybody.counts.patients.k == 5


def test_a_count_of_images_follows_the_question_where_the_patients_are_the_same(research, project, store, exact):
    for number in range(10):
        first = build_dataset(PatientID=f"P{number}", Modality="CT")
        others = [
            build_dataset(
                PatientID=first.PatientID,
                StudyInstanceUID=first.StudyInstanceUID,
                Modality="MR",
                SeriesInstanceUID=f"{first.SeriesInstanceUID[:50]}.{series}",
            )
            for series in range(9)
        ]
        store(first, *others)
    assert sum(research.catalogue.iter_missing()) == 100
    assert str(research.counting.count(RESEARCHER, "lungs", {}).counts.instances) == "100"
    counts = research.counting.count(RESEARCHER, "lungs", {"modality": "CT"}).counts
    assert (str(counts.patients), str(counts.instances)) == ("10", "10")


def test_whatever_was_asked_first_its_neighbours_are_answered_alike(parts, project):
    key, chance = ProjectKey.generate(), random.Random(6)

    def ask(connection, rows):
        shares = {row: 1 + row % 700 for row in rows}
        shown = Answers(connection, project, key).show(dict.fromkeys(rows, 1), {"instances": shares})
        return shown["patients"].number, shown["instances"].number

    def neighbour(rows, distance):
        gone = chance.sample(sorted(rows), distance // 2)
        return (rows - set(gone)) | {10**6 + one for one in range(distance - len(gone))}

    def work(connection):
        near, far = 0, 0
        for number in range(60):
            rows = {number * 1000 + one for one in chance.sample(range(1, 1000), 20 + 3 * number)}
            asked = ask(connection, rows)
            near += ask(connection, neighbour(rows, chance.randint(1, project.k - 1))) == asked
            far += ask(connection, neighbour(rows, 2 * project.k))[0] == asked[0]
        return near, far

    near, far = parts.database.write(work)
    assert near == 60
    assert far < 50
