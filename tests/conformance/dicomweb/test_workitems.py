"""UPS-RS, the Worklist Service (PS3.18 11), transaction by transaction, with a plain HTTP client."""

import xml.etree.ElementTree as ET

import pytest

from pacs.tags import tag_of
from tests.builders import new_uid
from tests.work_items import (
    build_change,
    build_discontinued,
    build_performed,
    build_workitem,
    data_set,
    element,
)

JSON = {"Content-Type": "application/dicom+json"}
STATE, LOCK, INSTANCE, LABEL = "00741000", "00081195", "00080018", "00741204"
ALL_ITEMS, FILTERED_ITEMS = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"
KEY = "2.25.7531"


def value(data_set, keyword):
    return data_set[tag_of(keyword)].get("Value", [None])[0]


@pytest.fixture
def http(shared_http):
    """One archive for all tests: each makes items of its own."""
    return shared_http


@pytest.fixture
def service(http):
    return str(http.base_url).rstrip("/")


@pytest.fixture
def create(http):
    def create_item(status=201, uid=None, **overrides):
        uid = uid or new_uid()
        response = http.post(f"/workitems?{uid}", json=build_workitem(**overrides), headers=JSON)
        assert response.status_code == status, response.text
        return uid

    return create_item


@pytest.fixture
def change(http):
    def change_state(uid, state, key=KEY, status=200):
        response = http.put(f"/workitems/{uid}/state", json=build_change(state, key), headers=JSON)
        assert response.status_code == status, response.text
        return response

    return change_state


@pytest.fixture
def update(http):
    def update_item(uid, payload, key=None, status=200):
        address = f"/workitems/{uid}" + (f"?{key}" if key else "")
        response = http.post(address, json=payload, headers=JSON)
        assert response.status_code == status, response.text
        return response

    return update_item


@pytest.fixture
def get(http):
    def get_item(uid):
        response = http.get(f"/workitems/{uid}", headers={"Accept": "application/dicom+json"})
        assert response.status_code == 200, response.text
        return response.json()

    return get_item


# Create, 11.4


def test_item_is_created_where_the_address_says_and_retrieved(http, service, create, get):
    uid = new_uid()
    response = http.post(f"/workitems?{uid}", json=build_workitem(), headers=JSON)
    assert response.status_code == 201
    assert response.content == b""
    assert response.headers["location"] == f"{service}/workitems/{uid}"
    assert "warning" not in response.headers
    item = get(uid)
    assert value(item, "SOPInstanceUID") == uid
    assert value(item, "SOPClassUID") == "1.2.840.10008.5.1.4.34.6.1"
    assert value(item, "ProcedureStepState") == "SCHEDULED"
    assert value(item, "PatientName") == {"Alphabetic": "Bénali^Omar"}
    assert value(item, "ScheduledProcedureStepModificationDateTime").endswith("+0000")
    assert item["00380010"] == {"vr": "LO"}  # type 2, left out
    assert value(item, "SpecificCharacterSet") == "ISO_IR 192"


@pytest.mark.parametrize("form", ["?workitem={}", "?AffectedSOPInstanceUID={}", "?{}"])
def test_uid_of_a_new_item_may_be_given_in_any_form(http, get, form):
    uid = new_uid()
    assert http.post(f"/workitems{form.format(uid)}", json=build_workitem(), headers=JSON).status_code == 201
    assert value(get(uid), "SOPInstanceUID") == uid


def test_uid_of_a_new_item_may_be_in_the_payload(http, get):
    uid = new_uid()
    payload = [build_workitem(SOPInstanceUID=uid)]
    assert http.post("/workitems", json=payload, headers=JSON).status_code == 201
    assert get(uid)
    other = http.post(f"/workitems?{new_uid()}", json=payload[0], headers=JSON)
    assert other.status_code == 400


def test_new_item_without_a_uid_gets_one(http, service):
    response = http.post("/workitems", json=build_workitem(), headers=JSON)
    assert response.status_code == 201
    assert response.headers["location"].startswith(f"{service}/workitems/2.25.")
    assert http.get(response.headers["location"]).status_code == 200


