"""WADO-URI (PS3.18 9), asked for as older viewers ask, with what they send."""

import io
from functools import partial

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset, uid

from tests.builders import (
    as_part10,
    build_ct,
    build_dataset,
    build_encapsulated,
    build_multiframe,
    build_pdf,
    build_sr,
)
from tests.conformance.dicomweb.conftest import store_at
from tests.conformance.dicomweb.test_rendered import gradient

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def uri_of(dataset, **given):
    identity = {
        "requestType": "WADO",
        "studyUID": dataset.StudyInstanceUID,
        "seriesUID": dataset.SeriesInstanceUID,
        "objectUID": dataset.SOPInstanceUID,
    }
    return {name: value for name, value in {**identity, **given}.items() if value is not None}


@pytest.fixture(scope="module")
def http(shared_http):
    return shared_http


@pytest.fixture(scope="module")
def store(http):
    return partial(store_at, http)


@pytest.fixture(scope="module")
def root(http):
    with httpx.Client(base_url=str(http.base_url).rstrip("/").removesuffix("/dicom-web"), timeout=30) as client:
        yield client


@pytest.fixture
def ct(store):
    dataset = gradient()
    store(dataset)
    return dataset


@pytest.fixture
def get(root):
    def get(dataset, status=200, headers=None, path="/wado", **given):
        response = root.get(path, params=uri_of(dataset, **given), headers=headers)
        assert response.status_code == status, response.text[:300]
        return response

    return get


def picture(response):
    opened = Image.open(io.BytesIO(response.content))
    assert opened.get_format_mimetype() == response.headers["content-type"]
    return opened


def gray(response):
    return np.asarray(picture(response).convert("L"), int)


@pytest.mark.parametrize("path", ["/wado", "/dicom-web/wado"])
def test_an_instance_is_given_at_both_addresses(get, ct, path):
    response = get(ct, path=path, contentType="application/dicom")
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert response.content == as_part10(ct)
    assert response.headers["accept-ranges"] == "bytes"


def test_without_a_content_type_an_image_is_a_jpeg(get, ct):
    for headers in ({"Accept": "*/*"}, {"Accept": "image/*"}):
        assert picture(get(ct, headers=headers)).size == (8, 6)
        assert get(ct, headers=headers).headers["content-type"] == "image/jpeg"


def test_what_is_no_image_is_given_as_something_it_can_be(get, store):
    report = build_sr()
    store(report)
    assert get(report).headers["content-type"].startswith("text/html")
    get(report, 406, contentType="image/jpeg")


@pytest.mark.parametrize(
    ("asked", "accept", "given"),
    [
        ("image/png", "*/*", "image/png"),
        ("image/gif", "image/png", "image/gif"),
        ("image/jpeg;q=0.2,image/png;q=0.8", "*/*", "image/png"),
        ("image/tiff,image/png", "*/*", "image/png"),
        (None, "image/png", "image/png"),
        (None, "text/plain, application/dicom;q=0.1", f"application/dicom; transfer-syntax={EXPLICIT}"),
    ],
)
def test_content_type_goes_before_accept(get, ct, asked, accept, given):
    assert get(ct, headers={"Accept": accept}, contentType=asked).headers["content-type"] == given


@pytest.mark.parametrize("asked", ["text/plain", "image/tiff", "multipart/related", "nonsense"])
def test_what_is_not_given_is_406(get, ct, asked):
    get(ct, 406, contentType=asked)


def test_dicom_beside_other_media_types_is_400(get, ct):
    get(ct, 400, contentType="application/dicom,image/jpeg")


def test_the_transfer_syntax_is_the_one_that_was_asked_for(get, store):
    dataset, lossy = build_ct(), build_encapsulated()
    store(as_part10(dataset, IMPLICIT), as_part10(lossy, JPEG_BASELINE))

    def syntax(one, **given):
        response = get(one, contentType="application/dicom", **given)
        uid = pydicom.dcmread(io.BytesIO(response.content)).file_meta.TransferSyntaxUID
        assert response.headers["content-type"] == f"application/dicom; transfer-syntax={uid}"
        return uid

    assert syntax(dataset) == EXPLICIT
    assert syntax(dataset, transferSyntax="1.2.840.10008.1.2.4.80") == "1.2.840.10008.1.2.4.80"
    assert syntax(dataset, transferSyntax="*") == IMPLICIT
    assert syntax(lossy) == JPEG_BASELINE
    get(dataset, 406, contentType="application/dicom", transferSyntax=JPEG_BASELINE)


