"""WADO-RS (PS3.18 10.4)."""

from io import BytesIO

import httpx
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomweb.app import create_app
from pacs.tags import tag_of, text_of, values_of
from tests.builders import (
    as_part10,
    build_ct,
    build_encapsulated,
    build_image,
    build_multiframe,
    build_pdf,
    build_series,
    build_sr,
    new_uid,
)
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body, parse_parts, serving

ANY_SYNTAX = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@pytest.fixture(scope="module")
def five_frames(shared_http):
    dataset = build_multiframe(5)
    file = multipart_body(as_part10(dataset))
    assert shared_http.post("/studies", content=file, headers={"Content-Type": MULTIPART_DICOM}).status_code == 200
    return dataset


def path_of(dataset):
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian])
def test_an_instance_in_any_syntax_is_the_file_that_was_sent(http, store, service, syntax):
    dataset = build_ct()
    file = as_part10(dataset, syntax)
    store(file)
    ((headers, body),) = parse_parts(http.get(path_of(dataset), headers=ANY_SYNTAX))
    assert body == file
    assert headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
    assert headers["Content-Location"] == service + path_of(dataset)


def test_an_instance_without_a_syntax_is_explicit_little_endian(http, store):
    dataset = build_ct()
    store(as_part10(dataset, IMPLICIT))
    ((headers, body),) = parse_parts(http.get(path_of(dataset)))
    assert headers["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    read = pydicom.dcmread(BytesIO(body))
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.PixelData == dataset.PixelData
    assert read.PatientName == dataset.PatientName


def test_a_study_of_many_syntaxes_names_the_syntax_of_each_part(http, store):
    study = new_uid()
    lossy, native = build_encapsulated(StudyInstanceUID=study), build_ct(StudyInstanceUID=study)
    files = [as_part10(lossy, uid.JPEGBaseline8Bit), as_part10(native, IMPLICIT)]
    store(*files)
    for headers, syntaxes in ((ANY_SYNTAX, {uid.JPEGBaseline8Bit, IMPLICIT}), ({}, {uid.JPEGBaseline8Bit, EXPLICIT})):
        found = parse_parts(http.get(f"/studies/{study}", headers=headers))
        assert {part["Content-Type"] for part, _ in found} == {
            f"application/dicom; transfer-syntax={syntax}" for syntax in syntaxes
        }
        for part, body in found:
            read = pydicom.dcmread(BytesIO(body))
            assert part["Content-Type"].endswith(f"={read.file_meta.TransferSyntaxUID}")
    accept = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={uid.RLELossless}'}
    assert http.get(f"/studies/{study}", headers=accept).status_code == 406


def test_images_are_compressed_as_asked_and_a_report_beside_them_is_given_as_it_can_be(http, store):
    images = build_series(2)
    report = build_sr(StudyInstanceUID=images[0].StudyInstanceUID, PatientID=images[0].PatientID)
    store(*images, report)
    asked = f"transfer-syntax={uid.RLELossless}"
    accept = {"Accept": f'multipart/related; type="application/dicom"; {asked}'}
    ((part, body),) = parse_parts(http.get(path_of(images[0]), headers=accept))
    assert part["Content-Type"] == f"application/dicom; {asked}"
    assert pydicom.dcmread(BytesIO(body)).pixel_array.tobytes() == images[0].PixelData
    parts = parse_parts(http.get(f"/studies/{report.StudyInstanceUID}", headers=accept))
    assert sorted(part["Content-Type"].rpartition("=")[2] for part, _ in parts) == sorted(
        [uid.RLELossless, uid.RLELossless, EXPLICIT]
    )
    assert http.get(path_of(report), headers=accept).status_code == 406


def test_what_was_lossless_is_never_given_with_loss_as_an_instance(http, store):
    """That would be a new SOP Instance; frames and pictures carry no UID."""
    dataset = build_ct()
    dataset.update(build_image(rows=16, columns=16, bits=8))
    store(dataset)
    asked = f"transfer-syntax={uid.JPEGBaseline8Bit}"
    for accept in (f"application/dicom; {asked}", f'multipart/related; type="application/dicom"; {asked}'):
        assert http.get(path_of(dataset), headers={"Accept": accept}).status_code == 406
    assert http.get(path_of(dataset), headers={"Accept": f"application/zip; {asked}"}).status_code == 406
    frame = http.get(f"{path_of(dataset)}/frames/1", headers={"Accept": f"image/jpeg; {asked}"})
    assert (frame.status_code, frame.content[:3]) == (200, b"\xff\xd8\xff")


def test_an_unknown_syntax_is_kept_and_given_as_it_came(http, store):
    dataset = build_ct()
    file = as_part10(dataset, "1.2.3.4.5")
    store(file)
    for headers in (ANY_SYNTAX, {}):
        ((part, body),) = parse_parts(http.get(path_of(dataset), headers=headers))
        assert body == file
        assert part["Content-Type"] == "application/dicom; transfer-syntax=1.2.3.4.5"
    assert http.get(f"{path_of(dataset)}/metadata").status_code == 200


def test_an_instance_alone_is_a_single_part_if_asked_so(http, store):
    dataset = build_ct()
    file = as_part10(dataset)
    store(file)
    response = http.get(path_of(dataset), headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert response.content == file
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert int(response.headers["content-length"]) == len(file)


def test_studies_and_series_are_all_their_instances(http, store):
    series = build_series(4)
    other = build_ct(StudyInstanceUID=series[0].StudyInstanceUID)
    store(*series, other, build_ct())
    study = f"/studies/{other.StudyInstanceUID}"
    found = parse_parts(http.get(study, headers=ANY_SYNTAX))
    assert sorted(body for _, body in found) == sorted(map(as_part10, [*series, other]))
    found = parse_parts(http.get(f"{study}/series/{series[0].SeriesInstanceUID}", headers=ANY_SYNTAX))
    assert [body for _, body in found] == list(map(as_part10, series))


def test_the_same_question_gives_the_same_bytes(http, store):
    series = build_series(3)
    store(*series)
    study = f"/studies/{series[0].StudyInstanceUID}"
    assert http.get(study, headers=ANY_SYNTAX).content == http.get(study, headers=ANY_SYNTAX).content


@pytest.mark.parametrize("suffix", ["", "/metadata"])
def test_what_is_not_there_is_not_found(http, store, suffix):
    dataset = build_ct()
    store(dataset)
    study, series = f"/studies/{dataset.StudyInstanceUID}", f"/series/{dataset.SeriesInstanceUID}"
    paths = [
        f"/studies/{new_uid()}",
        f"{study}/series/{new_uid()}",
        f"/studies/{new_uid()}{series}",
        f"{study}{series}/instances/{new_uid()}",
        f"{study}/series/{new_uid()}/instances/{dataset.SOPInstanceUID}",
    ]
    for path in paths:
        response = http.get(path + suffix)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/studies/x", "/studies/1.2/series/..", "/studies/1.2/series/1.3/instances/1_2"])
@pytest.mark.parametrize("suffix", ["", "/metadata"])
def test_malformed_uids_are_bad_requests(shared_http, path, suffix):
    assert shared_http.get(path.replace("..", "%2E%2E.x") + suffix).status_code == 400


@pytest.mark.parametrize(
    "accept", ["text/html", 'multipart/related; type="image/png"', 'multipart/related; type="application/xml"']
)
def test_forms_that_are_not_given_are_not_acceptable(shared_http, five_frames, accept):
    for suffix in ("", "/metadata", "/frames/1"):
        assert shared_http.get(path_of(five_frames) + suffix, headers={"Accept": accept}).status_code == 406


def test_a_study_is_never_a_single_part(http, store):
    dataset = build_ct()
    store(dataset)
    response = http.get(f"/studies/{dataset.StudyInstanceUID}", headers={"Accept": "application/dicom"})
    assert response.status_code == 406


def test_metadata_at_every_level(http, store):
    series = build_series(3)
    store(*series)
    study = f"/studies/{series[0].StudyInstanceUID}"
    for path, count in (
        (study, 3),
        (f"{study}/series/{series[0].SeriesInstanceUID}", 3),
        (path_of(series[1]), 1),
    ):
        response = http.get(f"{path}/metadata")
        assert response.headers["content-type"] == "application/dicom+json"
        assert len(response.json()) == count
    (item,) = response.json()
    expected = series[1].to_json_dict(suppress_invalid_tags=True)
    for tag, element in expected.items():
        if tag != tag_of("PixelData"):
            assert item[tag] == element


def test_bulk_data_addresses_are_absolute_and_work(http, store, service):
    dataset = build_ct(PatientComments='"BulkDataURI":"x')
    store(dataset)
    (item,) = http.get(f"{path_of(dataset)}/metadata").json()
    address = item[tag_of("PixelData")]["BulkDataURI"]
    assert address.startswith(service + path_of(dataset) + "/")
    assert text_of(item, "PatientComments") == '"BulkDataURI":"x'
    response = http.get(address)
    assert response.content == dataset.PixelData
    assert response.headers["content-type"].startswith("application/octet-stream")
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    ((_, body),) = parse_parts(http.get(address, headers=accept))
    assert body == dataset.PixelData


def test_bulk_data_inside_sequences_have_absolute_addresses_that_work(http, store, service):
    item = Dataset()
    item.EncapsulatedDocument = bytes(range(256)) * 40
    outer = Dataset()
    outer.ReferencedImageSequence = Sequence([Dataset(), item])
    dataset = build_ct(ReferencedStudySequence=Sequence([outer]))
    store(as_part10(dataset, IMPLICIT))
    (metadata,) = http.get(f"{path_of(dataset)}/metadata").json()
    first = values_of(metadata, "ReferencedStudySequence")[0]
    address = values_of(first, "ReferencedImageSequence")[1][tag_of("EncapsulatedDocument")]["BulkDataURI"]
    assert address.startswith(service + path_of(dataset) + "/bulkdata/")
    assert http.get(address).content == item.EncapsulatedDocument


def test_metadata_are_utf_8_and_keep_the_sources_character_set(http, store):
    dataset = build_ct(SpecificCharacterSet="ISO_IR 100", StudyDescription="Étude")
    store(dataset)
    response = http.get(f"{path_of(dataset)}/metadata")
    (item,) = response.json()
    assert text_of(item, "SpecificCharacterSet") == "ISO_IR 100"
    assert '"Étude"'.encode() in response.content


def test_metadata_have_neither_nan_nor_group_lengths_and_decode_what_is_known(http, store):
    unknown = b"\x54\x00\x81\x00UN\0\0\x02\0\0\0\x07\0"  # Number of Slices (0054,0081) as UN
    item = b"\xfe\xff\x00\xe0\x0a\0\0\0" + b"\x54\x00\x81\x00\x02\0\0\0\x05\0"  # implicit VR
    undefined = b"\x54\x00\x16\x00UN\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    length = b"\x54\x00\x00\x00UL\x04\0\x2a\0\0\0"
    dataset = build_sr(DiffusionBValue=float("nan"), PatientWeight=None)
    store(as_part10(dataset) + length + undefined + unknown)
    response = http.get(f"{path_of(dataset)}/metadata")
    assert b"NaN" not in response.content
    (metadata,) = response.json()
    assert metadata[tag_of("DiffusionBValue")] == {"vr": "FD", "Value": [None]}
    assert "00540000" not in metadata
    assert metadata[tag_of("NumberOfSlices")] == {"vr": "US", "Value": [7]}
    (inner,) = values_of(metadata, "RadiopharmaceuticalInformationSequence")
    assert values_of(inner, "NumberOfSlices") == [5]


def test_values_that_cannot_be_converted_do_not_fail_the_request(http, store):
    dataset = build_ct(KVP="120")
    store(as_part10(dataset).replace(b"DS\x04\x00120 ", b"DS\x04\x00high"))
    (item,) = http.get(f"{path_of(dataset)}/metadata").json()
    assert item[tag_of("KVP")] == {"vr": "DS", "Value": ["high"]}


def test_a_document_comes_as_bulk_data(http, store):
    document = b"%PDF-1.4\n" + b"x" * 20_000
    dataset = build_pdf(document)
    store(dataset)
    (item,) = http.get(f"{path_of(dataset)}/metadata").json()
    address = item[tag_of("EncapsulatedDocument")]["BulkDataURI"]
    assert http.get(address).content == dataset.EncapsulatedDocument
    response = http.get(address, params={"accept": "application/pdf"})
    assert response.content == dataset.EncapsulatedDocument
    assert response.headers["content-type"] == "application/pdf"


def test_a_document_that_a_browser_would_run_goes_out_as_octets(http, store):
    dataset = build_pdf(b"<script>" + b"x" * 20_000, MIMETypeOfEncapsulatedDocument="text/html")
    store(dataset)
    (item,) = http.get(f"{path_of(dataset)}/metadata").json()
    address = item[tag_of("EncapsulatedDocument")]["BulkDataURI"]
    assert http.get(address, headers={"Accept": "text/html"}).status_code == 406
    response = http.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.headers["content-type"].startswith("application/octet-stream")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("00080008", 404),
        ("7FE00011", 404),
        ("x", 400),
        ("%2E%2E/%2E%2E", 400),
        ("7FE00010/0", 400),
        ("40000000/0/1", 400),
    ],
)
def test_bulk_data_that_is_not_there(shared_http, five_frames, path, status):
    assert shared_http.get(f"{path_of(five_frames)}/bulkdata/{path}").status_code == status


