"""What peers are told of a study (PS3.4 R): when, and which instances can be retrieved."""

import pytest

from pacs.access import LOCAL
from pacs.errors import Unavailable
from pacs.index import changes
from pacs.ingest.incoming import Incoming
from pacs.jobs import queue
from pacs.jobs.worker import Failed, Finished, LaneBlocked
from pacs.model import CLINICAL_PARTITION, Cursor, Door, Origin
from pacs.routing.availability import KIND, Announcer
from tests.builders import as_part10, build_ct, new_uid
from tests.key_objects import QUALITY, build_key_objects


@pytest.fixture
def announcer(parts):
    return Announcer(parts.database, CLINICAL_PARTITION, ["WARD", "ICU"], quiet_seconds=60)


def store(parts, *datasets):
    for dataset in datasets:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, may_reject=True))).is_stored


def plan(parts, announcer):
    with parts.database.read() as connection:
        return announcer.plan(connection, changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 100))


def announce(parts, announcer, study, notify):
    """List the announcement of a study to WARD and make it."""
    job = next(job for job in plan(parts, announcer) if (job.lane, job.key) == ("WARD", study))
    parts.database.write(lambda connection: queue.enqueue(connection, [job], job.due_at))
    with parts.database.read() as connection:
        listed = queue.find_job(connection, KIND, "WARD", study)
    return list(announcer.announce([listed], notify))


def availability_of(notice):
    return {instance.sop_instance_uid: instance.is_available for instance in notice.instances}


def test_every_peer_is_told_once_of_a_study_however_many_instances_came(parts, announcer):
    study = new_uid()
    store(parts, build_ct(StudyInstanceUID=study), build_ct(StudyInstanceUID=study))
    assert [(job.kind, job.lane, job.key) for job in plan(parts, announcer)] == [
        (KIND, "WARD", study),
        (KIND, "ICU", study),
    ]


def test_another_instance_puts_the_announcement_off(parts, announcer):
    store(parts, build_ct())
    first, _ = plan(parts, announcer)
    again, _ = plan(parts, announcer)
    assert again.due_at > first.due_at


def test_notice_says_which_instances_can_be_had_and_which_no_longer(parts, announcer):
    study = new_uid()
    kept, bad, never_came = (build_ct(StudyInstanceUID=study) for _ in range(3))
    store(parts, kept, bad, build_key_objects(QUALITY, [bad, never_came]))
    notices = []
    (result,) = announce(parts, announcer, study, lambda _, notice: notices.append(notice) or "")
    assert isinstance(result, Finished)
    (notice,) = notices
    assert notice.study_instance_uid == study
    assert availability_of(notice) == {kept.SOPInstanceUID: True, bad.SOPInstanceUID: False}


def test_restored_instances_are_available_again(parts, announcer):
    bad = build_ct()
    store(parts, bad, build_key_objects(QUALITY, [bad]))
    parts.archive.withhold.restore(LOCAL, bad.SOPInstanceUID)
    notices = []
    announce(parts, announcer, bad.StudyInstanceUID, lambda _, notice: notices.append(notice) or "")
    assert availability_of(notices[0]) == {bad.SOPInstanceUID: True}


def test_refused_notice_is_tried_again_and_a_silent_peer_blocks_its_lane(parts, announcer):
    image = build_ct()
    store(parts, image)
    (result,) = announce(parts, announcer, image.StudyInstanceUID, lambda *_: "no")
    assert isinstance(result, Failed)
    assert not result.is_final

    def fail(*_):
        raise Unavailable

    with pytest.raises(LaneBlocked):
        announce(parts, announcer, image.StudyInstanceUID, fail)
