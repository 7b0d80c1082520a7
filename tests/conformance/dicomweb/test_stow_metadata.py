"""STOW-RS of metadata and bulk data (PS3.18 10.5.1, 10.5.2)."""

import io
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames

from dicomweb import dicom_xml, stow_metadata
from dicomweb.app import create_app
from dicomweb.stow import MAX_HEAVY_BODIES
from pacs.app import open_archive
from pacs.config import Settings, StorageSettings
from pacs.errors import OutOfResources
from pacs.tags import text_of, values_of
from tests.builders import as_part10, build_ct, build_encapsulated, build_pdf, build_series, new_uid
from tests.conformance.dicomweb.apart import CONTENT_TYPES, JSON, XML, apart_body, iter_bulk_uris, take_apart
from tests.conformance.dicomweb.service import serving
from tests.conformance.dicomweb.test_stow import failures, referenced
from tests.conftest import CORPUS

SAMPLES = Path(__file__).parents[3] / "sample_data"
OCTETS = "application/octet-stream"
NO_SUCH = "http://nowhere.example/pixels"


def metadata_of(dataset, uri="pixels"):
    return dataset.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: uri)


def as_document(metadata, content):
    return dicom_xml.encode(metadata) if content == XML else orjson.dumps([metadata])


def send(http, *parts, content=JSON, path="/studies", **headers):
    return http.post(path, content=apart_body(*parts), headers={"Content-Type": CONTENT_TYPES[content], **headers})


def fetch(http, dataset):
    address = (
        f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"
    )
    response = http.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert response.status_code == 200
    return dcmread(io.BytesIO(response.content))


@pytest.mark.parametrize("content", [JSON, XML])
def test_what_comes_apart_is_one_instance(http, content):
    dataset = build_ct(PatientName="Bénali^Amine")
    response = send(
        http,
        (content, "", as_document(metadata_of(dataset), content)),
        (OCTETS, "pixels", dataset.PixelData),
        content=content,
    )
    assert response.status_code == 200, response.text
    assert referenced(response.json()) == [dataset.SOPInstanceUID]
    stored = fetch(http, dataset)
    assert stored.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert stored.SpecificCharacterSet == "ISO_IR 192"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    assert stored.to_json_dict() == dataset.to_json_dict()


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("bulk/1", "bulk/1"),
        ("./bulk/1", "bulk/1"),
        ("http://any.example/a/b?c=1", "http://any.example/a/b?c=1"),
        ("urn:uuid:1", "urn:uuid:1"),
        ("bulk/1", "{service}/studies/bulk/1"),
        ("/dicom-web/studies/bulk/1", "bulk/1"),
        ("http://[", "http://["),
        ("a/frames/1", "a/frames/1"),
    ],
)
def test_addresses_may_be_relative_or_absolute(http, service, uri, location):
    dataset = build_ct()
    response = send(
        http,
        (JSON, "", as_document(metadata_of(dataset, uri), JSON)),
        (OCTETS, location.format(service=service), dataset.PixelData),
    )
    assert response.status_code == 200, response.text
    assert fetch(http, dataset).PixelData == dataset.PixelData


@pytest.mark.parametrize("content", [JSON, XML])
def test_several_instances_in_one_body(http, content):
    series = build_series(3)
    metadata = [metadata_of(dataset, f"pixels/{number}") for number, dataset in enumerate(series)]
    documents = [orjson.dumps(metadata)] if content == JSON else [dicom_xml.encode(one) for one in metadata]
    response = send(
        http,
        *((content, "", document) for document in documents),
        *((OCTETS, f"pixels/{number}", dataset.PixelData) for number, dataset in enumerate(series)),
        content=content,
    )
    assert response.status_code == 200
    assert referenced(response.json()) == [dataset.SOPInstanceUID for dataset in series]


@pytest.mark.parametrize("locations", [("pixels", "pixels"), ("pixels/frames/2", "pixels/frames/1")])
def test_a_compressed_image_has_a_part_for_each_frame(http, locations):
    frames = [b"\xff\xd8one\xff\xd9", b"\xff\xd8second\xff\xd9"]
    sent = frames if locations[0] == locations[1] else frames[::-1]
    dataset = build_encapsulated(frames)
    parts = [(f"image/jpeg; transfer-syntax={uid.JPEGBaseline8Bit}", *one) for one in zip(locations, sent, strict=True)]
    response = send(http, (JSON, "", as_document(metadata_of(dataset), JSON)), *parts)
    assert response.status_code == 200, response.text
    stored = fetch(http, dataset)
    assert stored.file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit
    assert [frame.rstrip(b"\0") for frame in generate_frames(stored.PixelData, number_of_frames=2)] == frames