def test_native_frames_in_the_order_asked_for(http, store):
    dataset = build_multiframe(5)
    store(as_part10(dataset, IMPLICIT))
    size = len(dataset.PixelData) // 5
    response = http.get(f"{path_of(dataset)}/frames/3,1,5")
    found = parse_parts(response)
    assert [body for _, body in found] == [dataset.PixelData[(n - 1) * size : n * size] for n in (3, 1, 5)]
    assert {headers["Content-Type"] for headers, _ in found} == {
        f"application/octet-stream; transfer-syntax={EXPLICIT}"
    }
    assert found[0][0]["Content-Location"].endswith("/frames/3")
    alone = http.get(f"{path_of(dataset)}/frames/3")
    assert int(alone.headers["content-length"]) == len(alone.content)


def test_a_frame_alone_is_a_single_part_if_asked_so(http, store):
    dataset = build_ct()
    store(dataset)
    response = http.get(f"{path_of(dataset)}/frames/1", headers={"Accept": "application/octet-stream"})
    assert response.content == dataset.PixelData


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("multipart/related; type=image/jpeg; transfer-syntax={}", "image/jpeg"),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", "application/octet-stream"),
        ('multipart/related; type="*/*"; transfer-syntax=*', "image/jpeg"),
        ("multipart/related; type=image/*; transfer-syntax=*", "image/jpeg"),
        (
            "multipart/related; type=image/jls, multipart/related; type=image/jpeg; transfer-syntax={};q=0.5",
            "image/jpeg",
        ),
    ],
)
def test_encapsulated_frames_are_the_fragments_as_stored(http, store, accept, content_type):
    frames = [b"\xff\xd8first!\xff\xd9", b"\xff\xd8second\xff\xd9"]
    dataset = build_encapsulated(frames)
    store(as_part10(dataset, uid.JPEGBaseline8Bit))
    headers = {"Accept": accept.format(uid.JPEGBaseline8Bit)}
    found = parse_parts(http.get(f"{path_of(dataset)}/frames/1,2", headers=headers))
    assert [body for _, body in found] == frames
    assert found[0][0]["Content-Type"] == f"{content_type}; transfer-syntax={uid.JPEGBaseline8Bit}"


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("x", 400), ("1,,2", 400), ("-1", 400), ("1.5", 400), ("9999999999", 400), ("6", 404), ("1,6", 404)],
)
def test_frame_lists_that_cannot_be_answered(shared_http, five_frames, frames, status):
    assert shared_http.get(f"{path_of(five_frames)}/frames/{frames}").status_code == status


