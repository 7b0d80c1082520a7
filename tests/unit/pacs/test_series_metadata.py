"""Metadata of a series kept as one text: found while it shows what is there, and never otherwise; on both engines."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pacs.access import LOCAL, Principal
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.correction import Keep, PatientKey
from pacs.errors import SeriesNotFound, StudyNotFound
from pacs.imaging.sandbox import Sandbox
from pacs.index import changes
from pacs.ingest.incoming import Incoming
from pacs.ingest.withholding import WithheldReason
from pacs.jobs import queue
from pacs.maintenance.recompression import Recompressor
from pacs.model import CLINICAL_PARTITION, Cursor, Door, DuplicatePolicy, Origin
from pacs.retrieve.encoded import naming_video, with_bulk_base
from pacs.retrieve.series_metadata import KIND, QUIET
from tests.builders import as_part10, build_ct, build_image, build_series
from tests.codestream import ct_slice

WHO = Principal("clerk")


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


def store(parts, *datasets, policy=DuplicatePolicy.REPLACE):
    for dataset in datasets:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT, duplicate_policy=policy)))


def build_packable(count=3):
    """Return a series of images that are worth packing."""
    array, _ = ct_slice((64, 64))
    datasets = build_series(count)
    for dataset in datasets:
        dataset.update(build_image(rows=64, columns=64, bits=16))
        dataset.PixelData = array.tobytes()
    return datasets


def uids_of(dataset):
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID


def list_jobs(parts):
    with parts.database.read() as connection:
        page = changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 1000)
        return parts.archive.series_metadata.plan(connection, page)


def make(parts):
    """Do all that the change log asks for, as the worker does it."""
    jobs = list_jobs(parts)
    parts.database.write(lambda connection: queue.enqueue(connection, jobs, jobs[0].due_at))
    with parts.database.read() as connection:
        listed = [queue.find_job(connection, KIND, KIND, job.key) for job in jobs]
    assert {type(result).__name__ for result in parts.archive.series_metadata.make(listed)} == {"Finished"}


def read_kept(parts, dataset):
    """Return what is kept of the series of a data set as it is now, or None."""
    kept = parts.archive.series_metadata.find(LOCAL, *uids_of(dataset))
    return None if kept is None else parts.archive.series_metadata.read(LOCAL, kept)


def read_instances(parts, dataset):
    """Return the text of the same series, made of its instances one by one."""
    items = [
        with_bulk_base(
            naming_video(header, record.transfer_syntax_uid), f"/instances/{record.sop_instance_uid}/bulkdata/"
        )
        for record, header in parts.archive.retrieve.iter_metadata(LOCAL, *uids_of(dataset))
    ]
    return b"[" + b",".join(items) + b"]"


@contextmanager
def counting():
    """Give a list that gets every statement."""
    statements = []

    def count(_connection, _cursor, statement, *_):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def test_what_is_kept_is_what_the_instances_say_and_has_their_digest(parts):
    datasets = build_series(3)
    store(parts, *datasets)
    assert read_kept(parts, datasets[0]) is None
    make(parts)
    assert read_kept(parts, datasets[0]) == read_instances(parts, datasets[0])
    records = parts.archive.retrieve.find_instances(LOCAL, *uids_of(datasets[0]))
    kept = parts.archive.series_metadata.find(LOCAL, *uids_of(datasets[0]))
    assert kept.digest == parts.archive.retrieve.read_revision(LOCAL, records).digest


def test_a_series_is_listed_once_however_many_instances_came_and_every_series_of_a_study_that_is_corrected(parts):
    datasets = build_series(3)
    other = build_ct(StudyInstanceUID=datasets[0].StudyInstanceUID)
    store(parts, *datasets, other)
    expected = [" ".join(uids_of(dataset)) for dataset in (datasets[0], other)]
    assert [job.key for job in list_jobs(parts)] == expected
    with parts.database.read() as connection:
        end = changes.read_end(connection, CLINICAL_PARTITION)
    parts.archive.correct.correct_study(WHO, other.StudyInstanceUID, {"StudyID": "9"}, reason="typing error")
    with parts.database.read() as connection:
        page = changes.read_after(connection, CLINICAL_PARTITION, end, 1000)
        assert sorted(job.key for job in parts.archive.series_metadata.plan(connection, page)) == sorted(expected)


def add(parts, datasets, _directory):
    store(
        parts,
        build_ct(StudyInstanceUID=datasets[0].StudyInstanceUID, SeriesInstanceUID=datasets[0].SeriesInstanceUID),
    )


def replace(parts, datasets, _directory):
    datasets[1].ImageComments = "another"
    store(parts, datasets[1])


def move_away(parts, datasets, _directory):
    dataset = build_ct(SOPInstanceUID=datasets[1].SOPInstanceUID)
    store(parts, dataset)


def withhold(parts, datasets, _directory):
    uids = (*uids_of(datasets[1]), datasets[1].SOPInstanceUID)
    parts.archive.withhold.withhold(LOCAL, *uids, reason=WithheldReason.DELETED)


def withhold_and_restore(parts, datasets, directory):
    withhold(parts, datasets, directory)
    parts.archive.withhold.restore(LOCAL, datasets[1].SOPInstanceUID)


def correct_study(parts, datasets, _directory):
    return parts.archive.correct.correct_study(WHO, datasets[0].StudyInstanceUID, {"StudyID": "9"}, reason="typing")


def correct_patient(parts, datasets, _directory):
    key = PatientKey(datasets[0].PatientID)
    return parts.archive.correct.correct_patient(WHO, key, {"PatientName": "Other^Name"}, reason="typing")


def move_study(parts, datasets, _directory):
    store(parts, build_ct(PatientID="P2"))
    return parts.archive.correct.move_study(WHO, datasets[0].StudyInstanceUID, PatientKey("P2"), reason="mixed up")


def recompress(parts, datasets, directory):
    sandbox = Sandbox(1)
    try:
        recompressor = Recompressor(
            parts.database, parts.store, CLINICAL_PARTITION, sandbox, directory, delay=timedelta(0)
        )
        assert not recompressor.recompress(datasets[1].SOPInstanceUID).obstacle
    finally:
        sandbox.close()


def keep_the_other(parts, datasets, _directory):
    datasets[1].ImageComments = "another"
    store(parts, datasets[1], policy=DuplicatePolicy.KEEP_FIRST)
    (conflict,) = parts.archive.correct.list_conflicts(LOCAL)
    parts.archive.correct.resolve_conflict(WHO, conflict.id, Keep.OTHER, reason="the later one")


@pytest.mark.parametrize(
    "change",
    [
        add,
        replace,
        move_away,
        withhold,
        withhold_and_restore,
        correct_study,
        correct_patient,
        move_study,
        recompress,
        keep_the_other,
    ],
)
def test_after_every_change_what_was_kept_is_not_found(parts, tmp_path, change):
    datasets = build_packable()
    store(parts, *datasets)
    make(parts)
    before = read_kept(parts, datasets[0])
    done = change(parts, datasets, tmp_path)
    assert read_kept(parts, datasets[0]) is None
    make(parts)
    after = read_kept(parts, datasets[0])
    assert after == read_instances(parts, datasets[0])
    if done is not None:
        assert after != before
        parts.archive.correct.undo(WHO, done.id)
        assert read_kept(parts, datasets[0]) is None
        make(parts)
        assert read_kept(parts, datasets[0]) == before


def test_a_body_made_of_an_older_state_is_not_kept_for_a_newer_one(parts, monkeypatch):
    *first, late = build_series(4)
    store(parts, *first)
    texts = parts.archive.series_metadata
    read = texts._read

    def read_then_store(*uids):
        found = read(*uids)
        store(parts, late)
        return found

    monkeypatch.setattr(texts, "_read", read_then_store)
    make(parts)
    assert read_kept(parts, late) is None
    monkeypatch.setattr(texts, "_read", read)
    make(parts)
    assert read_kept(parts, late) == read_instances(parts, late)


def test_who_asks_first_gets_it_at_once_and_only_that_of_a_quiet_series_is_kept(parts, monkeypatch):
    datasets = build_series(3)
    store(parts, *datasets)
    texts = parts.archive.series_metadata
    assert texts.build(LOCAL, *uids_of(datasets[0])).text == read_instances(parts, datasets[0])
    assert read_kept(parts, datasets[0]) is None
    monkeypatch.setattr("pacs.retrieve.series_metadata.QUIET", -QUIET)
    assert texts.build(LOCAL, *uids_of(datasets[0])).text == read_kept(parts, datasets[0])


def test_a_text_that_is_too_long_is_known_as_such_and_never_made(parts, monkeypatch):
    monkeypatch.setattr("pacs.retrieve.series_metadata.MAX_TEXT_BYTES", 1000)
    datasets = build_series(3)
    store(parts, *datasets)
    make(parts)
    kept = parts.archive.series_metadata.find(LOCAL, *uids_of(datasets[0]))
    assert kept.is_too_long
    assert parts.archive.series_metadata.build(LOCAL, *uids_of(datasets[0])) is None


def test_finding_and_reading_take_a_statement_each_however_long_the_series(parts):
    datasets = build_series(20)
    store(parts, *datasets)
    make(parts)
    with counting() as statements:
        kept = parts.archive.series_metadata.find(LOCAL, *uids_of(datasets[0]))
        found = [statement for statement in statements if statement.startswith("SELECT")]
        parts.archive.series_metadata.read(LOCAL, kept)
    assert len(found) == 1
    assert not any("instance" in statement.replace("_instance_uid", "") for statement in found)
    assert sum(statement.startswith("SELECT") for statement in statements) == 2


def test_what_does_not_exist_is_said_as_ever(parts):
    dataset = build_ct()
    store(parts, dataset)
    texts = parts.archive.series_metadata
    with pytest.raises(SeriesNotFound):
        texts.build(LOCAL, dataset.StudyInstanceUID, "1.2.3")
    with pytest.raises(StudyNotFound):
        texts.build(LOCAL, "1.2.3", "1.2.3")


def test_it_is_gone_with_its_series(parts):
    dataset = build_ct()
    store(parts, dataset)
    make(parts)
    parts.archive.withhold.withhold(LOCAL, *uids_of(dataset), reason=WithheldReason.DELETED)
    with parts.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM series_metadata").scalar() == 0


def test_a_body_is_not_kept_for_another_series_that_has_the_row_by_now(parts):
    """On SQLite the number of the last row is given again to the next one."""
    gone, next_one = build_ct(), build_ct()
    store(parts, gone)
    texts = parts.archive.series_metadata
    state, text = texts._read(*uids_of(gone))
    parts.archive.withhold.withhold(LOCAL, *uids_of(gone), reason=WithheldReason.DELETED)
    store(parts, next_one)
    texts._keep(state, text)
    assert read_kept(parts, next_one) is None
