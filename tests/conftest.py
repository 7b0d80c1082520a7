"""An archive in one line, and the real servers that contract and scenario tests run against."""

from pathlib import Path

import pytest

from pacs.app import Parts, open_archive
from pacs.config import Settings, StorageSettings
from pacs.database.opener import open_database
from tests.contract.postgres_server import run_postgres
from tests.contract.servers import minio_server, versitygw_server

__all__ = ["minio_server", "versitygw_server"]

CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"


@pytest.fixture
def parts(tmp_path) -> Parts:
    """An archive with its objects in memory and its index in a temporary SQLite file."""
    settings = Settings(data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"))
    with open_archive(settings) as opened:
        yield opened


@pytest.fixture
def archive(parts):
    return parts.archive


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL server of our own."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres) -> str:
    """Return the name of a migrated database, to be copied, which is quicker than to migrate another."""
    database = open_database(postgres.create_database("template_migrated"))
    database.migrate()
    database.close()
    return "template_migrated"


@pytest.fixture
def postgres_url(postgres) -> str:
    """A new, empty database."""
    return postgres.create_database()
