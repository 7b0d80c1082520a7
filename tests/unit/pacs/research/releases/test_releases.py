"""Releases: what is in one, that it is made once and wholly whatever happens, and who decides what leaves."""

import hashlib
from io import BytesIO

import orjson
import pytest
from pydicom import dcmread
from sqlalchemy import select, text

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings
from pacs.correction import PatientKey
from pacs.database.release_tables import research_release_object
from pacs.errors import (
    InvalidValue,
    NotNow,
    NotPermitted,
    ProjectNotFound,
    QuarantinedNotFound,
    ReleaseNotFound,
    Unavailable,
)
from pacs.jobs import queue
from pacs.model import CLINICAL_PARTITION, Level
from pacs.query import Query
from pacs.research.exclusions import Whom
from pacs.research.model import QuarantineState, ReleaseState
from pacs.research.releases import building, objects
from pacs.retrieve import ANY
from storage.errors import StorageUnavailable
from tests.builders import build_ct, build_dataset, build_image
from tests.releases import (
    ADMINISTRATOR,
    OUTSIDER,
    RESEARCHER,
    SLUG,
    STEWARD,
    build_patients,
    clinical_uids,
    go_on,
    make,
    make_project,
    publish,
    store,
    uids_of,
)

PATIENTS = 7
INSTANCES = 2 * PATIENTS


