"""Retrieve Capabilities (PS3.18 8.9) and OPTIONS: what is described is what is mounted."""

from xml.etree import ElementTree as ET

import httpx
import pytest

from dicomweb.app import create_app
from tests.builders import build_ct
from tests.conformance.dicomweb.service import serving
from tests.conformance.dicomweb.test_wado import path_of

WADL = "application/vnd.sun.wadl+xml"
NAMESPACE = {"wadl": "http://wadl.dev.java.net/2009/02"}
ORIGIN = "http://viewer.example"


@pytest.fixture
def described(root):
    return ET.fromstring(root.options("/dicom-web", headers={"Accept": WADL}).content)


def walk(element, path=""):
    """Yield each method of a description with the path of its resource."""
    for method in element.findall("wadl:method", NAMESPACE):
        yield path, method
    for resource in element.findall("wadl:resource", NAMESPACE):
        yield from walk(resource, f"{path}/{resource.get('path')}")


def options_of(method, name):
    return [
        one.get("value") for one in method.findall(f"wadl:request/wadl:param[@name='{name}']/wadl:option", NAMESPACE)
    ]


@pytest.mark.parametrize("path", ["/dicom-web", "/dicom-web/"])
@pytest.mark.parametrize(("accept", "expected"), [(None, WADL), ("*/*", WADL), (WADL, WADL), ("application/json",) * 2])
def test_the_root_describes_itself(root, path, accept, expected):
    response = root.options(path, headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.headers["content-type"]) == (200, expected)
    assert "Accept" in response.headers["vary"]


def test_nothing_else_describes_it(root):
    assert root.options("/dicom-web", headers={"Accept": "text/html"}).status_code == 406
    assert root.get("/dicom-web").status_code == 405


def test_it_describes_every_resource_that_is_mounted_and_no_other(root, described):
    (resources,) = described.findall("wadl:resources", NAMESPACE)
    assert resources.get("base") == f"{root.base_url}".rstrip("/") + "/dicom-web"
    claimed = {(method.get("name"), f"/dicom-web{path}") for path, method in walk(resources)}
    mounted = {
        (method.upper(), path)
        for path, operations in root.get("/openapi.json").json()["paths"].items()
        for method in operations
        if path.startswith("/dicom-web")
    }
    assert claimed == mounted
    assert ("GET", "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}") in claimed
    assert len({method.get("id") for _, method in walk(resources)}) == len(mounted)


def test_a_variable_of_an_address_is_declared_where_it_stands(described):
    for resource in described.iter("{http://wadl.dev.java.net/2009/02}resource"):
        declared = [one.get("name") for one in resource.findall("wadl:param[@style='template']", NAMESPACE)]
        assert [f"{{{name}}}" for name in declared] == ([resource.get("path")] if "{" in resource.get("path") else [])


def test_json_says_the_same(root, described):
    said = root.options("/dicom-web", headers={"Accept": "application/json"}).json()["application"]["resources"][0]

    def walk_json(resource, path=""):
        for method in resource["method"]:
            yield path, method["name"], method["id"]
        for child in resource["resource"]:
            yield from walk_json(child, f"{path}/{child['path']}")

    (resources,) = described.findall("wadl:resources", NAMESPACE)
    assert list(walk_json(said)) == [(path, one.get("name"), one.get("id")) for path, one in walk(resources)]


def test_every_search_parameter_that_is_claimed_is_understood(http, described):
    methods = {method.get("id"): method for _, method in walk(described.find("wadl:resources", NAMESPACE))}
    search = methods["SearchForStudies"]
    names = {one.get("name") for one in search.findall("wadl:request/wadl:param[@style='query']", NAMESPACE)}
    assert {
        "limit",
        "offset",
        "includefield",
        "fuzzymatching",
        "PatientName",
        "StudyDate",
        "ModalitiesInStudy",
    } <= names
    for name in names - {"accept", "limit", "offset", "fuzzymatching"}:
        # An empty value matches everything; what is not known is passed over with a warning.
        value = "false" if name.endswith("matching") else ""
        response = http.get("/instances", params={name: value})
        assert (response.status_code, response.headers.get("warning")) == (204, None), name


def test_every_form_of_an_instance_and_a_frame_that_is_claimed_can_be_had(http, store, described):
    dataset = build_ct()
    store(dataset)
    methods = {method.get("id"): method for _, method in walk(described.find("wadl:resources", NAMESPACE))}
    for name, path in (
        ("RetrieveInstance", path_of(dataset)),
        ("RetrieveInstanceMetadata", f"{path_of(dataset)}/metadata"),
    ):
        for accept in options_of(methods[name], "Accept"):
            assert http.get(path, headers={"Accept": accept}).status_code == 200, accept
    frames = options_of(methods["RetrieveFrames"], "Accept")
    assert 'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80' in frames
    assert "application/octet-stream" in frames


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/dicom-web/studies", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1", {"GET", "HEAD", "OPTIONS"}),
        ("/dicom-web/studies/1.2/metadata", {"GET", "HEAD", "OPTIONS"}),
        ("/worklist/1", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        ("/wado", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_options_of_a_resource_says_what_it_allows(root, path, allowed):
    response = root.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert set(response.headers["allow"].split(", ")) == allowed


def test_options_says_which_bodies_a_resource_takes(root):
    takes = root.options("/dicom-web/studies").headers["accept-post"]
    assert 'multipart/related; type="application/dicom"' in takes
    assert "accept-post" not in root.options("/wado").headers


def test_options_of_nothing_is_404(root):
    assert root.options("/dicom-web/nothing").status_code == 404


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/dicom-web/studies/1.2"), ("POST", "/dicom-web/studies")])
def test_a_preflight_is_answered_beside_it_for_every_method_there_is(archive, method, path):
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, if-none-match, if-modified-since, range",
    }
    with serving(create_app(archive, is_ready=dict, cors_origins=[ORIGIN])) as address, httpx.Client() as client:
        preflight = client.options(address + path, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert method in preflight.headers["access-control-allow-methods"].split(", ")
        stranger = client.options(address + path, headers={**asked, "Origin": "http://other.example"})
        assert stranger.status_code == 400
        plain = client.options(address + "/dicom-web", headers={"Origin": ORIGIN})
        assert (plain.status_code, plain.headers["content-type"]) == (200, WADL)
        assert plain.headers["access-control-allow-origin"] == ORIGIN
        got = client.get(f"{address}/dicom-web/studies", headers={"Origin": ORIGIN})
        exposed = got.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("etag", "content-range", "location", "warning", "allow"))
