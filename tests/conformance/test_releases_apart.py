"""No clinical door finds anything of a release, and no door of a release anything clinical; forbidden is as absent."""

from functools import partial

import httpx
import orjson
import pytest
from pydicom.dataset import Dataset
from starlette.applications import Starlette

from dicomweb import errors
from dicomweb.app import create_app
from dicomweb.context import Context
from dicomweb.release_mount import Readable, ReleaseMount, Source
from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import Settings
from pacs.dimse.find import FindService
from pacs.dimse.server import create_server
from pacs.model import Level
from pacs.query import Query
from tests.builders import new_uid
from tests.conformance.dicomweb.service import serving
from tests.conformance.dimse.finder import PATIENT_ROOT, finding
from tests.conformance.dimse.holding import build_identifier, counts, destination, move, serve
from tests.conformance.dimse.receivers import run_receiver
from tests.conformance.dimse.test_get import Getter
from tests.releases import (
    OUTSIDER,
    RESEARCHER,
    SLUG,
    build_patients,
    clinical_uids,
    make_project,
    publish,
    store,
)

PEOPLE = {person.name: person for person in (RESEARCHER, OUTSIDER)}
VERSION = "releases/1/dicom-web"
JSON, PARTS = "application/dicom+json", 'multipart/related; type="application/dicom"'
ROW = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    with open_archive(Settings(data_dir=tmp_path_factory.mktemp("archive"))) as opened:
        store(opened, *build_patients(6))
        yield opened


@pytest.fixture(scope="module")
def released(parts) -> dict[str, str]:
    """One object of a published release, as its manifest has it."""
    publish(parts, make_project(parts))
    return first_line(parts)


def first_line(parts):
    _, chunks = parts.research.releases.open_manifest(RESEARCHER, SLUG)
    return orjson.loads(b"".join(chunks).splitlines()[0])


@pytest.fixture(scope="module")
def clinical(parts) -> dict[str, str]:
    """One clinical instance, by the same names."""
    match = parts.archive.search.search(LOCAL, Query(Level.INSTANCE)).matches[0]
    found = {name: getattr(match, name) for name in ROW}
    return found | {"patient_id": match.attributes["00100020"]["Value"][0]}


@pytest.fixture(scope="module")
def invented() -> dict[str, str]:
    """What is nowhere."""
    return {name: new_uid() for name in ROW} | {"patient_id": "NOBODY-AT-ALL"}


@pytest.fixture(scope="module")
def web(parts, released):
    """A client of the clinical side."""
    with serving(create_app(parts.archive, is_ready=dict)) as address, httpx.Client(base_url=address) as client:
        yield client


@pytest.fixture(scope="module")
def research(parts, released):
    """A client of the releases; ``X-Person`` is who asks."""
    releases = parts.research.releases

    def find(principal, slug, version):
        release = releases.find_readable(principal, slug, version)
        return release and Readable(release.id, slug, release.version, partial(releases.open, release))

    class Asked(Context):
        def principal(self, connection):
            return PEOPLE[connection.headers.get("x-person", RESEARCHER.name)]

    mount = ReleaseMount(Asked(parts.archive, boundary_key=b"k" * 32), Source(find, lambda _: None))
    app = Starlette(routes=mount.routes())
    errors.install(app)
    with serving(app) as address, httpx.Client(base_url=f"{address}/research") as client:
        yield client


def paths_of(row):
    """Return what can be asked of DICOMweb about an instance: path and Accept."""
    study, series, instance = (row[name] for name in ROW)
    at = f"/studies/{study}"
    yield at, PARTS
    yield f"{at}/metadata", JSON
    yield f"{at}/series/{series}", PARTS
    yield f"{at}/series/{series}/metadata", JSON
    yield f"{at}/series/{series}/thumbnail", "image/jpeg"
    yield f"{at}/series/{series}/instances/{instance}", PARTS
    yield f"{at}/series/{series}/instances/{instance}/metadata", JSON
    yield f"{at}/series/{series}/instances/{instance}/rendered", "image/jpeg"
    yield f"{at}/series/{series}/instances/{instance}/frames/1", "application/octet-stream, multipart/related"
    yield f"{at}/series/{series}/instances/{instance}/bulkdata/7FE00010", "application/octet-stream, multipart/related"


def searches_of(row):
    study, series, instance = (row[name] for name in ROW)
    yield f"/studies?StudyInstanceUID={study}"
    yield f"/studies?PatientID={row['patient_id']}"
    yield f"/series?SeriesInstanceUID={series}"
    yield f"/instances?SOPInstanceUID={instance}"
    yield f"/studies/{study}/series"
    yield f"/studies/{study}/instances"
    yield f"/studies/{study}/series/{series}/instances"


