"""Research over HTTP: who sees what, by which statements, and that nothing of one release shows in another."""

import io
import re
import zipfile

import httpx
import pytest
from sqlalchemy import Engine, event

from dicomweb.app import create_app
from pacs.access import LOCAL, Permission
from pacs.app import open_archive
from pacs.audit.log import Chosen
from pacs.config import Settings, StorageSettings
from tests import releases
from tests.conformance.dicomweb.service import serving
from tests.releases import ADMINISTRATOR, OUTSIDER, RESEARCHER, SLUG, STEWARD

SECRETS = ("TAZI", "MRN0000")
API = f"/research/api/projects/{SLUG}"
OTHER = "hearts"
PATIENTS = 24


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("research"), storage=StorageSettings(url="memory:"))
    with open_archive(settings) as opened:
        releases.store(opened, *releases.build_patients(PATIENTS))
        cohort = releases.make_project(opened)
        withdrawn = releases.publish(opened, cohort)
        opened.research.releases.withdraw(STEWARD, SLUG, withdrawn.version, reason="superseded")
        releases.publish(opened, cohort)
        releases.publish(opened, releases.make_project(opened, OTHER), OTHER)
        for principal in (ADMINISTRATOR, STEWARD, RESEARCHER, OUTSIDER):
            opened.identity.accounts.add(LOCAL, principal.name, principal.roles, "a password of enough length")
        opened.research.projects.remove_member(ADMINISTRATOR, OTHER, RESEARCHER.name)
        yield opened


@pytest.fixture(scope="module")
def address(parts):
    app = create_app(parts.archive, is_ready=dict, research=parts.research, identity=parts.identity)
    with serving(app) as served:
        yield served


@pytest.fixture(scope="module")
def clients(parts, address):
    """Return who asks, by name."""
    made = {}
    for principal in (ADMINISTRATOR, STEWARD, RESEARCHER, OUTSIDER):
        token, _ = parts.identity.tokens.issue(LOCAL, principal.name, "test", [Permission.RESEARCH], 1)
        headers = {"Authorization": f"Bearer {token}"}
        made[principal.name] = httpx.Client(base_url=address, headers=headers, timeout=30)
    yield made
    for client in made.values():
        client.close()


@pytest.fixture
def researcher(clients):
    return clients[RESEARCHER.name]


@pytest.fixture
def outsider(clients):
    return clients[OUTSIDER.name]


@pytest.fixture
def steward(clients):
    return clients[STEWARD.name]


@pytest.fixture
def statements():
    """Every statement that is run, as its text."""
    seen = []

    def note(_connection, _cursor, statement, _parameters, _context, _many):
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def told(answer):
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.content


# Of the project that he is no member of, of one that is not there, and of versions that may not be read any more or
# never were: whoever asks must not be able to tell one from another.
ABSENT = [
    "/research/{}/dicom-web/studies",
    "/research/{}/releases/1/dicom-web/studies",
    "/research/{}/view/viewer",
    "/research/api/projects/{}/releases/1/index.parquet",
    "/research/api/projects/{}/releases/newest/dicom.zip",
    "/research/api/projects/{}/releases/1/manifest.jsonl",
    "/research/api/projects/{}/releases/1/deidentification.md",
    "/research/api/projects/{}/releases/1/anonymity.json",
    "/research/api/projects/{}/releases/1/reports/2.25.1",
    "/research/api/projects/{}/releases/1",
    "/research/api/projects/{}/releases",
    "/research/api/projects/{}/cohorts",
    "/research/api/projects/{}/cohorts/1",
    "/research/api/projects/{}/members",
    "/research/api/projects/{}/exclusions",
    "/research/api/projects/{}",
]


@pytest.mark.parametrize("path", ABSENT)
def test_forbidden_and_absent_run_the_same_statements_and_give_the_same_bytes(outsider, statements, path):
    outsider.get(path.format("warm"))  # who asks is known from now on
    seen = []
    for slug in (SLUG, "nobody-has-this"):
        statements.clear()
        answer = outsider.get(path.format(slug))
        seen.append((told(answer), list(statements)))
    (forbidden, asked_for_forbidden), (absent, asked_for_absent) = seen
    assert forbidden[0] == 404
    assert forbidden == absent
    assert asked_for_forbidden == asked_for_absent != []


@pytest.mark.parametrize("rest", ["dicom-web/studies", "view/viewer"])
def test_withdrawn_version_is_what_never_was(researcher, statements, rest):
    researcher.get("/research")  # who asks is known from now on
    seen = []
    for version in (1, 99):
        statements.clear()
        answer = researcher.get(f"/research/{SLUG}/releases/{version}/{rest}")
        seen.append((told(answer), list(statements)))
    assert seen[0][0][0] == 404
    assert seen[0] == seen[1]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_forbidden_is_absent_for_every_method(outsider, method):
    first, second = (outsider.request(method, f"/research/{slug}/dicom-web/studies") for slug in (SLUG, "other"))
    assert told(first) == told(second)
    assert first.status_code == 404


