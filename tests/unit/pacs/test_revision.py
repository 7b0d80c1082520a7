"""The state of instances, as entity tags are made of it: alike on both engines, and the same in every process."""

import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.ingest.incoming import Incoming
from pacs.model import Door, DuplicatePolicy, Origin
from tests.builders import as_part10, build_series


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def settings(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url=f"file://{tmp_path}/objects"),
        database=DatabaseSettings(url=url),
    )


def store(archive, *datasets):
    for dataset in datasets:
        with archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            archive.ingest.store(Incoming(spool, Origin(Door.IMPORT, duplicate_policy=DuplicatePolicy.REPLACE)))


def revision_of(archive, study):
    retrieve = archive.retrieve
    return retrieve.read_revision(LOCAL, retrieve.find_instances(LOCAL, study)).digest


def test_it_survives_a_restart_and_changes_with_every_instance_that_comes_or_is_replaced(settings):
    *first, late = build_series(3)
    study = late.StudyInstanceUID
    with open_archive(settings) as parts:
        store(parts.archive, *first)
        seen = [revision_of(parts.archive, study)]
    with open_archive(settings) as parts:
        archive = parts.archive
        assert revision_of(archive, study) == seen[0]
        store(archive, first[0])  # the same again
        assert revision_of(archive, study) == seen[0]
        store(archive, late)
        seen.append(revision_of(archive, study))
        late.ImageComments = "another"
        store(archive, late)
        seen.append(revision_of(archive, study))
    assert len(set(seen)) == 3


def test_more_rows_than_one_statement_takes_are_all_of_it(settings, monkeypatch):
    monkeypatch.setattr("pacs.index.metadata._REVISION_ROWS", 2)
    datasets = build_series(5)
    with open_archive(settings) as parts:
        store(parts.archive, *datasets)
        records = parts.archive.retrieve.find_instances(LOCAL, datasets[0].StudyInstanceUID)
        digests = {parts.archive.retrieve.read_revision(LOCAL, records[:count]).digest for count in range(1, 6)}
        assert len(digests) == 5
        assert parts.archive.retrieve.read_revision(LOCAL, records[::-1]).digest not in digests
