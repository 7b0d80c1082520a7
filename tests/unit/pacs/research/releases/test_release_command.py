"""Releases as people type them: from an approved cohort to what is published, and to its end."""

from types import SimpleNamespace

import pytest

from pacs.app import open_archive
from pacs.cli.main import main
from pacs.config import Settings
from tests.builders import build_dataset, build_image
from tests.releases import SLUG, build_patients, make_project, store

WHY = ("--reason", "A mistake in it")


@pytest.fixture
def pacs(tmp_path, monkeypatch, capsys):
    """Run a command as the steward, in this process."""
    monkeypatch.setattr("pacs.cli.main.configure_logging", lambda _: None)

    def run(*arguments, by="steward"):
        monkeypatch.setattr("getpass.getuser", lambda: by)
        code = main(["research", *arguments, "--data-dir", str(tmp_path / "archive")])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def project(tmp_path):
    """Six patients with two slices each, and two screen shots of the first of them."""
    with open_archive(Settings(data_dir=tmp_path / "archive")) as parts:
        datasets = build_patients(6)
        captures = [build_dataset(Modality="CT", PatientID=datasets[0].PatientID) for _ in range(2)]
        for capture in captures:
            capture.update(build_image(bits=8))
        store(parts, *datasets, *captures)
        make_project(parts)


def test_a_release_from_its_cohort_to_its_end(pacs, project):
    made = pacs("release", SLUG, "everything")
    assert made.stdout == "Version 1: quarantine, 14 of 14 instances, 2 wait for a decision.\n"
    assert "Releasing" in made.stderr
    assert pacs("publish", SLUG, "1").stderr == "pacs: 2 objects of the release wait for a decision.\n"
    listed = pacs("quarantine", "list", SLUG, "1")
    assert listed.stderr == "2 kept back.\n"
    assert listed.stdout.count("secondary-capture") == 2
    first = listed.stdout.split("│")[1].strip()
    released = pacs("quarantine", "release", SLUG, "1", first, "--remark", "Nothing is written in it")
    assert released.stdout == "1 released; 1 wait for a decision.\n"
    refused = pacs("quarantine", "refuse", SLUG, "1", "--reason", "secondary-capture")
    assert refused.stdout == "1 refused; 0 wait for a decision.\n"
    assert pacs("quarantine", "list", SLUG, "1").stderr == "0 kept back.\n"
    assert pacs("quarantine", "list", SLUG, "1", "--all").stderr == "2 kept back.\n"
    assert (
        pacs("publish", SLUG, "1").stdout == "Version 1 is published: 6 patients, 7 studies, 7 series, 13 instances.\n"
    )
    assert "published" in pacs("releases", SLUG).stdout
    assert pacs("abandon", SLUG, "1", *WHY).code == 1
    assert pacs("withdraw", SLUG, "1", *WHY).stdout == "Version 1 is withdrawn.\n"
    assert pacs("abandon", SLUG, "1", *WHY).stdout == "Version 1: nothing is left of it.\n"
    assert "A mistake in it" in pacs("releases", SLUG).stdout


def test_what_cannot_be_done_says_so_in_one_sentence(pacs, project):
    assert pacs("release", SLUG, "nothing").stderr == "pacs: The project has no such cohort.\n"
    assert pacs("release", SLUG).stderr.startswith("pacs: The project has no release that is being made")
    assert pacs("publish", SLUG, "1").stderr == "pacs: The project has no such release.\n"
    assert pacs("release", SLUG, "everything", by="researcher").code == 1
    assert pacs("release", "none", "everything").stderr == "pacs: There is no such project.\n"
    pacs("release", SLUG, "1")
    assert pacs("quarantine", "release", SLUG, "1").stderr.startswith("pacs: Say which")
    assert (
        pacs("quarantine", "refuse", SLUG, "1", "99").stderr == "pacs: Nothing of this number waits for a decision.\n"
    )


def test_releases_are_verified_with_everything_else(pacs, project, tmp_path, capsys):
    pacs("release", SLUG, "everything")
    assert main(["verify", "--data-dir", str(tmp_path / "archive")]) == 0
    assert capsys.readouterr().out == "26 objects verified, 0 with problems.\n"
    blob = next(path for path in (tmp_path / "archive" / "research-objects").rglob("sha256/*/*"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert main(["verify", "--data-dir", str(tmp_path / "archive")]) == 1
    said = capsys.readouterr().out
    assert said.startswith("damaged: instance 2.25.")
    assert blob.name in said