on_both = pytest.mark.parametrize(
    "parts", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
"""What asks the database more than others do."""


class Killed(BaseException):
    """A process that ends here."""


@pytest.fixture
def parts(tmp_path, request):
    """An archive with everything in folders, so that what is stored can be looked at."""
    is_postgres = getattr(request, "param", "") == "postgres"
    url = request.getfixturevalue("postgres_url") if is_postgres else ""
    with open_archive(Settings(data_dir=tmp_path / "archive", database=DatabaseSettings(url=url))) as opened:
        yield opened


@pytest.fixture
def datasets(parts):
    made = build_patients(PATIENTS)
    store(parts, *made)
    return made


@pytest.fixture
def cohort(parts, datasets) -> int:
    return make_project(parts)


@pytest.fixture
def with_capture(parts, datasets):
    """A secondary capture beside the slices, which the engine does not vouch for; and the cohort that holds both."""
    capture = build_dataset(Modality="CT", PatientID=datasets[0].PatientID, PatientName=datasets[0].PatientName)
    capture.update(build_image(bits=8))
    store(parts, capture)
    return make_project(parts)


def read_objects(parts, release):
    """Return every object of a release as a data set."""
    reading = parts.research.releases.open(release)
    found = []
    for match in reading.search.search(STEWARD, Query(Level.STUDY, limit=1000)).matches:
        for record in reading.retrieve.find_instances(STEWARD, match.study_instance_uid):
            with reading.retrieve.open_instance(STEWARD, record, ANY) as opened:
                found.append(dcmread(BytesIO(b"".join(opened.iter_chunks()))))
    return found


def states_of(parts, release):
    columns = research_release_object.c
    with parts.database.read() as connection:
        return connection.execute(
            select(columns.state, columns.clinical_uid).where(columns.release_row_id == release.id)
        ).all()


def blobs(parts, tmp_path):
    folder = tmp_path / "archive" / "research-objects"
    return {path.name for path in folder.rglob("*") if path.is_file()}


@on_both
def test_a_release_holds_what_the_cohort_holds_and_no_uid_of_it(parts, cohort, datasets):
    release = publish(parts, cohort)
    assert (release.counts.patients, release.counts.studies, release.counts.instances) == (
        PATIENTS,
        PATIENTS,
        INSTANCES,
    )
    assert uids_of(parts, release.partition_id).isdisjoint(clinical_uids(parts))
    found = read_objects(parts, release)
    assert len(found) == len(datasets)
    assert sorted(dataset.PixelData for dataset in found) == sorted(dataset.PixelData for dataset in datasets)
    assert {dataset.PatientIdentityRemoved for dataset in found} == {"YES"}
    assert not any("TAZI" in str(dataset) or "MRN" in str(dataset) for dataset in found)


def test_the_manifest_tells_whether_everything_came_whole(parts, cohort):
    release = publish(parts, cohort)
    same, chunks = parts.research.releases.open_manifest(RESEARCHER, SLUG)
    lines = [orjson.loads(line) for line in b"".join(chunks).splitlines()]
    assert same == release
    assert [line["sop_instance_uid"] for line in lines] != []
    reading = parts.research.releases.open_archive(RESEARCHER, SLUG, release.version)
    for line in lines:
        uids = (line["study_instance_uid"], line["series_instance_uid"], line["sop_instance_uid"])
        (record,) = reading.retrieve.find_instances(RESEARCHER, *uids)
        with reading.retrieve.open_instance(RESEARCHER, record, ANY) as opened:
            content = b"".join(opened.iter_chunks())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (line["size_bytes"], line["sha256"])
        report = parts.research.releases.read_report(RESEARCHER, SLUG, release.version, line["sop_instance_uid"])
        assert report["actions"]
    assert len(lines) == release.counts.instances


def test_the_next_version_has_the_same_bytes_and_keeps_them_once(parts, cohort, tmp_path):
    first = publish(parts, cohort)
    before = blobs(parts, tmp_path)
    second = publish(parts, cohort)
    assert second.version == first.version + 1
    assert second.partition_id != first.partition_id
    assert uids_of(parts, second.partition_id) == uids_of(parts, first.partition_id)
    assert blobs(parts, tmp_path) == before


def test_two_projects_have_no_uid_and_no_blob_in_common(parts, cohort, tmp_path):
    first = publish(parts, cohort)
    before = blobs(parts, tmp_path)
    second = publish(parts, make_project(parts, "heart"), "heart")
    assert uids_of(parts, first.partition_id).isdisjoint(uids_of(parts, second.partition_id))
    assert len(blobs(parts, tmp_path)) == 2 * len(before)
    assert {one.PatientID for one in read_objects(parts, first)}.isdisjoint(
        one.PatientID for one in read_objects(parts, second)
    )


def test_no_clinical_uid_is_kept_once_an_object_is_made(parts, cohort):
    release = publish(parts, cohort)
    assert states_of(parts, release) == [("released", "")] * INSTANCES


def test_what_arrives_after_the_list_is_of_the_next_version(parts, cohort, datasets):
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    assert parts.build_releases.go_on(release.id)  # the list
    late = build_ct(
        StudyInstanceUID=datasets[0].StudyInstanceUID,
        SeriesInstanceUID=datasets[0].SeriesInstanceUID,
        PatientID=datasets[0].PatientID,
        PatientName=datasets[0].PatientName,
    )
    store(parts, late)
    assert go_on(parts, release).total == len(datasets)
    parts.research.releases.publish(STEWARD, SLUG, release.version)
    assert make(parts, cohort).total == len(datasets) + 1


def test_what_is_gone_when_its_turn_comes_is_left_out(parts, cohort, datasets):
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    assert parts.build_releases.go_on(release.id)
    parts.archive.withhold.withhold(LOCAL, datasets[0].StudyInstanceUID)
    made = go_on(parts, release)
    assert (made.done, made.pending) == (INSTANCES, 0)
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.instances == INSTANCES - 2
    assert states_of(parts, made).count(("left-out", "")) == 2


def test_a_project_has_one_release_under_way(parts, cohort):
    parts.research.releases.start(STEWARD, SLUG, cohort)
    with pytest.raises(NotNow, match="not finished"):
        parts.research.releases.start(STEWARD, SLUG, cohort)


def test_only_an_approved_cohort_is_released_and_only_by_a_steward(parts, cohort):
    draft = parts.research.cohorts.create(RESEARCHER, SLUG, "another", {"Modality": "MR"})
    with pytest.raises(NotNow, match="approved"):
        parts.research.releases.start(STEWARD, SLUG, draft.id)
    with pytest.raises(NotPermitted):
        parts.research.releases.start(RESEARCHER, SLUG, cohort)
    with pytest.raises(ProjectNotFound):
        parts.research.releases.start(OUTSIDER, SLUG, cohort)


def test_a_release_that_is_not_published_is_not_there(parts, cohort):
    made = make(parts, cohort)
    for principal, slug, version in (
        (RESEARCHER, SLUG, None),
        (RESEARCHER, SLUG, made.version),
        (RESEARCHER, SLUG, 7),
        (OUTSIDER, SLUG, None),
        (OUTSIDER, SLUG, made.version),
        (ADMINISTRATOR, SLUG, made.version),
        (RESEARCHER, "none", None),
    ):
        assert parts.research.releases.find_readable(principal, slug, version) is None
        with pytest.raises(ReleaseNotFound) as told:
            parts.research.releases.open_archive(principal, slug, version)
        assert str(told.value) == str(ReleaseNotFound())
    parts.research.releases.publish(STEWARD, SLUG, made.version)
    assert parts.research.releases.find_readable(RESEARCHER, SLUG) is not None
    assert parts.research.releases.find_readable(OUTSIDER, SLUG, made.version) is None
    assert parts.research.releases.find_readable(ADMINISTRATOR, SLUG) is None


def test_what_the_engine_does_not_vouch_for_waits_and_stops_the_publication(parts, with_capture):
    made = make(parts, with_capture)
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert (held.state, held.modality, held.reasons) == (QuarantineState.PENDING, "CT", ("secondary-capture",))
    with pytest.raises(NotNow, match="1 objects"):
        parts.research.releases.publish(STEWARD, SLUG, made.version)
    with pytest.raises(NotPermitted):
        parts.research.releases.list_quarantine(RESEARCHER, SLUG, made.version)
    assert len(read_objects(parts, made)) == INSTANCES


def test_a_refused_object_is_in_no_byte_of_the_release(parts, with_capture):
    made = make(parts, with_capture)
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    decided = parts.research.releases.decide(
        STEWARD, SLUG, made.version, [held.id], QuarantineState.REFUSED, remark="A screen shot"
    )
    assert decided.pending == 0
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert (held.state, held.decided_by, held.remark) == (QuarantineState.REFUSED, STEWARD.name, "A screen shot")
    assert ("refused", "") in states_of(parts, made)
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.instances == INSTANCES
    with pytest.raises(QuarantinedNotFound):
        parts.research.releases.decide(STEWARD, SLUG, made.version, [held.id], QuarantineState.RELEASED)


@on_both
def test_a_released_object_is_made_in_spite_of_its_reasons(parts, with_capture):
    made = make(parts, with_capture)
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    decided = parts.research.releases.decide(STEWARD, SLUG, made.version, [held.id], QuarantineState.RELEASED)
    assert decided.state is ReleaseState.BUILDING
    assert go_on(parts, made).pending == 0
    published = parts.research.releases.publish(STEWARD, SLUG, made.version)
    assert published.counts.instances == INSTANCES + 1
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert held.state is QuarantineState.RELEASED


def test_a_steward_may_be_told_which_instance_waits_and_that_is_on_record(parts, with_capture):
    made = make(parts, with_capture)
    (held,) = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert parts.research.releases.find_clinical(STEWARD, SLUG, made.version, held.id) in clinical_uids(parts)
    with pytest.raises(NotPermitted):
        parts.research.releases.find_clinical(RESEARCHER, SLUG, made.version, held.id)
    with parts.database.read() as connection:
        kinds = connection.execute(text("SELECT kind FROM audit")).scalars().all()
    assert "research.quarantine.view" in kinds


def test_nobody_releases_what_cannot_be_released(parts, cohort, datasets, monkeypatch):
    def hold_back(*_, **__):
        raise objects.Quarantine([objects.Reason.PARSE_ERROR])

    monkeypatch.setattr(objects, "deidentify", hold_back)
    made = make(parts, cohort)
    held = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert len(held) == len(datasets)
    with pytest.raises(InvalidValue, match="cannot be released"):
        parts.research.releases.decide(STEWARD, SLUG, made.version, [held[0].id], QuarantineState.RELEASED)


def test_what_breaks_the_engine_is_kept_back_and_told_to_nobody(parts, cohort, monkeypatch, caplog):
    def break_off(*_, **__):
        raise ZeroDivisionError("TAZI^PATIENT000")

    monkeypatch.setattr(objects, "deidentify", break_off)
    made = make(parts, cohort)
    held = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert {one.reasons for one in held} == {("broken",)}
    assert read_objects(parts, made) == []
    assert "ZeroDivisionError" in caplog.text
    assert "TAZI" not in caplog.text
    monkeypatch.undo()
    parts.research.releases.decide(STEWARD, SLUG, made.version, [one.id for one in held], QuarantineState.RELEASED)
    assert go_on(parts, made).pending == 0
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.instances == INSTANCES


def test_a_patient_that_the_engine_leaves_in_is_found_in_what_was_stored(parts, cohort, monkeypatch):
    real = objects.deidentify

    def leave_in(source, target, *rest, **named):
        report = real(source, target, *rest, **named)
        target.seek(0)
        dataset = dcmread(target)
        dataset.StudyDescription = "Thorax of Patient003 again"
        target.seek(0)
        target.truncate()
        dataset.save_as(target)
        return report

    monkeypatch.setattr(objects, "deidentify", leave_in)
    made = make(parts, cohort)
    held = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert [one.reasons for one in held] == [("residue",), ("residue",)]
    assert len(read_objects(parts, made)) == INSTANCES - 2


def test_a_missing_blob_keeps_its_instance_back_and_no_other(parts, cohort, datasets, tmp_path):
    with parts.database.read() as connection:
        key = connection.execute(text("SELECT blob_key FROM instance ORDER BY id LIMIT 1")).scalar_one()
    parts.store.remove(key)
    made = make(parts, cohort)
    assert [one.reasons for one in parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)] == [
        ("missing",)
    ]
    assert len(read_objects(parts, made)) == len(datasets) - 1


