"""Rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4, 8.3.5), asked for as a browser and a client do."""

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom.sequence import Sequence

from dicomweb.threads import RENDERING_THREADS
from pacs.imaging.profiles import Profile, build_profile, convert
from tests.builders import (
    build_ct,
    build_dataset,
    build_image,
    build_multiframe,
    build_pdf,
    build_segmentation,
    build_series,
    build_sr,
    new_uid,
)
from tests.conformance.dicomweb.conftest import store_at
from tests.conformance.dicomweb.service import parse_parts
from tests.presentation import build_item, build_reference, build_state


def path_of(dataset, level="instance"):
    path = f"/studies/{dataset.StudyInstanceUID}"
    if level != "study":
        path += f"/series/{dataset.SeriesInstanceUID}"
    return f"{path}/instances/{dataset.SOPInstanceUID}" if level == "instance" else path


def gradient(rows=6, columns=8):
    """Return a CT whose values are 0 to 47 from left to right and top to bottom."""
    dataset = build_ct(Rows=rows, Columns=columns, BitsStored=16, HighBit=15, PixelRepresentation=0)
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PixelData = np.arange(rows * columns, dtype="<u2").tobytes()
    return dataset


CT = gradient()
CINE = build_multiframe(5)
SEG = build_segmentation()
SR = build_sr()
SLICES = build_series(3)
BESIDE = build_sr(StudyInstanceUID=SLICES[0].StudyInstanceUID)
PDF = build_pdf()


@pytest.fixture(scope="module")
def http(shared_http):
    store_at(shared_http, CT, CINE, SEG, SR, *SLICES, BESIDE, PDF)
    return shared_http


def get(http, path, status=200, accept=None, **params):
    response = http.get(path, params=params or None, headers={"Accept": accept} if accept else {})
    assert response.status_code == status, response.text[:300]
    return response


def picture(response):
    """Return what a single part answer shows; its type is the one that was announced."""
    opened = Image.open(io.BytesIO(response.content))
    assert opened.get_format_mimetype() == response.headers["content-type"]
    return opened


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "image/jpeg"),
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/jp2, image/png;q=0.5", "image/png"),
        ("image/avif,image/webp,*/*;q=0.8", "image/jpeg"),
    ],
)
def test_media_type_is_the_best_one_accepted(http, accept, media_type):
    response = get(http, path_of(CT) + "/rendered", accept=accept)
    assert response.headers["content-type"] == media_type
    assert picture(response).size == (8, 6)


def test_query_parameter_goes_before_the_header(http):
    response = get(http, path_of(CT) + "/rendered?accept=image/png", accept="image/jpeg")
    assert picture(response).get_format_mimetype() == "image/png"


@pytest.mark.parametrize("accept", ["image/jp2", "video/mpeg", "application/dicom", "text/html"])
@pytest.mark.parametrize("resource", ["/rendered", "/thumbnail", "/frames/1/rendered"])
def test_other_media_types_are_not_acceptable(http, accept, resource):
    assert "image/jpeg" in get(http, path_of(CT) + resource, 406, accept=accept).json()["message"]


def test_window_is_the_one_asked_for(http):
    response = get(http, path_of(CT) + "/rendered", accept="image/png", window="24,16,linear-exact")
    values = np.arange(48).reshape(6, 8)
    expected = np.rint(np.clip((values - 24) / 16 + 0.5, 0, 1) * 255)
    assert np.array_equal(np.asarray(picture(response)), expected)


def test_viewport_cuts_scales_and_flips(http):
    plain = np.asarray(picture(get(http, path_of(CT) + "/rendered", accept="image/png")))
    cut = picture(get(http, path_of(CT) + "/rendered", accept="image/png", viewport="4,3,2,1,-4,3"))
    assert np.array_equal(np.asarray(cut), plain[1:4, 2:6][:, ::-1])
    scaled = picture(get(http, path_of(CT) + "/rendered", accept="image/png", viewport="80,80"))
    assert scaled.size == (80, 60)


def test_lower_quality_is_a_shorter_answer(http):
    low, high = (len(get(http, path_of(CT) + "/rendered", quality=quality).content) for quality in (1, 100))
    assert low < high