def test_a_document_is_bulk_data_of_its_own_media_type(http):
    dataset = build_pdf(b"%PDF-1.4\n" + b"x" * 100)
    metadata = (JSON, "", as_document(metadata_of(dataset, "report"), JSON))
    assert send(http, metadata, ("application/pdf", "report", dataset.EncapsulatedDocument)).status_code == 200
    assert fetch(http, dataset).EncapsulatedDocument == dataset.EncapsulatedDocument


def test_metadata_without_bulk_data_are_an_instance_too(http):
    dataset = build_pdf()
    assert send(http, (JSON, "", orjson.dumps(dataset.to_json_dict()))).status_code == 200
    assert fetch(http, dataset).EncapsulatedDocument == dataset.EncapsulatedDocument


def test_an_instance_whose_bulk_data_did_not_come_fails_alone(http):
    whole, without = build_series(2)
    metadata = [metadata_of(without, NO_SUCH), metadata_of(whole)]
    response = send(http, (JSON, "", orjson.dumps(metadata)), (OCTETS, "pixels", whole.PixelData))
    assert response.status_code == 202
    answer = response.json()
    assert referenced(answer) == [whole.SOPInstanceUID]
    (failed,) = values_of(answer, "FailedSOPSequence")
    assert text_of(failed, "ReferencedSOPInstanceUID") == without.SOPInstanceUID
    assert values_of(failed, "FailureReason") == [0xC006]


def test_bulk_data_that_nothing_names_is_said(http):
    dataset = build_ct()
    parts = [(OCTETS, location, dataset.PixelData) for location in ("pixels", "other", "")]
    response = send(http, (JSON, "", as_document(metadata_of(dataset), JSON)), *parts)
    assert response.status_code == 202
    assert referenced(response.json()) == [dataset.SOPInstanceUID]
    assert failures(response.json(), "OtherFailuresSequence") == [0xC007]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"00280010": {"vr": "US", "Value": ["x"]}}, 0xC005),
        ({"00280008": {"vr": "IS", "Value": [3]}}, 0xC008),
        ({"0020000D": {"vr": "UI"}}, 0xA900),
    ],
)
def test_an_instance_that_cannot_be_understood_fails_with_its_reason(http, change, reason):
    good, bad = build_series(2)
    metadata = [metadata_of(bad) | change, metadata_of(good)]
    pixels = (f"image/jls; transfer-syntax={uid.JPEGLSLossless}", "pixels", b"jls!")
    response = send(http, (JSON, "", orjson.dumps(metadata)), pixels)
    assert response.status_code == 202
    assert failures(response.json()) == [reason]
    assert referenced(response.json()) == [good.SOPInstanceUID]


def test_pixels_in_no_known_form_are_a_transfer_syntax_that_is_not_supported(http):
    dataset = build_ct()
    response = send(http, (JSON, "", as_document(metadata_of(dataset), JSON)), ("image/png", "pixels", b"\x89PNG"))
    assert response.status_code == 409
    assert failures(response.json()) == [0xC122]


def test_another_study_than_the_addressed_one_fails(http):
    dataset = build_ct()
    parts = [(JSON, "", as_document(metadata_of(dataset), JSON)), (OCTETS, "pixels", dataset.PixelData)]
    response = send(http, *parts, path=f"/studies/{new_uid()}")
    assert (response.status_code, failures(response.json())) == (409, [0xA900])
    assert send(http, *parts, path=f"/studies/{dataset.StudyInstanceUID}").status_code == 200


def test_the_same_again_is_a_plain_success(http):
    dataset = build_ct()
    parts = [(JSON, "", as_document(metadata_of(dataset), JSON)), (OCTETS, "pixels", dataset.PixelData)]
    for _ in range(2):
        assert send(http, *parts).status_code == 200


LAUGHS = b'<!DOCTYPE a [<!ENTITY b "CANARY">]><NativeDicomModel>&b;</NativeDicomModel>'


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (JSON, [(JSON, "", b"")]),
        (JSON, [(JSON, "", b'[{"CANARY')]),
        (JSON, [(JSON, "", b"[" * 5000)]),
        (JSON, [(JSON, "", b"[]")]),
        (JSON, [(OCTETS, "CANARY", b"CANARY")]),
        (XML, [(XML, "", b"")]),
        (XML, [(XML, "", b"<CANARY/>")]),
        (XML, [(XML, "", LAUGHS)]),
        (XML, [(XML, "", dicom_xml.encode({})), (XML, "", b"<CANARY>")]),
    ],
)
def test_metadata_that_are_none_are_a_bad_request_in_one_sentence(shared_http, content, parts):
    response = send(shared_http, *parts, content=content)
    assert response.status_code == 400
    assert response.json()["message"].endswith(".")
    assert "CANARY" not in response.text
    assert shared_http.get("/instances").status_code == 204


