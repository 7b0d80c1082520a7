"""QIDO-RS (PS3.18 10.6)."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.tags import tag_of, text_of, values_of
from tests.builders import as_part10, build_ct, build_mr, build_multiframe, build_series, build_unicode, new_uid
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


def test_a_study_without_any_modality_is_answered_without_modalities(http):
    stray = build_ct(PatientID="STRAY")
    del stray.Modality
    answer = http.post("/studies", content=multipart_body(as_part10(stray)), headers={"Content-Type": MULTIPART_DICOM})
    assert answer.status_code == 200
    (match,) = http.get("/studies", params={"PatientID": "STRAY"}).json()
    assert tag_of("ModalitiesInStudy") not in match
    (match,) = http.get("/studies", params={"PatientID": "STRAY", "includefield": "ModalitiesInStudy"}).json()
    assert match[tag_of("ModalitiesInStudy")] == {"vr": "CS"}


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


@pytest.mark.parametrize(
    "path",
    [
        "/studies",
        "/series",
        "/instances",
        "/studies/{0.StudyInstanceUID}/series",
        "/studies/{0.StudyInstanceUID}/instances",
        "/studies/{0.StudyInstanceUID}/series/{0.SeriesInstanceUID}/instances",
    ],
)
@pytest.mark.parametrize("with_header", ["", "?includefield=KVP"])
def test_character_set_zone_availability_and_address_are_in_every_answer(http, store, service, path, with_header):
    dataset = build_unicode(TimezoneOffsetFromUTC="+0100")
    store(dataset)
    (match,) = http.get(path.format(dataset) + with_header).json()
    assert text_of(match, "SpecificCharacterSet") == "ISO_IR 192"
    assert text_of(match, "TimezoneOffsetFromUTC") == "+0100"
    assert text_of(match, "InstanceAvailability") == "ONLINE"
    assert text_of(match, "RetrieveURL").startswith(f"{service}/studies/{dataset.StudyInstanceUID}")


def test_attributes_that_are_returned_if_known_are_not_there_if_not(http, study):
    for path in ("/studies", "/series", "/instances"):
        match = http.get(path).json()[0]
        for keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC", "RequestAttributesSequence"):
            assert tag_of(keyword) not in match


def test_conditional_attributes_of_a_series_and_an_instance(http, store):
    item = Dataset()
    item.ScheduledProcedureStepID = "SPS7"
    item.RequestedProcedureID = "RP7"
    dataset = build_multiframe(
        3,
        RequestAttributesSequence=Sequence([item]),
        SeriesDescription="Loop",
        PerformedProcedureStepStartDate="20240229",
        PerformedProcedureStepStartTime="115900",
    )
    store(dataset)
    (match,) = http.get(f"/studies/{dataset.StudyInstanceUID}/series").json()
    assert text_of(match, "SeriesDescription") == "Loop"
    assert text_of(match, "PerformedProcedureStepStartDate") == "20240229"
    assert text_of(match, "PerformedProcedureStepStartTime") == "115900"
    (request,) = values_of(match, "RequestAttributesSequence")
    assert text_of(request, "ScheduledProcedureStepID") == "SPS7"
    assert text_of(request, "RequestedProcedureID") == "RP7"
    (match,) = http.get("/instances").json()
    assert values_of(match, "NumberOfFrames") == [3]


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


@pytest.mark.parametrize("level", ["/studies", "/series", "/instances"])
def test_a_key_inside_a_sequence_matches_at_every_level_within_one_item(http, store, level):
    def request(step, procedure):
        item = Dataset()
        item.ScheduledProcedureStepID = step
        item.RequestedProcedureID = procedure
        return item

    wanted = build_ct(RequestAttributesSequence=Sequence([request("S1", "P1"), request("S2", "P2")]))
    store(wanted, build_ct(RequestAttributesSequence=Sequence([request("S3", "P2")])))
    step, procedure = "RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00401001"
    assert uids(http.get(level, params={step: "S2", procedure: "P2"})) == {wanted.StudyInstanceUID}
    assert uids(http.get(level, params={step: "S1", procedure: "P2"})) == set()


def test_one_patient_id_of_two_issuers_is_two_patients_and_each_study_keeps_its_name(http, store):
    stored = [
        build_ct(PatientID="1", PatientName="First^Name", IssuerOfPatientID="A"),
        build_ct(PatientID="1", PatientName="Other^Name", IssuerOfPatientID="B"),
        build_ct(PatientID="1", PatientName="Married^Name", IssuerOfPatientID="A"),
    ]
    store(*stored)
    matches = http.get("/studies?PatientID=1&includefield=IssuerOfPatientID").json()
    assert {
        text_of(match, "StudyInstanceUID"): (text_of(match, "PatientName"), text_of(match, "IssuerOfPatientID"))
        for match in matches
    } == {one.StudyInstanceUID: (str(one.PatientName), one.IssuerOfPatientID) for one in stored}
    found = http.get("/studies?PatientID=1&IssuerOfPatientID=A")
    assert uids(found) == {stored[0].StudyInstanceUID, stored[2].StudyInstanceUID}


def test_studies_without_a_patient_id_are_each_found_under_their_own_name(http, store):
    first, second = build_ct(PatientID="", PatientName="First^Name"), build_ct(PatientID="", PatientName="Second^Name")
    store(first, second)
    assert uids(http.get("/studies?PatientName=first*")) == {first.StudyInstanceUID}
    both = http.get("/studies", params={"PatientID": '""', "emptyvaluematching": "true"})
    assert uids(both) == {first.StudyInstanceUID, second.StudyInstanceUID}


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


def test_private_and_nested_fields_are_returned_if_asked_for(http, store):
    dataset = build_mr()
    store(dataset)
    (match,) = http.get("/instances?includefield=00291008&includefield=ProcedureCodeSequence.CodeValue").json()
    assert match["00291008"]["Value"] == ["IMAGE NUM 4"]
    (item,) = values_of(match, "ProcedureCodeSequence")
    assert text_of(item, "CodeValue") == "77477000"


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
    assert len(warnings) == 1
    assert "PixelSpacing" in warnings[0]
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


def test_missing_and_unparsable_dates_match_no_range(http, store):
    unparsable = (b"20240230", b"2024#   ", b"yesterda", b"        ")
    store(*(as_part10(build_ct()).replace(b"20240229", date) for date in unparsable))
    store(build_ct(StudyDate=None), build_ct(StudyDate=""))
    for wanted in ("19000101-20991231", "-20991231", "19000101-", "20240229"):
        assert http.get("/studies", params={"StudyDate": wanted}).status_code == 204
    assert len(http.get("/studies").json()) == 6


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


@pytest.mark.parametrize("accept", ['multipart/related; type="application/dicom"', "text/html"])
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