def test_windows_sizes_regions_and_quality_are_what_rendered_resources_give(get, http, ct):
    path = f"/studies/{ct.StudyInstanceUID}/series/{ct.SeriesInstanceUID}/instances/{ct.SOPInstanceUID}/rendered"

    def rendered(**params):
        return http.get(path, params=params, headers={"Accept": "image/png"}).content

    def by_uri(**given):
        return get(ct, contentType="image/png", **given).content

    assert by_uri() == rendered()
    assert by_uri(windowCenter="20", windowWidth="10") == rendered(window="20,10,linear") != rendered()
    assert by_uri(rows="3", columns="4") == rendered(viewport="4,3")
    assert by_uri(region="0.25,0.5,0.75,1") == rendered(viewport="4,3,2,3,4,3")
    assert by_uri(region="0.25,0.5,0.75,1", rows="6") == rendered(viewport="8,6,2,3,4,3")
    low, high = (get(ct, contentType="image/jpeg", imageQuality=quality).content for quality in ("1", "100"))
    assert len(low) < len(high)


def test_one_side_alone_keeps_the_aspect_ratio(get, ct):
    assert picture(get(ct, rows="60")).size == (80, 60)
    assert picture(get(ct, columns="80")).size == (80, 60)
    assert picture(get(ct, columns="160", rows="60")).size == (80, 60)


def test_a_frame_is_the_one_of_that_number(get, store, http):
    cine = build_multiframe(5)
    store(cine)
    path = f"/studies/{cine.StudyInstanceUID}/series/{cine.SeriesInstanceUID}/instances/{cine.SOPInstanceUID}"
    for number in (1, 5):
        expected = http.get(f"{path}/frames/{number}/rendered", headers={"Accept": "image/png"}).content
        assert get(cine, contentType="image/png", frameNumber=str(number)).content == expected
    assert picture(get(cine, contentType="image/gif")).n_frames == 5
    get(cine, 400, contentType="image/png", frameNumber="6")


