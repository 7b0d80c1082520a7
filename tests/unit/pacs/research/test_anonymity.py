"""How anonymous a release is: measured over patients, and what is rare is named before anything is published."""

import json

import pytest

from pacs.research.exports.anonymity import DEMOGRAPHIC, EXAMINATION, MAX_LISTED, ROUGHLY, assess
from pacs.research.exports.anonymity_page import write_page


def series(patient, age=50, sex="F", modality="CT", part="CHEST", description="Chest"):
    return {
        "PatientID": patient,
        "PatientAge": None if age is None else f"{age:03d}Y",
        "PatientAge_years": None if age is None else float(age),
        "PatientSex": sex,
        "Modality": modality,
        "BodyPartExamined": part,
        "StudyDescription": description,
    }


def measured(report, level):
    (found,) = [one for one in report.levels if one.knowledge == level.name]
    return found


def test_a_patient_counts_once_however_many_series_he_has():
    rows = [series("A") for _ in range(10)] + [series("B")]
    report = assess(rows, 5)
    assert report.patients == 2
    assert measured(report, DEMOGRAPHIC).k == 2
    assert measured(report, DEMOGRAPHIC).distribution["2-4"] == 2


def test_enough_patients_alike_are_k_anonymous_without_a_warning():
    rows = [series(f"P{number}", description=f"Chest {number % 2}") for number in range(6)]
    report = assess(rows, 5)
    assert [(level.k, level.l, level.patients_below_k) for level in report.levels] == [(6, 2, 0)] * 3
    assert report.warnings == report.small_classes == ()


def test_who_is_rare_by_one_attribute_is_listed_with_it_and_warned_of():
    rows = [series(f"P{number}", description=f"Chest {number % 3}") for number in range(6)]
    rows += [series("ODD", age=31, sex="M", part="ANKLE")]
    report = assess(rows, 5)
    assert report.small_classes == (
        {"PatientAge": "031Y", "PatientSex": "M", "Modality": "CT", "BodyPartExamined": "ANKLE", "patients": 1},
    )
    assert measured(report, EXAMINATION).k == 1
    assert measured(report, EXAMINATION).patients_below_k == 1
    assert any("1 of 7 patients" in warning for warning in report.warnings)


def test_bands_of_ages_show_what_they_would_win():
    rows = [series(f"P{number}", age=50 + number) for number in range(8)]
    report = assess(rows, 5)
    assert (measured(report, EXAMINATION).k, measured(report, ROUGHLY).k) == (1, 8)


def test_a_patient_of_two_examinations_is_known_by_both_and_by_his_first_age():
    rows = [series("A", age=60, part="HEAD"), series("A", age=58), *(series(f"P{number}") for number in range(5))]
    (small,) = assess(rows, 5).small_classes
    assert (small["PatientAge"], small["BodyPartExamined"]) == ("058Y", "CHEST + HEAD")


def test_what_is_unknown_counts_as_a_value_and_leaves_nobody_out():
    rows = [series(f"P{number}", age=None, sex=None, part=None, description=None) for number in range(5)]
    report = assess(rows, 5)
    assert [level.k for level in report.levels] == [5, 5, 5]


def test_one_kind_of_study_for_all_of_a_class_is_warned_of():
    report = assess([series(f"P{number}") for number in range(6)], 5)
    assert measured(report, DEMOGRAPHIC).l == 1
    assert any("l is 1" in warning for warning in report.warnings)


@pytest.mark.parametrize("age", [90, 120])
def test_the_oldest_are_one_band(age):
    rows = [series(f"P{number}", age=age) for number in range(2)] + [series("X", age=89)]
    assert measured(assess(rows, 2), ROUGHLY).classes == 2


def test_an_empty_release_is_said_to_be_one():
    report = assess([], 5)
    assert report.patients == 0
    assert "no patient" in write_page(report, "Chest, version 1")


def test_the_report_is_json_and_a_page_that_no_value_can_break():
    rows = [series(f"P{number}", age=number % 90, part="A|B\nC") for number in range(MAX_LISTED * 3)]
    rows += [series(f"Q{number}", age=number % 90, part=f"PART{number}") for number in range(MAX_LISTED + 7)]
    report = assess(rows, 5)
    assert json.loads(json.dumps(report.to_json()))["small_classes_in_all"] == MAX_LISTED + 7
    assert len(report.small_classes) == MAX_LISTED
    page = write_page(report, "Chest, version 1")
    assert "7 more are not listed." in page
    table = [line for line in page.splitlines() if line.startswith("| 0")]
    assert {line.count(" | ") for line in table} == {4}
