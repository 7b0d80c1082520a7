"""A patient called CANARY^PHI goes through every door, well formed and broken, and leaves no trace in log or errors."""

import io
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage

from tests.builders import as_dataset_bytes, as_part10, build_ct
from tests.conformance.dimse.scu import associate, send_bytes
from tests.scenarios.process import serving

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


def push(archive, datasets):
    with associate(archive.dicom_port, [build_context(CTImageStorage, ExplicitVRLittleEndian)]) as association:
        (context,) = association.accepted_contexts
        for dataset in datasets:
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