def told(response):
    """Return everything of an answer but when it was given."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return response.status_code, headers, response.content


def test_what_is_asked_here_is_there_for_who_may_ask(web, research, released, clinical):
    for client, prefix, row in ((web, "/dicom-web", clinical), (research, f"/{SLUG}/{VERSION}", released)):
        for path, accept in paths_of(row):
            assert client.get(prefix + path, headers={"Accept": accept}).status_code in (200, 206), path
        for path in searches_of(row):
            assert client.get(prefix + path).status_code == 200, path


def test_no_clinical_transaction_of_dicomweb_knows_a_release(web, released, invented):
    for (path, accept), (unknown, _) in zip(paths_of(released), paths_of(invented), strict=True):
        answer = web.get(f"/dicom-web{path}", headers={"Accept": accept})
        nothing = web.get(f"/dicom-web{unknown}", headers={"Accept": accept})
        assert answer.status_code == 404
        assert told(answer) == told(nothing)
    for path in searches_of(released):
        assert web.get(f"/dicom-web{path}").status_code in (204, 404), path
    for level in ("studies", "series", "instances"):
        assert not any(uid in web.get(f"/dicom-web/{level}").text for uid in (released[name] for name in ROW))


def test_wado_uri_knows_no_release(web, released, invented):
    def ask(row):
        named = {"studyUID": row[ROW[0]], "seriesUID": row[ROW[1]], "objectUID": row[ROW[2]]}
        return web.get("/dicom-web/wado", params={"requestType": "WADO", **named})

    assert ask(released).status_code == 404
    assert told(ask(released)) == told(ask(invented))


def test_the_change_feed_knows_no_release(web, parts, released):
    page = web.get("/changes", params={"limit": 1000}).text
    assert page
    assert not any(str(value) in page for name, value in released.items() if name.endswith("uid"))


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_c_find_knows_no_release(parts, released, level):
    server = create_server(parts.archive, port=0, services=[FindService(parts.archive.search, "PACS")])
    server.start()
    keys = {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
        "IMAGE": "SOPInstanceUID",
    }
    row = dict(zip(keys.values(), (released["patient_id"], *(released[name] for name in ROW)), strict=True))
    try:
        with finding(server.port, PATIENT_ROOT, options=b"\1") as finder:
            assert finder.found(level=level, **{keys[level]: row[keys[level]]}) == []
            everything = finder.found(level=level, **{keys[level]: None})
    finally:
        server.stop(grace_seconds=2)
    assert len(everything) == {"PATIENT": 6, "STUDY": 6, "SERIES": 6, "IMAGE": 12}[level]
    assert not any(row[keys[level]] in str(found) for found in everything)


def test_c_move_and_c_get_know_no_release(parts, released):
    wanted: list[Dataset] = [
        build_identifier("STUDY", StudyInstanceUID=released["study_instance_uid"]),
        build_identifier("IMAGE", SOPInstanceUID=released["sop_instance_uid"]),
    ]
    getter = Getter()
    with run_receiver() as receiver, serve(parts.archive, destination(receiver.port)) as server:
        for identifier in wanted:
            ((moved, _),) = move(server, identifier)
            ((got, _),) = getter.get(server, identifier)
            assert moved.Status == got.Status == 0x0000
            assert counts(moved)[1] == counts(got)[1] == 0
    assert receiver.received == []
    assert getter.received == {}


def test_a_release_knows_nothing_clinical(parts, research, clinical, invented):
    for (path, accept), (unknown, _) in zip(paths_of(clinical), paths_of(invented), strict=True):
        answer = research.get(f"/{SLUG}/{VERSION}{path}", headers={"Accept": accept})
        nothing = research.get(f"/{SLUG}/{VERSION}{unknown}", headers={"Accept": accept})
        assert answer.status_code == 404
        assert told(answer) == told(nothing)
    for path in searches_of(clinical):
        assert research.get(f"/{SLUG}/{VERSION}{path}").status_code in (204, 404), path
    for level in ("studies", "series", "instances"):
        listed = research.get(f"/{SLUG}/{VERSION}/{level}", params={"includefield": "all"})
        assert listed.status_code == 200
        assert not any(uid in listed.text for uid in clinical_uids(parts))
        assert "TAZI" not in listed.text
        assert "MRN" not in listed.text


def test_what_is_forbidden_is_answered_as_what_is_absent(research, released):
    for path, accept in (*paths_of(released), ("/studies", JSON), ("", JSON)):
        answers = [
            told(research.get(f"/{slug}/{root}{path}", headers={"Accept": accept, "X-Person": person.name}))
            for slug, root, person in (
                (SLUG, VERSION, OUTSIDER),
                (SLUG, "dicom-web", OUTSIDER),
                ("no-such-project", VERSION, OUTSIDER),
                ("no-such-project", "dicom-web", RESEARCHER),
                (SLUG, "releases/2/dicom-web", RESEARCHER),
            )
        ]
        assert answers[0][0] == 404
        assert answers == [answers[0]] * len(answers)


def test_a_withdrawn_release_is_answered_as_what_is_absent(parts, research):
    slug = "withdrawn"
    version = publish(parts, make_project(parts, slug), slug).version
    parts.research.releases.withdraw(LOCAL, slug, version, reason="A mistake in it")
    for root in (VERSION, "dicom-web"):
        gone = research.get(f"/{slug}/{root}/studies")
        assert gone.status_code == 404
        assert told(gone) == told(research.get(f"/no-such-project/{root}/studies"))
