"""A served in-memory archive for every transaction's tests."""

from functools import partial

import httpx
import pytest

from dicomweb.app import create_app
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
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
def root(service):
    """A client of what stands beside the DICOMweb service."""
    with httpx.Client(base_url=service.removesuffix("/dicom-web"), timeout=30) as client:
        yield client


@pytest.fixture
def store(http):
    """Store data sets, or files as they are, and return the parsed answer."""
    return partial(store_at, http)


@pytest.fixture(scope="module")
def shared_http(tmp_path_factory):
    """A client of one archive for all tests of a module that change nothing, or nothing that another one sees."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with (
        open_archive(settings) as parts,
        serving(create_app(parts.archive, is_ready=dict)) as address,
        httpx.Client(base_url=f"{address}/dicom-web", timeout=30) as client,
    ):
        yield client


def store_at(http, *objects, path="/studies", status=200):
    files = [one if isinstance(one, bytes) else as_part10(one) for one in objects]
    response = http.post(path, content=multipart_body(*files), headers={"Content-Type": MULTIPART_DICOM})
    assert response.status_code == status, response.text
    return response.json()