def test_item_that_was_completed_by_us_says_so(http, service, create, get):
    uid = new_uid()
    response = http.post(f"/workitems?{uid}", json=build_workitem(WorklistLabel=None), headers=JSON)
    assert response.headers["warning"] == f"299 {service}: The Workitem was created with modifications."
    assert value(get(uid), "WorklistLabel") == "DEFAULT"


def test_second_item_under_the_same_uid_is_a_conflict(create):
    uid = create()
    create(status=409, uid=uid)


@pytest.mark.parametrize(
    "keyword",
    [
        "ProcedureStepState",
        "ScheduledProcedureStepPriority",
        "ProcedureStepLabel",
        "InputReadinessState",
        "ScheduledProcedureStepStartDateTime",
    ],
)
def test_new_item_without_what_is_type_1_is_refused_in_one_sentence(http, keyword):
    uid = new_uid()
    response = http.post(f"/workitems?{uid}", json=build_workitem(**{keyword: None}), headers=JSON)
    assert response.status_code == 400
    assert keyword in response.json()["message"]
    assert http.get(f"/workitems/{uid}").status_code == 404


@pytest.mark.parametrize(
    "overrides",
    [
        {"ProcedureStepState": "IN PROGRESS"},
        {"ProcedureStepState": "COMPLETED"},
        {"TransactionUID": "2.25.1"},
        {"ProcedureStepProgressInformationSequence": [data_set(ProcedureStepProgress="10")]},
        {"UnifiedProcedureStepPerformedProcedureSequence": [data_set(PerformedProcedureStepDescription="x")]},
        {"ScheduledProcedureStepPriority": "URGENT"},
        {"InputReadinessState": "CANARY"},
        {"ScheduledProcedureStepStartDateTime": "CANARY"},
        {"ReferencedRequestSequence": [data_set(AccessionNumber="A1")]},
        {"ScheduledHumanPerformersSequence": [data_set(HumanPerformerName="CANARY^PHI")]},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_new_item_that_the_table_forbids_is_refused_without_its_value(http, overrides):
    response = http.post(f"/workitems?{new_uid()}", json=build_workitem(**overrides), headers=JSON)
    assert response.status_code == 400
    assert "CANARY" not in response.text


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b"[{}, {}]", "application/dicom+json", 400),
        (b"[[[[]]]]", "application/dicom+json", 400),
        (b'{"00081195": 5, "00080018": [1], "00741000": {"vr": "CS", "Value": {}}}', "application/dicom+json", 400),
        (b'{"CANARY": {"vr": "LO"}}', "application/dicom+json", 400),
        (b"<CANARY/>", "application/dicom+xml", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b" " * (1024 * 1024 + 1), "application/dicom+json", 413),
    ],
)
def test_body_that_is_no_data_set_is_refused(http, content, content_type, status):
    response = http.post("/workitems", content=content, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert "CANARY" not in response.text


def test_item_goes_in_and_out_as_xml(http):
    uid = new_uid()
    body = (
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        '<DicomAttribute tag="00741000" vr="CS"><Value number="1">SCHEDULED</Value></DicomAttribute>'
        '<DicomAttribute tag="00741200" vr="CS"><Value number="1">HIGH</Value></DicomAttribute>'
        '<DicomAttribute tag="00741204" vr="LO"><Value number="1">Écho</Value></DicomAttribute>'
        '<DicomAttribute tag="00404041" vr="CS"><Value number="1">READY</Value></DicomAttribute>'
        '<DicomAttribute tag="00404005" vr="DT"><Value number="1">20260706</Value></DicomAttribute>'
        "</NativeDicomModel>"
    )
    headers = {"Content-Type": "application/dicom+xml"}
    assert http.post(f"/workitems?{uid}", content=body.encode(), headers=headers).status_code == 201
    response = http.get(f"/workitems/{uid}", headers={"Accept": "application/dicom+xml"})
    assert response.headers["content-type"] == "application/dicom+xml"
    values = {one.get("keyword"): one.findtext("{*}Value") for one in ET.fromstring(response.content)}
    assert values["ProcedureStepLabel"] == "Écho"
    assert values["ProcedureStepState"] == "SCHEDULED"
    accept = {"Accept": 'multipart/related; type="application/dicom+xml"'}
    response = http.get("/workitems", params={"SOPInstanceUID": uid}, headers=accept)
    assert response.headers["content-type"].startswith('multipart/related; type="application/dicom+xml"; boundary=')
    assert response.content.count(b"<NativeDicomModel") == 1


# Retrieve, 11.5


def test_unknown_item_is_not_found(http):
    assert http.get(f"/workitems/{new_uid()}").status_code == 404
    assert http.get("/workitems/CANARY").status_code == 400
    assert http.post(f"/workitems/{new_uid()}", json={}, headers=JSON).status_code == 404
    assert http.put(f"/workitems/{new_uid()}/state", json=build_change("COMPLETED"), headers=JSON).status_code == 404
    assert http.put(f"/workitems/{new_uid()}/state", json=build_change("IN PROGRESS"), headers=JSON).status_code == 404
    assert http.post(f"/workitems/{new_uid()}/cancelrequest").status_code == 404
    assert http.post(f"/workitems/{new_uid()}/subscribers/AE").status_code == 404
    assert http.delete(f"/workitems/{new_uid()}/subscribers/AE").status_code == 404


def test_item_in_a_form_that_it_is_not_given_in_is_406(http, create):
    assert http.get(f"/workitems/{create()}", headers={"Accept": "image/jpeg"}).status_code == 406


def test_lock_is_never_shown(http, create, change, update):
    uid = create()
    change(uid, "IN PROGRESS")
    update(uid, data_set(ProcedureStepLabel="x"), KEY)
    answers = [
        http.get(f"/workitems/{uid}"),
        http.get(f"/workitems/{uid}", headers={"Accept": "application/dicom+xml"}),
        http.get("/workitems", params={"includefield": "all"}),
        http.get("/workitems", params={"includefield": "TransactionUID"}),
        http.get("/workitems", params={"TransactionUID": KEY}),
    ]
    for answer in answers:
        assert KEY not in answer.text
        assert answer.status_code == 400 or LOCK not in answer.text
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400]


