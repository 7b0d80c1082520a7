"""What a release is taken with: instances and volumes in a ZIP file, one at a time, and lists of what is what."""

import csv
import gzip
import io
import zipfile

import pydicom
import pytest
from pydicom.fileset import FileSet

from pacs.access import LOCAL
from pacs.errors import SeriesNotFound, StudyNotFound
from pacs.imaging.archive_zip import write_zip
from pacs.research.exports import package
from pacs.research.exports.nifti import Converter
from pacs.research.exports.package import iter_instances, iter_volumes
from pacs.research.exports.reading import find_series
from storage.spool import Spool
from tests.builders import as_part10, build_ct, build_encapsulated, build_series, build_sr


def zip_instances(archive, tmp_path, study="", series=""):
    places = find_series(archive, LOCAL, study, series)
    with Spool(tmp_path) as spool:
        return zipfile.ZipFile(io.BytesIO(b"".join(write_zip(iter_instances(archive, LOCAL, places, spool)))))


def list_of(opened, name):
    return list(csv.DictReader(io.StringIO(opened.read(name).decode())))


def test_instances_are_as_they_are_stored_and_the_list_says_whose_they_are(archive, store, tmp_path):
    slices, lossy = build_series(2), build_encapsulated(PatientID="OTHER")
    store(*slices)
    store(lossy, syntax="1.2.840.10008.1.2.4.50")
    with zip_instances(archive, tmp_path) as opened:
        assert opened.testzip() is None
        listed = list_of(opened, "files.csv")
        found = {row["SOPInstanceUID"]: opened.read(row["file"]) for row in listed}
    assert found == {
        **{one.SOPInstanceUID: as_part10(one) for one in slices},
        lossy.SOPInstanceUID: as_part10(lossy, "1.2.840.10008.1.2.4.50"),
    }
    assert {row["PatientID"] for row in listed} == {"BUILT-1", "OTHER"}
    assert all(int(row["bytes"]) == len(found[row["SOPInstanceUID"]]) for row in listed)


def test_a_dicomdir_lists_every_patient(archive, store, tmp_path):
    store(*build_series(2), build_ct(PatientID="OTHER"), build_sr(PatientID="THIRD"))
    with zip_instances(archive, tmp_path) as opened:
        opened.extractall(tmp_path / "out")
    found = FileSet(tmp_path / "out" / "DICOMDIR")
    assert len(found) == 4
    assert set(found.find_values("PatientID")) == {"BUILT-1", "OTHER", "THIRD"}
    found._stage["t"].cleanup()


def test_too_many_for_a_dicomdir_go_without_one(archive, store, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "MAX_IN_DIRECTORY", 2)
    store(*build_series(3))
    with zip_instances(archive, tmp_path) as opened:
        names = opened.namelist()
    assert "DICOMDIR" not in names
    assert "files.csv" in names


def test_a_study_or_a_series_of_it_can_be_had_and_what_is_not_there_is_not_found(archive, store, tmp_path):
    slices, other = build_series(2), build_ct()
    same = build_ct(StudyInstanceUID=slices[0].StudyInstanceUID)
    store(*slices, same, other)
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
    for uids, count in (((study, ""), 3), ((study, series), 2), ((), 4)):
        with zip_instances(archive, tmp_path, *uids) as opened:
            assert len(list_of(opened, "files.csv")) == count
    with pytest.raises(StudyNotFound):
        find_series(archive, LOCAL, "1.2.3", "")
    with pytest.raises(SeriesNotFound):
        find_series(archive, LOCAL, study, other.SeriesInstanceUID)


def test_volumes_lie_by_pseudonym_and_what_is_none_is_listed_with_why(archive, store, tmp_path):
    slices = build_series(3, PatientPosition="HFS", PatientID="P/../1")
    for index, one in enumerate(slices):
        one.ImagePositionPatient = ["0", "0", str(index)]
    report = build_sr()
    store(*slices, report)
    with Spool(tmp_path) as spool:
        files = iter_volumes(archive, LOCAL, find_series(archive, LOCAL, "", ""), spool, Converter(tmp_path))
        content = b"".join(write_zip(files))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        folder = f"P____1/{slices[0].StudyInstanceUID}/{slices[0].SeriesInstanceUID}"
        assert set(opened.namelist()) == {f"{folder}/series.nii.gz", f"{folder}/series.json", "series.csv"}
        assert gzip.decompress(opened.read(f"{folder}/series.nii.gz"))[344:348] == b"n+1\0"
        listed = {row["SeriesInstanceUID"]: row for row in list_of(opened, "series.csv")}
    assert listed[slices[0].SeriesInstanceUID]["volumes"] == "1"
    assert listed[report.SeriesInstanceUID]["problem"] == "The series holds no images."


def test_a_client_that_hangs_up_leaves_no_folder_behind(archive, store, tmp_path):
    slices = build_series(2, PatientPosition="HFS")
    slices[1].ImagePositionPatient = ["0", "0", "1"]
    store(*slices)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Spool(scratch) as spool:
        files = iter_volumes(archive, LOCAL, find_series(archive, LOCAL, "", ""), spool, Converter(scratch))
        next(files).content.close()
        assert list(scratch.iterdir())
        files.close()
    assert not list(scratch.iterdir())


def test_no_cell_of_a_list_is_a_formula(archive, store, tmp_path):
    store(build_ct(PatientID="=1+1"))
    with zip_instances(archive, tmp_path) as opened:
        (row,) = list_of(opened, "files.csv")
        assert row["PatientID"] == "'=1+1"
        pydicom.dcmread(io.BytesIO(opened.read("DICOMDIR")))
