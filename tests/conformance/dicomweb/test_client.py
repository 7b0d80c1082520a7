"""Outbound STOW-RS: to an archive of ours, to Orthanc, and to servers that answer as they should not."""

import os
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import orjson
import pytest

from dicomweb import client
from dicomweb.client import WebDestination
from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.ingest.importer import import_entry, iter_entries
from pacs.model import Door, DuplicatePolicy, Level, Origin
from pacs.query import Query
from pacs.retrieve import ANY
from pacs.routing.destinations import Sent, Unreachable
from tests.builders import as_part10, build_ct, build_mr, new_uid
from tests.conformance.dimse.orthanc import run_orthanc
from tests.reading import reading_ahead

ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SAMPLE_DATA = Path(__file__).parents[3] / "sample_data"


@pytest.fixture
def source(tmp_path):
    """Another archive, to send from."""
    with open_archive(Settings(data_dir=tmp_path / "source", storage=StorageSettings(url="memory:"))) as parts:
        yield parts.archive


@pytest.fixture
def keep(source, tmp_path):
    """Store data sets in the source and return their records."""

    def store(*datasets):
        paths = []
        for dataset in datasets:
            paths.append(tmp_path / f"{dataset.SOPInstanceUID}.dcm")
            paths[-1].write_bytes(as_part10(dataset))
        return keep_files(source, paths)

    return store


def keep_files(archive, paths):
    origin = Origin(Door.IMPORT, duplicate_policy=DuplicatePolicy.REPLACE)
    for entry in iter_entries(paths):
        import_entry(archive.ingest, entry, origin)
    page = archive.search.search(LOCAL, Query(Level.STUDY, limit=5000))
    found = [archive.retrieve.find_instances(LOCAL, match.study_instance_uid) for match in page.matches]
    return [record for records in found for record in records]


def stored_bytes(archive, record):
    with archive.retrieve.open_instance(LOCAL, record, ANY) as opened:
        return b"".join(opened.iter_chunks())


def fetch(url, record):
    path = (
        f"/studies/{record.study_instance_uid}/series/{record.series_instance_uid}/instances/{record.sop_instance_uid}"
    )
    return httpx.get(url + path, headers={"Accept": "application/dicom; transfer-syntax=*"}).content


