"""The worklist of a served archive: filled from a folder, asked by a modality, changed by its MPPS, kept by a kill."""

import time

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import build_context

from pacs.cli.main import build_parser
from pacs.config import Settings, StorageSettings
from pacs.errors import InvalidEntry, PacsError, ScheduledStepNotFound
from tests.builders import as_part10, new_uid
from tests.conformance.dimse.scu import IMPLICIT, associate
from tests.scenarios.process import serving
from tests.worklist_entries import build_ending, build_entry, build_key, build_performed

WORKLIST, PERFORMED_STEP = "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3"
CONTEXTS = [build_context(WORKLIST, IMPLICIT), build_context(PERFORMED_STEP, IMPLICIT)]


def ask(association) -> list[Dataset]:
    answers = association.send_c_find(build_key(ScheduledProcedureStepID=""), WORKLIST)
    return [answer for _, answer in answers if answer is not None]


def wait_for_steps(running, count) -> None:
    deadline = time.monotonic() + 30
    while len(httpx.get(f"{running.url}/worklist?state=*").json()) != count:
        assert time.monotonic() < deadline, running.log.read_text()
        time.sleep(0.05)


@pytest.mark.scenario
def test_modality_works_off_a_folder_through_a_kill_and_nothing_of_it_is_logged(tmp_path):
    folder = tmp_path / "orders"
    folder.mkdir()
    entry = build_entry(PatientName="CANARY^PHI", PatientID="CANARYID", AccessionNumber="CANARYACC")
    (folder / "CANARY_PHI.wl").write_bytes(as_part10(entry))
    (folder / "CANARY_BROKEN.wl").write_bytes(b"CANARY")
    uid = new_uid()
    environment = {"PACS_WORKLIST__FOLDER": str(folder)}
    logs = []
    with serving(tmp_path / "data", **environment) as running:
        wait_for_steps(running, 1)
        with associate(running.dicom_port, CONTEXTS, calling="CT1") as modality:
            assert [str(answer.PatientName) for answer in ask(modality)] == ["CANARY^PHI"]
            assert modality.send_n_create(build_performed(entry), PERFORMED_STEP, uid)[0].Status == 0x0000
        running.kill()
        logs.append(running.log.read_text())
    with serving(tmp_path / "data", **environment) as running:
        (step,) = httpx.get(f"{running.url}/worklist").json()
        assert step["state"] == "IN PROGRESS"
        with associate(running.dicom_port, CONTEXTS, calling="CT1") as modality:
            assert modality.send_n_set(build_ending(), PERFORMED_STEP, uid)[0].Status == 0x0000
            assert ask(modality) == []
        (folder / "CANARY_PHI.wl").unlink()
        wait_for_steps(running, 0)
        assert running.stop() == 0
        logs.append(running.log.read_text())
    assert "worklist file" in logs[0]
    assert all("CANARY" not in log for log in logs)


def run(tmp_path, *arguments) -> int:
    action, *rest = arguments
    options = build_parser().parse_args(["worklist", action, *map(str, rest)])
    return options.run(Settings(data_dir=tmp_path / "data", storage=StorageSettings(url="memory:")), options)


def test_commands_add_list_change_and_remove(tmp_path, capsys):
    described = (
        "--patient-id",
        "W1",
        "--patient-name",
        "Bénali^[bold]Omar",
        "--procedure-id",
        "R1",
        "--procedure",
        "CT",
    )
    scheduled = ("--station", "CT1", "--modality", "CT", "--date", "20260706", "--time", "1015", "--step-id", "S1")
    with pytest.raises(InvalidEntry, match="ScheduledProcedureStepDescription"):
        run(tmp_path, "add", *described, *scheduled)
    assert run(tmp_path, "add", *described, *scheduled, "--description", "Thorax") == 0
    assert "Step 1 is scheduled" in capsys.readouterr().out
    assert run(tmp_path, "list", "--patient-name", "benali*", "--station", "CT1") == 0
    assert "Bénali^[bold]Omar" in capsys.readouterr().out
    assert run(tmp_path, "list", "--modality", "MR") == 0
    assert "Bénali" not in capsys.readouterr().out
    assert run(tmp_path, "set-state", "1", "completed") == 0
    run(tmp_path, "list")
    assert "Bénali" not in capsys.readouterr().out
    run(tmp_path, "list", "--all")
    assert "COMPLETED" in capsys.readouterr().out
    assert run(tmp_path, "remove", "1") == 0
    with pytest.raises(ScheduledStepNotFound):
        run(tmp_path, "remove", "1")


def test_import_takes_files_and_folders_and_says_what_was_passed_over(tmp_path, capsys):
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "good.wl").write_bytes(as_part10(build_entry()))
    (folder / "bad.json").write_text("{}")
    (folder / "other.txt").write_text("not an entry")
    assert run(tmp_path, "import", folder) == 1
    printed = capsys.readouterr().out
    assert "1 steps scheduled, 1 files passed over." in printed
    assert "bad.json: A worklist entry needs a value for PatientName" in printed
    with pytest.raises(PacsError, match="nowhere"):
        run(tmp_path, "import", tmp_path / "nowhere")