def test_what_does_not_read_back_as_it_was_made_is_not_in_the_release(parts, cohort, monkeypatch):
    monkeypatch.setattr(objects, "key_digest", lambda _: "0" * 64)
    made = make(parts, cohort)
    held = parts.research.releases.list_quarantine(STEWARD, SLUG, made.version)
    assert {one.reasons for one in held} == {("unverified",)}
    assert read_objects(parts, made) == []


def test_a_store_that_is_away_stops_the_release_and_loses_nothing(parts, cohort, monkeypatch):
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    made = []

    def fail_later(*arguments, **named):
        made.append(1)
        if len(made) > 5:
            raise Unavailable from StorageUnavailable()
        return real(*arguments, **named)

    real = objects.deidentify
    monkeypatch.setattr(objects, "deidentify", fail_later)
    with pytest.raises(Unavailable):
        go_on(parts, release)
    assert parts.research.releases.get(STEWARD, SLUG, release.version).done == 5
    monkeypatch.undo()
    go_on(parts, release)
    assert parts.research.releases.publish(STEWARD, SLUG, release.version).counts.instances == INSTANCES


@pytest.fixture
def half_made(parts, cohort, monkeypatch):
    """A release whose maker was killed when everything was stored, and nothing said to be made."""

    def die(*_):
        raise Killed

    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    with monkeypatch.context() as patch:
        patch.setattr(building.Builder, "_settle", die)
        patch.setattr(building, "TURN_SECONDS", 600)  # one turn makes everything, however slow the machine is
        with pytest.raises(Killed):
            go_on(parts, release)
    return release


