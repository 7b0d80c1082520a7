"""Thumbnails made ahead: found when they show what is there, and never otherwise; on both engines."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.index import changes, thumbnails
from pacs.ingest.incoming import Incoming
from pacs.ingest.withholding import WithheldReason
from pacs.jobs import queue
from pacs.model import CLINICAL_PARTITION, Cursor, Door, DuplicatePolicy, Origin
from pacs.retrieve.thumbnails import KIND, THUMBNAIL
from tests.builders import as_part10, build_ct, build_series, build_sr


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def parts(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=url),
    )
    with open_archive(settings) as opened:
        yield opened


def store(parts, *datasets):
    for dataset in datasets:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            origin = Origin(Door.IMPORT, duplicate_policy=DuplicatePolicy.REPLACE)
            assert parts.archive.ingest.store(Incoming(spool, origin)).is_stored


def plan(parts):
    with parts.database.read() as connection:
        page = changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 1000)
        return parts.archive.thumbnails.plan(connection, page)


def make(parts):
    """Do all that the change log asks for, as the worker does it."""
    jobs = plan(parts)
    parts.database.write(lambda connection: queue.enqueue(connection, jobs, jobs[0].due_at))
    with parts.database.read() as connection:
        listed = [queue.find_job(connection, KIND, KIND, job.key) for job in jobs]
    return list(parts.archive.thumbnails.make(listed))


def records_of(parts, dataset, *, is_series=True):
    uids = [dataset.StudyInstanceUID, *([dataset.SeriesInstanceUID] if is_series else [])]
    return parts.archive.retrieve.find_instances(LOCAL, *uids)


def test_a_series_is_listed_once_however_many_instances_came_for_it(parts):
    datasets = build_series(5)
    store(parts, *datasets)
    assert [job.key for job in plan(parts)] == [f"{datasets[0].StudyInstanceUID} {datasets[0].SeriesInstanceUID}"]


def test_the_thumbnail_of_a_series_is_its_middle_instance_and_that_of_its_study(parts):
    datasets = build_series(5)
    store(parts, *datasets)
    assert parts.archive.thumbnails.find(LOCAL, records_of(parts, datasets[0])) is None
    make(parts)
    for is_series in (True, False):
        record, picture = parts.archive.thumbnails.find(LOCAL, records_of(parts, datasets[0], is_series=is_series))
        assert record.sop_instance_uid == datasets[2].SOPInstanceUID
        assert max(Image.open(io.BytesIO(picture)).size) == 256


def test_an_instance_that_it_does_not_show_has_none(parts):
    datasets = build_series(3)
    store(parts, *datasets)
    make(parts)
    first, middle, _ = records_of(parts, datasets[0])
    assert parts.archive.thumbnails.find(LOCAL, [first]) is None
    assert parts.archive.thumbnails.find(LOCAL, [middle]) is not None


def test_a_series_without_images_has_none_and_is_not_tried_again(parts):
    report = build_sr()
    store(parts, report)
    (result,) = make(parts)
    assert type(result).__name__ == "Finished"
    assert parts.archive.thumbnails.find(LOCAL, records_of(parts, report)) is None


def test_what_was_replaced_withheld_or_moved_on_is_not_shown_any_more(parts):
    datasets = build_series(3)
    store(parts, *datasets)
    make(parts)
    other = build_ct(
        StudyInstanceUID=datasets[1].StudyInstanceUID,
        SeriesInstanceUID=datasets[1].SeriesInstanceUID,
        SOPInstanceUID=datasets[1].SOPInstanceUID,
        InstanceNumber=2,
        WindowCenter="900",
    )
    store(parts, other)
    assert parts.archive.thumbnails.find(LOCAL, records_of(parts, other)) is None
    make(parts)
    assert parts.archive.thumbnails.find(LOCAL, records_of(parts, other)) is not None
    uids = (other.StudyInstanceUID, other.SeriesInstanceUID, other.SOPInstanceUID)
    parts.archive.withhold.withhold(LOCAL, *uids, reason=WithheldReason.DELETED)
    assert parts.archive.thumbnails.find(LOCAL, records_of(parts, other)) is None


def test_a_series_that_grows_gets_another_picture_and_keeps_only_that(parts):
    datasets = build_series(9)
    store(parts, *datasets[:3])
    make(parts)
    store(parts, *datasets[3:])
    make(parts)
    records = records_of(parts, datasets[0])
    shown = [record for record in records if parts.archive.thumbnails.find(LOCAL, [record])]
    assert [record.sop_instance_uid for record in shown] == [datasets[4].SOPInstanceUID]


def test_what_was_made_ahead_is_given_and_anything_else_is_rendered(parts):
    datasets = build_series(3)
    store(parts, *datasets)
    make(parts)
    records = records_of(parts, datasets[0])
    made = parts.archive.thumbnails.find(LOCAL, records)
    parts.database.write(lambda connection: thumbnails.replace(connection, records[1].row_id, *marked(parts, records)))
    assert parts.archive.thumbnails.give(LOCAL, records, THUMBNAIL) == (made[0], b"made ahead")
    assert parts.archive.thumbnails.give(LOCAL, records, replace(THUMBNAIL, quality=90))[1] != b"made ahead"


def marked(parts, records):
    return parts.archive.retrieve.read_revision(LOCAL, [records[1]]).digest, b"made ahead"