@pytest.mark.parametrize(
    "query",
    [
        "window=40",
        "window=",
        "viewport=",
        "window=40,400,cubic",
        "window=40,0,linear",
        "window=nan,400,linear",
        "window=a,b,linear",
        "window=1,2,linear,3",
        "viewport=100",
        "viewport=0,100",
        "viewport=100,100,1",
        "viewport=99999,99999",
        "viewport=10,10,-1,0,5,5",
        "viewport=10,10,x,0,5,5",
        "viewport=10,10,nan,0,5,5",
        "viewport=10,10,0,0,0,5",
        "quality=0",
        "quality=101",
        "quality=high",
        "iccprofile=purple",
    ],
)
@pytest.mark.parametrize("resource", ["/rendered", "/thumbnail"])
def test_values_that_make_no_sense_are_refused(http, query, resource):
    get(http, f"{path_of(CT)}{resource}?{query}", 400)


@pytest.mark.parametrize(
    ("path", "params", "name"),
    [
        (path_of(CT), {"annotation": "patient,star-sign"}, "annotation"),
        (path_of(SR), {"annotation": "patient"}, "annotation"),
        (path_of(SR), {"iccprofile": "srgb"}, "iccprofile"),
    ],
)
def test_what_is_not_supported_is_said_to_be_ignored(http, path, params, name):
    response = get(http, path + "/rendered", **params)
    assert response.headers["warning"].startswith("299 ")
    assert name in response.headers["warning"]
    assert "warning" not in get(http, path + "/rendered", iccprofile="no").headers


def test_still_of_several_frames_is_the_middle_one(http):
    middle = get(http, path_of(CINE) + "/frames/3/rendered", accept="image/png")
    assert get(http, path_of(CINE) + "/rendered", accept="image/png").content == middle.content


def test_gif_of_several_frames_moves(http):
    assert picture(get(http, path_of(CINE) + "/rendered", accept="image/gif")).n_frames == 5
    assert picture(get(http, path_of(CINE) + "/frames/1,2/rendered", accept="image/gif")).n_frames == 2
    assert picture(get(http, path_of(CINE) + "/thumbnail", accept="image/gif")).n_frames == 1


def test_frames_come_as_parts_in_their_order(http):
    response = get(http, path_of(CINE) + "/frames/4,2/rendered", accept='multipart/related; type="image/png"')
    parts = parse_parts(response)
    assert [headers["Content-Type"] for headers, _ in parts] == ["image/png"] * 2
    assert [headers["Content-Location"].rsplit("/", 2)[1] for headers, _ in parts] == ["4", "2"]
    for number, (_, body) in zip((4, 2), parts, strict=True):
        assert body == get(http, f"{path_of(CINE)}/frames/{number}/rendered", accept="image/png").content


def test_several_frames_are_parts_though_only_the_picture_was_named(http):
    assert len(parse_parts(get(http, path_of(CINE) + "/frames/1,2,3/rendered", accept="image/jpeg"))) == 3


def test_every_frame_of_an_instance_can_be_had_as_a_part(http):
    accept = 'multipart/related; type="image/jpeg"'
    parts = parse_parts(get(http, path_of(CINE) + "/rendered", accept=accept))
    assert len(parts) == 5
    assert parts[4][0]["Content-Location"].endswith(f"{path_of(CINE)}/frames/5/rendered")


def test_bit_packed_frames_are_rendered(http):
    shown = [np.asarray(picture(get(http, f"{path_of(SEG)}/frames/{number}/rendered", accept="image/png")))
             for number in (1, 2, 3)]  # fmt: skip
    assert all(set(np.unique(frame)) <= {0, 255} for frame in shown)
    pixels = np.unpackbits(np.frombuffer(SEG.PixelData, np.uint8), bitorder="little")[:75].reshape(3, 5, 5)
    assert np.array_equal(np.stack(shown), pixels * 255)


