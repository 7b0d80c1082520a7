"""Byte ranges of single frames and instances (RFC 9110 14): part of exactly the bytes that the whole answer has."""

import subprocess

import pytest

from tests.builders import as_part10, build_ct, build_encapsulated, build_multiframe, build_series
from tests.conformance.dicomweb.service import parse_parts
from tests.conformance.dicomweb.test_wado import path_of

AS_STORED = {"Accept": "application/dicom; transfer-syntax=*"}
FRAME = {"Accept": "application/octet-stream; transfer-syntax=*"}
FRAME_PARTS = {"Accept": 'multipart/related; type="application/octet-stream"'}
BULK_PARTS = FRAME_PARTS
PARTS = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture
def targets(store):
    """Addresses and header fields of answers whose bytes are repeatable, with the bytes they must have."""
    native, implicit, lossy = build_multiframe(5), build_ct(), build_encapsulated()
    files = [as_part10(native), as_part10(implicit, "1.2.840.10008.1.2"), as_part10(lossy, JPEG)]
    store(*files)
    instances = [(path_of(one), AS_STORED, file) for one, file in zip((native, implicit, lossy), files, strict=True)]
    length = len(native.PixelData) // 5
    return [
        *instances,
        (f"{path_of(native)}/frames/3", FRAME, native.PixelData[2 * length : 3 * length]),
        (f"{path_of(implicit)}/frames/1", {"Accept": "application/octet-stream"}, implicit.PixelData),
        (f"{path_of(lossy)}/frames/1", FRAME, None),
        (f"{path_of(lossy)}/frames/1", {"Accept": "image/jpeg; transfer-syntax=" + JPEG}, None),
        (f"{path_of(native)}/bulkdata/7FE00010", {}, native.PixelData),
        (f"{path_of(lossy)}/bulkdata/7FE00010", {}, None),
        (f"{path_of(native)}/bulkdata/7FE00010", BULK_PARTS, None),
        (path_of(native), PARTS, None),
        (path_of(implicit).partition("/instances")[0], PARTS, None),
        (path_of(native).partition("/series")[0], {}, None),
        (f"{path_of(native)}/frames/2", FRAME_PARTS, None),
    ]


def test_a_range_is_that_part_of_the_whole_answer(http, targets):
    for path, headers, expected in targets:
        whole = http.get(path, headers=headers)
        assert whole.status_code == 200
        assert expected in (None, whole.content)
        assert whole.headers["accept-ranges"] == "bytes"
        size = len(whole.content)
        for asked, start, end in (
            ("0-0", 0, 1), ("2-5", 2, 6), ("7-", 7, size), ("-3", size - 3, size),
            (f"3-{size + 100}", 3, size), (f"-{size + 5}", 0, size), (f"{size - 1}-", size - 1, size),
        ):  # fmt: skip
            part = http.get(path, headers={**headers, "Range": f"bytes={asked}"})
            assert part.status_code == 206
            assert part.content == whole.content[start:end]
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            assert part.headers["content-length"] == str(end - start)
            for name in ("etag", "content-type", "cache-control", "vary", "content-location"):
                assert part.headers.get(name) == whole.headers.get(name)
            assert not part.headers["etag"].startswith("W/")


def test_a_range_behind_the_end_is_416_and_says_how_long_it_is(http, targets):
    for path, headers, _ in targets:
        size = int(http.head(path, headers=headers).headers["content-length"])
        for asked in (f"{size}-", f"{size + 5}-{size + 9}", "-0"):
            response = http.get(path, headers={**headers, "Range": f"bytes={asked}"})
            assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{size}")
            assert "etag" not in response.headers


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "pages=1-2", "bytes=9-3", "bytes=-", "bytes=a-b", "bytes=--1", "bytes=" + "9" * 40 + "-"]
)
def test_several_ranges_and_nonsense_get_the_whole(http, targets, asked):
    path, headers, file = targets[0]
    response = http.get(path, headers={**headers, "Range": asked})
    assert (response.status_code, response.content) == (200, file)


