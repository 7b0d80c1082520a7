"""Rejection notes (IHE RAD TF-2 4.66, IOCM): what each title hides, and what becomes of it when it is sent again."""

from collections.abc import Callable, Iterator

import pytest

from pacs.access import LOCAL
from pacs.app import Parts, open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.errors import InstanceNotFound, StudyNotFound
from pacs.imaging.representation import ANY
from pacs.index import changes, conflicts, withholding
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.ingest.withholding import WithheldReason
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor, Door, Level, Origin
from pacs.query import Query
from pacs.tags import values_of
from tests.builders import as_part10, build_ct, new_uid
from tests.key_objects import EXPIRED, OF_INTEREST, QUALITY, SAFETY, WORKLIST, build_key_objects

TECHNICIAN = Origin(Door.DIMSE, calling_ae_title="CT1", may_reject=True)
STRANGER = Origin(Door.DIMSE, calling_ae_title="CT2")
TITLES = [QUALITY, SAFETY, WORKLIST, EXPIRED]
STILL_HIDDEN = [QUALITY, SAFETY, WORKLIST]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def parts(request, tmp_path) -> Iterator[Parts]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(
        data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"), database=DatabaseSettings(url=url)
    )
    with open_archive(settings) as opened:
        yield opened


@pytest.fixture
def store(parts) -> Callable[..., Outcome]:
    def store(dataset, origin=TECHNICIAN) -> Outcome:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            return parts.archive.ingest.store(Incoming(spool, origin))

    return store


def build_study(count=3, **overrides):
    study, series = new_uid(), new_uid()
    return [
        build_ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number + 1, **overrides)
        for number in range(count)
    ]


def shown(parts, study_instance_uid):
    try:
        records = parts.archive.retrieve.find_instances(LOCAL, study_instance_uid)
    except StudyNotFound:
        return []
    return [record.sop_instance_uid for record in records]


def search(parts, level):
    return parts.archive.search.search(LOCAL, Query(level=level)).matches


def changes_of(parts, *kinds):
    with parts.database.read() as connection:
        found = changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 1000)
    return [change for change in found if change.kind in kinds]


@pytest.mark.parametrize("title", TITLES)
def test_title_hides_what_the_note_names_from_every_query_and_retrieval(parts, store, title):
    images = build_study()
    for image in images:
        store(image)
    outcome = store(build_key_objects(title, images[:2]))
    assert (outcome.disposition, outcome.reason) == (Disposition.WITHHELD, None)
    left = images[2].SOPInstanceUID
    assert shown(parts, images[0].StudyInstanceUID) == [left]
    assert [match.sop_instance_uid for match in search(parts, Level.INSTANCE)] == [left]
    (study,) = search(parts, Level.STUDY)
    assert values_of(study.attributes, "NumberOfStudyRelatedInstances") == [1]
    assert values_of(study.attributes, "NumberOfStudyRelatedSeries") == [1]


@pytest.mark.parametrize("title", TITLES)
def test_rejected_study_is_gone_with_its_series_and_its_patient(parts, store, title):
    images = build_study()
    for image in images:
        store(image)
    store(build_key_objects(title, images))
    for level in Level:
        assert not search(parts, level)


@pytest.mark.parametrize("title", TITLES)
def test_note_itself_is_hidden_and_its_bytes_can_be_opened_to_be_forwarded(parts, store, title):
    (image,) = build_study(1)
    store(image)
    note = build_key_objects(title, [image])
    store(note)
    assert shown(parts, note.StudyInstanceUID) == []
    with parts.database.read() as connection:
        record = withholding.find_note(connection, CLINICAL_PARTITION, note.SOPInstanceUID).record()
    with parts.archive.retrieve.open_instance(LOCAL, record, ANY) as opened:
        assert b"".join(opened.iter_chunks()) == as_part10(note)


@pytest.mark.parametrize("title", TITLES)
def test_every_hidden_instance_and_the_note_are_changes(parts, store, title):
    images = build_study(2)
    for image in images:
        store(image)
    note = build_key_objects(title, images)
    store(note)
    hidden = changes_of(parts, ChangeKind.INSTANCE_WITHHELD)
    assert {change.sop_instance_uid for change in hidden} == {image.SOPInstanceUID for image in images}
    assert {change.facts["note"] for change in hidden} == {note.SOPInstanceUID}
    (noted,) = changes_of(parts, ChangeKind.NOTE_STORED)
    assert noted.sop_instance_uid == note.SOPInstanceUID


