"""From a question to a download, over HTTP and with accounts: a cohort is counted, asked for, approved and released."""

import io
import json
import subprocess
import sys
import time
import zipfile

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_auth

from tests.research_site import PATIENTS, SECRETS, SLICES, SLUG, build_site
from tests.scenarios.process import serving

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

PATIENCE_SECONDS = 120
PROJECT = f"/research/api/projects/{SLUG}"
CONDITIONS = {"Modality": "CT", "BodyPartExamined": "CHEST", "age_min": "18"}
RECORDED = (
    "cohort.facets",
    "cohort.create",
    "cohort.request",
    "cohort.approve",
    "release.start",
    "quarantine.view",
    "quarantine.refuse",
    "release.publish",
    "release.search",
    "release.read",
    "release.index",
    "release.zip",
    "release.manifest",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_site(tmp_path_factory.mktemp("research") / "data")


@pytest.fixture(scope="module")
def archive(site):
    with serving(site.data_dir) as process:
        yield process


@pytest.fixture(scope="module")
def ask(site, archive):
    """Ask as somebody; the answer is checked for its status, and for what no answer may hold."""
    with httpx.Client(base_url=archive.url, timeout=60) as client:

        def send(name, method, path, status=200, **options):
            answer = client.request(method, path, headers=site.headers(name), **options)
            assert answer.status_code == status, (path, answer.text[:500])
            check(site, answer.content)
            return answer

        yield send


def check(site, content):
    for secret in (*SECRETS, *site.clinical_uids):
        assert secret.encode() not in content, secret


def wait_for(ask, version, *states):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        release = ask("samir", "GET", f"{PROJECT}/releases/{version}").json()
        if release["state"] in states:
            return release
        time.sleep(0.1)
    pytest.fail(f"the release is still {release['state']}")


@pytest.fixture(scope="module")
def published(ask, site):
    """Go the whole way once: what it leaves is what the tests look at."""
    answer = ask("rania", "POST", f"{PROJECT}/counts", json={"conditions": CONDITIONS}).json()
    patients = answer["counts"]["patients"]
    assert patients is not None
    assert patients % 5 == 0
    body = {"name": "Adults' chests", "conditions": CONDITIONS}
    cohort = ask("rania", "POST", f"{PROJECT}/cohorts", 201, json=body).json()["id"]
    ask("rania", "POST", f"{PROJECT}/cohorts/{cohort}/approve", 403, json={})
    ask("rania", "POST", f"{PROJECT}/cohorts/{cohort}/request", json={})
    ask("samir", "POST", f"{PROJECT}/releases", 409, json={"cohort": cohort})
    ask("samir", "POST", f"{PROJECT}/cohorts/{cohort}/approve", json={"remark": "as approved"})
    version = ask("samir", "POST", f"{PROJECT}/releases", 201, json={"cohort": cohort}).json()["version"]
    wait_for(ask, version, "quarantine")
    (kept,) = ask("samir", "GET", f"{PROJECT}/releases/{version}/quarantine").json()
    ask("samir", "POST", f"{PROJECT}/releases/{version}/publish", 409, json={})
    picture = f"/research/{SLUG}/releases/{version}/quarantine/{kept['id']}/preview"
    assert ask("samir", "GET", picture).content[:2] == b"\xff\xd8"
    ask("rania", "GET", picture, 403)
    ask("stranger", "GET", picture, 404)
    decision = {"ids": [kept["id"]], "decision": "refuse", "remark": "a name is in the picture"}
    ask("samir", "POST", f"{PROJECT}/releases/{version}/quarantine", json=decision)
    release = ask("samir", "POST", f"{PROJECT}/releases/{version}/publish", json={}).json()
    assert release["counts"] == {
        "patients": PATIENTS,
        "studies": PATIENTS,
        "series": PATIENTS,
        "instances": PATIENTS * SLICES,
    }
    return version


def test_release_is_read_by_dicomweb_client(site, archive, ask, published):
    session = create_session_from_auth(_Bearer(site.tokens["rania"]))
    client = DICOMwebClient(f"{archive.url}/research/{SLUG}/dicom-web", session=session)
    studies = client.search_for_studies()
    assert len(studies) == PATIENTS
    uid = studies[0]["0020000D"]["Value"][0]
    assert uid.startswith("2.25.")
    slices = client.retrieve_study(uid)
    assert len(slices) == SLICES
    for dataset in slices:
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.KVP == 120
        sink = io.BytesIO()
        dataset.save_as(sink, enforce_file_format=False)
        check(site, sink.getvalue())
    assert client.retrieve_study_metadata(uid)[0]["00120062"]["Value"] == ["YES"]


def test_what_is_downloaded_is_whole_and_names_nobody(site, ask, published):
    base = f"{PROJECT}/releases/{published}"
    answer = ask("rania", "GET", f"{base}/dicom.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for content in contents.values():
        check(site, content)
    images = [name for name in contents if name.startswith("DICOM/")]
    assert len(images) == PATIENTS * SLICES
    assert pydicom.dcmread(io.BytesIO(contents[images[0]])).Modality == "CT"
    lines = ask("rania", "GET", f"{base}/manifest.jsonl").text.splitlines()
    assert len(lines) == PATIENTS * SLICES
    assert {json.loads(line)["patient_id"] for line in lines}.isdisjoint(SECRETS)


def test_index_is_read_in_ranges_and_not_sent_again(ask, published):
    whole = ask("rania", "GET", f"{PROJECT}/releases/newest/index.parquet")
    assert whole.content[:4] == whole.content[-4:] == b"PAR1"
    assert whole.headers["accept-ranges"] == "bytes"


def test_forbidden_is_what_is_absent(ask, published):
    version = f"releases/{published}"
    for path in ("/releases", f"/{version}", f"/{version}/index.parquet", f"/{version}/quarantine", "/cohorts", ""):
        forbidden = ask("stranger", "GET", f"{PROJECT}{path}", 404)
        absent = ask("stranger", "GET", f"/research/api/projects/other{path}", 404)
        assert told(forbidden) == told(absent)
    for path in ("/dicom-web/studies", f"/{version}/dicom-web/studies", "/view/", f"/{version}/view/viewer"):
        forbidden = ask("stranger", "GET", f"/research/{SLUG}{path}", 404)
        assert told(forbidden) == told(ask("stranger", "GET", f"/research/other{path}", 404))
        assert told(forbidden) == told(ask("rania", "GET", f"/research/other{path}", 404))


def told(answer):
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.content


def test_researcher_sees_nothing_clinical_and_nobody_without_account_sees_research(ask, archive, published):
    ask("rania", "GET", "/dicom-web/studies", 404)
    ask("reader", "GET", f"/research/{SLUG}", 404)
    assert httpx.get(f"{archive.url}{PROJECT}").status_code == 401


def test_everything_is_recorded(site, ask, archive, published):
    ask("rania", "GET", f"/research/{SLUG}/dicom-web/studies")
    ask("rania", "GET", f"{PROJECT}/releases/{published}/index.parquet")
    report = subprocess.run(
        [sys.executable, "-m", "pacs.cli.main", "audit", "report", "--project", SLUG, "--data-dir", str(site.data_dir)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert [kind for kind in RECORDED if f"research.{kind}" not in report] == []
    check(site, report.encode())


class _Bearer:
    """What requests needs to send a token with each request."""

    def __init__(self, token):
        self._token = token

    def __call__(self, request):
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request
