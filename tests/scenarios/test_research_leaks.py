"""Nothing of who a patient is leaves by research: not by an answer, its headers, an address, an error, a file or a log.

A site is made with values of patients planted wherever a header can hold them. What everybody may ask is asked, by who
may and by who may not, and every byte of it searched for each of these values in every encoding.
"""

import io
import json
import re
import subprocess
import sys
import zipfile

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find
from sqlalchemy import create_engine, text

from tests.clinical_patients import build_patients, build_studies, known_values
from tests.conformance.dimse.scu import associate
from tests.leaks import Leak, Scanner
from tests.research_site import SLUG, build_site
from tests.scenarios.process import serving
from tests.scenarios.releasing import PROJECT, publish_release

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

LANGUAGES = ("en", "fr", "ar")
SEARCHES = ("", "?includefield=all", "?PatientID=*", "?limit=1", "?fuzzymatching=true&PatientName=a*")
NONSENSE = ("?StudyDate=never", "?PatientID=%00", "?limit=-1")


class Seen:
    """Everything that was answered, searched as it comes."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.leaks: list[Leak] = []
        self.count = 0

    def look(self, place: str, content: bytes | str) -> None:
        self.count += 1
        self.leaks += self.scanner.scan(place, content)

    def answer(self, answer: httpx.Response) -> None:
        place = f"{answer.request.method} {answer.request.url.raw_path.decode()} -> {answer.status_code}"
        headers = "".join(f"{name}: {value}\n" for name, value in answer.headers.multi_items())
        self.look(f"{place}, headers", headers)
        self.look(place, answer.content)


@pytest.fixture(scope="module")
def planted():
    patients = build_patients()
    datasets = [dataset for patient in patients for dataset in build_studies(patient)]
    return patients, datasets, known_values(patients, datasets)


@pytest.fixture(scope="module")
def site(tmp_path_factory, planted):
    return build_site(tmp_path_factory.mktemp("leaks") / "data", planted[1])


@pytest.fixture(scope="module")
def archive(site):
    with serving(site.data_dir) as process:
        yield process


@pytest.fixture(scope="module")
def seen(planted):
    return Seen(Scanner(planted[2]))


@pytest.fixture(scope="module")
def version(site, archive, seen):
    return publish_release(site, archive.url, {"Modality": "CT\\MR\\SR"}, seen.answer)


@pytest.fixture(scope="module")
def ask(site, archive, seen, version):
    """Ask for a path as somebody, whatever the answer; it is searched."""
    with httpx.Client(base_url=archive.url, timeout=120) as client:

        def send(name: str, path: str, method: str = "GET", **headers: str) -> httpx.Response:
            said = site.headers(name) | {key.replace("_", "-"): value for key, value in headers.items()}
            answer = client.request(method, path, headers=said)
            seen.answer(answer)
            return answer

        yield send


def dicomweb_paths(ask, root: str):
    """Yield every kind of address that a release has, for one study of it with all that is in it."""
    yield from (f"{root}/{level}{search}" for level in ("studies", "series", "instances") for search in SEARCHES)
    study = ask("rania", f"{root}/studies").json()[0]["0020000D"]["Value"][0]
    yield from (f"{root}/studies/{study}{rest}" for rest in ("", "/metadata", "/series", "/instances", "/rendered"))
    for entry in ask("rania", f"{root}/studies/{study}/series").json():
        series = f"{root}/studies/{study}/series/{entry['0020000E']['Value'][0]}"
        yield from (f"{series}{rest}" for rest in ("", "/metadata", "/instances", "/rendered", "/thumbnail"))
        header = ask("rania", f"{series}/metadata").json()[0]
        instance = f"{series}/instances/{header['00080018']['Value'][0]}"
        yield from (f"{instance}{rest}" for rest in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail"))
        yield from re.findall(r'"BulkDataURI": ?"https?://[^/"]+([^"]+)"', json.dumps(header))


def test_the_search_finds_what_the_clinical_side_shows(planted, site, archive, seen):
    patients = planted[0]
    headers = site.headers("reader")
    answer = httpx.get(f"{archive.url}/dicom-web/studies", headers=headers, timeout=60)
    found = {leak.value for leak in seen.scanner.scan("clinical", answer.content)}
    assert {patients[0].family, patients[0].arabic_family, patients[0].patient_id, patients[0].birth_date} <= found


@pytest.mark.parametrize("root", ["dicom-web", "releases/{version}/dicom-web"])
def test_nothing_leaves_by_dicomweb(ask, seen, version, root):
    root = f"/research/{SLUG}/{root.format(version=version)}"
    before = seen.count
    for path in dicomweb_paths(ask, root):
        assert ask("rania", path).status_code < 500, path
    for accept in ('multipart/related; type="application/dicom"; transfer-syntax=*', "application/zip"):
        study = ask("rania", f"{root}/studies").json()[0]["0020000D"]["Value"][0]
        assert ask("rania", f"{root}/studies/{study}", Accept=accept).status_code == 200
    for path in ("", "/conformance", "/studies/1.2/metadata", *(f"/studies{search}" for search in NONSENSE)):
        ask("rania", root + path)
        ask("rania", root + path, method="OPTIONS")
    assert seen.count > before + 80
    assert not seen.leaks


def test_clinical_addresses_are_nowhere_in_a_release(ask, seen, planted, version):
    dataset = planted[1][0]
    path = f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    for root in (f"/research/{SLUG}/dicom-web", f"/research/{SLUG}/releases/{version}/dicom-web"):
        steps = path.split("/")
        for length in (3, 5, 7):
            for rest in ("", "/metadata", "/rendered", "/thumbnail"):
                answer = ask("rania", root + "/".join(steps[:length]) + rest)
                assert answer.status_code == 404
        for query in (f"StudyInstanceUID={dataset.StudyInstanceUID}", f"PatientID={dataset.PatientID}"):
            assert ask("rania", f"{root}/studies?{query}").status_code == 204
    assert not seen.leaks


def test_nothing_leaves_by_a_download(ask, seen, version):
    base = f"{PROJECT}/releases/{version}"
    for name in (
        "index.parquet",
        "manifest.jsonl",
        "anonymity.md",
        "anonymity.json",
        "deidentification.md",
        "dicom.zip",
        "nifti.zip",
    ):
        answer = ask("rania", f"{base}/{name}")
        assert answer.status_code == 200, name
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
                assert len(opened.namelist()) > 6
    assert not seen.leaks


def test_nothing_leaves_by_a_page_or_by_json(ask, seen, version, planted):
    # What is kept back was looked at, with its picture, before it was refused.
    assert len(ask("samir", f"{PROJECT}/releases/{version}/quarantine").json()) == len(planted[0])
    pages = ["/research", f"/research/{SLUG}", f"/research/{SLUG}/releases/{version}"]
    pages += [f"/research/{SLUG}/cohorts/1"]
    pages += [f"/research/{SLUG}/releases/{version}/{page}" for page in ("quarantine", "anonymity")]
    told = ["", "/members", "/cohorts", "/cohorts/1", "/releases", f"/releases/{version}", "/exclusions"]
    told += ["/reidentifications", f"/releases/{version}/quarantine"]
    for name in ("rania", "samir", "admin", "auditor"):
        for page in pages:
            for language in LANGUAGES:
                assert ask(name, page, Accept="text/html", Accept_Language=language).status_code < 500, page
        for path in told:
            assert ask(name, PROJECT + path).status_code < 500, path
    for leaf in ("viewer", "app-config.js", ""):
        ask("rania", f"/research/{SLUG}/releases/{version}/view/{leaf}")
    instance = ask("rania", f"/research/{SLUG}/dicom-web/instances?limit=1").json()[0]["00080018"]["Value"][0]
    assert ask("rania", f"{PROJECT}/releases/{version}/reports/{instance}").status_code == 200
    assert not seen.leaks


def test_who_may_not_is_told_what_is_told_of_nothing(ask, seen, version):
    paths = [f"/research/SLUG{rest}" for rest in ("/dicom-web/studies", f"/releases/{version}/dicom-web/studies/1.2")]
    paths += [f"/research/api/projects/SLUG{rest}" for rest in ("", "/cohorts", f"/releases/{version}/index.parquet")]
    for path in paths:
        forbidden, absent = (ask("stranger", path.replace("SLUG", slug)) for slug in (SLUG, "nothing"))
        assert forbidden.status_code == absent.status_code == 404
        assert forbidden.content == absent.content
        assert dict(forbidden.headers) | {"date": ""} == dict(absent.headers) | {"date": ""}
    assert not seen.leaks


def test_c_find_knows_nothing_of_a_release_and_a_release_nothing_of_c_find(ask, archive, version):
    released = ask("rania", f"/research/{SLUG}/dicom-web/studies").json()
    uids = {entry["0020000D"]["Value"][0] for entry in released}
    pseudonyms = {entry["00100020"]["Value"][0] for entry in released}
    asked = [("StudyInstanceUID", uid) for uid in sorted(uids)] + [("PatientID", one) for one in sorted(pseudonyms)]
    asked.append(("PatientID", "*"))
    found = set()
    with associate(archive.dicom_port, [build_context(Find)]) as association:
        for keyword, value in asked:
            keys = Dataset()
            keys.QueryRetrieveLevel, keys.StudyInstanceUID, keys.PatientID = "STUDY", "", ""
            setattr(keys, keyword, value)
            for status, match in association.send_c_find(keys, Find):
                assert status.Status in (0x0000, 0xFF00)
                if match is not None:
                    found |= {match.StudyInstanceUID, match.PatientID}
    assert found
    assert not found & (uids | pseudonyms)


def test_nothing_is_in_a_file_of_research_its_name_or_the_log(ask, archive, seen, site, version):
    ask("rania", f"{PROJECT}/releases/{version}/index.parquet")
    folders = [folder for folder in site.data_dir.iterdir() if folder.name.startswith("research-") and folder.is_dir()]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 24
    for path in files:
        seen.look("a file name", str(path.relative_to(site.data_dir)))
        seen.look("a file", path.read_bytes())
    seen.look("the log", archive.log.read_text())
    command = [sys.executable, "-m", "pacs.cli.main", "audit", "report", "--project", SLUG]
    command += ["--data-dir", str(site.data_dir)]
    report = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert b"release.publish" in report.stdout
    seen.look("the audit report", report.stdout + report.stderr)
    assert not seen.leaks


def test_nothing_is_in_the_rows_of_a_release(seen, site, version):
    engine = create_engine(f"sqlite:///{site.data_dir / 'index.sqlite'}")
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        for table in tables:
            columns = {row.name for row in connection.execute(text(f'PRAGMA table_info("{table}")'))}
            chosen = "partition_id > 0" if "partition_id" in columns else "1" if table.startswith("research_") else ""
            if table == "research_catalogue" or not chosen:
                continue
            for row in connection.execute(text(f'SELECT * FROM "{table}" WHERE {chosen}')):
                for name, value in row._asdict().items():
                    seen.look(f"{table}.{name}", value if isinstance(value, bytes) else str(value))
        headers = text(
            "SELECT attributes FROM instance_header JOIN instance ON instance_row_id = id WHERE partition_id > 0"
        )
        for attributes in connection.execute(headers).scalars():
            seen.look("a header", attributes)
    engine.dispose()
    assert not seen.leaks