def test_an_object_without_pixels_has_no_frames(http, store):
    dataset = build_sr()
    store(dataset)
    assert http.get(f"{path_of(dataset)}/frames/1").status_code == 404


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
def test_head_is_get_without_the_body(http, store, suffix):
    dataset = build_ct()
    store(dataset)
    path = path_of(dataset) + suffix
    head, get = http.head(path), http.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers.get("content-length") == get.headers.get("content-length")
    assert http.head(f"/studies/{new_uid()}").status_code == 404


def test_values_of_a_match_are_values_of_the_metadata(http, store):
    dataset = build_ct()
    store(dataset)
    (match,) = http.get("/instances").json()
    (item,) = http.get(f"{path_of(dataset)}/metadata").json()
    for keyword in ("PatientName", "PatientID", "StudyDate", "Modality", "SOPClassUID", "Rows"):
        assert values_of(match, keyword) == values_of(item, keyword)


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "127.0.0.1"}, "http://127.0.0.1:{port}"),
        ({"Host": "localhost"}, "http://localhost:{port}"),
        ({"Host": "pacs.example:8443"}, "http://pacs.example:8443"),
        ({"Host": "pacs.example"}, "http://pacs.example"),
        ({"Host": "localhost", "X-Forwarded-For": "192.0.2.1"}, "http://localhost"),
        ({"Host": "pacs.example", "X-Forwarded-Proto": "https"}, "https://pacs.example"),
    ],
)
def test_addresses_are_the_ones_the_client_used(http, store, headers, base):
    dataset = build_ct()
    store(dataset)
    (item,) = http.get(f"{path_of(dataset)}/metadata", headers=headers).json()
    expected = base.format(port=http.base_url.port) + f"/dicom-web{path_of(dataset)}/bulkdata/7FE00010"
    assert item[tag_of("PixelData")]["BulkDataURI"] == expected


def test_a_public_address_goes_before_what_the_client_used(archive, store):
    dataset = build_ct()
    store(dataset)
    app = create_app(archive, is_ready=dict, public_url="https://pacs.example/")
    with serving(app) as address:
        (match,) = httpx.get(f"{address}/dicom-web/studies").json()
    assert text_of(match, "RetrieveURL") == f"https://pacs.example/dicom-web/studies/{dataset.StudyInstanceUID}"