class Answering(BaseHTTPRequestHandler):
    """A server whose answers the test gives, one after the other, and that remembers what it was asked."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        status, content = self.server.answers.pop(0)
        if callable(content):
            content = content(body)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET = answer  # noqa: N815 - the names are the base class's

    def log_message(self, *_):
        pass


@contextmanager
def answering(*answers, context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.answers, server.requests = list(answers), []
    scheme = "http"
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server, f"{scheme}://127.0.0.1:{server.server_port}/rs"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(stored=(), failed=()):
    def item(uid, reason=None):
        values = {"00081155": {"vr": "UI", "Value": [uid]}}
        return values | ({"00081197": {"vr": "US", "Value": [reason]}} if reason else {})

    body = {}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": [item(uid) for uid in stored]}
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": [item(uid, reason) for uid, reason in failed]}
    return orjson.dumps(body)


def send(source, url, records, token=""):
    return list(WebDestination("CLOUD", url, source.retrieve, LOCAL, token).send(records))


def test_another_archive_gets_everything_exactly_as_stored(source, service):
    records = keep_files(source, [SAMPLE_DATA])
    assert len(records) > 50
    assert {sent for sent in send(source, service, records) if not sent.is_delivered} == set()
    assert [
        record.sop_instance_uid for record in records if fetch(service, record) != stored_bytes(source, record)
    ] == []


def test_while_one_instance_is_sent_the_next_are_read(source, keep, service):
    records = keep(*(build_ct() for _ in range(30)))
    with reading_ahead(source) as (retriever, readers):
        assert all(sent.is_delivered for sent in WebDestination("CLOUD", service, retriever, LOCAL).send(records))
    assert len(readers) == 30, "each is read once"
    assert sum(name.startswith("read-ahead") for name in readers) == 29, "only the first is waited for"


def test_what_is_there_already_is_delivered(source, keep, service):
    records = keep(build_ct(), build_mr())
    for _ in range(2):
        assert [sent.is_delivered for sent in send(source, service, records)] == [True, True]


def test_another_copy_under_the_same_uid_is_delivered(source, keep, service):
    dataset = build_ct()
    send(source, service, keep(dataset))
    dataset.StudyDescription = "other"
    (sent,) = send(source, service, keep(dataset))
    assert sent.is_delivered


@pytest.mark.skipif(
    not ORTHANC_DICOMWEB.exists() and os.environ.get("CI") != "true",
    reason="Orthanc's DICOMweb plugin is not installed",
)
def test_orthanc_gets_everything_as_stored_and_twice_is_no_error(source, keep, tmp_path):
    study = new_uid()
    records = keep(*(build_ct(StudyInstanceUID=study) for _ in range(30)))
    with run_orthanc(tmp_path, plugins=[str(ORTHANC_DICOMWEB)]) as orthanc:
        url = str(orthanc.http.base_url).rstrip("/") + "/dicom-web"
        for _ in range(2):
            assert [sent for sent in send(source, url, records) if not sent.is_delivered] == []
        files = orthanc.files()
    assert {uid: files[uid] for uid in files} == {
        record.sop_instance_uid: stored_bytes(source, record) for record in records
    }


def test_many_small_instances_share_a_request_and_a_connection(source, keep):
    records = keep(*(build_ct() for _ in range(45)))
    uids = [record.sop_instance_uid for record in records]
    replies = [(200, answer(uids[start : start + 20])) for start in range(0, 45, 20)]
    with answering(*replies) as (server, url):
        assert [sent.sop_instance_uid for sent in send(source, url, records) if sent.is_delivered] == uids
    assert [path for _, path, _, _ in server.requests] == ["/rs/studies"] * 3
    assert all("Transfer-Encoding" not in headers for _, _, headers, _ in server.requests)


def test_a_large_instance_has_a_request_of_its_own(source, keep, monkeypatch):
    monkeypatch.setattr(client, "MAX_BODY_BYTES", 3000)
    records = keep(build_ct(), build_ct(PixelData=b"\0" * 4096, Rows=64, Columns=32), build_ct())
    with answering(*[(200, answer([record.sop_instance_uid for record in records]))] * 3) as (server, url):
        assert all(sent.is_delivered for sent in send(source, url, records))
    assert len(server.requests) >= 2


def test_a_token_is_sent_and_no_redirect_followed_with_it(source, keep):
    records = keep(build_ct())
    with answering((302, b"")) as (server, url), pytest.raises(Unreachable, match="302"):
        send(source, url, records, token="secret")
    assert [headers["Authorization"] for _, _, headers, _ in server.requests] == ["Bearer secret"]


@pytest.mark.parametrize(
    ("reason", "is_delivered", "is_final"),
    [
        (0x0111, True, False),
        (0xB00E, True, False),
        (0xA900, False, True),
        (0xC000, False, True),
        (0x0122, False, True),
        (0xA700, False, False),
        (0x0110, False, False),
    ],
)
def test_a_failure_reason_decides_whether_to_try_again(source, keep, reason, is_delivered, is_final):
    (record,) = keep(build_ct())
    with answering((202, answer(failed=[(record.sop_instance_uid, reason)]))) as (_, url):
        (sent,) = send(source, url, [record])
    assert (sent.is_delivered, sent.is_final) == (is_delivered, is_final)


def test_a_conflict_with_what_is_there_is_delivered(source, keep):
    (record,) = keep(build_ct())
    refusal = (409, answer(failed=[(record.sop_instance_uid, 0x0110)]))
    with answering(refusal, (200, b"[{}]")) as (server, url):
        assert send(source, url, [record]) == [Sent(record.sop_instance_uid, is_delivered=True)]
        assert server.requests[1][1].endswith(f"/instances/{record.sop_instance_uid}/metadata")
    with answering(refusal, (404, b"")) as (_, url):
        assert not send(source, url, [record])[0].is_delivered


def test_what_the_answer_does_not_mention_is_not_delivered(source, keep):
    records = keep(build_ct(), build_ct())
    with answering((200, answer([records[0].sop_instance_uid]))) as (_, url):
        found = send(source, url, records)
    assert [(sent.is_delivered, sent.is_final) for sent in found] == [(True, False), (False, False)]
    with answering((200, b"")) as (_, url):
        assert not any(sent.is_delivered for sent in send(source, url, records))


def test_one_that_spoils_a_request_takes_no_other_along(source, keep):
    records = keep(build_ct(), build_mr())
    good, bad = records[0].sop_instance_uid, records[1].sop_instance_uid
    with answering((400, b"no"), (200, answer([good])), (413, b"")) as (_, url):
        found = {sent.sop_instance_uid: sent for sent in send(source, url, records)}
    assert found[good].is_delivered
    assert found[bad] == Sent(bad, is_delivered=False, problem="HTTP 413", is_final=True)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_status_that_speaks_of_the_server_blocks_the_lane(source, keep, status):
    with answering((status, b"CANARY^PHI")) as (_, url), pytest.raises(Unreachable) as caught:
        send(source, url, keep(build_ct()))
    assert str(status) in str(caught.value)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b"[1]", b'{"00081199": 3}', b'{"00081199": {"Value": [{"a": 1}]}}'])
def test_garbage_in_an_answer_delivers_nothing(source, keep, garbage):
    with answering((200, garbage)) as (_, url):
        (sent,) = send(source, url, keep(build_ct()))
    assert not sent.is_delivered


def test_a_server_that_does_not_listen_is_unreachable(source, keep):
    with answering() as (_, url):
        pass
    with pytest.raises(Unreachable, match="CLOUD"):
        send(source, url, keep(build_ct()))


def test_a_certificate_nobody_vouches_for_is_refused(source, keep, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(context=context) as (server, url):
        with pytest.raises(Unreachable):
            send(source, url, keep(build_ct()), token="secret")
        assert server.requests == []