@on_both
def test_an_object_that_was_stored_before_a_kill_is_not_stored_again(parts, half_made, tmp_path):
    assert parts.research.releases.get(STEWARD, SLUG, half_made.version).done == 0
    assert len(read_objects(parts, half_made)) == INSTANCES
    before = blobs(parts, tmp_path)
    made = go_on(parts, half_made)
    assert (made.done, made.pending) == (INSTANCES, 0)
    assert blobs(parts, tmp_path) == before
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.instances == INSTANCES


def test_an_instance_that_was_corrected_after_a_kill_is_released_as_it_is_now(parts, half_made, datasets):
    parts.archive.correct.correct_study(
        LOCAL, datasets[0].StudyInstanceUID, {"PatientSex": "F"}, reason="Taken down wrongly"
    )
    made = go_on(parts, half_made)
    assert (made.done, made.pending) == (INSTANCES, 0)
    assert sorted(one.PatientSex for one in read_objects(parts, made)) == ["F"] * 2 + ["O"] * (INSTANCES - 2)


@on_both
@pytest.mark.parametrize("happens", ["objects", "is deleted", "objects and is deleted"])
def test_who_goes_while_an_object_of_theirs_is_made_is_not_in_the_release(
    parts, cohort, datasets, monkeypatch, happens
):
    gone, make, went = datasets[0], objects.ObjectMaker.make, []

    def make_and_go(maker, recipe, source, *rest):
        made = make(maker, recipe, source, *rest)
        if source.record.study_instance_uid == gone.StudyInstanceUID and not went:
            went.append(source)
            if "objects" in happens:
                parts.research.exclusions.exclude(STEWARD, SLUG, Whom(patient_id=gone.PatientID), reason="He objects")
            if "deleted" in happens:
                parts.archive.withhold.withhold(LOCAL, gone.StudyInstanceUID)
        return made

    monkeypatch.setattr(objects.ObjectMaker, "make", make_and_go)
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    made = go_on(parts, release)
    assert went
    kept = {one.PatientID for one in read_objects(parts, made)}
    assert len(kept) == PATIENTS - 1
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.patients == PATIENTS - 1


