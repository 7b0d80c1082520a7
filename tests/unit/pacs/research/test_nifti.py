"""A series as NIfTI: the voxels are the pixels, in a folder of which nothing is left."""

import errno
import gzip
import json
import struct

import numpy as np
import pytest

from pacs.access import LOCAL
from pacs.errors import NotAcceptable, OutOfResources
from pacs.imaging.limited import Limits
from pacs.imaging.representation import Representation
from pacs.research.exports.nifti import LIMITS, Converter, sweep_folders
from tests.builders import build_series, build_sr

ROWS = COLUMNS = 8


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def open_series(archive, dataset):
    records = archive.retrieve.find_instances(LOCAL, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    return (archive.retrieve.open_instance(LOCAL, record) for record in records)


def build_volume(count=4, **overrides):
    slices = build_series(count, PatientPosition="HFS", **overrides)
    for index, one in enumerate(slices):
        one.ImagePositionPatient = ["0", "0", str(index * 2)]
        one.PixelData = (np.arange(ROWS * COLUMNS, dtype="<u2") + 100 * index).tobytes()
    return slices


def read_nifti(content: bytes):
    """Return the array, by slices, rows and columns, and what the header says of slope and intercept."""
    content = gzip.decompress(content)
    shape = struct.unpack_from("<8h", content, 40)
    offset, slope, intercept = struct.unpack_from("<3f", content, 108)
    datatype = {4: "<i2", 16: "<f4", 512: "<u2"}[struct.unpack_from("<h", content, 70)[0]]
    voxels = np.frombuffer(content, datatype, offset=int(offset))
    return voxels.reshape(shape[3], shape[2], shape[1]) * (slope or 1) + intercept


def test_the_voxels_are_the_pixels_in_the_units_of_the_series(archive, store, scratch):
    slices = build_volume()
    store(*slices)
    with Converter(scratch).convert(open_series(archive, slices[0])) as made:
        assert [path.name for path in made] == ["series.json", "series.nii.gz"]
        volume = read_nifti(made[1].read_bytes())
        sidecar = json.loads(made[0].read_text())
    expected = np.array([np.frombuffer(one.PixelData, "<u2").reshape(ROWS, COLUMNS) for one in slices]) - 1024.0
    assert np.array_equal(volume[:, ::-1, :], expected)  # NIfTI counts rows from below
    assert (sidecar["Modality"], sidecar["SliceThickness"]) == ("CT", 1.25)
    assert not list(scratch.iterdir())


def test_instances_in_other_syntaxes_are_written_anew_on_the_way(archive, store, scratch):
    slices = build_volume()
    store(*slices[:2], syntax="1.2.840.10008.1.2")
    store(*slices[2:], syntax="1.2.840.10008.1.2.2")
    with Converter(scratch).convert(open_series(archive, slices[0])) as made:
        assert read_nifti(made[1].read_bytes()).shape == (4, ROWS, COLUMNS)


def test_the_same_series_gives_the_same_bytes_without_comments_and_dates(archive, store, scratch):
    slices = build_volume(ImageComments="COMMENT", AcquisitionDate="20240229", SeriesDescription="thin")
    store(*slices)
    found = []
    for _ in range(2):
        with Converter(scratch).convert(open_series(archive, slices[0])) as made:
            found.append([path.read_bytes() for path in made])
    assert found[0] == found[1]
    content = found[0][0] + gzip.decompress(found[0][1])
    for value in (b"COMMENT", b"20240229", b"2024-02-29", b"BUILT", slices[0].StudyInstanceUID.encode()):
        assert value not in content


def test_what_is_no_volume_is_refused_and_leaves_nothing(archive, store, scratch):
    report = build_sr()
    store(report)
    with (
        pytest.raises(NotAcceptable, match="No NIfTI can be made"),
        Converter(scratch).convert(open_series(archive, report)),
    ):
        pass
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("limits", [Limits(1024**2, 1024**3, 60.0), Limits(LIMITS.memory_bytes, 10, 60.0)])
def test_a_program_that_outgrows_its_limits_is_ended_and_refused(archive, store, scratch, limits):
    slices = build_volume()
    store(*slices)
    with pytest.raises(NotAcceptable), Converter(scratch, limits).convert(open_series(archive, slices[0])):
        pass
    assert not list(scratch.iterdir())


def test_a_disk_that_becomes_full_is_said_to_be_full_and_leaves_nothing(scratch):
    def fill():
        raise OSError(errno.ENOSPC, "full")
        yield b""

    instance = Representation("1.2.840.10008.1.2.1", "application/dicom", 10, fill)
    with pytest.raises(OutOfResources), Converter(scratch).convert([instance]):
        pass
    assert not list(scratch.iterdir())


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_stays(archive, store, scratch):
    slices = build_volume()
    store(*slices)
    (scratch / "nifti-abandoned" / "in").mkdir(parents=True)
    (scratch / "nifti-abandoned" / "in" / "00000000").write_bytes(b"left")
    with Converter(scratch).convert(open_series(archive, slices[0])) as made:
        assert sweep_folders(scratch) == 1
        assert made[1].exists()
    assert sweep_folders(scratch) == 0
