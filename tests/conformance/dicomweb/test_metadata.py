"""Metadata of a series, kept ready: the same bytes as without, for whoever asks, and never those of another state."""

import gzip
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from pacs.access import LOCAL
from pacs.ingest.withholding import WithheldReason
from tests.builders import build_ct, build_series
from tests.conformance.dicomweb.test_caching import raw
from tests.conformance.dicomweb.test_wado import path_of


@pytest.fixture
def series(store):
    datasets = build_series(3)
    store(*datasets)
    return datasets


def path_to_series(dataset):
    return path_of(dataset).partition("/instances")[0]


def keep(archive, dataset):
    """Make what the background makes of a series that is quiet."""
    texts = archive.series_metadata
    state, text = texts._read(dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    texts._keep(state, text)
    assert texts.find(LOCAL, dataset.StudyInstanceUID, dataset.SeriesInstanceUID) is not None


def read_one_by_one(http, datasets):
    return [item for dataset in datasets for item in http.get(f"{path_of(dataset)}/metadata").json()]


@pytest.mark.parametrize("coding", ["identity", "gzip", "br"])
def test_the_bytes_are_the_same_kept_or_not_and_those_of_the_instances(http, archive, series, coding):
    path = f"{path_to_series(series[0])}/metadata"
    fresh, body = raw(http, path, **{"Accept-Encoding": coding})
    keep(archive, series[0])
    for _ in range(2):
        kept, kept_body = raw(http, path, **{"Accept-Encoding": coding})
        assert (kept_body, kept.headers["etag"]) == (body, fresh.headers["etag"])
        assert kept.headers["content-length"] == str(len(body))
    assert http.get(path, headers={"Accept-Encoding": coding}).json() == read_one_by_one(http, series)


def test_addresses_are_those_by_which_each_client_knows_the_server(http, archive, series):
    keep(archive, series[0])
    path = f"{path_to_series(series[0])}/metadata"
    for host in ("one.example", "two.example:8443"):
        for item in http.get(path, headers={"Host": host}).json():
            uri = item["7FE00010"]["BulkDataURI"]
            instance = f"{path_to_series(series[0])}/instances/{item['00080018']['Value'][0]}"
            assert uri == f"http://{host}/dicom-web{instance}/bulkdata/7FE00010"


def test_an_old_body_is_never_the_answer(http, archive, store, series):
    path = f"{path_to_series(series[0])}/metadata"
    keep(archive, series[0])
    tags = {http.get(path).headers["etag"]}
    late = build_ct(StudyInstanceUID=series[0].StudyInstanceUID, SeriesInstanceUID=series[0].SeriesInstanceUID)
    store(late)
    assert len(http.get(path).json()) == 4
    tags.add(http.get(path).headers["etag"])
    keep(archive, series[0])
    uids = (late.StudyInstanceUID, late.SeriesInstanceUID, late.SOPInstanceUID)
    archive.withhold.withhold(LOCAL, *uids, reason=WithheldReason.DELETED)
    assert len(http.get(path).json()) == 3
    archive.correct.correct_study(LOCAL, late.StudyInstanceUID, {"StudyID": "9"}, reason="typing error")
    keep(archive, series[0])
    answer = http.get(path)
    assert {item["00200010"]["Value"][0] for item in answer.json()} == {"9"}
    assert answer.headers["etag"] not in tags


def test_who_has_it_is_told_so_and_head_says_how_long_it_is(http, archive, series):
    keep(archive, series[0])
    path = f"{path_to_series(series[0])}/metadata"
    answer = http.get(path)
    known = http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]


def test_many_who_ask_at_once_get_the_same(http, series):
    path = f"{path_to_series(series[0])}/metadata"
    with ThreadPoolExecutor(8) as pool:
        bodies = set(pool.map(lambda _: http.get(path).content, range(24)))
    assert len(bodies) == 1


def test_a_series_that_is_too_long_to_keep_is_sent_as_it_is_read(http, archive, series, monkeypatch):
    path = f"{path_to_series(series[0])}/metadata"
    expected = http.get(path)
    monkeypatch.setattr("pacs.retrieve.series_metadata.MAX_TEXT_BYTES", 1000)
    state, text = archive.series_metadata._read(series[0].StudyInstanceUID, series[0].SeriesInstanceUID)
    assert text is None
    for keeps in (False, True):
        if keeps:
            archive.series_metadata._keep(state, text)
        answer = http.get(path)
        assert (answer.content, answer.headers["etag"]) == (expected.content, expected.headers["etag"])


def test_what_is_sent_again_is_neither_read_nor_parsed(http, archive, series, monkeypatch):
    keep(archive, series[0])
    path = f"{path_to_series(series[0])}/metadata"
    answer, body = raw(http, path, **{"Accept-Encoding": "gzip"})
    assert orjson.loads(gzip.decompress(body))

    def refuse(*_, **__):
        raise AssertionError("nothing of this is needed")

    for name in ("read", "build"):
        monkeypatch.setattr(type(archive.series_metadata), name, refuse)
    monkeypatch.setattr("dicomweb.metadata.compress", refuse)
    monkeypatch.setattr("dicomweb.metadata.with_bulk_base", refuse)
    again, body_again = raw(http, path, **{"Accept-Encoding": "gzip"})
    assert (again.status_code, body_again) == (200, body)
    assert again.headers["etag"] == answer.headers["etag"]