@on_both
def test_what_a_kill_has_left_without_a_candidate_is_taken_out(parts, half_made, datasets):
    parts.archive.withhold.withhold(LOCAL, datasets[0].StudyInstanceUID)
    made = go_on(parts, half_made)
    assert len(read_objects(parts, made)) == INSTANCES - 2
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.instances == INSTANCES - 2


@on_both
def test_an_objection_ends_what_is_published_and_is_out_of_the_next_version(parts, cohort, datasets):
    release = publish(parts, cohort)
    other = publish(parts, make_project(parts, "heart"), "heart")
    whom = Whom(patient_id=datasets[0].PatientID)
    parts.research.exclusions.exclude(STEWARD, SLUG, whom, reason="He objects")
    assert parts.research.releases.find_readable(RESEARCHER, SLUG, release.version) is None
    assert parts.research.releases.get(STEWARD, SLUG, release.version).state is ReleaseState.WITHDRAWN
    assert parts.research.releases.find_readable(RESEARCHER, "heart") == other
    assert publish(parts, cohort).counts.patients == PATIENTS - 1


def test_an_objection_to_all_research_ends_the_releases_of_every_project_that_hold_him(parts, cohort, datasets):
    publish(parts, cohort)
    publish(parts, make_project(parts, "heart"), "heart")
    whom = Whom(study_instance_uid=datasets[0].StudyInstanceUID)
    parts.research.exclusions.exclude(ADMINISTRATOR, None, whom, reason="He objects")
    for slug in (SLUG, "heart"):
        assert parts.research.releases.find_readable(RESEARCHER, slug) is None


@on_both
def test_an_objection_while_a_release_is_made_or_waits_takes_him_out_of_it(parts, cohort, datasets):
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    assert parts.build_releases.go_on(release.id)
    first, second = (Whom(patient_id=datasets[place].PatientID) for place in (0, 2))
    parts.research.exclusions.exclude(STEWARD, SLUG, first, reason="He objects")
    made = go_on(parts, release)
    assert len(read_objects(parts, made)) == INSTANCES - 2
    parts.research.exclusions.exclude(STEWARD, SLUG, second, reason="She objects")
    assert parts.research.releases.publish(STEWARD, SLUG, made.version).counts.patients == PATIENTS - 2
    assert len(read_objects(parts, made)) == INSTANCES - 4


@on_both
def test_an_objection_counts_for_who_is_not_in_the_archive_any_more(parts, cohort, datasets):
    published = publish(parts, cohort)
    waiting = make(parts, make_project(parts, "heart"), "heart")
    by_patient, by_study = datasets[0], datasets[2]
    for dataset in (by_patient, by_study):
        parts.archive.withhold.withhold(LOCAL, dataset.StudyInstanceUID)
    for whom in (Whom(study_instance_uid=by_study.StudyInstanceUID), Whom(patient_id=by_patient.PatientID)):
        before = len(read_objects(parts, waiting))
        parts.research.exclusions.exclude(ADMINISTRATOR, None, whom, reason="They object")
        assert len(read_objects(parts, waiting)) == before - 2
        assert parts.research.releases.find_readable(RESEARCHER, SLUG, published.version) is None


def test_an_objection_of_who_was_merged_since_ends_what_holds_him(parts, cohort, datasets):
    first, second = (PatientKey(datasets[place].PatientID) for place in (0, 2))
    release = publish(parts, cohort)
    parts.archive.correct.merge_patients(LOCAL, first, second, reason="One and the same")
    parts.research.exclusions.exclude(STEWARD, SLUG, Whom(patient_id=first.patient_id), reason="He objects")
    assert parts.research.releases.find_readable(RESEARCHER, SLUG, release.version) is None
    assert publish(parts, cohort).counts.studies == PATIENTS - 2


def test_a_release_that_holds_nobody_who_objected_stays(parts, cohort):
    release = publish(parts, cohort)
    parts.research.exclusions.exclude(STEWARD, SLUG, Whom(patient_id="SOMEBODY-ELSE"), reason="Objects")
    assert parts.research.releases.find_readable(RESEARCHER, SLUG, release.version) == release