@pytest.mark.parametrize("title", STILL_HIDDEN)
def test_instance_sent_again_is_a_success_and_stays_hidden(parts, store, title):
    (image,) = build_study(1)
    store(image)
    store(build_key_objects(title, [image]))
    outcome = store(image)
    assert (outcome.is_stored, outcome.reason) == (True, None)
    assert shown(parts, image.StudyInstanceUID) == []


@pytest.mark.parametrize("title", STILL_HIDDEN)
def test_other_data_set_sent_again_is_kept_and_stays_hidden(parts, store, title):
    (image,) = build_study(1)
    store(image)
    store(build_key_objects(title, [image]))
    image.StudyDescription = "Corrected"
    assert store(image).is_stored
    assert shown(parts, image.StudyInstanceUID) == []
    contents = [parts.store.open(key).read() for key in parts.store.iter_keys()]
    assert as_part10(image) in contents


def test_instance_sent_again_after_its_retention_expired_is_stored_anew(parts, store):
    (image,) = build_study(1)
    store(image)
    store(build_key_objects(EXPIRED, [image]))
    assert store(image).disposition is Disposition.STORED
    assert shown(parts, image.StudyInstanceUID) == [image.SOPInstanceUID]


@pytest.mark.parametrize("title", STILL_HIDDEN)
def test_instance_rejected_before_it_arrives_is_hidden_when_it_does(parts, store, title):
    (image,) = build_study(1)
    store(build_key_objects(title, [image]))
    assert store(image).disposition is Disposition.WITHHELD
    assert shown(parts, image.StudyInstanceUID) == []


def test_retention_expired_before_arrival_keeps_nothing_out(parts, store):
    (image,) = build_study(1)
    store(build_key_objects(EXPIRED, [image]))
    assert store(image).disposition is Disposition.STORED


def test_rejection_for_quality_after_expiry_hides_what_is_sent_again(parts, store):
    (image,) = build_study(1)
    store(image)
    store(build_key_objects(EXPIRED, [image]))
    store(build_key_objects(QUALITY, [image]))
    store(image)
    assert shown(parts, image.StudyInstanceUID) == []


@pytest.mark.parametrize("title", TITLES)
def test_note_of_a_peer_that_may_not_reject_is_refused_and_hides_nothing(parts, store, title):
    (image,) = build_study(1)
    store(image)
    outcome = store(build_key_objects(title, [image]), STRANGER)
    assert (outcome.disposition, outcome.reason) == (Disposition.REJECTED, Reason.REJECTION_NOT_PERMITTED)
    assert shown(parts, image.StudyInstanceUID) == [image.SOPInstanceUID]
    assert len(list(parts.store.iter_keys())) == 1


@pytest.mark.parametrize(("title", "scheme"), [(OF_INTEREST, "DCM"), (QUALITY, "99LOCAL")])
@pytest.mark.parametrize("origin", [TECHNICIAN, STRANGER])
def test_other_key_objects_are_stored_like_any_object(parts, store, title, scheme, origin):
    (image,) = build_study(1)
    store(image)
    selection = build_key_objects(title, [image], scheme)
    assert store(selection, origin).disposition is Disposition.STORED
    assert sorted(shown(parts, image.StudyInstanceUID)) == sorted([image.SOPInstanceUID, selection.SOPInstanceUID])


def test_note_sent_twice_hides_once_and_is_one_note(parts, store):
    (image,) = build_study(1)
    store(image)
    note = build_key_objects(QUALITY, [image])
    assert store(note).reason is None
    assert store(note).reason is None
    assert len(changes_of(parts, ChangeKind.NOTE_STORED)) == 1
    assert len(parts.archive.withhold.find_page(LOCAL)) == 2


def test_note_without_evidence_hides_nothing(parts, store):
    (image,) = build_study(1)
    store(image)
    assert store(build_key_objects(QUALITY, [])).is_stored
    assert shown(parts, image.StudyInstanceUID) == [image.SOPInstanceUID]


@pytest.mark.parametrize("title", TITLES)
def test_restoring_a_note_shows_everything_again_as_it_was(parts, store, title):
    images = build_study()
    for image in images:
        store(image)
    study = images[0].StudyInstanceUID
    before = parts.archive.retrieve.find_instances(LOCAL, study)
    studies = search(parts, Level.STUDY)
    note = build_key_objects(title, images)
    store(note)
    assert parts.archive.withhold.restore(LOCAL, note.SOPInstanceUID) == 3
    after = parts.archive.retrieve.find_instances(LOCAL, study)
    assert [(r.sop_instance_uid, r.location, r.stored_at) for r in after] == [
        (r.sop_instance_uid, r.location, r.stored_at) for r in before
    ]
    assert search(parts, Level.STUDY) == studies
    restored = changes_of(parts, ChangeKind.INSTANCE_RESTORED)
    assert len(restored) == 3
    assert {(change.facts["by"], bool(change.facts["withheld_by"])) for change in restored} == {(LOCAL.name, True)}
    assert store(images[0]).disposition is Disposition.DUPLICATE


