"""The store as the settings want it, by the work that it does: requests counted, never time."""

import time

import pytest

from pacs.access import LOCAL
from pacs.app import build_origin, open_archive
from pacs.config import Settings, StorageSettings
from pacs.errors import InvalidSetting
from pacs.ingest.incoming import Incoming
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION, Door
from pacs.query import Level, Query
from pacs.retrieve import ANY
from storage.bodies import Bodies
from storage.s3 import S3Store
from storage.signed import SignedRequests
from tests.builders import as_part10, build_ct

COUNT = 12


@pytest.fixture
def settings(tmp_path, minio_server):
    def build(**changes) -> Settings:
        url = f"s3://{minio_server.endpoint}/{minio_server.bucket}/{tmp_path.name}?secure=false"
        storage = {"url": url, "access_key": minio_server.access_key, "secret_key": minio_server.secret_key} | changes
        return Settings(data_dir=tmp_path / "data", storage=StorageSettings(**storage))

    return build


@pytest.fixture
def requests(monkeypatch):
    """The methods of the requests that were sent for objects."""
    sent = []
    send, get = SignedRequests._send, Bodies.get

    def note(self, method, *rest, **named):
        sent.append(method)
        return send(self, method, *rest, **named)

    def note_get(self, *rest):
        sent.append("GET")
        return get(self, *rest)

    monkeypatch.setattr(SignedRequests, "_send", note)
    monkeypatch.setattr(Bodies, "get", note_get)
    monkeypatch.setattr(S3Store, "stat", lambda *_: pytest.fail("nobody needs to ask for a size"))
    return sent


def ingest(parts, settings) -> None:
    first = build_ct()
    for number in range(COUNT):
        dataset = build_ct(
            StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID, InstanceNumber=number
        )
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, build_origin(settings, Door.IMPORT))).is_stored


def retrieve(parts) -> list[bytes]:
    (study,) = {match.study_instance_uid for match in _matches(parts)}
    records = parts.archive.retrieve.find_instances(LOCAL, study)
    retriever = parts.archive.retrieve.ahead_of(records)
    read = []
    for record in records:
        with retriever.open_instance(LOCAL, record, ANY) as representation:
            read.append(b"".join(representation.iter_chunks()))
    return read


def _matches(parts):
    return parts.archive.search.search(LOCAL, Query(Level.STUDY)).matches


@pytest.mark.s3
def test_an_instance_is_stored_by_one_put_and_retrieved_by_one_get_and_the_second_time_by_none(settings, requests):
    with open_archive(settings()) as parts:
        ingest(parts, settings())
        assert requests == ["PUT"] * COUNT
        requests.clear()
        first = retrieve(parts)
        assert requests == ["GET"] * COUNT
        assert retrieve(parts) == first
        assert len(requests) == COUNT


@pytest.mark.s3
def test_without_a_cache_every_retrieval_asks_s3_once_for_each(settings, requests):
    with open_archive(settings(cache_bytes=0)) as parts:
        ingest(parts, settings())
        requests.clear()
        assert retrieve(parts) == retrieve(parts)
        assert requests == ["GET"] * COUNT * 2


@pytest.mark.s3
def test_verifying_reads_s3_and_not_what_is_kept_of_it(settings, requests):
    with open_archive(settings()) as parts:
        ingest(parts, settings())
        retrieve(parts)
        requests.clear()
        checked = list(verify_copies(parts.database, parts.durable, CLINICAL_PARTITION))
        assert [one.problem for one in checked] == [""] * COUNT
        assert requests == ["GET"] * COUNT


@pytest.mark.s3
def test_a_journal_that_is_not_wanted_any_more_is_still_emptied(settings, tmp_path):
    away = settings(acknowledge="journal", url="s3://127.0.0.1:9/bucket?secure=false")
    with open_archive(away) as parts:
        ingest(parts, away)
        assert parts.journal.count() == COUNT
    with open_archive(settings()) as parts:
        assert len(retrieve(parts)) == COUNT
        deadline = time.monotonic() + 60
        while parts.journal.count():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len(retrieve(parts)) == len(list(parts.durable.iter_keys())) == COUNT
    assert (tmp_path / "data" / "journal").is_dir()


def test_only_s3_has_a_journal(tmp_path):
    settings = Settings(data_dir=tmp_path, storage=StorageSettings(acknowledge="journal"))
    with pytest.raises(InvalidSetting, match="acknowledge"), open_archive(settings):
        pass
