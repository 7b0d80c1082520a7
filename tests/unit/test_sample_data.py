"""The sample data are what their manifest says, all of it and nothing else, and small enough to ship."""

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

FOLDER = Path(__file__).parents[2] / "sample_data"
MANIFEST = tomllib.loads((FOLDER / "manifest.toml").read_text(encoding="utf-8"))["file"]
LICENCES = {"CC0-1.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "PDDL-1.0"}
PATHS = [entry["path"] for entry in MANIFEST]


@pytest.fixture(scope="module")
def datasets() -> dict[str, Dataset]:
    return {path: dcmread(FOLDER / path) for path in PATHS}


def test_manifest_lists_every_object_once_and_no_other():
    assert sorted(PATHS) == sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.dcm"))


@pytest.mark.parametrize("entry", MANIFEST, ids=PATHS)
def test_each_entry_says_purpose_source_and_a_licence_that_may_be_shipped(entry):
    assert all(entry[key].strip() for key in ("purpose", "source", "copyright"))
    assert entry["licence"] in LICENCES
    assert hashlib.sha256((FOLDER / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


def test_everything_together_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 6_000_000


def test_every_file_reads_to_its_end_and_agrees_with_its_file_meta(datasets):
    for path, ds in datasets.items():
        assert len(list(ds.iterall())) > 20, path
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID, path
        assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID, path
        assert ds.SOPInstanceUID.is_valid, path


def test_uids_are_consistent_across_the_levels(datasets):
    instances = [ds.SOPInstanceUID for ds in datasets.values()]
    assert len(set(instances)) == len(instances)
    study_of = {ds.SeriesInstanceUID: ds.StudyInstanceUID for ds in datasets.values()}
    patient_of = {ds.StudyInstanceUID: (ds.PatientID, str(ds.PatientName)) for ds in datasets.values()}
    for ds in datasets.values():
        assert study_of[ds.SeriesInstanceUID] == ds.StudyInstanceUID
        assert patient_of[ds.StudyInstanceUID] == (ds.PatientID, str(ds.PatientName))


def test_nobody_is_in_it(datasets):
    for path, ds in datasets.items():
        assert ds.PatientID.startswith("TEST-"), path
        assert not ds.PatientBirthDate, path
        assert "InstitutionName" not in ds, path
        assert not any(element.tag.is_private for element in ds.iterall()), path


def test_ct_series_has_the_geometry_and_windows_that_a_viewer_needs(datasets):
    slices = [ds for path, ds in datasets.items() if path.startswith("ct-head/")]
    slices.sort(key=lambda ds: ds.InstanceNumber)
    heights = [float(ds.ImagePositionPatient[2]) for ds in slices]
    assert len(slices) >= 12
    assert np.allclose(np.diff(heights), float(slices[0].SpacingBetweenSlices))
    assert len({ds.FrameOfReferenceUID for ds in slices}) == 1
    for ds in slices:
        assert ds.StudyDescription
        assert ds.SeriesDescription
        assert ds.StudyDate
        assert [float(value) for value in ds.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
        assert ds.WindowCenter[0] == 40
        assert ds.WindowWidth[0] == 400
        assert ds.PixelSpacing[0] > 0


def test_names_are_french_and_arabic_and_survive_their_character_sets(datasets):
    names = {(ds.SpecificCharacterSet, str(ds.PatientName)) for ds in datasets.values()}
    assert ("ISO_IR 192", "Échantillon^Démo") in names
    assert ("ISO_IR 192", "Bénali^Amine=بنعلي^أمين") in names
    assert ("ISO_IR 100", "Essai^Hélène") in names
    assert ("ISO_IR 127", "اختبار^فاطمة") in names


def test_the_kinds_of_object_and_the_syntaxes_asked_for_are_there(datasets):
    assert {"CT", "MR", "CR", "US", "SR", "DOC"} <= {ds.Modality for ds in datasets.values()}
    classes = {ds.SOPClassUID for ds in datasets.values()}
    assert {BasicTextSRStorage, EncapsulatedPDFStorage, UltrasoundMultiFrameImageStorage} <= classes
    assert {
        RLELossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
    } <= {ds.file_meta.TransferSyntaxUID for ds in datasets.values()}


def test_compressed_objects_hold_as_many_frames_as_they_say(datasets):
    compressed = {path: ds for path, ds in datasets.items() if ds.file_meta.TransferSyntaxUID.is_encapsulated}
    assert compressed
    for path, ds in compressed.items():
        frames = int(ds.get("NumberOfFrames", 1))
        assert len(list(generate_frames(ds.PixelData, number_of_frames=frames))) == frames, path