@pytest.mark.parametrize("level", ["study", "series"])
def test_study_and_series_are_a_part_an_image(http, level):
    parts = parse_parts(get(http, path_of(SLICES[0], level) + "/rendered", viewport="4,4"))
    assert {headers["Content-Type"] for headers, _ in parts} == {"image/jpeg"}
    uids = {headers["Content-Location"].split("/")[-2] for headers, _ in parts}
    assert uids == {dataset.SOPInstanceUID for dataset in SLICES}
    assert all(max(Image.open(io.BytesIO(body)).size) == 4 for _, body in parts)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_thumbnail_is_a_small_jpeg_of_the_middle(http, level):
    response = get(http, path_of(SLICES[1], level) + "/thumbnail")
    assert picture(response).get_format_mimetype() == "image/jpeg"
    location = response.headers["content-location"]
    if level == "study":  # a report lies beside, so that another slice may be the middle
        assert any(location.endswith(path_of(dataset) + "/thumbnail") for dataset in SLICES)
    else:
        assert location.endswith(path_of(SLICES[1]) + "/thumbnail")


def test_thumbnail_is_never_larger_than_256(http):
    for viewport, size in (("", (256, 192)), ("64,64", (64, 48)), ("1000,1000", (256, 192))):
        params = {"viewport": viewport} if viewport else {}
        assert picture(get(http, path_of(CT) + "/thumbnail", **params)).size == size


def test_thumbnail_of_frames_is_the_middle_one_of_them(http):
    one = get(http, path_of(CINE) + "/frames/2/thumbnail").content
    assert get(http, path_of(CINE) + "/frames/1,2,3/thumbnail").content == one


@pytest.mark.parametrize("dataset", [SR, PDF], ids=["report", "document"])
@pytest.mark.parametrize("resource", ["/thumbnail", "/frames/1/rendered", "/frames/1/thumbnail"])
def test_what_has_no_pixels_is_said_to_have_none(http, dataset, resource):
    assert "no pixel data" in get(http, path_of(dataset) + resource, 406).json()["message"]


