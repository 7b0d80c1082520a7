"""Hidden instances over HTTP: listing them and showing them again."""

import pytest

from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct
from tests.key_objects import QUALITY, build_key_objects


@pytest.fixture
def rejected(archive):
    """A study of one image, and the note that rejected it."""
    image = build_ct()
    note = build_key_objects(QUALITY, [image])
    for dataset in (image, note):
        with archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, calling_ae_title="CT1", may_reject=True)))
    return image, note


def test_hidden_instances_are_listed_with_reason_and_author_and_without_patient(root, rejected):
    image, note = rejected
    response = root.get("/withheld")
    listed = {entry["sop_instance_uid"]: entry for entry in response.json()}
    assert listed.keys() == {image.SOPInstanceUID, note.SOPInstanceUID}
    entry = listed[image.SOPInstanceUID]
    assert (entry["reason"], entry["by"], entry["note_sop_instance_uid"]) == ("quality", "CT1", note.SOPInstanceUID)
    assert listed[note.SOPInstanceUID]["is_note"]
    assert image.PatientID not in response.text
    assert str(image.PatientName) not in response.text


def test_list_is_filtered_and_paged(root, rejected):
    image, note = rejected
    assert root.get("/withheld", params={"study": "2.25.1"}).json() == []
    assert len(root.get("/withheld", params={"note": note.SOPInstanceUID}).json()) == 2
    (first,) = root.get("/withheld", params={"limit": 1, "study": image.StudyInstanceUID}).json()
    (second,) = root.get("/withheld", params={"after": first["id"]}).json()
    assert second["id"] > first["id"]


@pytest.mark.parametrize("query", ["study=../x", "limit=-1", "limit=x", "after=" + "9" * 5000, "other=1"])
def test_wrong_filters_are_refused(root, query):
    assert root.get(f"/withheld?{query}").status_code == 400


@pytest.mark.parametrize("which", [0, 1])
def test_restoring_the_instance_or_its_note_shows_it_again(root, http, rejected, which):
    uid = rejected[which].SOPInstanceUID
    assert root.post("/withheld/restore", json={"sop_instance_uid": uid}).json() == {"count": 1}
    found = http.get(f"/studies/{rejected[0].StudyInstanceUID}/instances").json()
    assert [one["00080018"]["Value"] for one in found] == [[rejected[0].SOPInstanceUID]]


def test_what_is_not_hidden_cannot_be_restored(root, rejected):
    assert root.post("/withheld/restore", json={"sop_instance_uid": "2.25.1"}).status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"sop_instance_uid": "x"}', b'{"sop_instance_uid": "1.2", "more": 1}']
)
def test_order_that_says_nothing_clear_is_refused(root, body):
    response = root.post("/withheld/restore", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
