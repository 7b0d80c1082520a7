"""Secrets that all processes of an archive share, on both engines."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pacs.database.opener import open_database
from pacs.index import secrets


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/index"


def read(url, name):
    database = open_database(url)
    try:
        database.migrate()
        return secrets.get_or_make(database, name)
    finally:
        database.close()


def test_a_secret_is_the_same_after_a_restart_and_no_other_has_its_bytes(url):
    first, other, again = read(url, "one"), read(url, "two"), read(url, "one")
    assert first == again
    assert len(first) == secrets.LENGTH_BYTES
    assert first != other


def test_processes_that_need_a_secret_first_at_once_get_the_same(url):
    read(url, "before")
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: read(url, "shared"), range(8)))) == 1