def test_structure_set_has_no_rendering_and_says_so(http):
    structures = build_dataset(Modality="RTSTRUCT", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    store_at(http, structures)
    assert "no pixel data" in get(http, path_of(structures) + "/rendered", 406).json()["message"]
    get(http, path_of(structures, "study") + "/rendered", 406)


def test_study_without_any_picture_says_so(http):
    get(http, path_of(SR, "study") + "/thumbnail", 406)
    assert "text/html" in get(http, path_of(SR, "study") + "/rendered", 406, accept="image/jpeg").json()["message"]


@pytest.mark.parametrize("accept", [None, "*/*", "text/html", "text/*", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_report_is_a_page(http, accept):
    response = get(http, path_of(SR) + "/rendered", accept=accept)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "Nothing of note." in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-location"].endswith(path_of(SR) + "/rendered")


def test_report_is_text_for_who_asks_for_text(http):
    response = get(http, path_of(SR) + "/rendered", accept="text/plain")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Finding: Nothing of note." in response.text


def test_report_leads_to_the_images_it_is_about(http):
    image = SLICES[1]
    reference = build_reference(image)
    series = build_item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedSOPSequence=Sequence([reference]))
    evidence = build_item(StudyInstanceUID=image.StudyInstanceUID, ReferencedSeriesSequence=Sequence([series]))
    selection = build_sr(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59",
        CurrentRequestedProcedureEvidenceSequence=Sequence([evidence]),
        ContentSequence=Sequence([
            build_item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=Sequence([reference]))]),
    )  # fmt: skip
    store_at(http, selection)
    (address,) = re.findall('href="([^"]*)"', get(http, path_of(selection) + "/rendered").text)
    assert address == f"{http.base_url.path.rstrip('/')}{path_of(image)}/rendered"
    assert picture(get(http, address.removeprefix(http.base_url.path.rstrip("/")))).size == (8, 8)


def test_document_is_what_was_encapsulated(http):
    for accept in (None, "*/*", "application/pdf"):
        response = get(http, path_of(PDF) + "/rendered", accept=accept)
        assert response.headers["content-type"] == "application/pdf"
        assert response.content == b"%PDF-1.4\n%%EOF"


@pytest.mark.parametrize("length", [1001, 1002, 70_001])
@pytest.mark.parametrize("is_said", [True, False])
def test_document_is_without_what_pads_it(http, length, is_said):
    document = b"%PDF-1.4\n" + b"x" * (length - 9)
    dataset = build_pdf(document)
    if is_said:
        dataset.EncapsulatedDocumentLength = length
    store_at(http, dataset)
    response = get(http, path_of(dataset) + "/rendered")
    assert response.content == document
    assert response.headers["content-length"] == str(length)


def test_document_of_another_type_than_it_claims_is_not_shown(http):
    dataset = build_pdf(b"<script>alert(1)</script>", MIMETypeOfEncapsulatedDocument="text/html")
    store_at(http, dataset)
    get(http, path_of(dataset) + "/rendered", 406)


def test_clinical_document_is_kept_and_not_shown(http):
    document = b"<?xml version='1.0'?><ClinicalDocument/>"
    dataset = build_pdf(
        document, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.2", MIMETypeOfEncapsulatedDocument="text/XML"
    )
    store_at(http, dataset)
    response = get(http, path_of(dataset) + "/rendered")
    assert (response.headers["content-type"], response.content) == ("text/xml", document)
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(("dataset", "accept"), [(SR, "application/pdf"), (PDF, "text/html"), (SR, "image/jpeg")])
def test_document_is_given_in_its_own_type_only(http, dataset, accept):
    get(http, path_of(dataset) + "/rendered", 406, accept=accept)


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_documents_can_be_had_as_parts(http, level):
    response = get(http, path_of(BESIDE, level) + "/rendered", accept='multipart/related; type="text/html"')
    ((headers, body),) = parse_parts(response)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Location"].endswith(path_of(BESIDE) + "/rendered")
    assert b"Nothing of note." in body


def test_reports_of_a_study_are_given_to_who_names_them(http):
    path = path_of(SLICES[0], "study") + "/rendered"
    ((headers, _),) = parse_parts(get(http, path, accept="text/html"))
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert len(parse_parts(get(http, path))) == len(SLICES)


def shown(http, state, **params):
    return np.asarray(picture(get(http, path_of(state) + "/rendered", accept="image/png", **params)))


class TestPresentationState:
    """A presentation state is rendered as the images it shows (PS3.4 N)."""

    @pytest.fixture(scope="class")
    @staticmethod
    def state(http):
        window = build_item(WindowCenter="24", WindowWidth="16", VOILUTFunction="LINEAR_EXACT")
        dataset = build_state(CT, SoftcopyVOILUTSequence=Sequence([window]), ImageRotation=0, ImageHorizontalFlip="Y")
        store_at(http, dataset)
        return dataset

    def test_it_is_its_image_as_it_wants_it(self, http, state):
        expected = np.rint(np.clip((np.arange(48).reshape(6, 8) - 24) / 16 + 0.5, 0, 1) * 255)
        assert np.array_equal(shown(http, state), expected[:, ::-1])

    def test_what_is_asked_for_goes_before_it(self, http, state):
        expected = np.rint(((np.arange(48).reshape(6, 8) - 24) / 48 + 0.5) * 255)
        asked = shown(http, state, window="24,48,linear-exact")
        assert np.array_equal(asked, expected[:, ::-1])
        assert shown(http, state, viewport="80,80").shape == (60, 80)

    def test_it_has_thumbnails_and_frames(self, http, state):
        assert picture(get(http, path_of(state) + "/thumbnail")).size == (256, 192)
        assert picture(get(http, path_of(state) + "/frames/1/rendered")).size == (8, 6)
        get(http, path_of(state) + "/frames/2/rendered", 404)

    def test_several_images_are_parts(self, http):
        dataset = build_state(*SLICES)
        store_at(http, dataset)
        accept = 'multipart/related; type="image/png"'
        parts = parse_parts(get(http, path_of(dataset) + "/rendered", accept=accept))
        assert len(parts) == 3
        assert shown(http, dataset).shape == (8, 8)

    def test_frames_that_it_names_are_its_frames(self, http):
        dataset = build_state(CINE)
        dataset.ReferencedSeriesSequence[0].ReferencedImageSequence = Sequence([build_reference(CINE, 4, 2)])
        store_at(http, dataset)
        parts = parse_parts(get(http, path_of(dataset) + "/frames/1,2/rendered", accept="image/png"))
        assert len({body for _, body in parts}) == 2
        get(http, path_of(dataset) + "/frames/3/rendered", 404)

    def test_images_of_a_study_are_not_shown_twice(self, http, state):
        (part,) = parse_parts(get(http, path_of(CT, "study") + "/rendered"))
        assert part[0]["Content-Location"].endswith(path_of(CT) + "/rendered")
        assert (
            get(http, path_of(CT, "study") + "/thumbnail")
            .headers["content-location"]
            .endswith(path_of(CT) + "/thumbnail")
        )

    @pytest.mark.parametrize("numbers", [(9,), ()])
    def test_images_that_are_not_here_are_said_to_be_missing(self, http, numbers):
        dataset = build_state(CINE if numbers else build_ct())
        if numbers:
            dataset.ReferencedSeriesSequence[0].ReferencedImageSequence = Sequence([build_reference(CINE, *numbers)])
        store_at(http, dataset)
        message = get(http, path_of(dataset) + "/rendered", 406).json()["message"]
        assert "presentation state" in message


class TestProfile:
    """The iccprofile parameter (PS3.18 8.3.5.1.5)."""

    @pytest.fixture(scope="class")
    @staticmethod
    def colour(http):
        dataset = build_dataset(ICCProfile=build_profile(Profile.ADOBERGB))
        dataset.update(build_image(samples=3, bits=8))
        store_at(http, dataset)
        return dataset

    @pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
    @pytest.mark.parametrize(
        ("asked", "profile"),
        [
            ("yes", Profile.ADOBERGB),
            ("srgb", Profile.SRGB),
            ("adobergb", Profile.ADOBERGB),
            ("rommrgb", Profile.ROMMRGB),
        ],
    )
    def test_profile_is_embedded(self, http, colour, media_type, asked, profile):
        shown = picture(get(http, path_of(colour) + "/rendered", accept=media_type, iccprofile=asked))
        assert shown.info["icc_profile"] == build_profile(profile)

    @pytest.mark.parametrize("query", ["", "?iccprofile=no"])
    def test_without_being_asked_there_is_none(self, http, colour, query):
        assert "icc_profile" not in picture(get(http, path_of(colour) + "/rendered" + query)).info

    def test_colours_are_converted(self, http, colour):
        plain, converted = (
            np.asarray(picture(get(http, path_of(colour) + "/rendered", accept="image/png", iccprofile=asked)))
            for asked in ("yes", "srgb")
        )
        assert not np.array_equal(plain, converted)
        assert np.array_equal(converted, convert(plain, build_profile(Profile.ADOBERGB), Profile.SRGB)[0])

    def test_gif_cannot_hold_one_and_says_so(self, http, colour):
        response = get(http, path_of(colour) + "/rendered", accept="image/gif", iccprofile="yes")
        assert "iccprofile" in response.headers["warning"]


def test_annotations_are_burnt_in(http):
    plain = picture(get(http, path_of(CT) + "/rendered", accept="image/png", viewport="400,400"))
    response = get(
        http, path_of(CT) + "/rendered", accept="image/png", viewport="400,400", annotation="patient,technique"
    )
    assert "warning" not in response.headers
    differs = np.asarray(plain) != np.asarray(picture(response))
    assert differs[:100, :200].any()
    assert differs[:100, 200:].any()
    assert not differs[150:].any()


@pytest.mark.parametrize("resource", ["/frames/6/rendered", "/frames/1,6/rendered", "/frames/6/thumbnail"])
def test_frame_that_does_not_exist_is_not_found(http, resource):
    get(http, path_of(CINE) + resource, 404)


@pytest.mark.parametrize("resource", ["/rendered", "/thumbnail"])
def test_what_does_not_exist_is_not_found(http, resource):
    get(http, f"/studies/{new_uid()}{resource}", 404)
    get(http, f"{path_of(CT, 'study')}/series/{new_uid()}{resource}", 404)
    get(http, f"{path_of(CT, 'series')}/instances/{new_uid()}{resource}", 404)


@pytest.mark.parametrize("resource", ["/frames/0/rendered", "/frames/x/rendered", "/frames/1,/thumbnail"])
def test_frame_list_that_makes_no_sense_is_refused(http, resource):
    get(http, path_of(CINE) + resource, 400)


@pytest.mark.parametrize("resource", ["/rendered", "/frames/1,2/rendered"])
def test_head_is_answered_like_get_without_the_body(http, resource):
    head = http.head(path_of(CINE) + resource)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get(http, path_of(CINE) + resource).headers["content-type"]


def test_one_bad_image_does_not_spoil_its_series(http):
    study, series = new_uid(), new_uid()
    good, bad = (build_ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=n) for n in (1, 2))
    bad.PhotometricInterpretation, bad.BitsStored = "MONOCHROME2", 0
    store_at(http, good, bad)
    parts = parse_parts(get(http, f"/studies/{study}/rendered"))
    assert [headers["Content-Location"].split("/")[-2] for headers, _ in parts] == [good.SOPInstanceUID]
    get(http, f"/studies/{study}/thumbnail")


