"""Releases as DICOMweb: what may be read is read, what may not is not there, and nothing can be written."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
from starlette.applications import Starlette

from dicomweb import errors, release_mount
from dicomweb.context import Context
from dicomweb.release_mount import Read, Readable, ReleaseMount, Source
from pacs.access import Principal
from pacs.archive import Archive
from pacs.errors import Unavailable
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct

MEMBER, STRANGER = Principal("member"), Principal("stranger")
VERSIONS = (1, 2)
MODALITIES = {"Accept": "application/dicom+json"}


@dataclass
class Fake:
    """Two releases of one project, a member of it, and what was asked and recorded."""

    archive: Archive
    asked: list[tuple[str, str, int | None]] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    withdrawn: set[int] = field(default_factory=set)
    is_recording: bool = True

    def find(self, principal, project, version):
        self.asked.append((principal.name, project, version))
        if principal != MEMBER or project != "lungs":
            return None
        there = [number for number in VERSIONS if number not in self.withdrawn]
        found = next((number for number in reversed(there) if version in (None, number)), None)
        return found and Readable(found, "lungs", found, partial(self.open_archive, found))

    def open_archive(self, version):
        self.opened.append(version)
        return self.archive

    def record(self, read):
        if not self.is_recording:
            raise Unavailable
        self.reads.append(read)


class Client:
    def __init__(self, app):
        self._transport = httpx.ASGITransport(app)

    def __call__(self, path, method="GET", **options):
        async def send():
            async with httpx.AsyncClient(transport=self._transport, base_url="http://archive.test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())


@pytest.fixture
def fake(archive):
    return Fake(archive)


@pytest.fixture
def client(fake, monkeypatch):
    monkeypatch.setattr(Context, "principal", lambda _, request: Principal(request.headers.get("x-name", MEMBER.name)))
    context = Context(fake.archive, boundary_key=b"k" * 32)
    mount = ReleaseMount(context, Source(fake.find, fake.record))
    app = Starlette(routes=mount.routes())
    errors.install(app)
    return Client(app)


@pytest.fixture
def stored(archive):
    dataset = build_ct()
    spool = archive.ingest.open_spool()
    spool.write(as_part10(dataset))
    with spool:
        assert archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored
    return dataset


def told(answer):
    """Return every byte of an answer, but for what names the request."""
    return answer.status_code, sorted(answer.headers.items()), answer.content


ABSENT = [
    pytest.param("/research/hearts/dicom-web/studies", MEMBER, id="unknown-project"),
    pytest.param("/research/lungs/dicom-web/studies", STRANGER, id="forbidden-project"),
    pytest.param("/research/lungs/releases/2/dicom-web/studies", STRANGER, id="forbidden-version"),
    pytest.param("/research/lungs/releases/1/dicom-web/studies", MEMBER, id="withdrawn-version"),
    pytest.param("/research/lungs/releases/9/dicom-web/studies", MEMBER, id="unknown-version"),
    pytest.param("/research/lungs/releases/x/dicom-web/studies", MEMBER, id="no-version"),
    pytest.param("/research/L%00NGS/dicom-web/studies", MEMBER, id="no-slug"),
]


def test_newest_release_is_searched_and_retrieved_below_its_project(client, stored):
    (found,) = client("/research/lungs/dicom-web/studies", headers=MODALITIES).json()
    uid = stored.StudyInstanceUID
    assert found["00081190"]["Value"] == [f"http://archive.test/research/lungs/dicom-web/studies/{uid}"]
    instances = client(f"/research/lungs/dicom-web/studies/{uid}")
    assert instances.status_code == 200
    assert stored.SOPInstanceUID.encode() in instances.content
    assert client(f"/research/lungs/dicom-web/studies/{uid}/thumbnail").headers["content-type"] == "image/jpeg"


def test_version_has_an_address_of_its_own(client, stored):
    (found,) = client("/research/lungs/releases/1/dicom-web/studies", headers=MODALITIES).json()
    assert "/research/lungs/releases/1/dicom-web/studies/" in found["00081190"]["Value"][0]


@pytest.mark.parametrize(("path", "principal"), ABSENT)
def test_forbidden_is_answered_by_the_bytes_of_what_is_absent(client, fake, stored, path, principal):
    fake.withdrawn.add(1)
    absent = client("/research/nobody-has-this/dicom-web/studies")
    before = len(fake.asked)
    answer = client(path, headers={"x-name": principal.name})
    assert answer.status_code == 404
    assert told(answer) == told(absent)
    assert len(fake.asked) == before + 1
    assert fake.opened == []
    assert fake.reads == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_forbidden_is_absent_for_every_method(client, stored, method):
    path = f"/research/lungs/dicom-web/studies/{stored.StudyInstanceUID}"
    forbidden = client(path, method, headers={"x-name": STRANGER.name})
    assert told(forbidden) == told(client("/research/hearts/dicom-web/studies", method))


@pytest.mark.parametrize(("method", "path"), [("POST", "/studies"), ("DELETE", "/studies/1.2"), ("POST", "/workitems")])
def test_nothing_can_be_written_or_deleted(client, stored, method, path):
    assert client(f"/research/lungs/dicom-web{path}", method).status_code in {404, 405}
    found = client(f"/research/lungs/dicom-web/studies/{stored.StudyInstanceUID}/metadata")
    assert found.status_code == 200


def test_capabilities_name_what_reads_and_nothing_else(client, stored):
    described = client("/research/lungs/dicom-web", "OPTIONS", headers={"Accept": "application/json"}).text
    assert "SearchForStudies" in described
    for word in ("STOW", "StoreInstances", "Delete", "Workitem"):
        assert word not in described


def test_two_releases_share_no_boundary_and_no_tag(client, stored):
    path = f"/studies/{stored.StudyInstanceUID}"
    first = client(f"/research/lungs/releases/1/dicom-web{path}")
    second = client(f"/research/lungs/releases/2/dicom-web{path}")
    assert first.headers["content-type"] != second.headers["content-type"]
    assert first.headers["etag"] != second.headers["etag"]


def test_study_is_recorded_once_a_session_and_only_if_something_was_given(client, fake, stored):
    uid = stored.StudyInstanceUID
    for path in (f"/studies/{uid}", f"/studies/{uid}/metadata", f"/studies/{uid}/thumbnail", "/studies/1.2.3"):
        client(f"/research/lungs/dicom-web{path}")
    assert [(one.principal, one.release.version, one.study_instance_uid) for one in fake.reads] == [(MEMBER, 2, uid)]


def test_search_is_recorded(client, fake, stored):
    client("/research/lungs/dicom-web/studies")
    client("/research/lungs/dicom-web/series?Modality=CT")
    assert [read.study_instance_uid for read in fake.reads] == ["", ""]


def test_nothing_goes_out_that_could_not_be_recorded(client, fake, stored):
    fake.is_recording = False
    answer = client(f"/research/lungs/dicom-web/studies/{stored.StudyInstanceUID}")
    assert answer.status_code == 503
    assert stored.SOPInstanceUID.encode() not in answer.content


def test_release_is_looked_up_again_after_a_while(client, fake, stored, monkeypatch):
    client("/research/lungs/dicom-web/studies")
    client("/research/lungs/dicom-web/studies")
    assert len(fake.asked) == 1
    monkeypatch.setattr(release_mount, "KNOWN_SECONDS", -1.0)
    client("/research/hearts/dicom-web/studies")
    client("/research/hearts/dicom-web/studies")
    assert len(fake.asked) == 3


def test_few_releases_are_open_at_a_time(client, fake, stored, monkeypatch):
    for version in (1, 2, 1, 2):
        client(f"/research/lungs/releases/{version}/dicom-web/studies")
    assert len(fake.opened) == 2
