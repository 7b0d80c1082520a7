import io
import zipfile

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from pacs.ingest.importer import import_entry, iter_entries
from pacs.ingest.outcome import Disposition
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct

ORIGIN = Origin(Door.IMPORT)


@pytest.fixture
def folder(tmp_path):
    """A folder beside the archive's own."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(archive, *paths):
    return [import_entry(archive.ingest, entry, ORIGIN) for entry in iter_entries(paths)]


def dispositions(results):
    return [result.outcome.disposition if result.outcome else result.problem for result in results]


def test_folder_is_imported_with_what_is_below_it(archive, folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "one.dcm").write_bytes(as_part10(build_ct()))
    (folder / "a" / "two").write_bytes(as_part10(build_ct()))
    (folder / "README.md").write_text("not for the archive")
    assert dispositions(run(archive, folder)) == [Disposition.STORED] * 2


def test_second_import_finds_everything_there(archive, folder):
    (folder / "one.dcm").write_bytes(as_part10(build_ct()))
    run(archive, folder)
    assert dispositions(run(archive, folder)) == [Disposition.DUPLICATE]


def test_file_that_is_no_dicom_is_rejected_and_the_rest_goes_on(archive, folder):
    (folder / "1.dcm").write_bytes(b"no DICOM at all" * 20)
    (folder / "2.dcm").write_bytes(as_part10(build_ct()))
    assert dispositions(run(archive, folder)) == [Disposition.REJECTED, Disposition.STORED]


def test_zip_file_is_imported(archive, folder):
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as archived:
        archived.writestr("disc/one.dcm", as_part10(build_ct()))
        archived.writestr("disc/readme.txt", "hello")
        archived.writestr("../../escape.dcm", as_part10(build_ct()))
    assert dispositions(run(archive, folder / "study.zip")) == [Disposition.STORED] * 2


def test_zip_bomb_is_refused_before_it_is_unpacked(archive, folder):
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archived:
        with archived.open("zeros.dcm", "w", force_zip64=True) as entry:
            for _ in range(300):
                entry.write(bytes(1024 * 1024))
        archived.writestr("one.dcm", as_part10(build_ct()))
    bomb, sound = dispositions(run(archive, folder / "bomb.zip"))
    assert "200 times" in bomb
    assert sound is Disposition.STORED


def test_damaged_zip_entry_is_named_and_the_rest_goes_on(archive, folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archived:
        archived.writestr("1.dcm", as_part10(build_ct(PatientID="FLIP-ME")))
        archived.writestr("2.dcm", as_part10(build_ct()))
    (folder / "study.zip").write_bytes(buffer.getvalue().replace(b"FLIP-ME", b"FLOP-ME"))
    damaged, sound = run(archive, folder / "study.zip")
    assert "unpacked" in damaged.problem
    assert "1.dcm" in damaged.name
    assert sound.outcome.disposition is Disposition.STORED


def test_truncated_zip_file_is_one_problem(archive, folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archived:
        archived.writestr("1.dcm", as_part10(build_ct()))
    (folder / "study.zip").write_bytes(buffer.getvalue()[:-30])
    (result,) = run(archive, folder / "study.zip")
    assert result.outcome is None or result.outcome.disposition is Disposition.REJECTED


def write_disc(folder, *file_ids):
    """Write a DICOMDIR that refers to these files, the way CDs spell them."""
    with pydicom.config.disable_value_validation():
        return _write_disc(folder, file_ids)


def _write_disc(folder, file_ids):
    directory = Dataset()
    directory.FileSetID = "DISC"
    directory.DirectoryRecordSequence = [Dataset() for _ in file_ids]
    for record, file_id in zip(directory.DirectoryRecordSequence, file_ids, strict=True):
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = file_id.split("/")
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    folder.mkdir(exist_ok=True)
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_dicomdir_imports_the_files_it_names_whatever_their_case(archive, folder):
    (folder / "pt1").mkdir()
    for number in (1, 2):
        (folder / "pt1" / f"im{number}").write_bytes(as_part10(build_ct()))
    assert dispositions(run(archive, write_disc(folder, "PT1/IM1", "PT1/IM2"))) == [Disposition.STORED] * 2


@pytest.mark.parametrize("file_id", ["PT1/IM9", "../secret.dcm", "/etc/passwd"])
def test_dicomdir_that_names_a_file_that_is_not_in_its_folder_says_so(archive, folder, file_id):
    (folder / "secret.dcm").write_bytes(as_part10(build_ct()))
    (result,) = run(archive, write_disc(folder / "disc", file_id))
    assert "not there" in result.problem


def test_garbage_called_dicomdir_is_one_problem(archive, folder):
    (folder / "DICOMDIR").write_bytes(b"garbage" * 100)
    results = run(archive, folder / "DICOMDIR")
    assert all("DICOMDIR" in result.problem for result in results)


def test_path_that_does_not_exist_is_told_before_anything_is_stored(folder):
    with pytest.raises(FileNotFoundError):
        next(iter_entries([folder / "absent"]))


def test_zip_entries_can_be_opened_after_all_were_listed(archive, folder):
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as archived:
        archived.writestr("one.dcm", as_part10(build_ct()))
    entries = list(iter_entries([folder]))
    assert [import_entry(archive.ingest, entry, ORIGIN).outcome.disposition for entry in entries] == ["stored"]
