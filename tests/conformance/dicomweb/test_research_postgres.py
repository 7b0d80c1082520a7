"""Research over HTTP on PostgreSQL, which refuses what SQLite takes: nothing that is asked makes the archive fail."""

import re

import httpx
import pytest

from dicomweb.app import create_app
from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.research.model import ProjectRole
from tests import releases
from tests.conformance.dicomweb.service import serving
from tests.releases import SLUG

pytestmark = pytest.mark.postgres

API = f"/research/api/projects/{SLUG}"
NUL = "a\0b"


@pytest.fixture
def client(tmp_path, postgres_url):
    settings = Settings(
        data_dir=tmp_path, storage=StorageSettings(url="memory:"), database=DatabaseSettings(url=postgres_url)
    )
    with open_archive(settings) as parts:
        releases.store(parts, *releases.build_patients(6, 1))
        cohort = releases.make_project(parts)
        parts.research.projects.add_member(LOCAL, SLUG, LOCAL.name, ProjectRole.STEWARD)
        releases.publish(parts, cohort)
        app = create_app(parts.archive, is_ready=dict, research=parts.research, is_local=True)
        with serving(app) as address, httpx.Client(base_url=address, timeout=30) as opened:
            yield opened


def test_text_that_cannot_be_kept_is_refused_or_not_there(client):
    for path in ("/research/{}", "/research/api/projects/{}", "/research/{}/dicom-web/studies", "/research/{}/view/"):
        assert client.get(path.format("a%00b")).status_code == 404, path
    assert client.get(f"{API}/releases/1/reports/a%00b").status_code == 400
    assert client.get(f"/research/{SLUG}/cohorts/new?count=1&words=a%00b").status_code in {200, 400}
    for path, body in (
        ("/counts", {"conditions": {"Manufacturer": NUL}}),
        ("/cohorts", {"name": NUL, "conditions": {}}),
        ("/members", {"name": NUL, "role": "steward"}),
        ("/reidentifications", {"pseudonym": NUL, "reason": "why"}),
        ("/cohorts/1/refuse", {"remark": NUL}),
    ):
        assert client.post(f"{API}{path}", json=body).status_code == 400, path
    token = re.search('name="form_token" value="([^"]*)"', client.get("/research/new").text)[1]
    for path in ("/research/new", f"/research/{SLUG}/members", f"/research/{SLUG}/cohorts"):
        answer = client.post(path, data={"form_token": token, "name": NUL, "title": NUL, "slug": "knees"})
        assert answer.status_code == 400, path


def test_number_that_no_row_has_is_not_there(client):
    for number in ("0", "99", "9" * 10, "9" * 19, "9" * 30, "x", "-1"):
        assert client.get(f"/research/{SLUG}/cohorts/{number}").status_code == 404
        assert client.get(f"/research/{SLUG}/releases/{number}").status_code == 404
        assert client.get(f"{API}/releases/{number}/quarantine").status_code == 404
        assert client.get(f"/research/{SLUG}/releases/{number}/dicom-web/studies").status_code == 404


def test_release_is_read_and_its_pages_are_shown(client):
    studies = client.get(f"/research/{SLUG}/dicom-web/studies").json()
    assert len(studies) == 6
    for path in ("", "/cohorts/1", "/releases/1", "/releases/1/quarantine", "/cohorts/new?Modality=CT&count=1"):
        assert client.get(f"/research/{SLUG}{path}").status_code == 200, path