def test_a_release_of_too_few_patients_is_not_published(parts, cohort, datasets):
    made = make(parts, cohort)
    for dataset in datasets[::2][:3]:
        whom = Whom(patient_id=dataset.PatientID)
        parts.research.exclusions.exclude(STEWARD, SLUG, whom, reason="He objects")
    with pytest.raises(NotNow, match="Fewer than 5 patients"):
        parts.research.releases.publish(STEWARD, SLUG, made.version)


def test_a_withdrawn_release_is_not_there_and_its_reason_is(parts, cohort):
    release = publish(parts, cohort)
    with pytest.raises(InvalidValue):
        parts.research.releases.withdraw(STEWARD, SLUG, release.version, reason=" ")
    with pytest.raises(NotPermitted):
        parts.research.releases.withdraw(RESEARCHER, SLUG, release.version, reason="No")
    withdrawn = parts.research.releases.withdraw(ADMINISTRATOR, SLUG, release.version, reason="A mistake in it")
    assert (withdrawn.state, withdrawn.problem) == (ReleaseState.WITHDRAWN, "A mistake in it")
    assert parts.research.releases.find_readable(RESEARCHER, SLUG) is None
    with pytest.raises(ReleaseNotFound):
        parts.research.releases.open_manifest(RESEARCHER, SLUG, release.version)


@on_both
def test_of_an_abandoned_release_nothing_is_left_and_other_versions_keep_their_bytes(parts, cohort, datasets, tmp_path):
    first = publish(parts, cohort)
    before = blobs(parts, tmp_path)
    store(parts, build_ct(PatientID=datasets[0].PatientID, PatientName=datasets[0].PatientName))
    for _ in parts.research.catalogue.iter_missing():
        pass
    second = make(parts, cohort)
    assert blobs(parts, tmp_path) > before
    abandoned = parts.research.releases.abandon(STEWARD, SLUG, second.version, reason="Not wanted")
    assert abandoned.state is ReleaseState.FAILED
    with pytest.raises(NotNow, match="not finished"):
        parts.research.releases.start(STEWARD, SLUG, cohort)
    go_on(parts, second)
    assert blobs(parts, tmp_path) == before
    assert uids_of(parts, second.partition_id) == set()
    assert states_of(parts, second) == []
    assert len(read_objects(parts, first)) == INSTANCES
    assert publish(parts, cohort).partition_id > second.partition_id


def test_the_objects_of_a_withdrawn_release_can_be_had_removed(parts, cohort, tmp_path):
    release = publish(parts, cohort)
    with pytest.raises(NotNow, match="withdrawn first"):
        parts.research.releases.abandon(STEWARD, SLUG, release.version, reason="Not wanted")
    parts.research.releases.withdraw(STEWARD, SLUG, release.version, reason="He objects")
    parts.research.releases.abandon(STEWARD, SLUG, release.version, reason="He objects")
    swept = go_on(parts, release)
    assert swept.state is ReleaseState.WITHDRAWN
    assert blobs(parts, tmp_path) == set()
    assert swept.counts.instances == INSTANCES


def test_the_end_of_a_key_ends_what_is_not_published(parts, cohort, tmp_path):
    release = make(parts, cohort)
    parts.research.projects.destroy_key(ADMINISTRATOR, SLUG, reason="The study is over")
    assert go_on(parts, release).state is ReleaseState.FAILED
    assert uids_of(parts, release.partition_id) == set()
    assert blobs(parts, tmp_path) == set()


def test_the_job_of_a_release_is_the_queues_and_leaves_no_receipt(parts, cohort):
    release = parts.research.releases.start(STEWARD, SLUG, cohort)
    key = str(release.id)
    with parts.database.read() as connection:
        job = queue.find_job(connection, building.KIND, key, key)
    results = list(parts.build_releases.work([job]))
    assert [type(result).__name__ for result in results] == ["Postponed"]
    go_on(parts, release)
    (finished,) = parts.build_releases.work([job])
    assert not finished.leaves_receipt


def test_a_release_is_found_by_no_service_of_the_clinical_archive(parts, cohort):
    before = parts.archive.changes.read_end(LOCAL)
    release = publish(parts, cohort)
    assert parts.archive.changes.read(LOCAL, before).changes == ()
    assert uids_of(parts, CLINICAL_PARTITION).isdisjoint(uids_of(parts, release.partition_id))
    for level in Level:
        found = parts.archive.search.search(LOCAL, Query(level, limit=1000)).matches
        assert {match.study_instance_uid for match in found}.isdisjoint(uids_of(parts, release.partition_id))
