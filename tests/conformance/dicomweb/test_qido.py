"""QIDO-RS (PS3.18 10.6)."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.tags import tag_of, text_of, values_of
from tests.builders import as_part10, build_ct, build_mr, build_series, build_unicode, new_uid
from tests.conformance.dicomweb.service import MULTIPART_DICOM, multipart_body

# PS3.18 Tables 10.6.3-3 to 10.6.3-5: required, or conditional on being known and known for these data sets.
STUDY = {
    "StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy", "ReferringPhysicianName",
    "RetrieveURL", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
    "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
}  # fmt: skip
SERIES = {
    "Modality", "RetrieveURL", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances",
    "InstanceAvailability",
}  # fmt: skip
INSTANCE = {
    "SOPClassUID", "SOPInstanceUID", "InstanceAvailability", "RetrieveURL", "InstanceNumber", "Rows", "Columns",
    "BitsAllocated",
}  # fmt: skip


def uids(response, keyword="StudyInstanceUID"):
    assert response.status_code in (200, 204), response.text
    return {text_of(match, keyword) for match in response.json()} if response.status_code == 200 else set()


@pytest.fixture
def study(store):
    """One study: a series of three CT slices and one MR image."""
    slices = build_series(3)
    mr = build_mr(StudyInstanceUID=slices[0].StudyInstanceUID, SeriesNumber=2)
    store(*slices, mr)
    return [*slices, mr]


@pytest.fixture(scope="module")
def fatima(shared_http):
    """A study, beside another one, that the required keys find."""
    wanted = build_mr(
        PatientID="F-1", PatientName="Fatima^Zahra", StudyDate="20240301", StudyTime="093000", AccessionNumber="A/1",
        StudyID="S1",
    )  # fmt: skip
    body = multipart_body(as_part10(wanted), as_part10(build_ct(StudyTime="230000")))
    assert shared_http.post("/studies", content=body, headers={"Content-Type": MULTIPART_DICOM}).status_code == 200
    return wanted


def test_an_empty_archive_answers_without_content(http):
    for path in ("/studies", "/series", "/instances", "/studies/1.2/series", "/studies/1.2/series/1.3/instances"):
        response = http.get(path)
        assert response.status_code == 204
        assert response.content == b""


def test_a_study_has_its_required_attributes(http, study, service):
    (match,) = http.get("/studies").json()
    assert {tag_of(keyword) for keyword in STUDY} <= set(match)
    assert values_of(match, "ModalitiesInStudy") == ["CT", "MR"]
    assert values_of(match, "NumberOfStudyRelatedSeries") == [2]
    assert values_of(match, "NumberOfStudyRelatedInstances") == [4]
    assert values_of(match, "InstanceAvailability") == ["ONLINE"]
    assert values_of(match, "PatientName") == [{"Alphabetic": "TEST^BUILT"}]
    assert match[tag_of("ReferringPhysicianName")] == {"vr": "PN"}
    assert text_of(match, "RetrieveURL") == f"{service}/studies/{study[0].StudyInstanceUID}"
    assert list(match) == sorted(match)


@pytest.mark.parametrize(
    ("path", "count", "keywords", "absent"),
    [
        ("/series", 2, STUDY | SERIES, set()),
        ("/studies/{0.StudyInstanceUID}/series", 2, SERIES | {"StudyInstanceUID"}, {"PatientName", "StudyDate"}),
        ("/instances", 4, STUDY | SERIES | INSTANCE, set()),
        ("/studies/{0.StudyInstanceUID}/instances", 4, SERIES | INSTANCE, {"PatientName", "StudyDate"}),
        (
            "/studies/{0.StudyInstanceUID}/series/{0.SeriesInstanceUID}/instances",
            3,
            INSTANCE | {"StudyInstanceUID", "SeriesInstanceUID"},
            {"PatientName", "Modality"},
        ),
    ],
)
def test_lower_levels_have_their_own_attributes_and_those_above_if_asked_across_studies(
    http, study, path, count, keywords, absent
):
    matches = http.get(path.format(study[0])).json()
    assert len(matches) == count
    for match in matches:
        assert {tag_of(keyword) for keyword in keywords} <= set(match)
        assert not {tag_of(keyword) for keyword in absent} & set(match)


def test_addresses_of_series_and_instances_work(http, study):
    for path in ("/series", "/instances"):
        for match in http.get(path).json():
            assert http.get(text_of(match, "RetrieveURL")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "PatientID=F-1",
        "00100020=F-1",
        "PatientName=fatima*",
        "PatientName=*fatima*",
        "PatientName=FATI?A%5EZAHRA",
        "00100010=fatima%2A",
        "StudyDate=20240301",
        "StudyDate=20240301-20240302",
        "StudyDate=20240301-&StudyDate=20240301-",
        "StudyDate=-20240301&PatientID=F-1",
        "StudyTime=0900-1000",
        "AccessionNumber=A%2F1",
        "AccessionNumber=A/1",
        "ModalitiesInStudy=MR",
        "ModalitiesInStudy=MR%5CUS",
        "StudyInstanceUID={study}",
        "StudyInstanceUID={study},1.2.3",
        "StudyInstanceUID={study}%5C1.2.3",
        "0020000d={study}",
        "StudyID=S1",
        "ReferringPhysicianName=%22%22&emptyvaluematching=true&PatientID=F-1",
        "PatientID=F-1%5CX&multiplevaluematching=true",
        "PatientName=&PatientID=F-1",
    ],
)
def test_studies_are_found_by_every_required_key(shared_http, fatima, query):
    response = shared_http.get("/studies?" + query.format(study=fatima.StudyInstanceUID))
    assert uids(response) == {fatima.StudyInstanceUID}


@pytest.mark.parametrize(
    "query", ["PatientID=nobody", "StudyDate=19000101", "ModalitiesInStudy=US", "StudyInstanceUID=1.2.3", "limit=0"]
)
def test_no_match_is_no_content(shared_http, fatima, query):
    response = shared_http.get(f"/studies?{query}")
    assert response.status_code == 204
    assert response.content == b""


def test_series_and_instances_are_found_by_their_keys(http, study):
    mr = study[3]
    assert uids(http.get("/series?Modality=MR"), "SeriesInstanceUID") == {mr.SeriesInstanceUID}
    assert uids(http.get("/series?SeriesNumber=2"), "SeriesInstanceUID") == {mr.SeriesInstanceUID}
    assert uids(http.get(f"/instances?SOPClassUID={mr.SOPClassUID}"), "SOPInstanceUID") == {mr.SOPInstanceUID}
    path = f"/studies/{mr.StudyInstanceUID}/instances"
    assert len(http.get(path, params={"InstanceNumber": "2"}).json()) == 1
    assert len(http.get(path, params={"PatientName": "test*"}).json()) == 4


def test_a_key_inside_a_sequence_matches_by_its_path(http, store):

    item = Dataset()
    item.ScheduledProcedureStepID = "SPS7"
    item.RequestedProcedureID = "RP7"
    wanted = build_ct(RequestAttributesSequence=Sequence([item]))
    store(wanted, build_ct())
    for name in ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"):
        assert uids(http.get("/series", params={name: "SPS7"})) == {wanted.StudyInstanceUID}


def test_more_results_are_announced_and_can_be_paged(http, store):
    store(*build_series(5))
    first = http.get("/instances?limit=2")
    assert len(first.json()) == 2
    assert first.headers["warning"].startswith("299 ")
    rest = http.get("/instances?limit=10&offset=2")
    assert "warning" not in rest.headers
    assert len(uids(first, "SOPInstanceUID") | uids(rest, "SOPInstanceUID")) == 5
    assert http.get("/instances?offset=5").status_code == 204


def test_included_fields_are_returned_even_if_the_index_does_not_know_them(http, study):
    path = "/instances?includefield=PixelSpacing,00181030&includefield=KVP&SOPClassUID=" + study[0].SOPClassUID
    match = http.get(path).json()[0]
    assert values_of(match, "PixelSpacing") == [0.5, 0.5]
    assert values_of(match, "KVP") == [120]


def test_all_fields_of_a_study_and_an_instance(http, study):
    (match,) = http.get("/studies?includefield=all").json()
    assert values_of(match, "PatientAge") == ["054Y"]
    assert tag_of("Modality") not in match
    for match in http.get("/instances?includefield=all").json():
        assert values_of(match, "PhotometricInterpretation") == ["MONOCHROME2"]
        bulk = match[tag_of("PixelData")]["BulkDataURI"]
        assert http.get(bulk).status_code == 200


def test_what_cannot_be_matched_is_a_warning_that_names_it(shared_http, fatima):
    response = shared_http.get("/studies?PixelSpacing=CANARY&fuzzymatching=true&PatientID=F-1")
    assert response.status_code == 200
    warnings = response.headers.get_list("warning")
    assert len(warnings) == 2
    assert any("PixelSpacing" in warning for warning in warnings)
    assert any("fuzzymatching" in warning for warning in warnings)
    assert "CANARY" not in str(response.headers)


@pytest.mark.parametrize(
    "query",
    ["StudyDate=yesterday", "limit=-1", "offset=x", "StudyInstanceUID=1.x", "StudyTime=99", "PatientName=%ff"],
)
def test_malformed_values_are_bad_requests(shared_http, query):
    response = shared_http.get(f"/studies?{query}")
    assert response.status_code == 400
    assert query.split("=")[1] not in response.text


def test_a_malformed_uid_in_the_address_is_a_bad_request(shared_http):
    assert shared_http.get("/studies/1.2.x/series").status_code == 400


def test_missing_dates_match_no_range(http, store):
    store(build_ct(StudyDate=None))
    assert http.get("/studies?StudyDate=19000101-20991231").status_code == 204


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("*/*", "application/dicom+json"),
    ],
)
def test_media_types(shared_http, fatima, accept, content_type):
    response = shared_http.get("/studies", headers={"Accept": accept})
    assert response.headers["content-type"] == content_type


def test_the_accept_parameter_goes_before_the_header(shared_http, fatima):
    response = shared_http.get("/studies?accept=application/json", headers={"Accept": "text/html"})
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("accept", ['multipart/related; type="application/dicom+xml"', "text/html"])
def test_a_form_that_is_not_given_is_not_acceptable(shared_http, fatima, accept):
    assert shared_http.get("/studies", headers={"Accept": accept}).status_code == 406


def test_arabic_and_accents_are_found_and_answered_in_utf_8(http, store):
    wanted = build_unicode()
    store(wanted, build_ct())
    for name in ("قباني*", "%D9%82%D8%A8%D8%A7%D9%86%D9%8A*"):
        assert uids(http.get(f"/studies?PatientName={name}")) == {wanted.StudyInstanceUID}
    (match,) = http.get(f"/studies?StudyInstanceUID={wanted.StudyInstanceUID}").json()
    assert values_of(match, "PatientName")[0]["Alphabetic"] == "قباني^لنزار"
    assert text_of(match, "StudyDescription") == "Étude thoracique سينية"


def test_an_unknown_study_has_no_series(http, study):
    assert http.get(f"/studies/{new_uid()}/series").status_code == 204