@pytest.mark.parametrize(
    "wrong",
    [
        {"requestType": None}, {"requestType": "STOW"}, {"studyUID": None}, {"seriesUID": None}, {"objectUID": None},
        {"objectUID": "not-a-uid"}, {"studyUID": "1" * 65}, {"frameNumber": "0"}, {"frameNumber": "-1"},
        {"frameNumber": "2"}, {"frameNumber": "1.5"}, {"frameNumber": "9" * 30}, {"rows": "0"}, {"columns": "-3"},
        {"rows": "100000", "columns": "100000"}, {"imageQuality": "0"}, {"imageQuality": "101"}, {"imageQuality": "x"},
        {"windowCenter": "40"}, {"windowWidth": "400"}, {"windowCenter": "40", "windowWidth": "0"},
        {"windowCenter": "nan", "windowWidth": "1"}, {"windowCenter": "secret", "windowWidth": "1"},
        {"region": "0,0,1"}, {"region": "0,0,2,1"}, {"region": "0.5,0,0.5,1"}, {"region": "secret,0,1,1"},
        {"region": "nan,0,1,1"}, {"transferSyntax": "secret", "contentType": "application/dicom"},
        {"imageAnnotation": "secret"}, {"anonymize": "yes"}, {"anonymize": "secret"},
        {"presentationUID": "1.2"}, {"presentationSeriesUID": "1.2"}, {"presentationUID": "secret"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_wrong_parameter_is_400_and_is_not_repeated(get, ct, wrong):
    response = get(ct, 400, **wrong)
    assert response.json()["message"]
    assert not any(value and len(value) > 3 and value in response.text for value in wrong.values())


def test_a_parameter_given_twice_is_400(root, ct):
    response = root.get("/wado", params=[*uri_of(ct).items(), ("studyUID", "1.2")])
    assert response.status_code == 400


def test_an_unknown_parameter_is_passed_over(get, ct):
    assert get(ct, somethingElse="x", rows="").content == get(ct).content


def test_what_is_not_there_is_404(get, ct):
    for level in ("studyUID", "seriesUID", "objectUID"):
        get(ct, 404, **{level: "1.2.3"})


def test_who_has_it_is_not_sent_it_again_until_it_changes(get, root, ct):
    for given in ({}, {"contentType": "application/dicom"}, {"contentType": "image/png", "rows": "3"}):
        response = get(ct, **given)
        tag = response.headers["etag"]
        known = get(ct, 304, headers={"If-None-Match": tag}, **given)
        assert (known.content, known.headers["etag"]) == (b"", tag)
        head = root.head("/wado", params=uri_of(ct, **given))
        assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")
    assert len({get(ct, contentType="image/png", rows=rows).headers["etag"] for rows in ("3", "4")}) == 2
    tag = get(ct).headers["etag"]
    body = {"kind": "correct-study", "study_instance_uid": ct.StudyInstanceUID, "values": {"AccessionNumber": "NEW"}}
    assert root.post("/corrections", json={"reason": "Typed wrong", **body}).status_code == 201
    assert get(ct, headers={"If-None-Match": tag}).headers["etag"] != tag
    assert pydicom.dcmread(io.BytesIO(get(ct, contentType="application/dicom").content)).AccessionNumber == "NEW"


def test_a_part_of_a_file_is_that_part(get, ct):
    whole = get(ct, contentType="application/dicom")
    part = get(
        ct, 206, headers={"Range": "bytes=128-131", "If-Range": whole.headers["etag"]}, contentType="application/dicom"
    )
    assert part.content == b"DICM"


def test_text_in_another_character_set_than_ours_is_not_promised(get, store):
    report = build_sr()
    store(report)
    assert get(report, charset="iso-8859-1", contentType=None).headers["content-type"].startswith("application/dicom")


def build_state(image, **overrides):
    """Return a Grayscale Softcopy Presentation State that inverts an image and shows it in a window of its own."""
    window, series, reference = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 20, 10
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedImageSequence = image.SeriesInstanceUID, [reference]
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [1, 1], [image.Columns, image.Rows]
    area.PresentationSizeMode, area.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    return build_dataset(
        SOPClassUID=uid.GrayscaleSoftcopyPresentationStateStorage,
        Modality="PR",
        StudyInstanceUID=image.StudyInstanceUID,
        PatientID=image.PatientID,
        SoftcopyVOILUTSequence=[window],
        ReferencedSeriesSequence=[series],
        DisplayedAreaSelectionSequence=[area],
        PresentationLUTShape="INVERSE",
        **overrides,
    )


@pytest.fixture
def state(store, ct):
    dataset = build_state(ct)
    store(dataset)
    return {"presentationSeriesUID": dataset.SeriesInstanceUID, "presentationUID": dataset.SOPInstanceUID}


def test_a_presentation_state_is_applied(get, ct, state):
    plain = gray(get(ct, contentType="image/png", windowCenter="20", windowWidth="10"))
    shown = gray(get(ct, contentType="image/png", **state))
    assert np.abs(shown - (255 - plain)).max() <= 1
    assert "content-location" not in get(ct, contentType="image/png", **state).headers


def test_a_presentation_state_that_does_not_fit_is_refused(get, store, ct, state):
    other = gradient()
    other.StudyInstanceUID = ct.StudyInstanceUID
    store(other)
    get(other, 406, contentType="image/png", **state)
    get(ct, 404, contentType="image/png", **{**state, "presentationUID": "1.2.3"})
    get(ct, 400, contentType="image/png", windowCenter="1", windowWidth="1", **state)
    # An image is no presentation state.
    itself = {"presentationSeriesUID": ct.SeriesInstanceUID, "presentationUID": ct.SOPInstanceUID}
    get(ct, 406, contentType="image/png", **itself)


def test_a_report_is_a_page_that_may_run_nothing(get, store):
    report = build_sr()
    store(report)
    response = get(report)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "private, no-cache"
    assert get(report, contentType="text/plain").headers["content-type"] == "text/plain; charset=utf-8"


def test_a_document_is_what_it_encapsulates(get, store):
    document = build_pdf()
    store(document)
    response = get(document)
    assert response.headers["content-type"] == "application/pdf"
    assert response.content.startswith(b"%PDF")


def test_weasis_gets_its_thumbnails_and_its_files(get, store):
    """As its manifests ask for them."""
    lossy = build_encapsulated()
    ct = build_ct()
    store(ct, as_part10(lossy, JPEG_BASELINE))
    thumbnail = picture(get(ct, contentType="image/jpeg", imageQuality="70", rows="256", columns="256"))
    assert max(thumbnail.size) == 256
    file = get(lossy, contentType="application/dicom", transferSyntax="*", headers={"Accept": "application/dicom"})
    assert file.content == as_part10(lossy, JPEG_BASELINE)


def test_the_client_of_the_npm_package_is_given_what_was_stored(get, ct):
    assert get(ct, path="/dicom-web/wado", contentType="application/dicom", transferSyntax="*").content == as_part10(ct)
