"""Searching for work items (PS3.18 11.9; PS3.4 CC.2.8)."""

import httpx
import pytest

from dicomweb.app import create_app
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.workitems import worklist
from tests.builders import new_uid
from tests.conformance.dicomweb.service import serving
from tests.conformance.dicomweb.test_workitems import INSTANCE, JSON, LABEL, STATE, value
from tests.work_items import SEGMENTING, build_change, build_workitem, code


@pytest.fixture
def http(shared_http):
    """One archive for all tests: each makes items of its own."""
    return shared_http


@pytest.fixture(scope="module")
def three_items(tmp_path_factory):
    """A client of an archive with three items, for searches."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    other = {"PatientID": "P2", "PatientName": "الفاسي^فاطمة", "ScheduledProcedureStepStartDateTime": "20260707080000"}
    third = {
        "PatientID": "P3",
        "WorklistLabel": "SEGMENTATION",
        "ScheduledWorkitemCodeSequence": [code(*SEGMENTING)],
        "ScheduledStationNameCodeSequence": [code("AI1", "99TEST", "AI 1")],
        "ScheduledProcedureStepStartDateTime": "20260801100000+0100",
    }
    with (
        open_archive(settings) as parts,
        serving(create_app(parts.archive, is_ready=dict)) as address,
        httpx.Client(base_url=f"{address}/dicom-web", timeout=30) as client,
    ):
        for uid, overrides in (("1.1", {}), ("1.2", other), ("1.3", third)):
            assert client.post(f"/workitems?{uid}", json=build_workitem(**overrides), headers=JSON).is_success
        assert client.put("/workitems/1.1/state", json=build_change("IN PROGRESS"), headers=JSON).is_success
        yield client


def found(http, **keys) -> set[str]:
    response = http.get("/workitems", params=keys)
    assert response.status_code in (200, 204), response.text
    return {value(item, "SOPInstanceUID") for item in response.json()} if response.status_code == 200 else set()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"1.1", "1.2", "1.3"}),
        ({"ProcedureStepState": "SCHEDULED"}, {"1.2", "1.3"}),
        ({"ProcedureStepState": "SCHEDULED,IN PROGRESS"}, {"1.1", "1.2", "1.3"}),
        ({"00741000": "IN PROGRESS"}, {"1.1"}),
        ({"PatientID": "P2"}, {"1.2"}),
        ({"PatientID": "P?"}, {"1.1", "1.2", "1.3"}),
        ({"PatientName": "benali*"}, {"1.1", "1.3"}),
        ({"PatientName": "BENALI^OMAR"}, {"1.1", "1.3"}),
        ({"SOPInstanceUID": "1.1,1.3,1.9"}, {"1.1", "1.3"}),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.34.6.1", "WorklistLabel": "SEG*"}, {"1.3"}),
        ({"WorklistLabel": "READING"}, {"1.1", "1.2"}),
        ({"ScheduledWorkitemCodeSequence.CodeValue": "110001"}, {"1.3"}),
        ({"00404018.00080100": "110001"}, {"1.3"}),
        ({"ScheduledWorkitemCodeSequence.CodeValue": "110001", "PatientID": "P1"}, set()),
        ({"ScheduledStationNameCodeSequence.CodeValue": "AI1"}, {"1.3"}),
        ({"ReferencedRequestSequence.AccessionNumber": "A1"}, {"1.1", "1.2", "1.3"}),
        ({"ReferencedRequestSequence.StudyInstanceUID": "1.2.3"}, {"1.1", "1.2", "1.3"}),
        ({"ScheduledProcedureStepStartDateTime": "20260706090000"}, {"1.1"}),
        ({"ScheduledProcedureStepStartDateTime": "20260707"}, {"1.2"}),
        ({"ScheduledProcedureStepStartDateTime": "20260706-20260707"}, {"1.1", "1.2"}),
        ({"ScheduledProcedureStepStartDateTime": "20260707080000-"}, {"1.2", "1.3"}),
        ({"ScheduledProcedureStepStartDateTime": "-202607"}, {"1.1", "1.2"}),
        ({"ScheduledProcedureStepStartDateTime": "20260801100000+0000-20260801110000+0000"}, set()),
        ({"ScheduledProcedureStepStartDateTime": "20260801090000+0000-20260801093000+0000"}, {"1.3"}),
        ({"AdmissionID": '""', "emptyvaluematching": "true", "PatientID": "P1"}, {"1.1"}),
        ({"Nonsense": "x", "PatientID": "P3"}, {"1.3"}),
        ({"limit": "1"}, {"1.1"}),
        ({"limit": "1", "offset": "1"}, {"1.2"}),
        ({"offset": "3"}, set()),
        ({"limit": "0"}, set()),
    ],
    ids=lambda one: ",".join(map("=".join, one.items())) if isinstance(one, dict) else "",
)
def test_search_finds_by_keyword_tag_path_wildcard_and_range(three_items, keys, expected):
    assert found(three_items, **keys) == expected


def test_search_says_what_it_left_out(three_items):
    response = three_items.get("/workitems", params={"limit": "1", "Nonsense": "CANARY", "fuzzymatching": "true"})
    warnings = response.headers.get_list("warning")
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
        "The parameter Nonsense is not supported for matching and has been ignored.",
        "There are additional results that can be requested.",
    ]


def test_large_items_come_on_pages_that_memory_holds(three_items, monkeypatch):
    monkeypatch.setattr(worklist, "MAX_FOUND_CHARACTERS", 10)
    uids = []
    for offset in range(3):
        response = three_items.get("/workitems", params={"offset": str(offset)})
        (item,) = response.json()
        uids += item["00080018"]["Value"]
        assert ("additional results" in response.headers.get("warning", "")) == (offset < 2)
    assert uids == ["1.1", "1.2", "1.3"]


def test_nothing_found_is_204_without_a_body(http):
    response = http.get("/workitems", params={"PatientID": "CANARY"})
    assert response.status_code == 204
    assert response.content == b""


def test_search_returns_what_the_table_says_what_was_matched_and_what_is_asked_for(http):
    keys = {"WorklistLabel": new_uid()}
    payload = build_workitem(CommentsOnTheScheduledProcedureStep="Soon", MedicalAlerts="Pacemaker", **keys)
    assert http.post("/workitems", json=payload, headers=JSON).status_code == 201
    (item,) = http.get("/workitems", params=keys).json()
    assert {STATE, INSTANCE, LABEL, "00404005", "00100010", "00404021", "00380010"} <= item.keys()
    assert item["00404021"] == {"vr": "SQ"}
    assert value(item, "MedicalAlerts") == "Pacemaker"
    assert "00400400" not in item
    (item,) = http.get("/workitems", params=keys | {"includefield": "CommentsOnTheScheduledProcedureStep"}).json()
    assert value(item, "CommentsOnTheScheduledProcedureStep") == "Soon"
    (item,) = http.get("/workitems", params=keys | {"CommentsOnTheScheduledProcedureStep": "S*"}).json()
    assert value(item, "CommentsOnTheScheduledProcedureStep") == "Soon"
    (item,) = http.get("/workitems", params=keys | {"includefield": "all"}).json()
    assert {"00400400", "00404010"} <= item.keys()


@pytest.mark.parametrize(
    "keys",
    [
        {"limit": "-1"},
        {"offset": "CANARY"},
        {"offset": "999999999"},
        {"fuzzymatching": "CANARY"},
        {"PatientBirthDate": "CANARY"},
        {"PatientID": ["CANARY1", "CANARY2"]},
        {"PatientID": '""'},
        {"ReferencedRequestSequence": "CANARY"},
        {"PatientID.CodeValue": "CANARY"},
    ],
    ids=str,
)
def test_search_that_makes_no_sense_is_400_without_its_value(http, keys):
    response = http.get("/workitems", params=keys)
    assert response.status_code == 400
    assert "CANARY" not in response.text