def test_pages_of_what_is_forbidden_are_those_of_what_is_absent(outsider):
    for path in ("", "/cohorts/1", "/releases/2", "/releases/2/quarantine", "/cohorts/new"):
        pages = [
            re.sub('name="form_token" value="[^"]*"', "", outsider.get(f"/research/{slug}{path}").text)
            for slug in (SLUG, "other")
        ]
        assert pages[0].replace(SLUG, "other") == pages[1]


def test_list_of_projects_holds_only_ones_own(clients):
    listed = {
        name: [one["slug"] for one in client.get("/research/api/projects").json()] for name, client in clients.items()
    }
    assert listed == {
        ADMINISTRATOR.name: [OTHER, SLUG],
        STEWARD.name: [OTHER, SLUG],
        RESEARCHER.name: [SLUG],
        OUTSIDER.name: [],
    }


def test_whoever_knows_of_a_project_without_being_a_member_is_told_that_he_may_not(clients):
    administrator = clients[ADMINISTRATOR.name]
    assert administrator.get(API).status_code == 200
    assert administrator.get(f"{API}/cohorts").status_code == 403
    assert administrator.get(f"/research/{SLUG}/dicom-web/studies").status_code == 404
    assert "Members" in administrator.get(f"/research/{SLUG}").text


def test_two_releases_have_no_identifier_tag_or_boundary_in_common(steward):
    found = {}
    for slug in (SLUG, OTHER):
        base = f"/research/{slug}/dicom-web"
        studies = steward.get(f"{base}/studies").json()
        path = f"{base}/studies/{studies[0]['0020000D']['Value'][0]}"
        answer = steward.get(path)
        found[slug] = {
            *(match[tag]["Value"][0] for match in studies for tag in ("0020000D", "00100020")),
            answer.headers["etag"],
            answer.headers["content-type"],
        }
        assert len(studies) == PATIENTS
    assert found[SLUG].isdisjoint(found[OTHER])


def test_nothing_that_research_answers_holds_anything_clinical(parts, steward):
    uids = releases.clinical_uids(parts)
    studies = steward.get(f"/research/{SLUG}/dicom-web/studies").json()
    uid = studies[0]["0020000D"]["Value"][0]
    paths = [
        f"/research/{SLUG}/dicom-web/studies?includefield=all",
        f"/research/{SLUG}/dicom-web/instances?includefield=all",
        f"/research/{SLUG}/dicom-web/studies/{uid}/metadata",
        f"/research/{SLUG}/dicom-web/studies/{uid}",
        f"/research/{SLUG}/dicom-web/studies/{uid}/rendered",
        f"/research/{SLUG}/releases/2",
        f"{API}/releases/2",
        f"{API}/releases/2/manifest.jsonl",
        f"{API}/releases/2/index.parquet",
        f"{API}/cohorts",
        *(f"/research/{SLUG}/dicom-web/studies/{one}/metadata" for one in sorted(uids)[:3]),
    ]
    for path in paths:
        answer = steward.get(path)
        shown = answer.content + str(answer.headers).encode()
        for secret in (*SECRETS, *(uids - set(path.split("/")))):
            assert secret.encode() not in shown, (path, secret)


def test_clinical_study_is_not_found_in_a_release(parts, steward):
    for uid in sorted(releases.clinical_uids(parts))[:3]:
        assert steward.get(f"/research/{SLUG}/dicom-web/studies/{uid}/metadata").status_code == 404
        assert steward.get(f"/research/{SLUG}/dicom-web/studies", params={"StudyInstanceUID": uid}).status_code == 204


