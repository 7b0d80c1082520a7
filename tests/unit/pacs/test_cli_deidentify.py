"""``pacs deidentify`` on plain folders."""

import json
import os
import shutil
import stat

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import uid

from pacs.app.lettering import open_lettering
from pacs.cli.main import main
from pacs.deid import RELEASE_DEFAULT
from pacs.errors import PacsError
from tests.builders import as_part10, build_ct, build_series


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in" / "Zorbakhit Ali"
    source.mkdir(parents=True)
    for number, dataset in enumerate(build_series(3, PatientName="Zorbakhit^Ali", PatientID="IPP001234")):
        (source / f"Zorbakhit {number}.dcm").write_bytes(as_part10(dataset))
    (source / "notes.txt").write_text("Zorbakhit")
    return tmp_path


def run(*arguments):
    return main(["deidentify", "in", "out", "--project", "study-1", *arguments])


def test_a_folder_comes_out_under_new_uids_alone(folder, capsys):
    assert run() == 0
    said = capsys.readouterr()
    assert "3 de-identified" in said.out
    assert "1 files are no DICOM files" in said.err
    written = sorted((folder / "out").rglob("*.dcm"))
    assert len(written) == 3
    for path in written:
        dataset = pydicom.dcmread(path)
        assert path.relative_to(folder / "out").parts == (
            dataset.StudyInstanceUID,
            dataset.SeriesInstanceUID,
            f"{dataset.SOPInstanceUID}.dcm",
        )
        assert b"orbakhit" not in path.read_bytes()
    assert not [path for path in (folder / "out").rglob("*") if "orbak" in str(path.relative_to(folder)).lower()]


def test_the_key_is_made_if_asked_for_and_for_its_owner_alone(folder, capsys):
    assert run() == 0
    assert "pacs-data/deidentify/study-1.key" in capsys.readouterr().err
    shutil.rmtree(folder / "out")
    assert run("--key-file", "keys/p.key") == 1
    assert "--new-key" in capsys.readouterr().err
    key = folder / "keys" / "p.key"
    assert run("--new-key", "--key-file", "keys/p.key") == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    names = {path.name for path in (folder / "out").rglob("*.dcm")}
    shutil.rmtree(folder / "out")
    assert run("--new-key", "--key-file", "keys/p.key") == 0
    assert {path.name for path in (folder / "out").rglob("*.dcm")} == names
    key.chmod(0o644)
    assert run("--key-file", "keys/p.key") == 1
    assert "chmod 600" in capsys.readouterr().err


def test_what_is_held_back_is_counted_with_its_reasons_and_leaves_nothing(folder, capsys):
    capture = build_ct(SOPClassUID=str(uid.SecondaryCaptureImageStorage), PatientName="Zorbakhit^Ali")
    (folder / "in" / "x.dcm").write_bytes(as_part10(capture))
    assert run("--new-key", "--held-back", "held.txt", "--report", "done.jsonl", "--statement", "statement.md") == 1
    said = capsys.readouterr().out
    assert "1 held back" in said
    assert "secondary-capture" in said
    assert "Zorbakhit" not in said
    assert "secondary-capture" in (folder / "held.txt").read_text()
    assert len((folder / "done.jsonl").read_text().splitlines()) == 3
    assert "Zorbakhit" not in (folder / "done.jsonl").read_text()
    assert "113107" in (folder / "statement.md").read_text()
    assert len([path for path in (folder / "out").rglob("*") if path.is_file()]) == 3
    assert run("--waive", "secondary-capture") == 0


def test_options_of_the_standard_are_added_and_taken_away(folder):
    assert run("--new-key", "--with", "retain-uids", "--with", "retain-full-dates", "--without", "clean-graphics") == 0
    kept = [pydicom.dcmread(path) for path in (folder / "out").rglob("*.dcm")]
    assert {dataset.StudyDate for dataset in kept} == {"20240229"}
    found = {code.CodeValue for code in kept[0].DeidentificationMethodCodeSequence}
    assert {"113106", "113110"} <= found
    assert not {"113103", "113107"} & found


def test_a_profile_may_come_from_a_file(folder, capsys):
    (folder / "profile.json").write_text(json.dumps(RELEASE_DEFAULT.to_json() | {"name": "ours", "options": []}))
    assert run("--new-key", "--profile", "profile.json", "--report", "done.jsonl") == 0
    assert json.loads((folder / "done.jsonl").read_text().splitlines()[0])["profile"] == "ours"
    (folder / "profile.json").write_text("{}")
    assert run("--profile", "profile.json") == 1


@pytest.mark.parametrize("target", ["in", "in/out", "."])
def test_what_is_de_identified_never_lies_beside_what_is_not(folder, target, capsys):
    assert main(["deidentify", "in", target, "--project", "p", "--new-key"]) == 1
    assert "side by side" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../p", "P", "a b", ""])
def test_a_project_is_named_plainly(folder, name):
    assert main(["deidentify", "in", "out", "--project", name, "--new-key"]) == 1


def test_without_tesseract_nobody_says_that_text_was_looked_for(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PacsError):
        open_lettering()


@pytest.mark.skipif(
    shutil.which("tesseract") is None and os.environ.get("CI") != "true",
    reason="tesseract is not installed: apt-get install tesseract-ocr tesseract-ocr-fra tesseract-ocr-ara",
)
def test_print_on_black_is_read_and_noise_is_not():
    picture = Image.new("L", (400, 120))
    ImageDraw.Draw(picture).text((20, 40), "ZORBAKHIT ALI 1951", fill=255, font=ImageFont.load_default(24))
    reads = open_lettering()
    assert reads(np.asarray(picture))
    assert not reads(np.zeros((120, 400), dtype=np.uint8))
