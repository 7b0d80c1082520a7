"""Subjects: the same for ever in one project, and nothing in common between two."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pacs.access import LOCAL
from pacs.correction import PatientKey
from pacs.database.research_tables import research_subject, research_subject_key
from pacs.deid import ProjectKey, derive_subject
from pacs.errors import InvalidValue, NotNow, NotPermitted, PseudonymNotFound, ReidentificationNotFound, StudyNotFound
from pacs.research.keyring import Keyring
from pacs.research.master_key import MasterKeyFile
from pacs.research.subjects import fix_subject, open_pair
from tests.unit.pacs.research.projects.conftest import ADMINISTRATOR, PRIVATE_KEY, RESEARCHER, STEWARD, on_both_engines


@pytest.fixture
def fix(parts, tmp_path):
    """Fix the subject of a study in a project, as a release does."""

    def fix(project, dataset):
        with parts.database.read() as connection:
            key = Keyring(MasterKeyFile(tmp_path / "archive" / "research-master.key")).open(connection, project)
        return parts.database.write(lambda connection: fix_subject(connection, project, key, dataset.StudyInstanceUID))

    return fix


def test_a_patient_is_one_subject_in_all_his_studies(project, store_patients, fix):
    first, again, other = store_patients([1, 1, 2])
    subject = fix(project, first)
    assert fix(project, first) == fix(project, again) == subject
    assert fix(project, other).pseudonym != subject.pseudonym


@on_both_engines
def test_two_projects_know_him_by_nothing_in_common(parts, make_project, store_patients, fix):
    datasets = store_patients(range(6))
    lungs, brains = make_project("lungs"), make_project("brains")
    here, there = [fix(lungs, one) for one in datasets], [fix(brains, one) for one in datasets]
    assert not {one.pseudonym for one in here} & {one.pseudonym for one in there}
    assert [one.shift_days for one in here] != [one.shift_days for one in there]
    with parts.database.read() as connection:
        rows = [
            [tuple(row)[1:] for row in connection.execute(table.select().where(table.c.project_row_id == project.id))]
            for project in (lungs, brains)
            for table in (research_subject_key,)
        ]
        sealed = [
            {bytes(row.sealed_shift) for row in connection.execute(select(research_subject))},
            {bytes(row.escrow) for row in connection.execute(select(research_subject))},
        ]
    assert not {digest for digest, _ in rows[0]} & {digest for digest, _ in rows[1]}
    assert [len(one) for one in sealed] == [12, 12]


identities = st.lists(st.text(max_size=20), min_size=1, max_size=20, unique=True)


@settings(max_examples=50, deadline=None)
@given(identities)
def test_whoever_is_asked_for_two_projects_share_no_pseudonym_and_no_digest(names):
    first, second = ProjectKey.generate(), ProjectKey.generate()
    for derive in (
        lambda key, name: derive_subject(key, name).pseudonym,
        lambda key, name: key.derive_uid(name),
        lambda key, name: key.derive("subject-of-identity", name),
        lambda key, name: key.derive("subject-of-study", name),
        lambda key, name: key.derive("noise-patients", name),
    ):
        here, there = {derive(first, name) for name in names}, {derive(second, name) for name in names}
        assert len(here) == len(there) == len(names)
        assert not here & there
        assert here == {derive(first, name) for name in names}


@on_both_engines
def test_a_merge_changes_no_subject_and_what_comes_later_joins_it(archive, project, store_patients, fix):
    released, unreleased = store_patients([1, 2])
    subject = fix(project, released)
    archive.correct.merge_patients(LOCAL, PatientKey("P1", ""), PatientKey("P2", ""), reason="The same person.")
    assert fix(project, released) == subject
    assert fix(project, unreleased) == subject
    (later,) = store_patients([2])
    assert fix(project, later) == subject


@on_both_engines
def test_two_that_were_released_apart_stay_apart_after_a_merge(archive, project, store_patients, fix):
    first, second = store_patients([1, 2])
    before = fix(project, first), fix(project, second)
    archive.correct.merge_patients(LOCAL, PatientKey("P1", ""), PatientKey("P2", ""), reason="The same person.")
    assert (fix(project, first), fix(project, second)) == before


def test_the_shift_is_not_in_the_database_in_the_clear(parts, project, store_patients, fix):
    subject = fix(project, store_patients([1])[0])
    with parts.database.read() as connection:
        row = connection.execute(select(research_subject)).one()
    assert str(subject.shift_days).encode() not in bytes(row.sealed_shift)
    assert b"P1" not in bytes(row.escrow)


def test_a_study_that_is_not_here_has_no_subject(project, fix):
    class Absent:
        StudyInstanceUID = "1.2.3"

    with pytest.raises(StudyNotFound):
        fix(project, Absent)


@on_both_engines
def test_it_takes_two_people_and_a_key_from_elsewhere_to_tell_who_somebody_is(
    research, project, store_patients, fix, audited
):
    subject = fix(project, store_patients([1])[0])
    again = research.reidentification
    request = again.ask(RESEARCHER, "lungs", subject.pseudonym, reason="A finding that needs a doctor.")
    with pytest.raises(NotNow):
        again.hand_out(RESEARCHER, "lungs", request.id)
    with pytest.raises(NotPermitted):
        again.decide(RESEARCHER, "lungs", request.id, grants=True, reason="I know.")
    granted = again.decide(STEWARD, "lungs", request.id, grants=True, reason="It does.")
    assert granted.decided_by == STEWARD.name
    sealed = again.hand_out(RESEARCHER, "lungs", request.id)
    assert open_pair(PRIVATE_KEY, "lungs", sealed) == {
        "project": "lungs",
        "pseudonym": subject.pseudonym,
        "patient_id": "P1",
        "issuer_of_patient_id": "",
    }
    with pytest.raises(ReidentificationNotFound):
        again.hand_out(STEWARD, "lungs", request.id)
    assert audited()[-3:] == [f"research.reidentification.{kind}" for kind in ("ask", "grant", "hand-out")]
    (entry,) = audited("research.reidentification.grant")
    assert entry.subject == subject.pseudonym
    assert orjson.loads(entry.facts)["asked_by"] == RESEARCHER.name


def test_nobody_grants_what_he_has_asked_whatever_he_is(research, project, store_patients, fix):
    subject = fix(project, store_patients([1])[0])
    request = research.reidentification.ask(STEWARD, "lungs", subject.pseudonym, reason="x")
    with pytest.raises(NotPermitted, match="two people"):
        research.reidentification.decide(STEWARD, "lungs", request.id, grants=True, reason="x")
    refused = research.reidentification.decide(ADMINISTRATOR, "lungs", request.id, grants=False, reason="No reason.")
    assert refused.state == "refused"
    with pytest.raises(NotNow):
        research.reidentification.decide(ADMINISTRATOR, "lungs", request.id, grants=True, reason="x")
    with pytest.raises(NotNow):
        research.reidentification.hand_out(STEWARD, "lungs", request.id)
    assert research.reidentification.list_all(RESEARCHER, "lungs") == []
    assert research.reidentification.list_all(STEWARD, "lungs") == [refused]


def test_without_an_escrow_nobody_can_ever_tell(research, make_project, store_patients, fix):
    subject = fix(make_project(escrow_key=b""), store_patients([1])[0])
    with pytest.raises(NotNow, match="no escrow"):
        research.reidentification.ask(RESEARCHER, "lungs", subject.pseudonym, reason="x")
    with pytest.raises(PseudonymNotFound):
        research.reidentification.ask(RESEARCHER, "lungs", "NOBODY", reason="x")
    with pytest.raises(InvalidValue):
        research.reidentification.ask(RESEARCHER, "lungs", subject.pseudonym, reason=" ")


def test_a_request_of_another_project_is_not_there(research, make_project, store_patients, fix):
    subject = fix(make_project("lungs"), store_patients([1])[0])
    make_project("brains")
    request = research.reidentification.ask(RESEARCHER, "lungs", subject.pseudonym, reason="x")
    with pytest.raises(ReidentificationNotFound):
        research.reidentification.decide(STEWARD, "brains", request.id, grants=True, reason="x")


@pytest.mark.parametrize("text", ["", "é", "AAAA", "!!"])
def test_what_is_no_sealed_pair_does_not_open(text):
    with pytest.raises(InvalidValue):
        open_pair(PRIVATE_KEY, "lungs", text)