# Update, 11.6


def test_scheduled_item_is_updated_without_a_lock(create, update, get):
    uid = create()
    before = value(get(uid), "ScheduledProcedureStepModificationDateTime")
    response = update(uid, data_set(ProcedureStepLabel="Other", ExpectedCompletionDateTime="20260707"))
    assert response.content == b""
    assert "warning" not in response.headers
    item = get(uid)
    assert value(item, "ProcedureStepLabel") == "Other"
    assert value(item, "ExpectedCompletionDateTime") == "20260707"
    assert value(item, "PatientID") == "P1"
    assert value(item, "ScheduledProcedureStepModificationDateTime") > before


def test_unclaimed_item_is_not_updated_with_a_lock(create, update):
    response = update(create(), data_set(ProcedureStepLabel="x"), KEY, status=409)
    assert response.headers["warning"].endswith(": The target URI did not reference a claimed Workitem.")


@pytest.mark.parametrize(
    ("key", "warning"), [(None, "The Transaction UID is missing."), ("2.25.2", "The Transaction UID is incorrect.")]
)
def test_claimed_item_is_updated_by_its_holder_only(create, change, update, get, key, warning):
    uid = create()
    change(uid, "IN PROGRESS")
    response = update(uid, data_set(ProcedureStepLabel="x"), key, status=409)
    assert response.headers["warning"].endswith(f": {warning}")
    assert value(get(uid), "ProcedureStepLabel") == "Read the chest"
    update(uid, data_set(ProcedureStepLabel="x"), KEY)
    assert value(get(uid), "ProcedureStepLabel") == "x"