class TestDicomwebClient:
    """What dicomweb-client asks for, it gets."""

    @pytest.fixture
    def client(self, http):
        return DICOMwebClient(str(http.base_url).rstrip("/"))

    @pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif"])
    def test_instance(self, client, media_type):
        uids = (CT.StudyInstanceUID, CT.SeriesInstanceUID, CT.SOPInstanceUID)
        content = client.retrieve_instance_rendered(*uids, media_types=(media_type,), params={"window": "24,16,linear"})
        assert Image.open(io.BytesIO(content)).get_format_mimetype() == media_type

    def test_frames(self, client):
        uids = (CINE.StudyInstanceUID, CINE.SeriesInstanceUID, CINE.SOPInstanceUID)
        content = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[2], media_types=("image/png",))
        assert Image.open(io.BytesIO(content)).size == (CINE.Columns, CINE.Rows)

    def test_without_a_media_type(self, client):
        uids = (CINE.StudyInstanceUID, CINE.SeriesInstanceUID, CINE.SOPInstanceUID)
        content = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[1])
        assert Image.open(io.BytesIO(content)).get_format_mimetype() == "image/jpeg"


def test_every_answer_has_its_headers(http):
    response = httpx.get(f"{http.base_url}{path_of(CT).lstrip('/')}/rendered")
    assert response.headers["vary"] == "Accept"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-location"].endswith(path_of(CT) + "/rendered")


