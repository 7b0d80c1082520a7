"""A patient called CANARY^PHI goes through every door, well formed and broken, and leaves no trace in log or errors."""

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import (
    CTImageStorage,
    KeyObjectSelectionDocumentStorage,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.builders import as_dataset_bytes, as_part10, build_ct, new_uid
from tests.conformance.dimse.receivers import run_receiver
from tests.conformance.dimse.scu import associate, send_bytes
from tests.key_objects import QUALITY, build_key_objects
from tests.scenarios.process import free_port, serving

pytestmark = pytest.mark.scenario

CANARY = "CANARY"


def canary(**changes):
    values = {"PatientName": f"{CANARY}^PHI", "PatientID": f"{CANARY}-ID", "StudyDescription": f"{CANARY} study"}
    return build_ct(**values | changes)


def broken(data: bytes):
    yield data[: len(data) // 2]
    yield data.replace(b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.CANARY.5.1.4.1.1.2")
    yield data[:132] + b"\xff" * 64 + data[196:]
    yield data.replace(b"DA", b"ZZ")


def stow(archive, data: bytes):
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    return httpx.post(f"{archive.dicomweb}/studies", content=body, headers=headers, timeout=30)


def push(archive, datasets, calling="TESTER"):
    classes = [CTImageStorage, KeyObjectSelectionDocumentStorage]
    proposed = [build_context(uid, ExplicitVRLittleEndian) for uid in classes]
    with associate(archive.dicom_port, proposed, calling=calling) as association:
        contexts = {context.abstract_syntax: context for context in association.accepted_contexts}
        for dataset in datasets:
            context = contexts[dataset.SOPClassUID]
            send_bytes(association, context, dataset.SOPInstanceUID, as_dataset_bytes(dataset))


def test_no_patient_value_reaches_a_log_an_error_or_a_file_name(tmp_path):
    answers = []
    with serving(tmp_path / "data", PACS_INGEST__DUPLICATE_POLICY="reject") as archive:
        good = canary()
        data = as_part10(good)
        push(archive, [good, canary(SOPInstanceUID=good.SOPInstanceUID, StudyDescription="CANARY other")])
        answers += [stow(archive, data), *(stow(archive, part) for part in broken(data))]
        for query in ("PatientName=CANARY*", "StudyDate=CANARY", "PatientID=CANARY-ID&limit=CANARY"):
            answers.append(httpx.get(f"{archive.dicomweb}/studies?{query}"))
        answers.append(httpx.get(f"{archive.dicomweb}/studies/CANARY/metadata"))
        answers.append(httpx.post(f"{archive.dicomweb}/studies", content=data, headers={"Content-Type": "CANARY"}))
        (tmp_path / "in").mkdir()
        for number, part in enumerate(broken(data)):
            (tmp_path / "in" / f"{number}.dcm").write_bytes(part)
        command = [sys.executable, "-m", "pacs.cli.main", "import", "--data-dir", str(archive.data_dir)]
        imported = subprocess.run([*command, str(tmp_path / "in")], capture_output=True, text=True, check=False)
        log = archive.log.read_text()

    assert CANARY not in log
    assert CANARY not in imported.stdout + imported.stderr
    for answer in answers:
        shown = io.StringIO()
        shown.write("".join(f"{name}: {value}\n" for name, value in answer.headers.items()))
        if answer.status_code != 200:
            shown.write(answer.text)
        assert CANARY not in shown.getvalue(), answer.request.url.path
    names = [str(path.relative_to(tmp_path)) for path in Path(tmp_path / "data").rglob("*")]
    assert not [name for name in names if CANARY in name or good.SOPInstanceUID in name]


def run_dcmtk(archive, program: str, *arguments: str) -> None:
    command = [program, "-aec", "PACS", *arguments, "127.0.0.1", str(archive.dicom_port)]
    subprocess.run(command, capture_output=True, check=False, timeout=60)


def run_pacs(archive, *arguments: str) -> str:
    """Return what a command says about problems; what it was asked for it may print."""
    command = [sys.executable, "-m", "pacs.cli.main", *arguments, "--data-dir", str(archive.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stderr


def perform_step(archive) -> list[int]:
    """Create a performed step of the canary, and change it once more than is allowed."""
    step = Dataset()
    step.PatientName, step.PatientID = f"{CANARY}^PHI", f"{CANARY}-ID"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepID, step.PerformedStationAETitle, step.Modality = "1", "CT_1", "CT"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20260102", "101112"
    scheduled = Dataset()
    scheduled.StudyInstanceUID, scheduled.AccessionNumber = "2.25.1", f"{CANARY}-ACC"
    step.ScheduledStepAttributesSequence = [scheduled]
    ended = Dataset()
    ended.PerformedProcedureStepStatus, ended.PatientName = "DISCONTINUED", f"{CANARY}^OTHER"
    uid = "2.25.4711"
    with associate(archive.dicom_port, [build_context(ModalityPerformedProcedureStep)]) as association:
        codes = [association.send_n_create(step, ModalityPerformedProcedureStep, uid)[0].Status]
        codes += [association.send_n_set(ended, ModalityPerformedProcedureStep, uid)[0].Status for _ in range(2)]
    return codes


@pytest.mark.skipif(shutil.which("findscu") is None and os.environ.get("CI") != "true", reason="needs DCMTK")
def test_no_patient_value_is_logged_by_the_services(tmp_path):
    study_keys = ["-k", f"PatientName={CANARY}*", "-k", f"PatientID={CANARY}-ID", "-k", f"AccessionNumber={CANARY}"]
    with serving(tmp_path / "data") as archive:
        good = canary()
        push(archive, [good])
        for level in ("STUDY", "PATIENT", "SERIES", CANARY):
            run_dcmtk(archive, "findscu", "-S", "-k", f"QueryRetrieveLevel={level}", *study_keys)
        run_dcmtk(archive, "findscu", "-W", *study_keys)
        one = ["-k", "QueryRetrieveLevel=PATIENT", "-k", f"PatientID={CANARY}-ID"]
        run_dcmtk(archive, "movescu", "-P", "-aem", "NOWHERE", *one)
        run_dcmtk(archive, "getscu", "-P", "-od", str(tmp_path), *one)
        assert perform_step(archive)[0] == 0x0000
        said = run_pacs(archive, "worklist", "add", "--patient-name", f"{CANARY}^PHI", "--patient-id", f"{CANARY}-ID")
        said += run_pacs(archive, "correct", "patient", f"{CANARY}-ID", f"PatientName={CANARY}^NEW", "--reason", "test")
        said += run_pacs(archive, "withheld", "list")
        log = archive.log.read_text()
    assert CANARY not in log
    assert "Traceback" not in log
    assert CANARY not in "".join(line for line in said.splitlines() if not line.startswith("usage:"))


SETTINGS = """
[routing]
quiet_seconds = 0
[[routing.rules]]
to = ["DEST", "FULL", "DOWN"]
[commitment]
wait_seconds = 0
[[dimse.peers]]
ae_title = "CT1"
address = "127.0.0.1"
port = {down}
may_reject = true
"""
PEER = '[[dimse.peers]]\nae_title = "{}"\naddress = "127.0.0.1"\nport = {}\nrequest_commitment = true\n'


def refuse(_):
    """Return a refusal whose comment repeats what was sent, as some devices do."""
    status = Dataset()
    status.Status, status.ErrorComment = 0xA700, f"no room for {CANARY}^PHI"
    return status


def commit(archive, *datasets) -> int:
    request = Dataset()
    request.TransactionUID = new_uid()
    request.PatientName, request.PatientID = f"{CANARY}^PHI", f"{CANARY}-ID"  # nothing that belongs there
    request.ReferencedSOPSequence = []
    for dataset in datasets:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    model, instance = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    with associate(archive.dicom_port, [build_context(model)], calling="CT1") as association:
        return association.send_n_action(request, 1, model, instance)[0].Status


def wait_for_log(archive, *texts) -> str:
    deadline = time.monotonic() + 60
    while not all(text in (log := archive.log.read_text()) for text in texts):
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
    return log


@pytest.mark.skipif(shutil.which("movescu") is None and os.environ.get("CI") != "true", reason="needs DCMTK")
def test_no_patient_value_is_logged_by_what_is_sent_on_rejected_and_committed(tmp_path):
    config, down = tmp_path / "pacs.toml", free_port()
    with run_receiver() as receiver, run_receiver(refuse, ae_title="FULL") as full:
        ports = {"DEST": receiver.port, "FULL": full.port, "DOWN": down}
        config.write_text(SETTINGS.format(down=down) + "".join(PEER.format(*peer) for peer in ports.items()))
        with serving(tmp_path / "data", config=config) as archive:
            first, second = canary(), canary()
            second.StudyInstanceUID, second.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
            push(archive, [first, second])
            one = ["-k", "QueryRetrieveLevel=PATIENT", "-k", f"PatientID={CANARY}-ID"]
            for title in ports:
                run_dcmtk(archive, "movescu", "-P", "-aem", title, *one)
            note = build_key_objects(QUALITY, [second], SeriesDescription=f"{CANARY} rejected")
            push(archive, [note], calling="NOBODY")
            push(archive, [note], calling="CT1")
            assert commit(archive, first, canary()) == 0x0000
            log = wait_for_log(archive, "FULL", "DOWN", "DEST", "CT1")
            queue = httpx.get(f"{archive.url}/queue", params={"limit": 1000}, timeout=30)
            withheld = httpx.get(f"{archive.url}/withheld", timeout=30)
            said = run_pacs(archive, "queue", "list", "--config", str(config))
            assert archive.stop() == 0
            log = archive.log.read_text()
    assert first.SOPInstanceUID in receiver.data_sets
    assert queue.is_success
    assert {"FULL", "DOWN"} <= {job["lane"] for job in queue.json()}
    assert withheld.is_success
    assert second.SOPInstanceUID in withheld.text
    for text in (log, queue.text, withheld.text, said):
        assert CANARY not in text
        assert "Traceback" not in text
