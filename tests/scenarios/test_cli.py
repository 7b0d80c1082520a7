"""The commands as an administrator types them."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.builders import as_part10, build_ct

pytestmark = pytest.mark.scenario


def pacs(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pacs.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
        env=os.environ | environment,
    )


def test_import_summarises_what_became_of_every_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    first = build_ct()
    (folder / "1.dcm").write_bytes(as_part10(first))
    (folder / "2.dcm").write_bytes(as_part10(first))
    (folder / "3.dcm").write_bytes(as_part10(build_ct(SOPInstanceUID=first.SOPInstanceUID, PatientName="Other^Name")))
    (folder / "4.dcm").write_bytes(b"nothing" * 100)
    done = pacs("import", str(folder), cwd=tmp_path)
    assert done.returncode == 1
    assert "2 accepted, 1 already there, 1 rejected, of 4 files" in done.stdout
    assert "4.dcm" in done.stdout
    assert "not a DICOM data set" in done.stdout
    assert "Other" not in done.stdout + done.stderr


def test_import_if_empty_does_nothing_the_second_time(tmp_path):
    (tmp_path / "1.dcm").write_bytes(as_part10(build_ct()))
    assert "1 accepted" in pacs("import", "--if-empty", "1.dcm", cwd=tmp_path).stdout
    second = pacs("import", "--if-empty", "1.dcm", cwd=tmp_path)
    assert (second.returncode, second.stdout) == (0, "")


def test_import_of_a_path_that_does_not_exist_is_one_sentence(tmp_path):
    done = pacs("import", "absent", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "pacs: There is no absent."


def test_verify_names_the_instance_whose_bytes_changed(tmp_path):
    dataset = build_ct()
    (tmp_path / "1.dcm").write_bytes(as_part10(dataset))
    (tmp_path / "2.dcm").write_bytes(as_part10(build_ct()))
    pacs("import", "1.dcm", "2.dcm", cwd=tmp_path)
    assert pacs("verify", cwd=tmp_path).returncode == 0
    for blob in (tmp_path / "pacs-data" / "objects").rglob("*"):
        if blob.is_file() and dataset.SOPInstanceUID.encode() in blob.read_bytes():
            blob.chmod(0o600)
            blob.write_bytes(blob.read_bytes().replace(b"TEST", b"TOST"))
    done = pacs("verify", cwd=tmp_path)
    assert done.returncode == 1
    assert dataset.SOPInstanceUID in done.stdout
    assert "2 objects verified, 1 with problems" in done.stdout


def test_verify_names_the_instance_whose_blob_is_gone(tmp_path):
    dataset = build_ct()
    (tmp_path / "1.dcm").write_bytes(as_part10(dataset))
    pacs("import", "1.dcm", cwd=tmp_path)
    for blob in (tmp_path / "pacs-data" / "objects" / "sha256").rglob("*"):
        if blob.is_file():
            blob.unlink()
    done = pacs("verify", cwd=tmp_path)
    assert done.returncode == 1
    assert dataset.SOPInstanceUID in done.stdout


def test_config_prints_what_is_in_force_without_secrets(tmp_path):
    (tmp_path / "pacs.toml").write_text("[http]\nport = 9090\n")
    done = pacs("config", cwd=tmp_path, PACS_STORAGE__SECRET_KEY="hide-me", PACS_DIMSE__AE_TITLE="RABAT")
    assert "hide-me" not in done.stdout
    printed = json.loads(done.stdout)
    assert printed["http"]["port"] == 9090
    assert printed["dimse"]["ae_title"] == "RABAT"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PACS_HTTP__PORT": "no"}, "PACS_HTTP__PORT"),
        ({"PACS_STORAGE__URL": "gopher://x"}, "storage.url"),
        ({"PACS_DATABASE__URL": "mysql://x"}, "database.url"),
        ({"PACS_DATA_DIR": "/proc/none"}, "/proc/none"),
        ({"PACS_INGEST__CHARACTER_SET": "Windows-9999"}, "ingest.character_set"),
    ],
)
def test_wrong_setting_is_one_sentence_and_no_traceback(tmp_path, environment, named):
    done = pacs("serve", "--dicom-port", "0", cwd=tmp_path, **{"PACS_HTTP__PORT": "0"} | environment)
    assert done.returncode != 0
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--dicom-port", "--http-port"])
def test_port_in_use_is_one_sentence_that_names_it(tmp_path, option):
    other = "--http-port" if option == "--dicom-port" else "--dicom-port"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = pacs("serve", option, port, other, "0", cwd=tmp_path)
    assert done.returncode == 2
    assert port in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_migrate_can_be_run_again(tmp_path):
    assert pacs("migrate", cwd=tmp_path).returncode == 0
    assert "up to date" in pacs("migrate", cwd=tmp_path).stdout


def test_help_names_every_command(tmp_path):
    text = pacs("--help", cwd=tmp_path).stdout
    for command in ("serve", "import", "verify", "migrate", "config", "fetch-viewer"):
        assert command in text
