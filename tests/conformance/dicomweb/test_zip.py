"""Studies and series as a ZIP file (PS3.18 8.7.3.2, application/zip), streamed, read by others' tools."""

import io
import subprocess
import zipfile
import zlib

import pydicom
import pytest
from pydicom.fileset import FileSet

from dicomweb.multipart import Part
from pacs.imaging.archive_zip import File, name_of, write_zip
from tests.builders import as_part10, build_ct, build_encapsulated, build_series, build_sr
from tests.conformance.dicomweb.test_wado import path_of

ZIP = {"Accept": "application/zip"}
ZIP_AS_STORED = {"Accept": "application/zip; transfer-syntax=*"}


@pytest.fixture
def study(store):
    datasets = build_series(3)
    identity = {name: datasets[0][name].value for name in ("StudyInstanceUID", "PatientID", "PatientName")}
    datasets += [build_ct(**identity), build_encapsulated(**identity)]
    files = [as_part10(one) for one in datasets[:-1]] + [as_part10(datasets[-1], "1.2.840.10008.1.2.4.50")]
    store(*files)
    return datasets, files


def images_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist() if name.startswith("DICOM/")}


def test_a_study_a_series_and_an_instance_are_their_files(http, study):
    datasets, files = study
    path = path_of(datasets[0])
    for address, expected in (
        (path.partition("/series")[0], files),
        (path.partition("/instances")[0], files[:3]),
        (path, files[:1]),
    ):
        response = http.get(address, headers=ZIP_AS_STORED)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/zip"
        assert sorted(images_of(response.content).values()) == sorted(expected)


def test_without_a_syntax_the_files_are_explicit_little_endian(http, store):
    dataset = build_ct()
    store(as_part10(dataset, "1.2.840.10008.1.2"))
    (file,) = images_of(http.get(path_of(dataset), headers=ZIP).content).values()
    assert pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_names_are_numbers_that_a_medium_can_have_and_say_nothing(http, study):
    datasets, _ = study
    response = http.get(path_of(datasets[0]).partition("/series")[0], headers=ZIP)
    names = list(images_of(response.content))
    assert names == [f"DICOM/00000000/{index:08d}" for index in range(5)]
    assert response.headers["content-disposition"] == 'attachment; filename="dicom.zip"'


def test_unzip_reads_it_and_its_answer_can_be_kept(http, study, tmp_path):
    datasets, _ = study
    path = path_of(datasets[0]).partition("/series")[0]
    response = http.get(path, headers=ZIP)
    (tmp_path / "study.zip").write_bytes(response.content)
    subprocess.run(["python3", "-m", "zipfile", "-t", tmp_path / "study.zip"], check=True, capture_output=True)
    assert http.get(path, headers={**ZIP, "If-None-Match": response.headers["etag"]}).status_code == 304
    assert http.head(path, headers=ZIP).headers["etag"] == response.headers["etag"]


def test_its_dicomdir_is_read_by_pydicom_and_dcmtk_and_names_every_file(http, store, study, tmp_path):
    datasets, _ = study
    store(build_sr(StudyInstanceUID=datasets[0].StudyInstanceUID, PatientID=datasets[0].PatientID))
    response = http.get(path_of(datasets[0]).partition("/series")[0], headers=ZIP_AS_STORED)
    with zipfile.ZipFile(io.BytesIO(response.content)) as opened:
        opened.extractall(tmp_path)
    found = FileSet(tmp_path / "DICOMDIR")
    assert len(found) == 6
    for one in datasets:
        (instance,) = found.find(SOPInstanceUID=one.SOPInstanceUID)
        assert instance.load().SOPInstanceUID == one.SOPInstanceUID
        assert instance.SeriesInstanceUID == one.SeriesInstanceUID
        assert instance.PatientName == datasets[0].PatientName
    directory = pydicom.dcmread(tmp_path / "DICOMDIR")
    kinds = [record.DirectoryRecordType for record in directory.DirectoryRecordSequence]
    assert (kinds.count("PATIENT"), kinds.count("STUDY"), kinds.count("SR DOCUMENT")) == (1, 1, 1)
    dumped = subprocess.run(["dcmdump", "+L", tmp_path / "DICOMDIR"], capture_output=True, text=True, check=True)
    assert dumped.stdout.count("ReferencedFileID") == 6
    assert not dumped.stderr
    found._stage["t"].cleanup()


def test_who_takes_anything_is_not_given_a_zip_file(http, study):
    datasets, _ = study
    path = path_of(datasets[0])
    for accept in ("*/*", "application/*"):
        assert "zip" not in http.get(path, headers={"Accept": accept}).headers["content-type"]


def test_one_part_is_open_at_a_time_and_each_is_closed():
    open_now, most = set(), []

    def part(number):
        open_now.add(number)
        most.append(len(open_now))
        chunks = lambda: iter([b"x" * 1000] * 3)  # noqa: E731
        return Part("application/dicom", "", 3000, chunks, lambda: open_now.discard(number))

    content = b"".join(write_zip(File(name_of(number), part(number)) for number in range(20)))
    assert (max(most), open_now) == (1, set())
    assert list(images_of(content).values()) == [b"x" * 3000] * 20


def test_a_client_that_hangs_up_leaves_nothing_open():
    closed = []
    part = Part("", "", None, lambda: iter([b"x"] * 9), lambda: closed.append(1))
    files = (File(f"{number}", part) for number in range(3))
    written = write_zip(files)
    next(written)
    written.close()
    assert closed == [1]


def test_a_file_that_outgrows_32_bits_is_announced_as_zip64():
    small = b"".join(write_zip([File("1", Part("", "", 5, lambda: iter([b"12345"])))]))
    large = b"".join(write_zip([File("1", Part("", "", 2**32, lambda: iter([b"12345"])))]))
    assert int.from_bytes(small[4:6], "little") == 20
    assert int.from_bytes(large[4:6], "little") == 45


def test_native_pixels_are_deflated_and_compressed_ones_go_as_they_are(http, store):
    native, lossy = build_ct(), build_encapsulated()
    native.PixelData = bytes(len(native.PixelData))
    store(as_part10(native), as_part10(lossy, "1.2.840.10008.1.2.4.50"))
    sizes = []
    for dataset in (native, lossy):
        content = http.get(path_of(dataset), headers=ZIP_AS_STORED).content
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            entry = opened.getinfo(name_of(0))
        sizes.append((entry.compress_type, entry.compress_size / entry.file_size))
    (method, shrunk), (other_method, kept) = sizes
    # Stored blocks of deflate: what reads an entry from front to back takes no other with a data descriptor.
    assert method == other_method == zipfile.ZIP_DEFLATED
    assert shrunk < 0.7
    assert 1 <= kept < 1.05


def test_an_entry_says_by_itself_where_it_ends_to_who_reads_from_front_to_back(http, study):
    datasets, files = study
    content = http.get(path_of(datasets[-1]), headers=ZIP_AS_STORED).content
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    read = inflater.decompress(content[30 + len(name_of(0)) :])
    assert inflater.eof
    assert read == files[-1]
    assert inflater.unused_data.startswith(b"PK\x07\x08")