def test_those_who_wait_for_pictures_hold_up_nobody_else(archive, service, monkeypatch):
    all_threads = 40  # of the server, by default
    release, begun = threading.Event(), threading.Semaphore(0)

    def render_slowly(*_, **__):
        begun.release()
        release.wait(60)
        return b"picture"

    monkeypatch.setattr(archive.render, "render_instance", render_slowly)
    with httpx.Client(base_url=service, timeout=60, limits=httpx.Limits(max_connections=100)) as client:
        store_at(client, CT)
        with ThreadPoolExecutor(2 * all_threads) as pool:
            path = f"{path_of(CT)}/rendered"
            waiting = [pool.submit(client.get, path, headers={"Accept": "image/png"}) for _ in range(2 * all_threads)]
            for _ in range(RENDERING_THREADS):
                assert begun.acquire(timeout=30)
            try:
                assert client.get("/studies").status_code == 200
            finally:
                release.set()
            assert {future.result().content for future in waiting} == {b"picture"}


def test_more_films_than_can_be_made_are_sent_away(archive, service, monkeypatch):
    with httpx.Client(base_url=service, timeout=60) as client:
        store_at(client, CINE)
        monkeypatch.setattr(archive.render, "_film_room", threading.BoundedSemaphore(1))
        gif, mp4 = ({"Accept": kind} for kind in ("image/gif", "video/mp4"))
        path = f"{path_of(CINE)}/rendered"
        with archive.render._filming():
            for headers in (gif, mp4):
                answer = client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
            assert client.get(path, headers={"Accept": "image/jpeg"}).status_code == 200
        assert client.get(path, headers=gif).status_code == 200
