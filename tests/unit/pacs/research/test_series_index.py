"""The index of a release: one row a series, under Imaging Data Commons' names, in a file that DuckDB reads."""

import io
import tracemalloc

import duckdb
import pyarrow.parquet
import pytest

from pacs.access import LOCAL
from pacs.errors import NotInstalled
from pacs.research.exports import extra, reading
from pacs.research.exports.columns import COLUMNS, build_row
from pacs.research.exports.parquet import ROWS_IN_GROUP, write_parquet
from pacs.research.exports.series import Collection, SeriesFacts
from tests.builders import build_ct, build_mr, build_series, build_sr, new_uid

COLLECTION = Collection("chest", 2, "Approval A-12", "/research/chest/releases/2/dicom-web")

IDC_COLUMNS = [
    "collection_id", "PatientID", "PatientAge", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyDescription",
    "Modality", "BodyPartExamined", "Manufacturer", "ManufacturerModelName", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "SeriesDate", "instanceCount", "series_size_MB", "license_short_name", "SOPClassUID",
    "sop_class_name", "TransferSyntaxUID", "transfer_syntax_name",
]  # fmt: skip


def rows_of(archive):
    return list(reading.iter_rows(archive, LOCAL, COLLECTION))


def write(rows) -> bytes:
    target = io.BytesIO()
    write_parquet(rows, target)
    return target.getvalue()


def test_a_series_is_one_row_with_what_its_headers_say(archive, store):
    slices = build_series(3, StudyDate="20240229", SeriesDate="20240301", Manufacturer="MAKER", PatientAge="004W")
    for position, one in enumerate(slices):
        one.ImagePositionPatient = ["0", "0", str(position)]
    slices[1].ConvolutionKernel = slices[0].ConvolutionKernel = ["B30f", "1"]
    store(*slices)
    (row,) = rows_of(archive)
    assert set(row) == {column.name for column in COLUMNS}
    expected = {
        "collection_id": "chest", "release_version": 2, "PatientID": "BUILT-1", "PatientAge": "004W",
        "PatientAge_years": 0.077, "StudyDate": "2024-02-29", "SeriesDate": "2024-03-01", "Modality": "CT",
        "BodyPartExamined": "CHEST", "Manufacturer": "MAKER", "SeriesNumber": "1", "instanceCount": 3,
        "license_short_name": "Approval A-12", "sop_class_name": "CT Image Storage",
        "transfer_syntax_name": "Explicit VR Little Endian", "KVP": 120.0, "SliceThickness": 1.25,
        "PixelSpacing_row_mm": 0.5, "ConvolutionKernel": ["B30f", "1"], "slice_count": 3, "EchoTime": None,
        "has_contrast": None, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
    assert row["series_dicomweb_url"] == f"{COLLECTION.root}/studies/{study}/series/{series}"


def test_what_differs_between_instances_is_a_list(archive, store):
    series = new_uid(), new_uid()
    uids = {"StudyInstanceUID": series[0], "SeriesInstanceUID": series[1]}
    store(*(build_mr(**uids, EchoTime=time, ContrastBolusAgent="GADO") for time in ("12.5", "80", "12.5")))
    (row,) = rows_of(archive)
    assert (row["EchoTime"], row["MagneticFieldStrength"], row["has_contrast"]) == ([12.5, 80.0], 1.5, True)


def test_a_value_that_is_no_number_or_no_date_is_null_and_no_error(archive, store):
    header = build_sr(StudyDate="", SeriesNumber=None).to_json_dict()
    header["00101010"] = {"vr": "AS", "Value": ["OLD"]}
    header["00180060"] = {"vr": "DS", "Value": ["NaN"]}
    header["00180050"] = {"vr": "DS", "Value": ["thick"]}
    header["00080020"] = {"vr": "DA", "Value": ["2024.2.9"]}
    row = build_row(COLLECTION, SeriesFacts(header, "1", "2", "1.2.3.4"))
    for name in ("StudyDate", "PatientAge_years", "SeriesNumber", "KVP", "SliceThickness", "Rows", "sop_class_name"):
        assert row[name] is None, name


def test_the_names_are_those_of_imaging_data_commons_and_ours_are_marked():
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    assert {column.name for column in COLUMNS if column.is_idc} >= set(IDC_COLUMNS)
    assert not {"aws_bucket", "series_aws_url", "crdc_series_uuid"} & set(names)


def test_duckdb_asks_the_file_in_sql(archive, store, tmp_path):
    store(*build_series(2), build_ct(PatientID="OTHER", SliceThickness="5"), build_mr())
    (tmp_path / "index.parquet").write_bytes(write(rows_of(archive)))
    with duckdb.connect() as connection:
        statement = (
            "SELECT Modality, count(DISTINCT PatientID), sum(instanceCount), max(SliceThickness) "
            "FROM read_parquet(?) GROUP BY ALL ORDER BY ALL"
        )
        found = connection.execute(statement, [str(tmp_path / "index.parquet")]).fetchall()
    assert found == [("CT", 2, 3, 5.0), ("MR", 1, 1, 1.25)]


def test_the_same_rows_are_the_same_bytes_and_every_column_says_what_it_is(archive, store):
    store(*build_series(2), build_mr())
    content = write(rows_of(archive))
    assert content == write(rows_of(archive))
    schema = pyarrow.parquet.read_schema(io.BytesIO(content))
    assert all(field.metadata[b"description"] for field in schema)


def test_an_empty_release_is_a_file_without_rows():
    assert pyarrow.parquet.read_table(io.BytesIO(write([]))).num_rows == 0


def test_a_large_release_is_written_in_groups_and_never_held_whole(archive, store):
    store(build_ct())
    (row,) = rows_of(archive)

    def measure(groups: int) -> int:
        rows = (row | {"SeriesInstanceUID": f"2.25.{number}"} for number in range(groups * ROWS_IN_GROUP))
        target = io.BytesIO()
        tracemalloc.start()
        assert write_parquet(rows, target) == groups * ROWS_IN_GROUP
        peak = tracemalloc.get_traced_memory()[1] - len(target.getvalue())
        tracemalloc.stop()
        assert pyarrow.parquet.ParquetFile(target).metadata.num_row_groups == groups
        return peak

    assert measure(6) < 1.3 * measure(2)


def test_without_the_packages_it_says_how_to_get_them(monkeypatch):
    with pytest.raises(NotInstalled, match=r"pip install 'pacs\[research\]'"):
        extra.load("pyarrow_is_not_here")
