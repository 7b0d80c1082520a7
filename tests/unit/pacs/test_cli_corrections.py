"""Corrections as an administrator types them."""

import getpass
from types import SimpleNamespace

import pytest

from pacs.cli.main import main
from tests.builders import as_part10, build_ct

WHY = ("--reason", "Wrong patient chosen")


@pytest.fixture
def pacs(tmp_path, monkeypatch, capsys):
    """Run a command in this process; one of its own for each would take longer than what it does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pacs.cli.main.configure_logging", lambda _: None)

    def run(*arguments):
        code = main(arguments)
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


def test_corrections_are_made_listed_and_undone(tmp_path, pacs):
    wrong, right = build_ct(PatientID="P1", PatientName="CANARY^ONE"), build_ct(PatientID="P2")
    (tmp_path / "1.dcm").write_bytes(as_part10(wrong))
    (tmp_path / "2.dcm").write_bytes(as_part10(right))
    pacs("import", "1.dcm", "2.dcm")
    assert pacs("correct", "merge", "P1", "P2", *WHY).stdout.startswith("Correction 1 is made")
    done = pacs("correct", "study", wrong.StudyInstanceUID, "AccessionNumber=A9", "StudyID=", *WHY)
    assert "Correction 2 is made" in done.stdout
    listed = pacs("correct", "list")
    assert getpass.getuser() in listed.stdout
    assert "merge-patients" in listed.stdout
    assert wrong.StudyInstanceUID in listed.stdout
    assert "CANARY" not in listed.stdout + listed.stderr
    assert "Correction 1 is undone" in pacs("correct", "undo", "1").stdout
    again = pacs("correct", "undo", "1")
    assert (again.returncode, again.stderr) == (1, "pacs: This correction is undone already.\n")
    moved = pacs("correct", "move", wrong.StudyInstanceUID, "P404", *WHY)
    assert (moved.returncode, moved.stderr) == (1, "pacs: There is no such patient.\n")
    assert pacs("correct", "patient", "P1", "PatientSex=F", *WHY).returncode == 0


def test_conflicts_are_listed_and_decided(tmp_path, pacs):
    first = build_ct()
    (tmp_path / "1.dcm").write_bytes(as_part10(first))
    (tmp_path / "2.dcm").write_bytes(as_part10(build_ct(SOPInstanceUID=first.SOPInstanceUID)))
    pacs("import", "1.dcm", "2.dcm")
    listed = pacs("conflicts", "list")
    assert first.SOPInstanceUID in listed.stdout
    assert pacs("conflicts", "resolve", "1", "--keep", "other", *WHY).returncode == 0
    assert "0 shown" in pacs("conflicts", "list").stderr
    assert "other copy" in pacs("conflicts", "list", "--resolved").stdout
    assert pacs("correct", "undo", "1").returncode == 0
    assert "1 shown" in pacs("conflicts", "list").stderr
