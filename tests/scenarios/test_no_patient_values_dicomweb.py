"""CANARY^PHI goes through the doors of the web, asked for, stored, rendered, told and refused: it leaves no trace."""

import contextlib
import itertools
import json
import shutil
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from dicomweb import dicom_xml
from tests.builders import as_part10, build_ct, build_multiframe, build_sr, new_uid
from tests.conformance.dicomweb.apart import CONTENT_TYPES, JSON, XML, apart_body
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import wait_until, write_settings
from tests.webhook_receiver import answering, receiving
from tests.work_items import build_change, build_workitem, data_set

pytestmark = pytest.mark.scenario

CANARY = "CANARY"
NAMES = {"PatientName": f"{CANARY}^PHI", "PatientID": f"{CANARY}-ID", "StudyDescription": f"{CANARY} study"}
DICOM_JSON = {"Content-Type": JSON}


def store(client, *datasets):
    body = multipart_body(*map(as_part10, datasets))
    yield client.post("/studies", content=body, headers={"Content-Type": MULTIPART_DICOM})


def store_apart(client):
    """Store metadata and bulk data that lack what they name, are cut, or make no sense."""
    metadata = build_ct(**NAMES).to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: CANARY)
    wrong = metadata | {"00100040": {"vr": "CS", "Value": [{CANARY: CANARY}]}, CANARY: {"vr": "LO"}}
    for one, (content, encode) in itertools.product(
        (metadata, wrong), ((JSON, lambda model: json.dumps([model]).encode()), (XML, dicom_xml.encode))
    ):
        with contextlib.suppress(ValueError, TypeError):  # what XML cannot say
            document = encode(one)
            for body in (document, document[: len(document) // 2], document.replace(b"CANARY", b"<CANARY&")):
                parts = apart_body((content, CANARY, body))
                yield client.post("/studies", content=parts, headers={"Content-Type": CONTENT_TYPES[content]})


def look(client, image, cine, report):
    study = f"/studies/{image.StudyInstanceUID}"
    path = f"{study}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
    moving = f"/studies/{cine.StudyInstanceUID}/series/{cine.SeriesInstanceUID}/instances/{cine.SOPInstanceUID}"
    told = f"/studies/{report.StudyInstanceUID}/series/{report.SeriesInstanceUID}/instances/{report.SOPInstanceUID}"
    yield client.get(f"{path}/rendered", params={"annotation": "patient"}, headers={"Accept": "image/png"})
    yield client.get(f"{path}/thumbnail")
    for kind in ("image/gif", "video/mp4", CANARY):
        yield client.get(f"{moving}/rendered", params={"annotation": "patient"}, headers={"Accept": kind})
    yield client.get(f"{told}/rendered", headers={"Accept": "text/html"})
    for name in ("annotation", "viewport", "window", "quality", "iccprofile", "accept"):
        yield client.get(f"{path}/rendered", params={name: f"{CANARY},1"})
    yield client.get(f"{path}/frames/{CANARY}/rendered")
    wado = {
        "requestType": "WADO",
        "studyUID": image.StudyInstanceUID,
        "seriesUID": image.SeriesInstanceUID,
        "objectUID": image.SOPInstanceUID,
    }
    yield client.get("/wado", params=wado | {"annotation": "patient"})
    for name in (*wado, "contentType", "rows", "region", "windowCenter", "annotation", "transferSyntax", CANARY):
        yield client.get("/wado", params=wado | {name: CANARY})
    for fuzzy, accept in (("true", JSON), (CANARY, JSON), ("true", f'multipart/related; type="{XML}"')):
        query = {"PatientName": f"{CANARY}^FHI", "fuzzymatching": fuzzy, "StudyDate": ""}
        yield client.get("/studies", params=query, headers={"Accept": accept})
    yield client.get("/studies", params=[("PatientName", f"{CANARY}{n}") for n in range(11)] + [("fuzzymatching", "1")])
    yield client.get(f"{study}/metadata", headers={"Accept": f'multipart/related; type="{XML}"'})
    yield client.delete(f"{study}/series/{CANARY}")
    yield client.delete(path)


def work(client):
    uid = new_uid()
    item = build_workitem(PatientName=f"{CANARY}^PHI", AdmissionID=CANARY)
    for address, body in itertools.product((uid, uid, CANARY), (item, item | {CANARY: {}}, [item, item])):
        yield client.post(f"/workitems?{address}", json=body, headers=DICOM_JSON)
    for query in ({"PatientName": f"{CANARY}*"}, {"PatientName": CANARY, "fuzzymatching": "true"}, {"limit": CANARY}):
        yield client.get("/workitems", params=query)
    change = data_set(PatientName=f"{CANARY}^OTHER", WorklistLabel=CANARY)
    yield client.post(f"/workitems/{uid}", json=change, headers=DICOM_JSON)
    yield client.post(f"/workitems/{uid}?{CANARY}", json=change, headers=DICOM_JSON)
    yield client.post(f"/workitems/{uid}/subscribers/DESK?filter=PatientName={CANARY}", json={})
    filtered = "/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/DESK"
    yield client.post(f"{filtered}?filter=PatientName={CANARY}")
    yield client.post(f"{filtered}?filter={CANARY}={CANARY}")
    yield client.post(f"/workitems/{uid}/cancelrequest/{CANARY}", json=data_set(ReasonForCancellation=CANARY))
    yield client.put(f"/workitems/{uid}/state", json=build_change(CANARY, CANARY), headers=DICOM_JSON)


def watch_commands(stopping, seen):
    """Read what every child process was started with."""
    while not stopping.wait(0.01):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"ffmpeg" in (line := path.read_bytes()):
                    seen.append(line)


def shown_by(answer):
    """Return what an answer shows to those who see only its head, or that it was refused."""
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    return head if answer.is_success else head + answer.text


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_patient_value_reaches_a_log_an_error_or_a_name_by_the_new_doors(tmp_path):
    image, cine, report = build_ct(**NAMES), build_multiframe(3, **NAMES), build_sr(**NAMES)
    stopping, commands = threading.Event(), []
    watcher = threading.Thread(target=watch_commands, args=(stopping, commands))
    watcher.start()
    with receiving() as receiver:
        receiver.answer = answering(500)
        hook = f'[[webhooks]]\nname = "HOOK"\nurl = "{receiver.url}"\nsecret = "{"s" * 20}"\n'
        config = write_settings(tmp_path / "pacs.toml", hook)
        with (
            serving(tmp_path / "data", config=config, PACS_HTTP__MAY_DELETE="true") as archive,
            httpx.Client(base_url=archive.dicomweb, timeout=60) as client,
        ):
            answers = [*store(client, image, cine, report), *store_apart(client), *work(client)]
            answers += look(client, image, cine, report)
            wait_until(lambda: receiver.requests)
            plain = [httpx.get(f"{archive.url}/{path}").text for path in ("changes", "queue", "withheld", "metrics")]
            plain += [httpx.get(f"{archive.url}/changes", params={"after": CANARY}).text]
            time.sleep(1)  # for what is done in the background
            assert archive.stop() == 0
            log = archive.log.read_text()
    stopping.set()
    watcher.join()

    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []
    assert "Traceback" not in log
    for text in (log, *plain, *(body.decode() for _, body, _ in receiver.requests)):
        assert CANARY not in text
    for answer in answers:
        assert CANARY not in shown_by(answer), (answer.request.method, answer.request.url)
    names = [str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*")]
    assert not [name for name in names if CANARY in name or image.SOPInstanceUID in name]
    assert commands or not shutil.which("ffmpeg")
    assert not [command for command in commands if CANARY.encode() in command]
