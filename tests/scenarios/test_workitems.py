"""Work items on an archive as it runs: reports that complete them, and what the log does not say."""

import httpx
import pytest

from pacs.tags import text_of
from tests.builders import as_part10, build_pdf, new_uid
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import wait_until
from tests.work_items import build_workitem, data_set

pytestmark = pytest.mark.scenario

JSON = {"Content-Type": "application/dicom+json"}


def schedule(client, study):
    uid = new_uid()
    item = build_workitem(
        PatientName="CANARY^PHI", ReferencedRequestSequence=[data_set(StudyInstanceUID=study, AccessionNumber="CANARY")]
    )
    assert client.post(f"/workitems?{uid}", json=item, headers=JSON).status_code == 201
    assert client.get("/workitems", params={"PatientName": "CANARY*", "PatientID": '""'}).status_code == 400
    assert client.post(f"/workitems?{uid}", json=item, headers=JSON).status_code == 409
    return uid


def store(client, report):
    body, headers = multipart_body(as_part10(report)), {"Content-Type": MULTIPART_DICOM}
    assert client.post("/studies", content=body, headers=headers).status_code == 200


def state_of(client, uid):
    return text_of(client.get(f"/workitems/{uid}").json(), "ProcedureStepState")


def test_stored_report_closes_its_work_item_unless_that_is_off(tmp_path):
    early, late = build_pdf(PatientName="CANARY^PHI"), build_pdf(PatientName="CANARY^PHI")
    with (
        serving(tmp_path / "data", PACS_WORKITEMS__REPORTS_COMPLETE="false") as archive,
        httpx.Client(base_url=archive.dicomweb, timeout=30) as client,
    ):
        left_open = schedule(client, early.StudyInstanceUID)
        store(client, early)
        archive.kill()
    logs = archive.log.read_text()
    with serving(tmp_path / "data") as archive, httpx.Client(base_url=archive.dicomweb, timeout=30) as client:
        closed = schedule(client, late.StudyInstanceUID)
        store(client, late)
        wait_until(lambda: state_of(client, closed) == "COMPLETED")
        assert state_of(client, left_open) == "SCHEDULED"
        archive.stop()
    assert "CANARY" not in logs + archive.log.read_text()
