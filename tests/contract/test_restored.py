"""A PostgreSQL database that was restored into another cluster, whose transactions are counted from the beginning."""

import pytest
from sqlalchemy import update

from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.database.tables import change
from pacs.database.work_tables import follower
from pacs.index import changes
from pacs.index.restored import adopt_logs
from pacs.ingest.incoming import Incoming
from pacs.model import CLINICAL_PARTITION, Cursor, Door, Origin
from tests.builders import as_part10, build_ct

NAME = "somebody"
AHEAD = 10**9


@pytest.fixture
def settings(postgres_url, tmp_path):
    return Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=postgres_url),
    )


def store(parts, count):
    uids = []
    for _ in range(count):
        dataset = build_ct()
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored
        uids.append(dataset.SOPInstanceUID)
    return uids


def read_on(parts):
    """Return what a follower has not read yet."""
    with parts.database.read() as connection:
        cursor = changes.find_cursor(connection, NAME) or Cursor()
        return [found.sop_instance_uid for found in changes.read_after(connection, CLINICAL_PARTITION, cursor, 100)]


@pytest.mark.postgres
def test_who_follows_the_log_goes_on_where_it_was(settings):
    with open_archive(settings) as parts:
        store(parts, 3)
        with parts.database.read() as connection:
            read = changes.read_end(connection, CLINICAL_PARTITION)
        parts.database.write(lambda connection: changes.begin(connection, NAME, read))
        unread = store(parts, 2)
        for table in (change, follower):
            ahead = update(table).values(transaction_id=table.c.transaction_id + AHEAD)
            parts.database.write(lambda connection, ahead=ahead: connection.execute(ahead))
        assert read_on(parts) == []
    with open_archive(settings) as parts:
        assert read_on(parts) == unread
        assert read_on(parts) + store(parts, 1) == read_on(parts)


@pytest.mark.postgres
def test_a_log_of_this_cluster_is_left_alone(settings):
    with open_archive(settings) as parts:
        store(parts, 2)
        assert not adopt_logs(parts.database, CLINICAL_PARTITION)
