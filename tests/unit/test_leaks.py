"""The search for leaks finds what it is for: a test that finds nothing is worth what its search is."""

import base64
import gzip
import html
import io
import json
import zipfile
import zlib
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.leaks import Scanner

VALUES = ("Benali^Naïma", "بنعلي^نعيمة", "19630217", "AB123456", "1.2.840.99999.4711")
SCANNER = Scanner(VALUES)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "write",
    [
        lambda value: value.encode(),
        lambda value: value.encode("utf-16-le"),
        lambda value: value.encode("utf-16-be"),
        lambda value: value.upper().encode(),
        lambda value: json.dumps({"a": value}).encode(),
        lambda value: f"/studies?PatientName={quote(value)}".encode(),
        lambda value: f"<td>{html.escape(value)}</td>".encode(),
        lambda value: gzip.compress(value.encode()),
        lambda value: zlib.compress(json.dumps(value).encode()),
        lambda value: base64.b64encode(b"x" + value.encode() + b"yy"),
        lambda value: value.encode().hex().encode(),
    ],
)
def test_a_value_is_found_however_it_is_written(value, write):
    (found, *_) = SCANNER.scan("here", b"before" + write(value) if write(value)[:1] not in b"\x1fx" else write(value))
    assert found.value == value


@pytest.mark.parametrize(
    ("value", "codec"), [("بنعلي^نعيمة", "iso8859-6"), ("بنعلي^نعيمة", "cp1256"), ("Benali^Naïma", "latin-1")]
)
def test_a_value_is_found_in_the_character_sets_of_dicom(value, codec):
    assert SCANNER.scan("here", b"\0" + value.encode(codec) + b"\0")


def test_a_date_is_found_as_people_write_it():
    for text in ("1963-02-17", "17/02/1963", "١٩٦٣٠٢١٧"):
        assert SCANNER.scan("here", text)


def test_it_looks_into_zip_files_and_at_their_names_and_into_parquet():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("AB123456.json", gzip.compress(b"19630217"))
    assert {leak.value for leak in SCANNER.scan("zip", packed.getvalue())} == {"AB123456", "19630217"}
    table = io.BytesIO()
    rows = pa.Table.from_pylist([{"a": "x" * 100 + "AB123456"}] * 100)
    pa.parquet.write_table(rows, table, compression="zstd")
    assert SCANNER.scan("parquet", table.getvalue())


def test_a_date_is_found_in_a_longer_number_but_not_by_chance_in_a_derived_uid():
    assert SCANNER.scan("here", "19630217101500.000")
    assert not SCANNER.scan("here", "2.25.1196302174711")
    assert SCANNER.scan("here", "2.25.1196302174711 19630217")
    assert SCANNER.scan("here", "a UID: 1.2.840.99999.4711")


def test_what_is_clean_gives_nothing():
    assert not SCANNER.scan("here", json.dumps({"PatientID": "P-0001", "StudyDate": "19640217"}).encode() * 100)
