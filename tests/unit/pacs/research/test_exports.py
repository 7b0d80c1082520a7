"""Exports as people ask for them: of what they may see, in its newest version, and on record."""

import csv
import io
import json
import zipfile

import pyarrow.parquet
import pytest
from pydicom import dcmread
from sqlalchemy import select

from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings
from pacs.database.identity_tables import audit
from pacs.errors import NotAcceptable, NotPermitted, ProjectNotFound, ReleaseNotFound, SeriesNotFound
from pacs.research.exports import extra
from tests.builders import build_ct, new_uid
from tests.releases import (
    ADMINISTRATOR,
    OUTSIDER,
    RESEARCHER,
    SLUG,
    STEWARD,
    build_patients,
    clinical_uids,
    make,
    make_project,
    publish,
    store,
)

PATIENTS = 6


ON_BOTH = pytest.mark.parametrize("parts", ["", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


@pytest.fixture
def parts(tmp_path, request):
    """An archive on SQLite; on PostgreSQL where that is asked for: an export asks the index what others ask, too."""
    url = ""
    if getattr(request, "param", ""):
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    with open_archive(Settings(data_dir=tmp_path / "archive", database=DatabaseSettings(url=url))) as opened:
        yield opened


@pytest.fixture
def cohort(parts):
    store(parts, *build_patients(PATIENTS))
    return make_project(parts)


@pytest.fixture
def release(parts, cohort):
    return publish(parts, cohort)


@pytest.fixture
def exports(parts):
    return parts.research.exports


def content_of(download) -> bytes:
    with download:
        return b"".join(download.iter_chunks())


def rows_of(download) -> list[dict]:
    return pyarrow.parquet.read_table(io.BytesIO(content_of(download))).to_pylist()


def recorded(parts) -> list[tuple[str, str]]:
    with parts.database.read() as connection:
        rows = connection.execute(select(audit.c.kind, audit.c.principal).order_by(audit.c.id)).all()
    return [(row.kind, row.principal) for row in rows if row.kind.startswith("research.release.")]


@ON_BOTH
def test_the_index_has_a_row_a_series_and_no_clinical_uid(parts, release, exports):
    rows = rows_of(exports.parquet(RESEARCHER, SLUG))
    assert len(rows) == PATIENTS
    assert {row["collection_id"] for row in rows} == {SLUG}
    assert {row["license_short_name"] for row in rows} == {"Ethics committee CE-2026-1"}
    assert {row["PatientAge"] for row in rows} == {"054Y"}
    shown = json.dumps(rows)
    assert not [uid for uid in clinical_uids(parts) if uid in shown]
    assert "TAZI" not in shown
    assert "MRN00" not in shown


def test_it_can_be_read_in_ranges_and_is_the_same_each_time(release, exports):
    with exports.parquet(RESEARCHER, SLUG, release.version) as download:
        content = b"".join(download.iter_chunks())
        assert len(content) == download.length_bytes
        assert b"".join(download.iter_range(4, 40)) == content[4:40]
        assert download.identity
        assert download.name == "lung-1-index.parquet"
    assert content_of(exports.parquet(RESEARCHER, SLUG)) == content


def test_a_download_in_many_ranges_is_one_entry_and_every_zip_one(parts, release, exports):
    before = len(recorded(parts))
    for _ in range(5):
        exports.parquet(RESEARCHER, SLUG).close()
    for _ in range(2):
        exports.zip(RESEARCHER, SLUG).close()
    exports.parquet(STEWARD, SLUG).close()
    assert recorded(parts)[before:] == [
        ("research.release.index", RESEARCHER.name),
        ("research.release.zip", RESEARCHER.name),
        ("research.release.zip", RESEARCHER.name),
        ("research.release.index", STEWARD.name),
    ]


@ON_BOTH
def test_a_zip_file_holds_every_instance_of_the_release_and_its_index(parts, release, exports):
    with zipfile.ZipFile(io.BytesIO(content_of(exports.zip(RESEARCHER, SLUG)))) as opened:
        listed = list(csv.DictReader(io.StringIO(opened.read("files.csv").decode())))
        found = {dcmread(io.BytesIO(opened.read(row["file"]))).SOPInstanceUID for row in listed}
        index = pyarrow.parquet.read_table(io.BytesIO(opened.read("index.parquet"))).to_pylist()
    assert len(found) == release.counts.instances
    assert {row["SeriesInstanceUID"] for row in index} == {row["SeriesInstanceUID"] for row in listed}
    assert not found & clinical_uids(parts)


def test_a_series_is_had_by_the_uids_of_the_release_and_not_by_clinical_ones(parts, release, exports):
    row = rows_of(exports.parquet(RESEARCHER, SLUG))[0]
    of = {"study": row["StudyInstanceUID"], "series": row["SeriesInstanceUID"]}
    with zipfile.ZipFile(io.BytesIO(content_of(exports.zip(RESEARCHER, SLUG, **of)))) as opened:
        assert len([name for name in opened.namelist() if name.startswith("DICOM/")]) == 2
    clinical = min(clinical_uids(parts))
    with pytest.raises(SeriesNotFound):
        exports.zip(RESEARCHER, SLUG, study=of["study"], series=clinical)


def test_a_series_that_is_a_volume_is_made_before_anything_is_promised(parts, exports, tmp_path):
    for patient in range(PATIENTS):
        uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid(), "PatientID": f"MRN{patient}"}
        store(parts, *(build_ct(**uids, ImagePositionPatient=["0", "0", str(index)]) for index in range(3)))
    publish(parts, make_project(parts))
    row = rows_of(exports.parquet(RESEARCHER, SLUG))[0]
    of = {"study": row["StudyInstanceUID"], "series": row["SeriesInstanceUID"]}
    with zipfile.ZipFile(io.BytesIO(content_of(exports.nifti(RESEARCHER, SLUG, **of)))) as opened:
        folder = f"{row['PatientID'].replace('-', '_')}/{of['study']}/{of['series']}"
        assert opened.namelist() == [f"{folder}/series.json", f"{folder}/series.nii.gz", "series.csv"]
    # Who asks for the head alone takes nothing of what was made.
    exports.nifti(RESEARCHER, SLUG, **of).close()
    assert not list(tmp_path.rglob("nifti-*"))


def test_a_series_that_is_no_volume_is_refused_and_in_a_whole_release_listed(parts, release, exports, monkeypatch):
    monkeypatch.setattr("pacs.research.exports.package.tag_of", lambda _: "FFFFFFFF")  # no series has rows now
    row = rows_of(exports.parquet(RESEARCHER, SLUG))[0]
    with pytest.raises(NotAcceptable):
        exports.nifti(RESEARCHER, SLUG, study=row["StudyInstanceUID"], series=row["SeriesInstanceUID"])
    with zipfile.ZipFile(io.BytesIO(content_of(exports.nifti(RESEARCHER, SLUG)))) as opened:
        assert opened.namelist() == ["series.csv"]
        assert opened.read("series.csv").count(b"holds no images") == PATIENTS


def test_a_manifest_names_every_object(release, exports):
    download = exports.manifest(RESEARCHER, SLUG)
    lines = [json.loads(line) for line in content_of(download).splitlines()]
    assert len(lines) == release.counts.instances
    assert download.name == "lung-1-manifest.jsonl"


def test_a_steward_sees_how_anonymous_it_is_before_he_publishes_and_nobody_else(parts, cohort, exports):
    made = make(parts, cohort)
    report = exports.anonymity_report(STEWARD, SLUG, made.version)
    assert (report.patients, report.levels[0].k) == (PATIENTS, PATIENTS)
    with pytest.raises(NotPermitted):
        exports.anonymity_report(RESEARCHER, SLUG, made.version)
    with pytest.raises(NotPermitted):
        exports.anonymity_report(ADMINISTRATOR, SLUG, made.version)
    with pytest.raises(ProjectNotFound):
        exports.anonymity_report(OUTSIDER, SLUG, made.version)
    parts.research.releases.publish(STEWARD, SLUG, made.version)
    assert exports.anonymity_report(RESEARCHER, SLUG, made.version) == report
    assert exports.anonymity_report(RESEARCHER, SLUG, made.version) == report
    assert b"6 patients" in content_of(exports.anonymity_page(RESEARCHER, SLUG, made.version))


def every_export(exports, principal, slug, version):
    yield lambda: exports.parquet(principal, slug, version)
    yield lambda: exports.zip(principal, slug, version)
    yield lambda: exports.nifti(principal, slug, version)
    yield lambda: exports.manifest(principal, slug, version)


def test_what_is_not_published_or_withdrawn_or_anothers_is_not_there(parts, cohort, exports):
    made = make(parts, cohort)
    asked = [(STEWARD, SLUG, made.version), (OUTSIDER, SLUG, 1), (RESEARCHER, "nothing", 1), (RESEARCHER, SLUG, 9)]
    for who in asked:
        for export in every_export(exports, *who):
            with pytest.raises(ReleaseNotFound):
                export()
    parts.research.releases.publish(STEWARD, SLUG, made.version)
    for export in every_export(exports, RESEARCHER, SLUG, made.version):
        export().close()
    parts.research.releases.withdraw(STEWARD, SLUG, made.version, reason="Somebody objected.")
    for export in every_export(exports, RESEARCHER, SLUG, made.version):
        with pytest.raises(ReleaseNotFound):
            export()


def test_what_was_made_of_a_withdrawn_release_is_gone_after_a_restart(tmp_path):
    settings = Settings(data_dir=tmp_path / "archive")
    kept = tmp_path / "archive" / "research-exports"
    with open_archive(settings) as parts:
        store(parts, *build_patients(PATIENTS))
        release = publish(parts, make_project(parts))
        parts.research.exports.parquet(RESEARCHER, SLUG).close()
        assert len(list(kept.iterdir())) == 1
        parts.research.releases.withdraw(STEWARD, SLUG, release.version, reason="Somebody objected.")
    with open_archive(settings):
        assert not list(kept.iterdir())


def test_without_the_packages_everything_but_what_needs_them_is_there(release, exports, monkeypatch):
    def load(name):
        raise extra.NotInstalled(name)

    monkeypatch.setattr("pacs.research.exports.service.load", load)
    monkeypatch.setattr("pacs.research.exports.nifti.load", load)
    exports.manifest(RESEARCHER, SLUG).close()
    with zipfile.ZipFile(io.BytesIO(content_of(exports.zip(RESEARCHER, SLUG)))) as opened:
        assert "index.parquet" not in opened.namelist()
        assert "DICOMDIR" in opened.namelist()
    for export in (exports.parquet, exports.nifti):
        with pytest.raises((extra.NotInstalled, NotAcceptable)):
            content_of(export(RESEARCHER, SLUG))