def test_if_range_gives_the_part_only_of_what_the_client_has(http, targets):
    path, headers, file = targets[0]
    tag = http.head(path, headers=headers).headers["etag"]
    wanted = {**headers, "Range": "bytes=0-9"}
    assert http.get(path, headers={**wanted, "If-Range": tag}).content == file[:10]
    for other in ('"other"', f"W/{tag}", "Sun, 22 Nov 2026 10:00:00 GMT"):
        response = http.get(path, headers={**wanted, "If-Range": other})
        assert (response.status_code, response.content) == (200, file)
    known = http.get(path, headers={**wanted, "If-None-Match": tag})
    assert known.status_code == 304


def test_a_head_request_has_no_range(http, targets):
    path, headers, file = targets[0]
    response = http.head(path, headers={**headers, "Range": "bytes=0-9"})
    assert (response.status_code, response.headers["content-length"]) == (200, str(len(file)))


def test_a_range_across_several_parts_is_that_part_of_the_whole(http, store):
    datasets = build_series(3)
    store(*datasets)
    path = path_of(datasets[0]).partition("/instances")[0]
    whole = http.get(path, headers=PARTS)
    size, step = len(whole.content), 1000
    assert whole.headers["content-length"] == str(size)
    tag = whole.headers["etag"]
    pieces = [
        http.get(path, headers={**PARTS, "Range": f"bytes={start}-{start + step - 1}", "If-Range": tag})
        for start in range(0, size, step)
    ]
    assert {piece.status_code for piece in pieces} == {206}
    assert b"".join(piece.content for piece in pieces) == whole.content
    assert [body for _, body in parse_parts(whole)] == [as_part10(one) for one in datasets]


def test_after_a_late_instance_if_range_gives_the_whole_of_the_new_answer(http, store):
    first, late = build_series(2)
    store(first)
    path = path_of(first).partition("/instances")[0]
    tag = http.get(path, headers=PARTS).headers["etag"]
    store(late)
    response = http.get(path, headers={**PARTS, "Range": "bytes=0-9", "If-Range": tag})
    assert (response.status_code, len(parse_parts(response))) == (200, 2)


def test_what_is_made_anew_is_given_whole(http, store):
    implicit, big_endian = build_ct(), build_ct()
    store(as_part10(implicit, "1.2.840.10008.1.2"), as_part10(big_endian, "1.2.840.10008.1.2.2"))
    for path, accept in (
        (path_of(implicit), "application/dicom"),
        (path_of(implicit), 'multipart/related; type="application/dicom"'),
        (path_of(implicit), "application/zip"),
        (f"{path_of(big_endian)}/bulkdata/7FE00010", "*/*"),
    ):
        response = http.get(path, headers={"Accept": accept, "Range": "bytes=0-9"})
        assert response.status_code == 200
        assert "accept-ranges" not in response.headers
        assert response.headers["etag"].startswith("W/")


def test_a_range_is_read_from_the_store_and_nothing_beside_it(http, store, parts, monkeypatch):
    dataset = build_multiframe(5)
    store(as_part10(dataset))
    read = []
    honest = parts.store.read_range
    monkeypatch.setattr(parts.store, "read_range", lambda *given: read.append(given[1:]) or honest(*given))
    response = http.get(f"{path_of(dataset)}/frames/2", headers={**FRAME, "Range": "bytes=4-11"})
    length = len(dataset.PixelData) // 5
    assert response.content == dataset.PixelData[length + 4 : length + 12]
    assert sum(end - start for start, end in read) == 8


def test_curl_resumes_where_it_was_cut_off(service, targets, tmp_path):
    path, headers, file = targets[0]
    kept = tmp_path / "part"
    kept.write_bytes(file[:100])
    accept = f"Accept: {headers['Accept']}"
    subprocess.run(["curl", "-sf", "-C", "-", "-H", accept, "-o", kept, service + path], check=True)
    assert kept.read_bytes() == file
