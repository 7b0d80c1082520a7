"""Stored bytes leave as files that nobody reads: the same answers as ever, and no file stays open behind them."""

import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.builders import as_part10, build_ct, new_uid
from tests.conformance.dicomweb.service import BOUNDARY, multipart_body
from tests.scenarios.process import serving

pytestmark = pytest.mark.scenario

SLICES = 40
SIDE = 400
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("archive") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def series(archive):
    """Store a series and return its address and its files by SOP Instance UID."""
    study, uid = new_uid(), new_uid()
    generator = np.random.default_rng(3)
    datasets = [
        build_ct(
            StudyInstanceUID=study,
            SeriesInstanceUID=uid,
            InstanceNumber=number,
            Rows=SIDE,
            Columns=SIDE,
            PixelData=generator.integers(0, 4096, SIDE * SIDE, np.uint16).tobytes(),
        )
        for number in range(1, SLICES + 1)
    ]
    files = {dataset.SOPInstanceUID: as_part10(dataset) for dataset in datasets}
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
    body = multipart_body(*files.values())
    httpx.post(f"{archive.dicomweb}/studies", content=body, headers=headers, timeout=60).raise_for_status()
    return f"{archive.dicomweb}/studies/{study}/series/{uid}", files


def parts_of(answer):
    boundary = answer.headers["content-type"].split("boundary=")[1].strip('"').encode()
    parts = answer.content.split(b"\r\n--" + boundary)
    assert parts[0] == b""
    assert parts[-1] == b"--"
    return [part.split(b"\r\n\r\n", 1)[1] for part in parts[1:-1]]


def open_objects(archive):
    """Return the stored objects that the archive's process has open."""
    found = []
    for entry in Path(f"/proc/{archive.process.pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in found if "/objects/sha256/" in name]


def wait_for_none(archive):
    deadline = time.monotonic() + 30
    while left := open_objects(archive):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_every_instance_of_a_series_is_the_file_that_was_stored(archive, series):
    address, files = series
    answer = httpx.get(address, headers={"Accept": AS_STORED}, timeout=60)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert sorted(parts_of(answer)) == sorted(files.values())
    wait_for_none(archive)


def test_frames_and_instances_are_their_bytes_over_one_connection(archive, series):
    address, files = series
    with httpx.Client(timeout=60) as client:
        for uid, file in files.items():
            (frame,) = parts_of(client.get(f"{address}/instances/{uid}/frames/1", headers={"Accept": OCTETS}))
            assert frame == file[-len(frame) :]
            assert len(frame) == SIDE * SIDE * 2
            single = {"Accept": "application/octet-stream; transfer-syntax=*"}
            assert client.get(f"{address}/instances/{uid}/frames/1", headers=single).content == frame
    wait_for_none(archive)


def test_head_and_ranges_say_the_same_of_it(archive, series):
    address, files = series
    uid, file = next(iter(files.items()))
    single = {"Accept": "application/dicom; transfer-syntax=*"}
    head = httpx.head(f"{address}/instances/{uid}", headers=single)
    assert int(head.headers["content-length"]) == len(file)
    part = httpx.get(f"{address}/instances/{uid}", headers={**single, "Range": "bytes=1000-200000"})
    assert part.status_code == httpx.codes.PARTIAL_CONTENT
    assert part.content == file[1000:200_001]
    wait_for_none(archive)


def test_who_hangs_up_leaves_no_file_open_and_no_error(archive, series):
    address, _ = series
    url = httpx.URL(address)
    for _ in range(3):
        with socket.create_connection((url.host, url.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET {url.path} HTTP/1.1\r\nHost: x\r\nAccept: {AS_STORED}\r\n\r\n".encode())
            assert connection.recv(100)
    wait_for_none(archive)
    assert "Traceback" not in (log := archive.log.read_text())
    assert "ERROR" not in log