def test_nothing_of_a_body_that_breaks_off_is_stored(shared_http):
    dataset = build_ct()
    body = apart_body((JSON, "", as_document(metadata_of(dataset), JSON)), (OCTETS, "pixels", dataset.PixelData))[:-20]
    response = shared_http.post("/studies", content=body, headers={"Content-Type": CONTENT_TYPES[JSON]})
    assert response.status_code == 400
    assert failures(response.json(), "OtherFailuresSequence") == [0x0110]
    assert shared_http.get("/instances").status_code == 204


@pytest.mark.parametrize("content", [JSON, XML])
@pytest.mark.parametrize("bound", ["bytes_left", "elements_left"])
def test_metadata_are_bounded(shared_http, monkeypatch, content, bound):
    monkeypatch.setattr(stow_metadata, "MAX_METADATA_BYTES" if bound == "bytes_left" else "MAX_ELEMENTS", 50)
    document = as_document(metadata_of(build_ct()), content)
    response = send(shared_http, (content, "", document), content=content)
    assert response.status_code in (400, 413)
    assert "too " in response.json()["message"]
    assert shared_http.get("/instances").status_code == 204


def test_large_metadata_are_read_by_a_few_at_once(http, monkeypatch):
    monkeypatch.setattr(stow_metadata, "LARGE_METADATA_BYTES", 10)
    reading, most, read = [0], [0], stow_metadata._Metadata.read

    def read_slowly(metadata):
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        time.sleep(0.05)  # for the others to come
        reading[0] -= 1
        return read(metadata)

    monkeypatch.setattr(stow_metadata._Metadata, "read", read_slowly)

    def store(dataset):
        document = as_document(metadata_of(dataset), JSON)
        return send(http, (JSON, "", document), (OCTETS, "pixels", dataset.PixelData)).status_code

    datasets = [build_ct() for _ in range(6)]
    with ThreadPoolExecutor(len(datasets)) as pool:
        assert list(pool.map(store, datasets)) == [200] * len(datasets)
    assert most[0] <= MAX_HEAVY_BODIES


def test_instances_of_a_body_are_bounded(shared_http, monkeypatch):
    monkeypatch.setattr(stow_metadata, "MAX_INSTANCES", 2)
    response = send(shared_http, (JSON, "", orjson.dumps([{}, {}, {}])))
    assert response.status_code == 413
    assert shared_http.get("/instances").status_code == 204


def test_no_room_for_bulk_data_is_service_unavailable(archive, http, monkeypatch):
    class Full:
        def write(self, data):
            raise OutOfResources

        size_bytes = 0

        def close(self):
            pass

    monkeypatch.setattr(type(archive.ingest), "open_spool", lambda _: Full())
    dataset = build_ct()
    response = send(http, (JSON, "", as_document(metadata_of(dataset), JSON)), (OCTETS, "pixels", dataset.PixelData))
    assert response.status_code == 503
    assert failures(response.json(), "OtherFailuresSequence") == [0xA700]


