"""What one request costs in work that can be counted: statements, commits, reads and digests of bytes, headers parsed.

The archive is whole, on a folder and SQLite, behind its own doors. Nothing here looks at a clock, so that a busy
machine fails nothing: whoever makes a request cost more fails it. Lower a limit when you make a request cost less;
raise one only for a reason that you can give. ``make bench-smoke`` runs this alone; ``make bench`` measures the time.
"""

import hashlib
import io
import re
import sys
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import httpx
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from sqlalchemy import Engine, event

from dicomweb.app import create_app
from pacs.app import open_archive
from pacs.config import Settings
from pacs.dimse.server import create_server
from pacs.ingest import header
from storage import spool
from storage.filesystem import FilesystemStore
from tests.builders import as_dataset_bytes, as_part10, build_ct, build_multiframe, new_uid
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, serving
from tests.conformance.dimse.scu import CT, associate, send_bytes

INSTANCES = 8
FRAMES = 50
TRANSACTIONS = re.compile(r"--|BEGIN|SAVEPOINT|RELEASE|ROLLBACK|PRAGMA")
JSON = "application/dicom+json"
PIXELS = 'multipart/related; type="application/octet-stream"'
SLACK_BYTES = 1024
"""Beyond a frame's own bytes, for what says where they are."""


class Served(NamedTuple):
    """A served archive with a series and a multi-frame instance, and what it did since ``work`` was cleared."""

    http: httpx.Client
    dicom_port: int
    work: Counter
    series: str
    multiframe: str
    frame_bytes: int


class CountedStream(io.BufferedIOBase):
    """A stored object's stream that adds up what is read of it."""

    def __init__(self, stream, work):
        self._stream, self._work = stream, work

    def read(self, size=-1):
        data = self._stream.read(size)
        self._work["bytes"] += len(data)
        return data

    def readinto(self, buffer):
        length = self._stream.readinto(buffer)
        self._work["bytes"] += length
        return length

    def close(self):
        self._stream.close()

    def __getattr__(self, name):
        return getattr(self._stream, name)


class CountedDigest:
    """A digest of spooled bytes that adds up what is hashed."""

    def __init__(self, work, data=b""):
        self._sha256, self._work = hashlib.sha256(), work
        self.update(data)

    def update(self, data):
        self._work["hashed"] += len(data)
        self._sha256.update(data)

    def hexdigest(self):
        return self._sha256.hexdigest()


@pytest.fixture
def work(monkeypatch):
    """Everything that is done from now on, whoever asks for it."""
    done = Counter()
    parse = header.parse_header
    read_range, opened, put = FilesystemStore.read_range, FilesystemStore.open, FilesystemStore.put

    def count_statement(text):
        if not TRANSACTIONS.match(text):
            done["commits" if text == "COMMIT" else "statements"] += 1

    def count_range(store, *arguments):
        data = read_range(store, *arguments)
        done.update(reads=1, bytes=len(data))
        return data

    def count_open(store, *arguments):
        done["reads"] += 1
        return CountedStream(opened(store, *arguments), done)

    def count_put(store, *arguments):
        done["puts"] += 1
        return put(store, *arguments)

    def count_parse(*arguments, **named):
        done["parses"] += 1
        return parse(*arguments, **named)

    def trace(connection, _record):
        connection.set_trace_callback(count_statement)

    monkeypatch.setattr(FilesystemStore, "read_range", count_range)
    monkeypatch.setattr(FilesystemStore, "open", count_open)
    monkeypatch.setattr(FilesystemStore, "put", count_put)
    for module in list(sys.modules.values()):
        if getattr(module, "parse_header", None) is parse:
            monkeypatch.setattr(module, "parse_header", count_parse)
    monkeypatch.setattr(spool, "hashlib", SimpleNamespace(sha256=lambda *data: CountedDigest(done, *data)))
    event.listen(Engine, "connect", trace)
    yield done
    event.remove(Engine, "connect", trace)


@pytest.fixture
def served(tmp_path, work):
    with open_archive(Settings(data_dir=tmp_path / "archive")) as parts:
        server = create_server(parts.archive, port=0)
        server.start()
        try:
            with serving(create_app(parts.archive, is_ready=dict)) as address, connect(address) as http:
                slices = build_series(INSTANCES)
                frames = build_multiframe(FRAMES, Rows=64, Columns=64, PixelData=bytes(range(256)) * 32 * FRAMES)
                post(http, *slices, frames)
                yield Served(http, server.port, work, path_of(slices[0]), path_of(frames), 64 * 64 * 2)
        finally:
            server.stop(grace_seconds=2)


