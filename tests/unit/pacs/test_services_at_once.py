"""Storing, correcting, rejecting, deleting and restoring at once leave an index that agrees with itself."""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import event, text

from pacs.access import LOCAL
from pacs.app import Parts, open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.correction import PatientKey
from pacs.errors import CannotCorrect, NotFound
from pacs.index import reader, withholding
from pacs.index.withholding import Cause, WithheldReason
from pacs.ingest.incoming import Incoming
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION, Door, Origin
from tests.builders import as_part10, build_ct, build_series, new_uid
from tests.contract.database import STORED_AT, run_in_threads
from tests.key_objects import QUALITY, build_key_objects

WHY = "A test"
IMPOSSIBLE = {
    "series without instances": "SELECT id FROM series WHERE instance_count < 1",
    "count that is wrong": """SELECT id FROM series WHERE instance_count <>
        (SELECT count(*) FROM instance WHERE series_row_id = series.id)""",
    "study without series": "SELECT id FROM study WHERE id NOT IN (SELECT study_row_id FROM series)",
    "patient without studies": """SELECT id FROM patient
        WHERE overlay = '' AND id NOT IN (SELECT patient_row_id FROM study)""",
    "instance without header": "SELECT id FROM instance WHERE id NOT IN (SELECT instance_row_id FROM instance_header)",
    "shown and withheld at once": """SELECT id FROM withheld_instance w WHERE blob_key <> '' AND EXISTS
        (SELECT 1 FROM instance i WHERE i.sop_instance_uid = w.sop_instance_uid
        AND i.dataset_digest = w.dataset_digest AND w.reason <> 'deleted')""",
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def parts(request, tmp_path) -> Iterator[Parts]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(
        data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"), database=DatabaseSettings(url=url)
    )
    with open_archive(settings) as opened:
        yield opened


def store(parts, dataset):
    with parts.archive.ingest.open_spool() as spool:
        spool.write(as_part10(dataset))
        outcome = parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, may_reject=True)))
    assert outcome.is_stored, outcome
    return dataset.SOPInstanceUID


def assert_consistent(parts, acknowledged):
    with parts.database.read() as connection:
        for name, statement in IMPOSSIBLE.items():
            assert connection.execute(text(statement)).all() == [], name
        kept = connection.execute(
            text("SELECT sop_instance_uid FROM instance UNION SELECT sop_instance_uid FROM withheld_instance")
        )
        assert set(acknowledged) <= set(kept.scalars())
    assert not [one for one in verify_copies(parts.database, parts.store, CLINICAL_PARTITION) if one.problem]


def test_everything_at_once_leaves_what_was_acknowledged_and_counts_that_agree(parts):
    studies = [new_uid() for _ in range(4)]
    series = [new_uid() for _ in range(2)]
    acknowledged = [
        store(parts, build_ct(StudyInstanceUID=study, SeriesInstanceUID=one, PatientID=f"P{number % 3}"))
        for number, study in enumerate(studies)
        for one in series
    ]

    def ingest(chance):
        number = chance.randrange(len(studies))
        image = build_ct(
            StudyInstanceUID=studies[number], SeriesInstanceUID=chance.choice(series), PatientID=f"P{number % 3}"
        )
        acknowledged.append(store(parts, image))

    def correct(chance):
        keys = [PatientKey(f"P{chance.randrange(3)}") for _ in range(2)]
        done = parts.archive.correct.merge_patients(LOCAL, *keys, reason=WHY)
        parts.archive.correct.undo(LOCAL, done.id)

    def reject(chance):
        study = chance.choice(studies)
        with parts.database.read() as connection:
            records = reader.find_instances(connection, CLINICAL_PARTITION, study)
        found = [(record.series_instance_uid, record.sop_instance_uid) for record in records]
        named = [
            build_ct(StudyInstanceUID=study, SeriesInstanceUID=series_uid, SOPInstanceUID=uid)
            for series_uid, uid in found
        ]
        note = build_key_objects(QUALITY, named, PatientID="P9")
        acknowledged.append(store(parts, note))
        parts.archive.withhold.restore(LOCAL, note.SOPInstanceUID)

    def delete(chance):
        parts.archive.withhold.withhold(LOCAL, chance.choice(studies), chance.choice(["", *series]))
        for copy in parts.archive.withhold.find_page(LOCAL, limit=5):
            if not copy.is_note:
                parts.archive.withhold.restore(LOCAL, copy.sop_instance_uid)

    def work(act, seed):
        chance = random.Random(seed)
        for _ in range(12):
            with suppress(CannotCorrect, NotFound):
                act(chance)

    acts = [ingest, ingest, correct, reject, delete, delete]
    assert run_in_threads(len(acts), lambda seed: work(acts[seed], seed)) == [None] * len(acts)
    assert_consistent(parts, acknowledged)


def test_two_who_take_the_last_two_series_leave_no_study(parts):
    study = new_uid()
    images = [build_ct(StudyInstanceUID=study) for _ in range(2)]
    acknowledged = [store(parts, image) for image in images]
    first_has_gone, is_second_done = threading.Event(), threading.Event()
    cause = Cause(WithheldReason.DELETED, "test", STORED_AT)

    def take_first(connection):
        withholding.withhold(connection, CLINICAL_PARTITION, acknowledged[:1], cause)
        first_has_gone.set()
        is_second_done.wait(0.5)

    def take_second():
        first_has_gone.wait(10)
        parts.archive.withhold.withhold(LOCAL, study, images[1].SeriesInstanceUID)
        is_second_done.set()

    works = [lambda: parts.database.write(take_first), take_second]
    assert run_in_threads(2, lambda number: works[number]()) == [None, None]
    assert_consistent(parts, acknowledged)


def test_study_of_thousands_is_rejected_with_few_statements(parts):
    images = build_series(1200)
    store(parts, images[0])
    note = build_key_objects(QUALITY, images)
    statements = []

    def count(connection):
        event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments))
        cause = Cause(WithheldReason.QUALITY, "test", STORED_AT, note.SOPInstanceUID)
        uids = [image.SOPInstanceUID for image in images]
        withholding.withhold(connection, CLINICAL_PARTITION, uids, cause)
        references = [
            withholding.Reference(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID, one.SOPClassUID)
            for one in images[1:]
        ]
        withholding.expect(connection, CLINICAL_PARTITION, references, cause)

    parts.database.write(count)
    assert len(statements) < 60
