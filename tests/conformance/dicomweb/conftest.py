"""A served in-memory archive for every transaction's tests."""

import httpx
import pytest

from dicomweb.app import create_app
from tests.builders import as_part10
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, serving


class Switch:
    """One server for all tests, an application of its own for each: starting a server takes longer than most tests."""

    app = None

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def server():
    """A server whose application is changed, and its address."""
    switch = Switch()
    with serving(switch) as address:
        yield switch, address


@pytest.fixture
def service(server, archive):
    """The address of the DICOMweb service."""
    switch, address = server
    switch.app = create_app(archive, is_ready=lambda: {"index": True, "store": True})
    return f"{address}/dicom-web"


@pytest.fixture
def http(service):
    with httpx.Client(base_url=service, timeout=30) as client:
        yield client


@pytest.fixture
def store(http):
    """Store data sets, or files as they are, and return the parsed answer."""

    def store(*objects, path="/studies", status=200):
        files = [one if isinstance(one, bytes) else as_part10(one) for one in objects]
        response = http.post(path, content=multipart_body(*files), headers={"Content-Type": MULTIPART_DICOM})
        assert response.status_code == status, response.text
        return response.json()

    return store
