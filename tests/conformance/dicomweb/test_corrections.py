"""Corrections and conflicts over HTTP: what is corrected is seen at once in QIDO and WADO, and nothing is repeated."""

import io

import pydicom
import pytest

from tests.builders import build_ct
from tests.conformance.dicomweb.service import parse_parts

WHY = "Wrong patient chosen at the modality"


@pytest.fixture
def study(store):
    wrong = build_ct(PatientID="P1", PatientName="Bénali^Amine", SpecificCharacterSet="ISO_IR 192")
    right = build_ct(PatientID="P2", PatientName="قباني^نزار", SpecificCharacterSet="ISO_IR 192")
    store(wrong, right)
    return wrong


def make(root, status=201, **body):
    response = root.post("/corrections", json={"reason": WHY} | body)
    assert response.status_code == status, response.text
    return response.json()


MERGE = {"kind": "merge-patients", "prior": {"patient_id": "P1"}, "surviving": {"patient_id": "P2"}}


def test_merge_is_seen_in_qido_metadata_and_instance_at_once_and_undone_at_once(root, http, study):
    done = make(root, **MERGE)
    for path in ("/studies", "/series", "/instances"):
        answers = http.get(path, params={"PatientID": "P2"}).json()
        assert [answer["00100010"]["Value"] for answer in answers] == [[{"Alphabetic": "قباني^نزار"}]] * 2
        assert http.get(path, params={"PatientID": "P1"}).status_code == 204
    address = f"/studies/{study.StudyInstanceUID}"
    (header,) = http.get(f"{address}/metadata").json()
    assert header["00100020"]["Value"] == ["P2"]
    assert header["04000561"]["Value"][0]["04000550"]["Value"][0]["00100020"]["Value"] == ["P1"]
    ((_, body),) = parse_parts(http.get(address))
    left = pydicom.dcmread(io.BytesIO(body))
    assert (left.PatientID, left.PatientName) == ("P2", "قباني^نزار")
    assert left.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName == "Bénali^Amine"
    assert root.post(f"/corrections/{done['id']}/undo", json={}).status_code == 200
    assert len(http.get("/studies", params={"PatientID": "P1"}).json()) == 1
    assert "04000561" not in http.get(f"{address}/metadata").json()[0]


def test_every_kind_is_made_listed_and_undone(root, study):
    uid = study.StudyInstanceUID
    bodies = [
        {"kind": "correct-study", "study_instance_uid": uid, "values": {"AccessionNumber": "NEW"}},
        {"kind": "correct-patient", "patient": {"patient_id": "P1"}, "values": {"PatientName": "Ben Ali^Amine"}},
        {"kind": "move-study", "study_instance_uid": uid, "patient": {"patient_id": "P2"}},
    ]
    ids = [make(root, **body)["id"] for body in bodies]
    listed = root.get("/corrections").json()
    assert [one["id"] for one in listed] == ids[::-1]
    assert [one["kind"] for one in listed] == [body["kind"] for body in bodies][::-1]
    assert all(one["reason"] == WHY and one["by"] and not one["undone_at"] for one in listed)
    assert [one["id"] for one in root.get("/corrections", params={"before": ids[2], "limit": 1}).json()] == [ids[1]]
    assert root.post(f"/corrections/{ids[0]}/undo", json={}).json()["undone_by"]
    assert root.post(f"/corrections/{ids[0]}/undo", json={}).status_code == 409


def test_other_copy_of_a_conflict_is_chosen(root, http, store, study):
    other = build_ct(**{keyword: study[keyword].value for keyword in
                        ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "PatientName",
                         "SpecificCharacterSet")}, StudyDescription="Other")  # fmt: skip
    store(other, status=202)
    (conflict,) = root.get("/conflicts").json()
    assert (conflict["kind"], conflict["has_copy"]) == ("content", True)
    answer = root.post(f"/conflicts/{conflict['id']}/resolve", json={"keep": "other", "reason": WHY})
    assert answer.status_code == 201
    assert "answered" not in answer.json()
    assert root.get("/conflicts").json() == []
    assert [one["id"] for one in root.get("/conflicts", params={"is_resolved": "true"}).json()] == [conflict["id"]]
    address = f"/studies/{study.StudyInstanceUID}"
    assert http.get(f"{address}/metadata").json()[0]["00081030"]["Value"] == ["Other"]
    root.post(f"/corrections/{answer.json()['id']}/undo", json={})
    assert http.get(f"{address}/metadata").json()[0]["00081030"]["Value"] == ["Built study"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, MERGE | {"prior": {"patient_id": "CANARY"}}),
        (409, MERGE | {"prior": {"patient_id": "P2"}}),
        (400, MERGE | {"reason": ""}),
        (400, MERGE | {"reason": 7}),
        (400, MERGE | {"prior": "CANARY"}),
        (400, MERGE | {"CANARY": 1}),
        (400, {"kind": "CANARY"}),
        (404, {"kind": "correct-study", "study_instance_uid": "1.2", "values": {"StudyID": "CANARY"}}),
        (400, {"kind": "correct-study", "study_instance_uid": "1.2", "values": {"PatientSex": "canary"}}),
        (400, {"kind": "correct-study", "study_instance_uid": "1.2", "values": {"StudyInstanceUID": "1.3"}}),
        (400, {"kind": "correct-study", "study_instance_uid": "1.2", "values": {"CANARY^NAME": "1"}}),
        (400, {"kind": "correct-study", "study_instance_uid": "1.2", "values": {}}),
    ],
)  # fmt: skip
def test_what_cannot_be_corrected_is_one_sentence_without_a_value(root, study, status, body):
    answer = root.post("/corrections", json={"reason": WHY} | body)
    assert answer.status_code == status
    assert answer.json()["message"].endswith(".")
    assert "canary" not in answer.text.lower()


def test_addresses_that_lead_nowhere_and_numbers_that_are_none_are_refused(root, study):
    assert root.post("/corrections/404/undo", json={}).status_code == 404
    assert root.post("/corrections/none/undo", json={}).status_code == 404
    assert root.post("/conflicts/404/resolve", json={"keep": "other", "reason": WHY}).status_code == 404
    assert root.get("/corrections", params={"limit": "-1"}).status_code == 400
    assert root.get("/conflicts", params={"limit": "9" * 40}).status_code == 400
