"""STOW-RS (PS3.18 10.5)."""

import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from dicomweb.app import create_app
from pacs.errors import OutOfResources
from pacs.ingest.pipeline import Ingestor
from pacs.model import Door, DuplicatePolicy, Origin
from pacs.tags import text_of, values_of
from tests.builders import as_part10, build_ct, build_series, new_uid
from tests.conformance.dicomweb.service import BOUNDARY, MULTIPART_DICOM, multipart_body, serving

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
CONTENT_TYPE = {"Content-Type": MULTIPART_DICOM}
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def referenced(answer):
    return [text_of(item, "ReferencedSOPInstanceUID") for item in values_of(answer, "ReferencedSOPSequence")]


def failures(answer, sequence="FailedSOPSequence"):
    return [values_of(item, "FailureReason")[0] for item in values_of(answer, sequence)]


def test_a_stored_instance_is_named_with_its_address(http, service):
    dataset = build_ct()
    response = http.post("/studies", content=multipart_body(as_part10(dataset)), headers=CONTENT_TYPE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    answer = response.json()
    (item,) = values_of(answer, "ReferencedSOPSequence")
    study = f"{service}/studies/{dataset.StudyInstanceUID}"
    assert text_of(answer, "RetrieveURL") == study
    assert text_of(item, "ReferencedSOPClassUID") == dataset.SOPClassUID
    assert text_of(item, "ReferencedSOPInstanceUID") == dataset.SOPInstanceUID
    address = f"{study}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    assert text_of(item, "RetrieveURL") == address
    assert values_of(item, "WarningReason") == []
    assert failures(answer) == []
    assert http.get(address).status_code == 200


def test_every_part_is_stored(store, http):
    series = build_series(5)
    answer = store(*series)
    assert referenced(answer) == [dataset.SOPInstanceUID for dataset in series]
    assert len(http.get("/instances").json()) == 5


def test_instances_of_several_studies_have_no_common_address(store):
    assert values_of(store(build_ct(), build_ct()), "RetrieveURL") == []


@pytest.mark.parametrize(
    "content_type",
    [
        f"multipart/related; type=application/dicom; boundary={BOUNDARY}",
        f'multipart/related; boundary="{BOUNDARY}"; type="application/dicom"',
        f"multipart/related; boundary={BOUNDARY}",
        f'Multipart/Related;TYPE="Application/DICOM";BOUNDARY={BOUNDARY}',
        f'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2; boundary={BOUNDARY}',
    ],
)
def test_spellings_of_the_content_type(http, content_type):
    body = multipart_body(as_part10(build_ct()))
    assert http.post("/studies", content=body, headers={"Content-Type": content_type}).status_code == 200


def test_a_single_part_body_is_one_instance(http):
    dataset = build_ct()
    headers = {"Content-Type": "application/dicom"}
    response = http.post(f"/studies/{dataset.StudyInstanceUID}", content=as_part10(dataset), headers=headers)
    assert response.status_code == 200
    assert referenced(response.json()) == [dataset.SOPInstanceUID]


def test_a_body_without_a_length_is_taken(http):
    body = multipart_body(*map(as_part10, build_series(3)))
    chunks = (body[i : i + 999] for i in range(0, len(body), 999))
    response = http.post("/studies", content=chunks, headers=CONTENT_TYPE)
    assert response.status_code == 200
    assert len(referenced(response.json())) == 3


def test_an_object_larger_than_memory_spooling_comes_back_as_it_was_sent(http, tmp_path):
    dataset = build_ct(PixelData=bytes(range(256)) * 4 * 1024 * 20, Rows=1024, Columns=5120)
    file = as_part10(dataset)
    assert len(file) > 16 * 1024 * 1024
    assert http.post("/studies", content=multipart_body(file), headers=CONTENT_TYPE).status_code == 200
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    path = f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    assert http.get(path, headers=accept).content == file
    assert list(tmp_path.rglob("*.spool")) == []


def test_the_same_instance_again_is_a_plain_success(store):
    dataset = build_ct()
    store(dataset)
    assert referenced(store(dataset)) == [dataset.SOPInstanceUID]


def test_another_data_set_under_a_stored_uid_is_a_warning(store):
    dataset = build_ct()
    store(dataset)
    dataset.StudyDescription = "Corrected"
    (item,) = values_of(store(dataset, status=202), "ReferencedSOPSequence")
    assert values_of(item, "WarningReason") == [0xB000]


@pytest.mark.parametrize(
    ("count", "odd", "uid"),
    [(-1, b"2.25.0234567", "2.25.0234567"), (1, b"2.25.7654321", "2.25.1234567")],
    ids=["leading zero", "other file meta"],
)
def test_an_oddity_is_stored_with_a_warning_under_the_data_sets_uid(store, http, count, odd, uid):
    plain, file = build_ct(), as_part10(build_ct(SOPInstanceUID="2.25.1234567")).replace(b"2.25.1234567", odd, count)
    with_warning, without = values_of(store(file, plain, status=202), "ReferencedSOPSequence")
    assert text_of(with_warning, "ReferencedSOPInstanceUID") == uid
    assert values_of(with_warning, "WarningReason") == [0xB007]
    assert values_of(without, "WarningReason") == []
    same = http.get(text_of(with_warning, "RetrieveURL"), headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert same.content == file


@pytest.mark.parametrize("uid", [b"2.25.12345 x", b"../../../etc", b"2.25.1/2.3.4", b" " * 12, b"\0" * 12])
def test_a_malformed_uid_fails_with_its_code_and_is_not_stored(store, http, uid):
    file = as_part10(build_ct(SOPInstanceUID="2.25.1234567")).replace(b"2.25.1234567", uid)
    answer = store(file, status=409)
    assert failures(answer) + failures(answer, "OtherFailuresSequence") == [0xA900]
    assert http.get("/instances").status_code == 204


def test_policy_reject_is_a_failure_that_keeps_the_first(archive):
    origin = Origin(Door.STOW, duplicate_policy=DuplicatePolicy.REJECT)
    first = build_ct(StudyDescription="First")
    other = build_ct(**{keyword: first[keyword].value for keyword in UIDS}, StudyDescription="Second")
    with (
        serving(create_app(archive, is_ready=dict, origin=origin)) as address,
        httpx.Client(base_url=f"{address}/dicom-web") as http,
    ):
        answers = [
            http.post("/studies", content=multipart_body(as_part10(one)), headers=CONTENT_TYPE)
            for one in (first, other, first)
        ]
        (match,) = http.get("/studies").json()
    assert [answer.status_code for answer in answers] == [200, 409, 200]
    assert [code >> 12 for code in failures(answers[1].json())] == [0xC]
    assert text_of(match, "StudyDescription") == "First"


def test_a_study_other_than_the_addressed_one_fails_that_instance_only(store):
    right, wrong = build_ct(), build_ct()
    answer = store(right, wrong, path=f"/studies/{right.StudyInstanceUID}", status=202)
    assert referenced(answer) == [right.SOPInstanceUID]
    assert failures(answer) == [0xA900]
    (item,) = values_of(answer, "FailedSOPSequence")
    assert text_of(item, "ReferencedSOPInstanceUID") == wrong.SOPInstanceUID


def test_nothing_stored_is_a_conflict(store):
    answer = store(build_ct(), path=f"/studies/{new_uid()}", status=409)
    assert failures(answer) == [0xA900]
    assert values_of(answer, "ReferencedSOPSequence") == []


def test_what_is_not_dicom_fails_without_a_reference(store):
    answer = store(b"GIF89a" * 100, status=409)
    assert failures(answer, "OtherFailuresSequence") == [0xC000]
    assert failures(answer) == []


def test_bad_objects_among_good_ones_fail_alone(store):
    good, bad = build_ct(), build_ct()
    bad_uid = as_part10(bad).replace(bad.SOPInstanceUID.encode(), b"x" * len(bad.SOPInstanceUID))
    answer = store(as_part10(good), bad_uid, b"", as_part10(build_ct())[:500], status=202)
    assert referenced(answer) == [good.SOPInstanceUID]
    assert len(failures(answer) + failures(answer, "OtherFailuresSequence")) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": 'multipart/related; type="image/png"; boundary=x'},
        {"Content-Type": "application/dicom+json"},
        {"Content-Type": "nonsense"},
        {**CONTENT_TYPE, "Content-Encoding": "gzip"},
    ],
)
def test_another_kind_of_body_is_an_unsupported_media_type(shared_http, headers):
    response = shared_http.post("/studies", content=multipart_body(as_part10(build_ct())), headers=headers)
    assert response.status_code == 415
    assert shared_http.get("/instances").status_code == 204


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART_DICOM, b""),
        (MULTIPART_DICOM, b"--other\r\n\r\nx\r\n--other--"),
        (MULTIPART_DICOM, f"--{BOUNDARY}--".encode()),
        (MULTIPART_DICOM, f"--{BOUNDARY}\r\nno colon\r\n\r\nx\r\n--{BOUNDARY}--".encode()),
        (MULTIPART_DICOM, f"--{BOUNDARY}\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--{BOUNDARY}--".encode()),
        ("multipart/related; type=application/dicom", b"x"),
        (f"multipart/related; type=application/dicom; boundary={'x' * 71}", b"x"),
        ("application/dicom", b""),
    ],
)
def test_a_broken_body_is_a_bad_request(shared_http, content_type, body):
    response = shared_http.post("/studies", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert shared_http.get("/instances").status_code == 204


def test_what_came_whole_before_the_body_broke_is_stored_and_said_so(http):
    whole, cut = build_ct(), build_ct()
    body = multipart_body(as_part10(whole), as_part10(cut))[:-300]
    response = http.post("/studies", content=body, headers=CONTENT_TYPE)
    assert response.status_code == 400
    answer = response.json()
    assert referenced(answer) == [whole.SOPInstanceUID]
    assert len(failures(answer, "OtherFailuresSequence")) == 1
    found = http.get("/instances").json()
    assert [text_of(match, "SOPInstanceUID") for match in found] == [whole.SOPInstanceUID]


@dataclass
class FullAfter:
    """The real pipeline on a disk that takes a number of objects and no more."""

    ingest: Ingestor
    objects: int

    def open_spool(self):
        self.objects -= 1
        if self.objects < 0:
            raise OutOfResources
        return self.ingest.open_spool()

    def store(self, incoming):
        return self.ingest.store(incoming)


def test_no_room_is_service_unavailable_and_names_what_was_stored(archive):
    series = build_series(20)
    full = replace(archive, ingest=FullAfter(archive.ingest, 2))
    with serving(create_app(full, is_ready=dict)) as address:
        body = multipart_body(*map(as_part10, series))
        response = httpx.post(f"{address}/dicom-web/studies", content=body, headers=CONTENT_TYPE)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert referenced(response.json()) == [dataset.SOPInstanceUID for dataset in series[:2]]
    assert failures(response.json(), "OtherFailuresSequence") == [0xA700]


def test_a_sender_that_hangs_up_leaves_nothing_half_stored(service, http, tmp_path, store):
    url = httpx.URL(service)
    body = multipart_body(as_part10(build_ct(PixelData=bytes(24 * 1024 * 1024), Rows=4096, Columns=3072)))
    with socket.create_connection((url.host, url.port)) as connection:
        head = f"POST {url.path}/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART_DICOM}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        connection.sendall(body[: 20 * 1024 * 1024])
    deadline = time.monotonic() + 20
    store(build_ct())
    while list(tmp_path.rglob("*.spool")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(tmp_path.rglob("*.spool")) == []
    assert len(http.get("/instances").json()) == 1


@pytest.mark.parametrize("study", ["abc", "1.2.3x", "1" * 65, "1%00", "1%2F..", "1%5C2"])
def test_a_malformed_study_in_the_address_is_a_bad_request(shared_http, study):
    response = shared_http.post(
        f"/studies/{study}", content=multipart_body(as_part10(build_ct())), headers=CONTENT_TYPE
    )
    assert response.status_code in (400, 404, 405)
    assert shared_http.get("/instances").status_code == 204


@pytest.mark.slow
def test_every_corpus_file_is_answered_and_comes_back_as_it_was_sent(http):
    """One archive takes them all; what is no conflict with an earlier one of the same UID comes back byte for byte."""
    files = sorted(path for path in CORPUS.rglob("*") if path.is_file() and path.stat().st_size < 2_000_000)
    for path in files:
        file = path.read_bytes()
        response = http.post("/studies", content=multipart_body(file), headers=CONTENT_TYPE)
        assert response.status_code in (200, 202, 409), path.name
        if response.status_code == 200:
            (item,) = values_of(response.json(), "ReferencedSOPSequence")
            address = text_of(item, "RetrieveURL")
            same = http.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
            assert same.content == file, path.name
            assert http.get(f"{address}/metadata").status_code == 200, path.name