def test_lock_of_an_update_may_be_in_the_payload(create, change, update, get):
    uid = create()
    change(uid, "IN PROGRESS")
    update(uid, data_set(ProcedureStepLabel="x", TransactionUID=KEY))
    assert value(get(uid), "ProcedureStepLabel") == "x"


@pytest.mark.parametrize("final", ["COMPLETED", "CANCELED"])
def test_ended_item_is_not_updated(create, change, update, final):
    uid = create()
    change(uid, "IN PROGRESS")
    update(uid, build_performed() | build_discontinued(), KEY)
    change(uid, final)
    response = update(uid, data_set(ProcedureStepLabel="x"), KEY, status=400)
    assert "inconsistent with the current state" in response.headers["warning"]


@pytest.mark.parametrize(
    "payload",
    [
        element("PatientName", "CANARY^PHI"),
        element("PatientID", "CANARY"),
        element("PatientBirthDate", "19700101"),
        element("AdmissionID", "CANARY"),
        element("ReferencedRequestSequence", data_set(StudyInstanceUID="1.2.4")),
        element("ProcedureStepLabel"),
        element("ScheduledProcedureStepPriority"),
        element("ScheduledProcedureStepStartDateTime", "CANARY"),
        element("ProcedureStepProgressInformationSequence", element("ProcedureStepProgress")),
    ],
    ids=str,
)
def test_update_that_the_table_forbids_is_refused_without_its_value(create, update, get, payload):
    uid = create()
    before = get(uid)
    assert "CANARY" not in update(uid, payload, status=400).text
    assert get(uid) == before


def test_update_may_repeat_what_cannot_change(create, update, get):
    uid = create()
    item = get(uid)
    item["00741204"]["Value"] = ["Other"]
    response = update(uid, item)
    assert response.headers["warning"].endswith(": The Workitem was updated with modifications.")
    assert value(get(uid), "ProcedureStepLabel") == "Other"


def test_state_is_not_changed_by_an_update(create, update, get):
    uid = create()
    update(uid, data_set(ProcedureStepState="COMPLETED", ProcedureStepLabel="x"))
    assert value(get(uid), "ProcedureStepState") == "SCHEDULED"


def test_item_does_not_grow_without_bound(create, update):
    uid = create()
    for keyword in ("TextValue", "CommentsOnTheScheduledProcedureStep"):
        payload = data_set(**{keyword: "x" * 600_000})
        last = update(uid, payload, status=200 if keyword == "TextValue" else 400)
    assert "too large" in last.json()["message"]


# Change state, 11.7


def test_item_is_claimed_performed_and_completed(create, change, update, get):
    uid = create()
    assert change(uid, "IN PROGRESS").content == b""
    assert value(get(uid), "ProcedureStepState") == "IN PROGRESS"
    update(uid, build_performed(), KEY)
    assert "warning" not in change(uid, "COMPLETED").headers
    assert value(get(uid), "ProcedureStepState") == "COMPLETED"
    again = change(uid, "COMPLETED")
    assert again.headers["warning"].endswith(": The UPS is already in the requested state of COMPLETED.")


def test_scheduled_item_is_not_completed_without_being_claimed(create, change, get):
    uid = create()
    assert "inconsistent" in change(uid, "COMPLETED", status=409).headers["warning"]
    assert "inconsistent" in change(uid, "CANCELED", status=409).headers["warning"]
    assert value(get(uid), "ProcedureStepState") == "SCHEDULED"


@pytest.mark.parametrize("state", ["SCHEDULED", "CANCELLED", "completed", "CANARY", None])
def test_state_that_cannot_be_asked_for_is_refused(create, change, state):
    assert "CANARY" not in change(create(), state, status=400).text


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELED"])
@pytest.mark.parametrize(
    ("key", "warning"), [(None, "The Transaction UID is missing."), ("2.25.2", "The Transaction UID is incorrect.")]
)
def test_item_is_ended_by_its_holder_only(create, change, update, get, state, key, warning):
    uid = create()
    change(uid, "IN PROGRESS")
    update(uid, build_performed() | build_discontinued(), KEY)
    response = change(uid, state, key, status=409)
    assert response.headers["warning"].endswith(f": {warning}")
    assert value(get(uid), "ProcedureStepState") == "IN PROGRESS"