def test_index_is_read_bit_by_bit(researcher):
    path = f"{API}/releases/newest/index.parquet"
    whole = researcher.get(path)
    tail = researcher.get(path, headers={"Range": "bytes=-8", "If-Range": whole.headers["etag"]})
    assert (tail.status_code, tail.content) == (206, whole.content[-8:])
    assert researcher.get(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = researcher.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")


def test_how_anonymous_a_release_is_is_shown_and_told_to_programs(researcher, clients):
    report = researcher.get(f"{API}/releases/2/anonymity.json").json()
    assert (report["patients"], report["wanted_k"], report["levels"][0]["k"]) == (PATIENTS, 5, PATIENTS)
    assert "24 patients" in researcher.get(f"{API}/releases/2/anonymity.md").text
    for language, title in (("en", "How anonymous it is"), ("fr", "Degré d&#39;anonymat"), ("ar", "درجة إخفاء الهوية")):
        page = researcher.get(f"/research/{SLUG}/releases/2/anonymity", headers={"Accept-Language": language})
        assert page.status_code == 200
        assert title in page.text
    assert clients[OUTSIDER.name].get(f"/research/{SLUG}/releases/2/anonymity").status_code == 404


def test_part_of_a_release_is_downloaded_alone(researcher):
    uid = researcher.get(f"/research/{SLUG}/dicom-web/studies").json()[0]["0020000D"]["Value"][0]
    answer = researcher.get(f"{API}/releases/2/dicom.zip", params={"study": uid})
    assert answer.headers["content-disposition"] == f'attachment; filename="{SLUG}-2-dicom.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sum(name.startswith("DICOM/") for name in archive.namelist()) == 2
    assert researcher.get(f"{API}/releases/2/dicom.zip", params={"study": "2.25.1"}).status_code == 404
    for wrong in ({"series": uid}, {"study": "x"}, {"patient": "1"}):
        assert researcher.get(f"{API}/releases/2/dicom.zip", params=wrong).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/counts", {"conditions": {"PatientName": "TAZI"}}, 400),
        ("/counts", {"conditions": []}, 400),
        ("/cohorts", {"name": "", "conditions": {}}, 400),
        ("/cohorts", {"name": 7}, 400),
        ("/cohorts/1/request", {}, 409),
        ("/cohorts/99/request", {}, 404),
        ("/cohorts/x/request", {}, 404),
        ("/cohorts/1/approve", {}, 403),
        ("/releases", {"cohort": 1}, 403),
        ("/releases", {"cohort": True}, 400),
        ("/releases/2/withdraw", {"reason": "mine"}, 403),
        ("/members", {"name": "x", "role": "owner"}, 400),
        ("/members", {"name": "x", "role": "steward"}, 403),
        ("/exclusions", {"patient_id": "1", "reason": "asked"}, 403),
        ("/reidentifications", {"pseudonym": "nobody", "reason": "why"}, 404),
    ],
)
def test_what_cannot_be_done_is_said(researcher, path, body, status):
    answer = researcher.post(f"{API}{path}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert "TAZI" not in answer.text


def test_page_says_what_is_wrong_with_a_form_and_keeps_what_was_typed(clients):
    administrator = clients[ADMINISTRATOR.name]
    page = administrator.get("/research/new").text
    token = re.search('name="form_token" value="([^"]*)"', page)[1]
    answer = administrator.post(
        "/research/new", data={"form_token": token, "title": "Knees & hips", "slug": "K", "ends_on": "2099-01-01"}
    )
    assert answer.status_code == 400
    assert "Knees &amp; hips" in answer.text
    assert 'role="alert"' in answer.text


def test_form_needs_the_token_of_its_page(researcher):
    researcher.get(f"/research/{SLUG}/cohorts/new")
    answer = researcher.post(f"/research/{SLUG}/cohorts", data={"name": "mine", "Modality": "CT"})
    assert answer.status_code == 403


def test_address_with_a_slash_at_its_end_leads_to_the_one_without(researcher):
    for path in ("/research/", f"/research/{SLUG}/", "/research/nowhere/"):
        answer = researcher.get(path)
        assert (answer.status_code, answer.headers["location"]) == (308, path.rstrip("/"))


def test_objection_is_recorded_by_the_page_and_shown_without_whom_it_concerns(steward, researcher):
    page = steward.get(f"/research/{OTHER}").text
    token = re.search('name="form_token" value="([^"]*)"', page)[1]
    fields = {"form_token": token, "kind": "patient", "identifier": "MRN9999999", "reason": "Objected in writing"}
    assert steward.post(f"/research/{OTHER}/exclusions", data=fields).status_code == 303
    refused = steward.post(f"/research/{OTHER}/exclusions", data=fields | {"identifier": ""})
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text
    page = steward.get(f"/research/{OTHER}").text
    assert "Objected in writing" in page
    assert "MRN9999999" not in page
    assert "Objections" not in researcher.get(f"/research/{SLUG}").text


def test_reads_of_a_release_are_recorded_once_a_study(parts, researcher):
    base = f"/research/{SLUG}/releases/2/dicom-web"
    uid = researcher.get(f"{base}/studies").json()[1]["0020000D"]["Value"][0]
    for rest in ("", "/metadata", "/thumbnail", "/series"):
        assert researcher.get(f"{base}/studies/{uid}{rest}").status_code == 200
    parts.audit.seal()
    entries = [
        entry
        for entry in parts.audit.iter_entries(LOCAL, Chosen())
        if entry["kind"] == "research.release.read" and entry["subject"] == uid
    ]
    assert len(entries) == 1
    assert entries[0]["principal"] == RESEARCHER.name
