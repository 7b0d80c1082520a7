"""``pacs withheld``: what a person at the command line sees of hidden instances."""

import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.cli.main import main
from pacs.config import Settings
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct
from tests.key_objects import SAFETY, build_key_objects


@pytest.fixture
def rejected(tmp_path):
    """A data directory, and the image that a note in it rejected, with the note."""
    image = build_ct()
    note = build_key_objects(SAFETY, [image])
    with open_archive(Settings(data_dir=tmp_path / "data")) as parts:
        for dataset in (image, note):
            with parts.archive.ingest.open_spool() as spool:
                spool.write(as_part10(dataset))
                parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, may_reject=True)))
    return str(tmp_path / "data"), image, note


def test_list_names_instance_and_note_and_no_patient(rejected, capsys):
    folder, image, note = rejected
    assert main(["withheld", "list", "--data-dir", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert any(f"note {note.SOPInstanceUID}" in line for line in lines)
    assert any(f"patient-safety  instance {image.SOPInstanceUID}" in line for line in lines)
    assert not any(image.PatientID in line for line in lines)


def test_restore_shows_the_instance_again(rejected, capsys):
    folder, image, note = rejected
    assert main(["withheld", "restore", note.SOPInstanceUID, "--data-dir", folder]) == 0
    assert capsys.readouterr().out == "1 restored.\n"
    with open_archive(Settings(data_dir=folder)) as parts:
        assert len(parts.archive.retrieve.find_instances(LOCAL, image.StudyInstanceUID)) == 1


def test_restoring_what_is_not_hidden_fails(rejected, capsys):
    assert main(["withheld", "restore", "2.25.1", "--data-dir", rejected[0]]) == 1
    assert "no hidden instance" in capsys.readouterr().err