def test_a_large_value_comes_back_as_it_was_sent(http, tmp_path):
    """Larger than what a spool keeps in memory, and than any one batch of the body."""
    dataset = build_ct(Rows=4000, Columns=3000)
    pixels = bytes(range(256)) * (4000 * 3000 * 2 // 256)
    dataset.PixelData = pixels
    response = send(http, (JSON, "", as_document(metadata_of(dataset), JSON)), (OCTETS, "pixels", pixels))
    assert response.status_code == 200
    assert fetch(http, dataset).PixelData == pixels
    assert not list(tmp_path.rglob("*.spool"))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", JSON),
        (JSON, JSON),
        ("application/json", "application/json"),
        (XML, XML),
        (f"{JSON};q=0.5, {XML}", XML),
        (f'multipart/related; type="{XML}"', XML),
        ('multipart/related; type="*/*"', JSON),
        ("text/html", JSON),
    ],
)
def test_the_answer_is_in_the_form_that_is_accepted(http, accept, content_type):
    dataset = build_ct()
    response = http.post(
        "/studies", content=as_part10(dataset), headers={"Content-Type": "application/dicom", "Accept": accept}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    parser = dicom_xml.ModelParser()
    if content_type == XML:
        parser.feed(response.content)
    answer = parser.finish() if content_type == XML else response.json()
    assert referenced(answer) == [dataset.SOPInstanceUID]


@pytest.fixture(scope="module")
def two_archives(tmp_path_factory):
    """Clients of two archives: what the first gives apart, the second puts together."""
    with ExitStack() as stack:
        clients = []
        for _ in range(2):
            settings = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
            parts = stack.enter_context(open_archive(settings))
            # Both give the same addresses, so that what they say can be compared.
            app = create_app(parts.archive, is_ready=dict, public_url="http://archive.example")
            address = stack.enter_context(serving(app))
            hooks = {"request": [lambda request, address=address: _redirect(request, address)]}
            clients.append(
                stack.enter_context(httpx.Client(base_url=f"{address}/dicom-web", event_hooks=hooks, timeout=60))
            )
        yield clients


def _redirect(request, address):
    if request.url.host == "archive.example":
        here = httpx.URL(address)
        request.url = request.url.copy_with(host=here.host, port=here.port)
        request.headers["host"] = f"{here.host}:{here.port}"


def move(first, second, path, content):
    """Store a file in the first archive, and what that gives apart in the second; return both metadata, or None."""
    stored = first.post("/studies", content=path.read_bytes(), headers={"Content-Type": "application/dicom"})
    if stored.status_code not in (200, 202):
        return None
    (item,) = values_of(stored.json(), "ReferencedSOPSequence")
    address = text_of(item, "RetrieveURL")
    metadata, parts = take_apart(first, address, content)
    response = send(second, *parts, content=content)
    assert response.status_code in (200, 202), (path.name, response.text)
    assert not values_of(response.json(), "OtherFailuresSequence"), path.name
    (moved,) = second.get(f"{address}/metadata").json()
    for _, uri in iter_bulk_uris(metadata):
        one, other = first.get(uri), second.get(uri)
        assert one.content.rstrip(b"\0 ") == other.content.rstrip(b"\0 "), (path.name, uri)
    return metadata, moved


def plain(metadata, content):
    """Return metadata without what must differ.

    The character set is Unicode now; offset tables are made anew; compressed pixels are OB and wide ones OW (PS3.5 8.2,
    A.4). Empty trailing components and values are none; decimal strings have 16 characters; what XML has no place for
    is U+FFFD there.
    """
    left_out = ("00080005", "7FE00001", "7FE00002")
    return {
        tag: {
            **element,
            "vr": element["vr"] if tag != "7FE00010" else "",
            "Value": plain_values(element["vr"], element.get("Value", []), content),
        }
        for tag, element in metadata.items()
        if tag not in left_out
    }


def plain_values(vr, values, content):
    found = [plain_value(vr, value, content) for value in values]
    while found and vr != "SQ" and found[-1] is None:
        found.pop()
    return found


def plain_value(vr, value, content):
    if vr == "SQ":
        return plain(value or {}, content)
    if isinstance(value, dict):
        groups = {group: plain_value("LO", text.rstrip("^"), content) for group, text in value.items()}
        return {group: text for group, text in groups.items() if text} or None
    if vr == "DS" and isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else value
    if isinstance(value, str):
        text = dicom_xml._FORBIDDEN.sub("\ufffd", value) if content == XML else value
        return text.strip() or None
    return value


@pytest.mark.parametrize("content", [JSON, XML])
@pytest.mark.parametrize("folder", ["syntaxes", "us-cine", "cr-pattern", "ct-head-sr", "ct-head-pdf"])
def test_samples_come_apart_and_together_again(two_archives, folder, content):
    """Data sets element by element, pixels bit for bit."""
    for path in sorted((SAMPLES / folder).glob("*.dcm")):
        before, after = move(*two_archives, path, content)
        assert plain(after, content) == plain(before, content), path.name


@pytest.mark.slow
@pytest.mark.parametrize("content", [JSON, XML])
def test_the_corpus_comes_apart_and_together_again(two_archives, content):
    files = sorted(path for path in (*SAMPLES.rglob("*"), *CORPUS.rglob("*")) if path.is_file())
    seen = set()
    for path in files:
        if path.stat().st_size > 8_000_000:
            continue
        moved = move(*two_archives, path, content)
        if moved is None:
            continue
        before, after = moved
        instance = text_of(before, "SOPInstanceUID")
        if instance not in seen:
            assert plain(after, content) == plain(before, content), path.name
        seen.add(instance)
