"""What is the same for every resource of plain JSON: bodies that are refused, and numbers that are none."""

import httpx
import pytest

from dicomweb import worklist
from dicomweb.app import create_app
from tests.conformance.dicomweb.service import serving

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def app(archive):
    return create_app(archive, is_ready=dict)


@pytest.fixture
def orders(app):
    """Method and address of every operation that takes a body of JSON."""
    paths = app.openapi()["paths"].items()
    return [
        (method, path.replace("{", "").replace("}", ""))
        for path, operations in paths
        for method in operations
        if method in ("post", "put") and not path.startswith("/dicom-web")
    ]


@pytest.fixture
def client(app):
    with serving(app) as address, httpx.Client(base_url=address) as client:
        yield client


def test_every_resource_that_takes_orders_is_looked_at(orders):
    assert len(orders) >= 8
    assert {path.split("/")[1] for _, path in orders} == {"corrections", "conflicts", "worklist", "queue", "withheld"}


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_type_that_any_page_could_send_is_415(client, orders, media_type):
    for method, path in orders:
        response = client.request(method, path, content=b"{}", headers={"Content-Type": media_type})
        assert response.status_code == 415, path
        assert response.json()["error"] == "UnsupportedMediaType"


def test_a_body_that_does_not_end_is_413(client, orders):
    body = b'"' + b"x" * worklist.MAX_BODY_BYTES + b'"'
    for method, path in orders:
        response = client.request(method, path, content=body, headers=JSON)
        assert response.status_code == 413, path
        assert response.json()["error"] == "ContentTooLarge"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{} {}", b"[" * 10_000, b"NaN"], ids=repr)
def test_a_body_that_is_no_json_is_400_and_not_repeated(client, orders, body):
    for method, path in orders:
        response = client.request(method, path, content=body, headers=JSON)
        assert response.status_code == 400, path
        assert response.json() == {"status": 400, "error": "RequestError", "message": "The body must be JSON."}


@pytest.mark.parametrize("path", ["/worklist", "/queue", "/withheld", "/corrections", "/conflicts"])
def test_a_page_is_as_long_as_asked_for_but_never_longer_than_the_archive_makes_them(client, path):
    assert client.get(path, params={"limit": "9" * 9}).status_code == 200
    for text in ("-1", "x", "", "1.0", "٣", "9" * 40):
        assert client.get(path, params={"limit": text}).status_code == 400


def test_every_operation_has_a_name_a_summary_and_a_group(app):
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["tags"], path
            assert "_" in operation["operationId"], path
            assert not operation["operationId"].endswith(("_get", "_post", "_put", "_delete")), path
