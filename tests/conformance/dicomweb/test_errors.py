"""What the HTTP edge answers when it cannot do what it is asked (PS3.18 8.5), and health."""

import re
from dataclasses import replace

import httpx
import pytest

from dicomweb.app import create_app
from pacs.errors import CorruptPixelData, InvalidQuery, OutOfResources, StudyNotFound, Unavailable
from tests.conformance.dicomweb.service import serving


class Failing:
    """A search that fails as told."""

    def __init__(self, error):
        self._error = error

    def search(self, principal, query, *, with_header=False):
        raise self._error


async def viewer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"the viewer"})


@pytest.fixture
def app_http(archive):
    """A client of an application with a viewer and a store that is down."""
    app = create_app(
        archive,
        is_ready=lambda: {"index": True, "store": False},
        viewer=viewer,
        cors_origins=("https://viewer.example",),
    )
    with serving(app) as address, httpx.Client(base_url=address) as client:
        yield client


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StudyNotFound(), 404),
        (InvalidQuery("PatientID cannot be matched."), 400),
        (CorruptPixelData(), 406),
        (OutOfResources(), 503),
        (Unavailable(), 503),
        (ZeroDivisionError("CANARY"), 500),
    ],
)
def test_an_error_becomes_its_status_and_a_sentence(archive, error, status):
    app = create_app(replace(archive, search=Failing(error)), is_ready=dict)
    with serving(app) as address:
        response = httpx.get(f"{address}/dicom-web/studies")
    assert response.status_code == status
    assert response.json()["status"] == status
    assert response.json()["message"]
    assert "CANARY" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


def test_nothing_asked_is_ever_repeated(app_http):
    for path in (
        "/dicom-web/CANARY",
        "/dicom-web/studies?StudyDate=CANARY",
        "/dicom-web/studies?CANARY^X=1&limit=CANARY",
        "/dicom-web/studies/CANARY",
        "/dicom-web/studies/1.2/series/CANARY/metadata",
        "/dicom-web/studies/1.2/series/1.2/instances/1.2/frames/CANARY",
    ):
        response = app_http.get(path)
        assert response.status_code in (400, 404)
        assert "CANARY" not in response.text + str(response.headers)


def test_the_viewer_gets_what_is_not_the_services(app_http):
    assert app_http.get("/").text == "the viewer"
    assert app_http.get("/viewer?StudyInstanceUIDs=1").text == "the viewer"
    assert app_http.get("/dicom-web/nothing").status_code == 404
    assert app_http.get("/dicom-web/studies").status_code == 204


def test_a_method_that_a_resource_does_not_know(app_http):
    response = app_http.delete("/dicom-web/studies")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) >= {"GET", "POST"}


def test_health(app_http, http, service):
    assert app_http.get("/healthz").status_code == 200
    response = app_http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["parts"] == {"index": "up", "store": "down"}
    assert httpx.get(service.replace("/dicom-web", "/readyz")).status_code == 200


def test_the_page_of_operations_needs_nothing_from_elsewhere(app_http):
    page = app_http.get("/docs")
    assert page.status_code == 200
    assert "/dicom-web/studies/{study}/metadata" in page.text
    assert re.findall(r"https?://|<script|<link|@import|url\(", page.text) == []
    document = app_http.get("/openapi.json").json()
    identifiers = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(identifiers) == len(set(identifiers)) >= 18


def test_other_origins_are_let_in_only_if_named(app_http, http):
    asked = {"Origin": "https://viewer.example"}
    assert app_http.get("/dicom-web/studies", headers=asked).headers["access-control-allow-origin"] == asked["Origin"]
    assert "access-control-allow-origin" not in http.get("/studies", headers=asked).headers
    other = app_http.get("/dicom-web/studies", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_two_applications_of_one_archive_live_side_by_side(archive):
    first, second = (create_app(archive, is_ready=dict, root=root) for root in ("/a", "/b/"))
    with serving(first) as one, serving(second) as other:
        assert httpx.get(f"{one}/a/studies").status_code == 204
        assert httpx.get(f"{other}/b/studies").status_code == 204
