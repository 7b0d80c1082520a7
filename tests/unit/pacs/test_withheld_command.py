"""``pacs withheld``: what a person at the command line sees of hidden instances."""

import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.cli.main import main
from pacs.config import Settings
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct, build_series, new_uid
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


@pytest.fixture
def deleted(tmp_path):
    """A data directory, and two series of one study that was deleted in it."""
    study = new_uid()
    series = [build_series(2, StudyInstanceUID=study) for _ in range(2)]
    with open_archive(Settings(data_dir=tmp_path / "data")) as parts:
        for dataset in (*series[0], *series[1]):
            with parts.archive.ingest.open_spool() as spool:
                spool.write(as_part10(dataset))
                parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE)))
        parts.archive.withhold.withhold(LOCAL, study)
    return str(tmp_path / "data"), study, series[0][0].SeriesInstanceUID


def test_a_deleted_series_and_then_the_rest_of_its_study_are_restored(deleted, capsys):
    folder, study, series = deleted
    order = ["withheld", "restore", "--data-dir", folder, "--study", study]
    assert main([*order, "--series", series]) == 0
    assert main(order) == 0
    assert capsys.readouterr().out == "2 restored.\n2 restored.\n"
    assert main(order) == 1
    with open_archive(Settings(data_dir=folder)) as parts:
        assert len(parts.archive.retrieve.find_instances(LOCAL, study)) == 4


@pytest.mark.parametrize("said", [[], ["2.25.1", "--study", "2.25.2"], ["--series", "2.25.3"]])
def test_an_order_to_restore_that_says_nothing_clear_restores_nothing(deleted, capsys, said):
    assert main(["withheld", "restore", *said, "--data-dir", deleted[0]]) == 1
    assert "Say what" in capsys.readouterr().err