def test_restoring_one_instance_leaves_the_others_hidden(parts, store):
    images = build_study(2)
    for image in images:
        store(image)
    store(build_key_objects(SAFETY, images))
    assert parts.archive.withhold.restore(LOCAL, images[0].SOPInstanceUID) == 1
    assert shown(parts, images[0].StudyInstanceUID) == [images[0].SOPInstanceUID]


def test_restoring_a_note_lets_in_what_had_not_arrived(parts, store):
    (image,) = build_study(1)
    note = build_key_objects(SAFETY, [image])
    store(note)
    assert parts.archive.withhold.restore(LOCAL, note.SOPInstanceUID) == 0
    assert store(image).disposition is Disposition.STORED


def test_restored_copy_beside_one_that_was_stored_anew_is_a_conflict(parts, store):
    (image,) = build_study(1)
    store(image)
    store(build_key_objects(EXPIRED, [image]))
    image.StudyDescription = "Anew"
    store(image)
    parts.archive.withhold.restore(LOCAL, image.SOPInstanceUID)
    with parts.database.read() as connection:
        (conflict,) = conflicts.iter_conflicts(connection, CLINICAL_PARTITION)
    assert conflict.sop_instance_uid == image.SOPInstanceUID
    assert shown(parts, image.StudyInstanceUID) == [image.SOPInstanceUID]


def test_both_hidden_copies_of_an_instance_come_back_as_a_conflict(parts, store):
    (image,) = build_study(1)
    store(image)
    note = build_key_objects(QUALITY, [image])
    store(note)
    image.StudyDescription = "Corrected"
    store(image)
    assert parts.archive.withhold.restore(LOCAL, note.SOPInstanceUID) == 2
    with parts.database.read() as connection:
        assert len(list(conflicts.iter_conflicts(connection, CLINICAL_PARTITION))) == 1


def test_what_is_not_hidden_cannot_be_restored(parts, store):
    (image,) = build_study(1)
    store(image)
    with pytest.raises(InstanceNotFound):
        parts.archive.withhold.restore(LOCAL, image.SOPInstanceUID)


def test_patient_of_a_peer_with_an_issuer_is_the_same_one_after_restoring(parts, store):
    images = build_study(2)
    origin = Origin(Door.DIMSE, issuer_of_patient_id="HOSPITAL", may_reject=True)
    for image in images:
        store(image, origin)
    store(build_key_objects(QUALITY, images), origin)
    parts.archive.withhold.restore(LOCAL, images[0].SOPInstanceUID)
    with parts.database.read() as connection:
        assert not list(conflicts.iter_conflicts(connection, CLINICAL_PARTITION))
    store(images[0], origin)
    (patient,) = search(parts, Level.PATIENT)
    assert values_of(patient.attributes, "PatientID") == [images[0].PatientID]


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_deleting_hides_a_level_and_what_is_sent_again_is_stored_anew(parts, store, level):
    images = build_study(2)
    for image in images:
        store(image)
    uids = [images[0].StudyInstanceUID, images[0].SeriesInstanceUID, images[0].SOPInstanceUID]
    count = parts.archive.withhold.withhold(LOCAL, *uids[: ["study", "series", "instance"].index(level) + 1])
    assert count == (1 if level == "instance" else 2)
    assert len(shown(parts, uids[0])) == 2 - count
    assert {copy.reason for copy in parts.archive.withhold.find_page(LOCAL)} == {WithheldReason.DELETED}
    assert store(images[0]).disposition is Disposition.STORED


def test_deleting_what_is_not_there_hides_nothing(parts, store):
    assert parts.archive.withhold.withhold(LOCAL, "2.25.1") == 0


def test_deflated_instance_is_restored_with_its_frames(parts):
    image = build_ct()
    with parts.archive.ingest.open_spool() as spool:
        spool.write(as_part10(image, "1.2.840.10008.1.2.1.99"))
        parts.archive.ingest.store(Incoming(spool, TECHNICIAN))
    parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
    parts.archive.withhold.restore(LOCAL, image.SOPInstanceUID)
    (record,) = parts.archive.retrieve.find_instances(LOCAL, image.StudyInstanceUID)
    with parts.archive.retrieve.open_frames(LOCAL, record, [1]) as frames:
        assert b"".join(frames) == image.PixelData
