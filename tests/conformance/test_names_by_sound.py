"""Fuzzy matching of names as clients see it: by HTTP, and by C-FIND of pynetdicom, which can agree on it, and DCMTK."""

import io
import shutil

import httpx
import pytest

from dicomweb.app import create_app
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.dimse.find import FindService
from pacs.dimse.server import create_server
from pacs.index import sounds
from pacs.ingest.importer import Entry, import_entry
from pacs.model import Door, Origin
from pacs.tags import text_of
from tests.builders import as_part10, build_ct
from tests.conformance.dicomweb.service import serving
from tests.conformance.dimse.finder import STUDY_ROOT, build_identifier, finding, findscu

FUZZY = b"\0\0\1"

# By Study Instance UID, the newest last; every name is found by each other name of its row, and by no other's.
NAMES = {
    "1.2.1.1": "محمد", "1.2.1.2": "Mohamed", "1.2.1.3": "MOHAMMED", "1.2.1.4": "Muhammad",
    "1.2.2.1": "بنعلي", "1.2.2.2": "Benali", "1.2.2.3": "Ben Ali", "1.2.2.4": "BEN-ALI", "1.2.2.5": "بن علي",
    "1.2.3.1": "الفاسي", "1.2.3.2": "El Fassi", "1.2.3.3": "Al-Fassi", "1.2.3.4": "Fassi", "1.2.3.5": "ELFASSI",
    "1.2.4.1": "Lefèvre^Hélène", "1.2.4.2": "LEFEVRE^Helene", "1.2.4.3": "Helene^Lefebvre",
    "1.2.5.1": "Bennani^Nour Eddine", "1.2.5.2": "Noureddine^Bennani", "1.2.5.3": "بناني^نور الدين",
    "1.2.6.1": "Abdel Rahman^Alaoui", "1.2.6.2": "Alaoui^Abderrahmane", "1.2.6.3": "العلوي^عبد الرحمن",
    "1.2.7.1": "Hassan", "1.2.8.1": "Hussein", "1.2.9.1": "Karima",
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with open_archive(settings) as parts:
        for number, (uid, name) in enumerate(NAMES.items()):
            dataset = build_ct(
                SpecificCharacterSet="ISO_IR 192",
                PatientName=name,
                PatientID=uid,
                ReferringPhysicianName="الشرقاوي" if uid == "1.2.7.1" else "",
                StudyInstanceUID=uid,
                StudyDate=f"202401{number + 1:02}",
            )
            data = as_part10(dataset)
            entry = Entry("file", len(data), lambda data=data: io.BytesIO(data))
            assert import_entry(parts.archive.ingest, entry, Origin(Door.IMPORT)).outcome.is_stored
        yield parts.archive


@pytest.fixture(scope="module")
def port(archive):
    server = create_server(archive, port=0, services=[FindService(archive.search, "PACS")])
    server.start()
    yield server.port
    server.stop(grace_seconds=2)


@pytest.fixture(scope="module")
def http(archive):
    with (
        serving(create_app(archive, is_ready=lambda: {"index": True, "store": True})) as address,
        httpx.Client(base_url=f"{address}/dicom-web", timeout=30) as client,
    ):
        yield client


def by_qido(http, level: str = "studies", **keys: str) -> list[str]:
    response = http.get(f"/{level}", params=keys)
    assert response.status_code in (200, 204), response.text
    assert "warning" not in response.headers
    return [text_of(match, "StudyInstanceUID") for match in response.json()] if response.content else []


def by_find(port: int, options: bytes, **keys: str) -> list[str]:
    with finding(port, STUDY_ROOT, options) as finder:
        assert finder.agreed == ({STUDY_ROOT: options} if options else {})
        identifier = build_identifier("STUDY", StudyInstanceUID=None, **keys)
        identifier.SpecificCharacterSet = "ISO_IR 192"
        *matches, final = finder.find(identifier)
        assert final.status == 0x0000
        return [str(match.identifier.StudyInstanceUID) for match in matches]


@pytest.mark.parametrize(("uid", "name"), NAMES.items())
def test_each_spelling_finds_all_others_and_itself_first_at_both_doors(http, port, uid, name) -> None:
    """PS3.18 8.3.4.2 and PS3.4 C.5.1.1: the same studies in the same order."""
    found = by_qido(http, PatientName=name, fuzzymatching="true")
    same = uid[: uid.rindex(".")]
    assert {one for one in found if one.startswith(f"{same}.")} == {one for one in NAMES if one.startswith(f"{same}.")}
    assert {one[: one.rindex(".")] for one in found} == {same}
    literal = by_qido(http, PatientName=name)
    assert uid in literal
    assert found[: len(literal)] == literal
    assert by_find(port, FUZZY, PatientName=name) == found


@pytest.mark.parametrize(("asked", "missed"), [("محمد", "1.2.1.2"), ("Ben Ali", "1.2.2.2"), ("Fassi", "1.2.3.1")])
def test_sounds_count_only_where_that_is_asked_for(http, port, tmp_path, asked, missed) -> None:
    """RULES.md: transliteration and phonetics only if fuzzy matching was negotiated (QIDO: fuzzymatching=true)."""
    literal = by_qido(http, PatientName=asked)
    assert missed not in literal
    assert missed in by_qido(http, PatientName=asked, fuzzymatching="true")
    assert by_qido(http, PatientName=asked, fuzzymatching="false") == literal
    assert by_find(port, b"", PatientName=asked) == by_find(port, b"\0\0\0", PatientName=asked) == literal
    if asked.isascii():
        keys = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID", f"PatientName={asked}")
        answers = findscu(shutil.which, port, tmp_path / "answers", "-S", *keys)
        assert [str(answer.StudyInstanceUID) for answer in answers] == literal


def test_any_name_of_a_study_may_be_asked_for_and_everything_else_is_literal(http, port) -> None:
    keys = {"ReferringPhysicianName": "Cherkaoui", "PatientName": "Hasan"}
    assert by_qido(http, **keys, fuzzymatching="true") == ["1.2.7.1"]
    assert by_find(port, FUZZY, **keys) == ["1.2.7.1"]
    assert by_qido(http, **keys, PatientID="1.2.7.1", fuzzymatching="true") == ["1.2.7.1"]
    assert by_qido(http, **keys, PatientID="1.2.7.*", fuzzymatching="true") == ["1.2.7.1"]
    assert by_qido(http, **keys, PatientID="1.2.7.2", fuzzymatching="true") == []
    assert by_qido(http, "instances", **keys, fuzzymatching="true") == ["1.2.7.1"]


def test_a_wildcard_finds_what_it_finds_and_the_words_by_their_sound(http, port) -> None:
    found = by_qido(http, PatientName="*fassi*", fuzzymatching="true")
    assert found[:4] == ["1.2.3.5", "1.2.3.4", "1.2.3.3", "1.2.3.2"]
    assert found[4:] == ["1.2.3.1"]
    assert by_find(port, FUZZY, PatientName="*fassi*") == found


def test_pages_of_a_ranked_answer_join_without_a_gap(http) -> None:
    whole = by_qido(http, PatientName="Benali", fuzzymatching="true")
    pages = []
    for offset in range(len(whole)):
        response = http.get(
            "/studies", params={"PatientName": "Benali", "fuzzymatching": "true", "limit": 1, "offset": offset}
        )
        assert ("additional results" in response.headers.get("warning", "")) == (offset < len(whole) - 1)
        pages += [text_of(match, "StudyInstanceUID") for match in response.json()]
    assert pages == whole


def test_a_name_like_too_many_is_answered_with_a_warning(http, monkeypatch) -> None:
    monkeypatch.setattr(sounds, "MAX_CANDIDATES", 2)
    response = http.get("/studies", params={"PatientName": "Ben Ali", "fuzzymatching": "true"})
    assert "literally" in response.headers["warning"]
    assert "Ali" not in str(response.headers)
    assert text_of(response.json()[0], "StudyInstanceUID") == "1.2.2.4"  # as it is written, hyphen or space
    assert http.get("/studies", params=[("PatientName", f"Name{number}") for number in range(11)] + [
        ("multiplevaluematching", "true"), ("fuzzymatching", "true")
    ]).status_code == httpx.codes.BAD_REQUEST  # fmt: skip