def test_claimed_item_is_not_claimed_again(create, change):
    uid = create()
    change(uid, "IN PROGRESS")
    change(uid, "IN PROGRESS", "2.25.2", status=409)
    change(uid, "IN PROGRESS", status=409)


def test_claim_without_a_lock_is_refused(create, change, get):
    uid = create()
    response = change(uid, "IN PROGRESS", None, status=409)
    assert response.headers["warning"].endswith(": The Transaction UID is missing.")
    assert change(uid, "IN PROGRESS", "CANARY", status=400)
    assert value(get(uid), "ProcedureStepState") == "SCHEDULED"


@pytest.mark.parametrize(
    "keyword",
    [
        "PerformedStationNameCodeSequence",
        "PerformedProcedureStepStartDateTime",
        "PerformedWorkitemCodeSequence",
        "PerformedProcedureStepEndDateTime",
        "OutputInformationSequence",
    ],
)
def test_item_is_not_completed_without_what_its_final_state_needs(create, change, update, get, keyword):
    uid = create()
    change(uid, "IN PROGRESS")
    assert "UnifiedProcedureStepPerformedProcedureSequence" in change(uid, "COMPLETED", status=409).text
    update(uid, build_performed(**{keyword: None}), KEY)
    assert keyword in change(uid, "COMPLETED", status=409).json()["message"]
    assert value(get(uid), "ProcedureStepState") == "IN PROGRESS"


def test_item_is_canceled_by_its_holder_with_a_reason(create, change, update, get):
    uid = create()
    change(uid, "IN PROGRESS")
    assert "ProcedureStepProgressInformationSequence" in change(uid, "CANCELED", status=409).json()["message"]
    update(uid, build_discontinued(), KEY)
    change(uid, "CANCELED")
    item = get(uid)
    assert value(item, "ProcedureStepState") == "CANCELED"
    progress = value(item, "ProcedureStepProgressInformationSequence")
    assert value(progress, "ProcedureStepCancellationDateTime").endswith("+0000")  # filled in by us
    assert change(uid, "CANCELED").headers["warning"].endswith("already in the requested state of CANCELED.")
    change(uid, "COMPLETED", status=409)


# Request cancellation, 11.8


def test_request_cancels_what_nobody_began(http, create, get):
    uid = create()
    payload = data_set(ReasonForCancellation="Wrong patient", ContactDisplayName="Desk", ContactURI="tel:+100")
    response = http.post(f"/workitems/{uid}/cancelrequest", json=payload, headers=JSON)
    assert response.status_code == 202
    item = get(uid)
    assert value(item, "ProcedureStepState") == "CANCELED"
    progress = value(item, "ProcedureStepProgressInformationSequence")
    assert value(progress, "ReasonForCancellation") == "Wrong patient"
    assert value(value(progress, "ProcedureStepDiscontinuationReasonCodeSequence"), "CodeValue") == "110513"
    again = http.post(f"/workitems/{uid}/cancelrequest")
    assert again.status_code == 202
    assert again.headers["warning"].endswith(": The UPS is already in the requested state of CANCELED.")


def test_request_does_not_cancel_what_somebody_performs(http, create, change, get):
    uid = create()
    change(uid, "IN PROGRESS")
    assert http.post(f"/workitems/{uid}/cancelrequest").status_code == 202
    assert value(get(uid), "ProcedureStepState") == "IN PROGRESS"


def test_completed_item_is_not_canceled(http, create, change, update):
    uid = create()
    change(uid, "IN PROGRESS")
    update(uid, build_performed(), KEY)
    change(uid, "COMPLETED")
    assert http.post(f"/workitems/{uid}/cancelrequest").status_code == 409


