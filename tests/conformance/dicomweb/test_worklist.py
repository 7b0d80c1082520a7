"""The worklist over HTTP: DICOM JSON in and out."""

import pytest

from pacs.access import LOCAL
from pacs.worklist import StepState
from tests.builders import build_dataset, new_uid
from tests.worklist_entries import build_entry_json

NAME, STUDY, ACCESSION, STEP = "00100010", "0020000D", "00080050", "00400100"


def add(root, **overrides):
    """Schedule one step and return what the service says of it."""
    response = root.post("/worklist", json=build_entry_json(**overrides))
    assert response.status_code == 201, response.text
    (step,) = response.json()
    assert response.headers["location"] == f"/worklist/{step['id']}"
    return step


def found(root, **keys) -> set[str]:
    response = root.get("/worklist", params=keys)
    assert response.status_code == 200, response.text
    return {step["attributes"]["00100020"]["Value"][0] for step in response.json()}


def test_entry_is_added_read_replaced_and_removed(root):
    step = add(root, PatientName="Bénali^Fâtima")
    address = f"/worklist/{step['id']}"
    read = root.get(address).json()
    assert read == step
    assert read["attributes"][NAME]["Value"] == [{"Alphabetic": "Bénali^Fâtima"}]
    changed = build_entry_json(PatientName="الفاسي^فاطمة", StudyInstanceUID=None)
    replaced = root.put(address, json=changed)
    assert replaced.status_code == 200
    assert root.get(address).json()["attributes"][NAME]["Value"] == [{"Alphabetic": "الفاسي^فاطمة"}]
    assert root.get(address).json()["attributes"][STUDY] == step["attributes"][STUDY]
    assert root.delete(address).status_code == 204
    assert root.get(address).status_code == 404
    assert root.delete(address).status_code == 404


def test_new_entry_without_study_uid_gets_one(root):
    step = add(root, StudyInstanceUID=None)
    assert step["attributes"][STUDY]["Value"][0].startswith("2.25.")


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepDescription",
    ],
)
def test_entry_without_what_is_type_1_is_refused_in_one_sentence(root, keyword):
    response = root.post("/worklist", json=build_entry_json(**{keyword: None}))
    assert response.status_code == 400
    assert keyword in response.text
    assert root.get("/worklist").json() == []


def test_same_step_twice_is_a_conflict(root):
    uid = new_uid()
    add(root, StudyInstanceUID=uid)
    response = root.post("/worklist", json=build_entry_json(StudyInstanceUID=uid))
    assert response.status_code == 409
    other = add(root, StudyInstanceUID=uid, ScheduledProcedureStepID="S2")
    assert root.put(f"/worklist/{other['id']}", json=build_entry_json(StudyInstanceUID=uid)).status_code == 409


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"P1", "P2"}),
        ({"PatientName": "benali*"}, {"P1"}),
        ({"Modality": "MR"}, {"P2"}),
        ({"ScheduledProcedureStepSequence.Modality": "MR"}, {"P2"}),
        ({"00400100.00080060": "MR,CT"}, {"P1", "P2"}),
        ({"ScheduledProcedureStepStartDate": "20260706"}, {"P1"}),
        ({"AccessionNumber": "A2"}, {"P2"}),
        ({"limit": "1"}, {"P1"}),
        ({"limit": "1", "offset": "1"}, {"P2"}),
        ({"state": "COMPLETED"}, set()),
        ({"state": "*"}, {"P1", "P2"}),
    ],
    ids=lambda value: ",".join(map("=".join, value.items())) if isinstance(value, dict) else "".join(sorted(value)),
)
def test_list_takes_the_keys_of_qido(root, keys, expected):
    add(root, PatientID="P1", PatientName="Bénali^Omar", AccessionNumber="A1")
    add(root, PatientID="P2", Modality="MR", AccessionNumber="A2", ScheduledProcedureStepStartDate="20260707")
    assert found(root, **keys) == expected


@pytest.mark.parametrize(
    "keys",
    [
        {"ProtocolName": "X"},
        {"Nonsense": "X"},
        {"limit": "-1"},
        {"ScheduledProcedureStepStartDate": "CANARY"},
        {"state": "CANARY"},
        {"ReferencedPatientSequence": "CANARY"},
    ],
    ids=str,
)
def test_parameter_that_makes_no_sense_is_400_without_its_value(root, keys):
    response = root.get("/worklist", params=keys)
    assert response.status_code == 400
    assert "CANARY" not in response.text


@pytest.mark.parametrize(("state", "is_listed"), [("IN PROGRESS", True), ("COMPLETED", False), ("DISCONTINUED", False)])
def test_state_is_changed(root, archive, state, is_listed):
    step = add(root)
    response = root.put(f"/worklist/{step['id']}/state", json={"state": state})
    assert response.json()["state"] == state
    assert archive.worklist.get(LOCAL, step["id"]).state is StepState(state)
    assert bool(found(root)) is is_listed
    assert root.put(f"/worklist/{step['id']}/state", json={"state": "GONE"}).status_code == 400


def test_stored_study_is_linked_by_accession_number_or_study_uid(root, store):
    by_uid = add(root, RequestedProcedureID="R1", AccessionNumber="OTHER")
    by_accession = add(root, RequestedProcedureID="R2", AccessionNumber="LINK", PatientID="BUILT-1")
    not_linked = add(root, RequestedProcedureID="R3", AccessionNumber="LINK", PatientID="SOMEBODY-ELSE")
    study = by_uid["attributes"][STUDY]["Value"][0]
    store(build_dataset(StudyInstanceUID=study, AccessionNumber="LINK"))
    links = [root.get(f"/worklist/{step['id']}").json()["studies"] for step in (by_uid, by_accession, not_linked)]
    assert links == [[study], [study], []]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"PatientName": 1}',
        b'{"00100010": []}',
        b'{"00100010": {"vr": "PN", "Value": 1}}',
        b'{"00100010": {"vr": "US", "Value": ["x"]}}',
        b'{"00101030": {"vr": "DS", "Value": [{}]}}',
        b'{"00091001": {"vr": "US", "Value": [70000]}}',
        b'{"00091001": {"vr": "OB", "InlineBinary": "not base64"}}',
        b'{"00091001": {"vr": "ZZ", "Value": ["x"]}}',
        b'{"00400100": {"vr": "SQ", "Value": ["x"]}}',
        b"[" * 100_000,
        b'{"00400100": {"vr": "SQ", "Value": [' * 20 + b"{}" + b"]}}" * 20,
    ],
    ids=lambda body: body[:60].decode(),
)
def test_hostile_body_is_400(root, body):
    response = root.post("/worklist", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize("number", ["0", "x", "-1", "99999999999999999999", "9223372036854775807"])
def test_unknown_step_is_404(root, number):
    assert root.get(f"/worklist/{number}").status_code == 404
