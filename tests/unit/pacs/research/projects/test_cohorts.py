"""Cohorts: saved by one, approved by another, and then what they are."""

import pytest

from pacs.access import Principal, Role
from pacs.errors import CohortNotFound, InvalidProject, InvalidQuery, NotNow, NotPermitted
from pacs.research.cohorts import find_cohort
from pacs.research.exclusions import Whom
from pacs.research.model import CohortState, ProjectRole
from tests.unit.pacs.research.projects.conftest import ADMINISTRATOR, RESEARCHER, STEWARD, on_both_engines


@pytest.fixture
def cohort(research, project, store_patients):
    store_patients(range(8), PatientSex="F")
    return research.cohorts.create(RESEARCHER, "lungs", "women", {"sex": "F"})


@on_both_engines
def test_a_cohort_goes_from_draft_to_approved_by_two_people(research, cohort, audited):
    assert (cohort.state, cohort.conditions) == (CohortState.DRAFT, {"PatientSex": "F"})
    requested = research.cohorts.request(RESEARCHER, "lungs", cohort.id)
    assert (requested.state, requested.requested_by) == (CohortState.REQUESTED, RESEARCHER.name)
    approved = research.cohorts.approve(STEWARD, "lungs", cohort.id, "Good.")
    assert (approved.state, approved.decided_by, approved.remark) == (CohortState.APPROVED, STEWARD.name, "Good.")
    assert research.cohorts.get(RESEARCHER, "lungs", cohort.id) == approved
    assert audited()[-4:] == [f"research.cohort.{kind}" for kind in ("create", "request", "approve", "view")]
    for call in (
        lambda: research.cohorts.change(RESEARCHER, "lungs", cohort.id, {}),
        lambda: research.cohorts.remove(RESEARCHER, "lungs", cohort.id),
        lambda: research.cohorts.request(RESEARCHER, "lungs", cohort.id),
        lambda: research.cohorts.approve(STEWARD, "lungs", cohort.id),
        lambda: research.cohorts.refuse(STEWARD, "lungs", cohort.id, "No."),
    ):
        with pytest.raises(NotNow, match="approved"):
            call()


def test_nobody_approves_what_he_has_requested(research, cohort):
    research.cohorts.request(STEWARD, "lungs", cohort.id)
    with pytest.raises(NotPermitted, match="two people"):
        research.cohorts.approve(STEWARD, "lungs", cohort.id)
    second = Principal("sofia", roles=frozenset({Role.STEWARD}))
    research.projects.add_member(ADMINISTRATOR, "lungs", second.name, ProjectRole.STEWARD)
    assert research.cohorts.approve(second, "lungs", cohort.id).state is CohortState.APPROVED


@on_both_engines
def test_what_was_refused_can_be_changed_and_requested_again(research, cohort):
    research.cohorts.request(RESEARCHER, "lungs", cohort.id)
    with pytest.raises(NotNow):
        research.cohorts.change(RESEARCHER, "lungs", cohort.id, {})
    with pytest.raises(InvalidProject):
        research.cohorts.refuse(STEWARD, "lungs", cohort.id, " ")
    assert research.cohorts.refuse(STEWARD, "lungs", cohort.id, "Too wide.").remark == "Too wide."
    changed = research.cohorts.change(RESEARCHER, "lungs", cohort.id, {"sex": "F", "modality": "CT"})
    assert (changed.state, changed.decided_by, changed.remark) == (CohortState.DRAFT, "", "")
    assert research.cohorts.request(RESEARCHER, "lungs", cohort.id).state is CohortState.REQUESTED


def test_a_cohort_of_too_few_is_not_requested(research, project, store_patients):
    store_patients(range(4))
    few = research.cohorts.create(RESEARCHER, "lungs", "few", {})
    with pytest.raises(NotNow, match="Fewer than 5"):
        research.cohorts.request(RESEARCHER, "lungs", few.id)
    assert research.cohorts.get(RESEARCHER, "lungs", few.id).state is CohortState.DRAFT


def test_a_draft_goes_without_a_trace_but_in_the_log(research, cohort, audited):
    research.cohorts.remove(RESEARCHER, "lungs", cohort.id)
    assert audited()[-1] == "research.cohort.remove"
    assert research.cohorts.list_all(RESEARCHER, "lungs") == []
    with pytest.raises(CohortNotFound):
        research.cohorts.get(RESEARCHER, "lungs", cohort.id)


def test_a_cohort_of_another_project_is_not_there(research, cohort, make_project):
    make_project("brains")
    for call in (
        lambda: research.cohorts.get(RESEARCHER, "brains", cohort.id),
        lambda: research.cohorts.request(RESEARCHER, "brains", cohort.id),
        lambda: research.cohorts.approve(STEWARD, "brains", cohort.id),
    ):
        with pytest.raises(CohortNotFound):
            call()


def test_names_are_given_once_and_conditions_are_read_first(research, cohort):
    with pytest.raises(NotNow):
        research.cohorts.create(STEWARD, "lungs", "women", {})
    with pytest.raises(InvalidProject):
        research.cohorts.create(STEWARD, "lungs", " ", {})
    with pytest.raises(InvalidQuery):
        research.cohorts.create(STEWARD, "lungs", "somebody", {"PatientID": "P1"})


@on_both_engines
def test_what_is_released_is_read_page_by_page_without_who_objected(parts, research, cohort, project, store_patients):
    datasets = store_patients([20, 20], PatientSex="F") + store_patients([21], PatientSex="M")
    research.exclusions.exclude(STEWARD, "lungs", Whom("P3"), reason="He objected.")
    found, after, pages = [], 0, 0
    with parts.database.read() as connection:
        held = find_cohort(connection, project, cohort.id)
        while True:
            page, after = research.cohorts.read_candidates(connection, project, held, after, 4)
            found, pages = found + page, pages + 1
            if not after:
                break
    assert pages == 3
    assert len(found) == 9
    assert {one.series_instance_uid for one in found} >= {one.SeriesInstanceUID for one in datasets[:2]}
    assert len({one.patient_row_id for one in found}) == 8
    assert datasets[2].SeriesInstanceUID not in {one.series_instance_uid for one in found}