def test_page_of_another_site_may_not_cancel_or_subscribe(http, create, get):
    uid = create()
    foreign = {"Origin": "https://elsewhere.example"}
    assert http.post(f"/workitems/{uid}/cancelrequest", headers=foreign).status_code == 403
    assert http.post(f"/workitems/{uid}/subscribers/AE", headers=foreign).status_code == 403
    assert http.post(f"/workitems/{uid}/cancelrequest", headers={"Origin": "null"}).status_code == 403
    assert value(get(uid), "ProcedureStepState") == "SCHEDULED"
    own = {"Origin": str(http.base_url).removesuffix("/dicom-web/")}
    assert http.post(f"/workitems/{uid}/cancelrequest", headers=own).status_code == 202


# Subscribe, unsubscribe, suspend: 11.10 to 11.12


def test_subscriptions_are_made_and_ended(http, service, create):
    uid = create()
    response = http.post(f"/workitems/{uid}/subscribers/AI 1", params={"deletionlock": "true"})
    assert response.status_code == 201
    assert response.headers["content-location"] == f"{service.replace('http', 'ws')}/subscribers/AI%201"
    assert http.post(f"/workitems/{uid}/subscribers/AI 1").status_code == 201
    assert http.delete(f"/workitems/{uid}/subscribers/AI 1").status_code == 200
    assert http.delete(f"/workitems/{uid}/subscribers/AI 1").status_code == 404


@pytest.mark.parametrize("worklist", [ALL_ITEMS, FILTERED_ITEMS])
def test_subscription_to_the_worklist_is_suspended_and_ended(http, create, worklist):
    uid = create()
    title = f"S{worklist[-1]}"
    address = f"/workitems/{worklist}/subscribers/{title}"
    assert http.delete(address).status_code == 404
    assert http.post(f"{address}/suspend").status_code == 404
    assert http.post(address, params={"filter": "WorklistLabel=READING"}).status_code == 201
    assert http.post(f"{address}/suspend").status_code == 200
    assert http.post(f"{address}/suspend").status_code == 404
    later = create()
    assert http.delete(f"/workitems/{later}/subscribers/{title}").status_code == 404  # suspended before it came
    assert http.delete(f"/workitems/{uid}/subscribers/{title}").status_code == 200
    assert http.delete(address).status_code in (200, 404)  # what other tests made may be subscribed to
    assert http.delete(address).status_code == 404


def test_unsubscribing_from_the_worklist_ends_every_subscription(http, create):
    uid = create()
    http.post(f"/workitems/{uid}/subscribers/AI")
    assert http.delete(f"/workitems/{ALL_ITEMS}/subscribers/AI").status_code == 200
    assert http.delete(f"/workitems/{uid}/subscribers/AI").status_code == 404


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("{}/subscribers/AE", {"deletionlock": "CANARY"}),
        ("{}/subscribers/CANARYCANARYCANARY", {}),
        ("{}/subscribers/CANARY%5CX", {}),
        ("{}/subscribers/AE/suspend", {}),
        (f"{FILTERED_ITEMS}/subscribers/AE", {}),
        (f"{FILTERED_ITEMS}/subscribers/AE", {"filter": "CANARY"}),
        (f"{FILTERED_ITEMS}/subscribers/AE", {"filter": "Nonsense=CANARY"}),
        (f"{FILTERED_ITEMS}/subscribers/AE", {"filter": "PatientBirthDate=CANARY"}),
    ],
)
def test_subscription_that_makes_no_sense_is_400(http, create, path, params):
    response = http.post(f"/workitems/{path.format(create())}", params=params)
    assert response.status_code == 400
    assert "CANARY" not in response.text


def test_subscribers_are_bounded(http, create):
    uid = create()
    for number in range(100):
        assert http.post(f"/workitems/{uid}/subscribers/AE{number}").status_code == 201
    assert http.post(f"/workitems/{uid}/subscribers/ONE_MORE").status_code == 403
    assert http.post(f"/workitems/{uid}/subscribers/AE5").status_code == 201


def test_plain_get_of_the_event_channel_asks_for_an_upgrade(http):
    response = http.get("/subscribers/AE")
    assert response.status_code == 426
    assert response.headers["upgrade"] == "websocket"