def test_an_instance_by_c_store(served):
    slices = build_series(INSTANCES)
    with associate(served.dicom_port, [build_context(CT, ExplicitVRLittleEndian)]) as association:
        send(association, slices[0])
        served.work.clear()
        for one in slices[1:]:
            send(association, one)
    hashed = 1.5 * len(as_part10(slices[0]))
    assert_cost(served.work, INSTANCES - 1, statements=6, commits=1, parses=1, puts=1, reads=0, hashed=hashed)


def test_an_instance_by_stow(served):
    slices = build_series(INSTANCES)
    post(served.http, slices[0])
    served.work.clear()
    post(served.http, *slices[1:])
    hashed = 2.5 * len(as_part10(slices[0]))
    assert_cost(served.work, INSTANCES - 1, statements=6, commits=1, parses=1, puts=1, reads=0, hashed=hashed)


@pytest.mark.parametrize(
    ("path", "statements"), [("/studies", 3), ("/studies?PatientName=TEST*", 3), ("{series}/instances", 5)]
)
def test_a_query(served, path, statements):
    path = path.format(series=served.series)
    cost = cost_of(served, lambda: get(served.http, path, JSON))
    assert_cost(cost, 1, statements=statements, reads=0, parses=0)


def test_metadata_of_a_series(served):
    cost = cost_of(served, lambda: get(served.http, f"{served.series}/metadata", JSON))
    assert_cost(cost, 1, statements=3, reads=0, parses=0)


def test_a_frame(served):
    cost = cost_of(served, lambda: get(served.http, f"{served.multiframe}/frames/{FRAMES // 2}", PIXELS))
    assert cost["bytes"] >= served.frame_bytes
    assert_cost(cost, 1, statements=2, reads=1, parses=0, bytes=served.frame_bytes + SLACK_BYTES)


def test_an_instance_as_it_is_stored(served):
    cost = cost_of(served, lambda: get(served.http, served.multiframe, 'multipart/related; type="application/dicom"'))
    assert cost["bytes"] >= FRAMES * served.frame_bytes
    assert_cost(cost, 1, statements=1, reads=1, parses=0)


def test_a_series_as_it_is_stored(served):
    cost = cost_of(served, lambda: get(served.http, served.series, 'multipart/related; type="application/dicom"'))
    assert_cost(cost, 1, statements=1, reads=INSTANCES, parses=0)


def test_a_rendered_instance(served):
    path = f"{served.multiframe}/frames/1/rendered"
    get(served.http, f"{path}?quality=50", "image/jpeg")
    served.work.clear()
    get(served.http, path, "image/jpeg")
    assert served.work["bytes"] >= served.frame_bytes
    assert_cost(served.work, 1, statements=3, reads=1, parses=0)


def test_a_rendered_instance_that_was_asked_for_before(served):
    cost = cost_of(served, lambda: get(served.http, f"{served.multiframe}/frames/1/rendered", "image/jpeg"))
    assert_cost(cost, 1, statements=1, reads=0, parses=0)


def cost_of(served, ask):
    """Return what the second of two equal requests does, which finds connections open."""
    ask()
    served.work.clear()
    ask()
    return served.work.copy()


def assert_cost(work, times, **limits):
    """Assert that what was done so many times took no more than these limits each."""
    excess = {name: work[name] / times for name, limit in limits.items() if work[name] > limit * times}
    assert not excess, f"each took {excess}, and may take {limits}"


def send(association, dataset):
    (context,) = association.accepted_contexts
    answer = send_bytes(association, context, dataset.SOPInstanceUID, as_dataset_bytes(dataset))
    assert answer.Status == 0x0000


def connect(address):
    return httpx.Client(base_url=f"{address}/dicom-web", timeout=30)


def get(http, path, accept):
    response = http.get(path, headers={"Accept": accept})
    assert response.status_code == httpx.codes.OK, response.text
    return response


def post(http, *datasets):
    body = multipart_body(*map(as_part10, datasets))
    assert http.post("/studies", content=body, headers={"Content-Type": MULTIPART_DICOM}).is_success


def build_series(count):
    study, series = new_uid(), new_uid()
    return [build_ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n + 1) for n in range(count)]


def path_of(dataset):
    """Return the address of a series, or of the one instance of a multi-frame one."""
    series = f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    return f"{series}/instances/{dataset.SOPInstanceUID}" if "NumberOfFrames" in dataset else series
