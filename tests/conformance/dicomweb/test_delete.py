"""DELETE over HTTP: for who may, of what is there, gone from every answer at once, and back if it was a mistake."""

import logging

import pytest

from dicomweb.app import create_app
from pacs.access import LOCAL, Principal
from pacs.errors import NotPermitted
from pacs.ingest.incoming import Incoming
from pacs.model import Door, Level, Origin
from pacs.query import Equals, Query
from tests.builders import as_part10, build_series, new_uid
from tests.key_objects import QUALITY, build_key_objects


@pytest.fixture
def service(server, archive):
    """The address of a service that may be deleted from."""
    switch, address = server
    switch.app = create_app(archive, is_ready=dict, may_delete=True)
    return f"{address}/dicom-web"


def address_of(dataset, level="instance"):
    address = f"/studies/{dataset.StudyInstanceUID}"
    if level != "study":
        address += f"/series/{dataset.SeriesInstanceUID}"
    return address if level != "instance" else f"{address}/instances/{dataset.SOPInstanceUID}"


def push(archive, dataset, **origin):
    """Store by C-STORE, as far as the archive can tell."""
    with archive.ingest.open_spool() as spool:
        spool.write(as_part10(dataset))
        outcome = archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, **origin)))
    assert outcome.is_stored, outcome
    return outcome


def shown(http, study):
    """Return the SOP Instance UIDs that a search finds."""
    answer = http.get(f"/studies/{study}/instances")
    return {one["00080018"]["Value"][0] for one in answer.json()} if answer.status_code == 200 else set()


@pytest.fixture
def study(store):
    """Two series of two instances each, stored; the datasets."""
    uid = new_uid()
    datasets = [*build_series(2, StudyInstanceUID=uid), *build_series(2, StudyInstanceUID=uid)]
    store(*datasets)
    return datasets


def test_without_the_permission_nothing_is_deleted(server, archive, http, study):
    server[0].app = create_app(archive, is_ready=dict)
    for level in ("study", "series", "instance"):
        answer = http.delete(address_of(study[0], level))
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"] == "NotPermitted"
    assert http.delete(f"/studies/{new_uid()}").status_code == 403  # nor is it told what is there
    assert len(shown(http, study[0].StudyInstanceUID)) == 4


def test_the_use_case_itself_asks_for_the_permission(archive, study):
    with pytest.raises(NotPermitted):
        archive.withhold.withhold(Principal("somebody"), study[0].StudyInstanceUID)
    assert archive.withhold.withhold(LOCAL, study[0].StudyInstanceUID) == 4


@pytest.mark.parametrize(("level", "left"), [("study", []), ("series", [2, 3]), ("instance", [1, 2, 3])])
def test_what_is_deleted_is_gone_from_every_answer_and_nothing_else_is(archive, http, study, level, left):
    first, uid = study[0], study[0].StudyInstanceUID
    assert http.get(address_of(first)).status_code == 200
    answer = http.delete(address_of(first, level))
    assert (answer.status_code, answer.content) == (204, b"")
    expected = {study[number].SOPInstanceUID for number in left}
    assert shown(http, uid) == expected
    found = archive.search.search(LOCAL, Query(Level.INSTANCE, (Equals("StudyInstanceUID", uid),)))  # as C-FIND asks
    assert {match.sop_instance_uid for match in found.matches} == expected
    metadata = http.get(address_of(first, "study") + "/metadata")
    assert metadata.status_code == (200 if left else 404)
    assert not left or {one["00080018"]["Value"][0] for one in metadata.json()} == expected
    for path in ("", "/metadata", "/frames/1", "/rendered"):
        assert http.get(address_of(first) + path).status_code == 404
    for number in left:
        assert http.get(address_of(study[number])).status_code == 200
    counts = http.get("/studies", params={"StudyInstanceUID": uid})
    assert counts.status_code == (200 if left else 204)
    assert not left or counts.json()[0]["00201208"]["Value"] == [len(left)]


def test_entity_tags_of_what_is_left_change(http, study):
    address = address_of(study[0], "study") + "/metadata"
    before = http.get(address).headers["etag"]
    http.delete(address_of(study[0]))
    answer = http.get(address, headers={"If-None-Match": before})
    assert (answer.status_code, answer.headers["etag"] != before) == (200, True)


def test_a_second_delete_and_one_of_nothing_are_not_found(http, study):
    for level in ("instance", "series", "study"):
        assert http.delete(address_of(study[0], level)).status_code == 204
        assert http.delete(address_of(study[0], level)).status_code == 404
    assert http.delete(f"/studies/{study[0].StudyInstanceUID}/series/{new_uid()}").status_code == 404


def test_an_instance_is_only_deleted_where_it_is(http, study):
    elsewhere = f"{address_of(study[2], 'series')}/instances/{study[0].SOPInstanceUID}"
    assert http.delete(elsewhere).status_code == 404
    assert http.delete(f"/studies/{new_uid()}/series/{study[0].SeriesInstanceUID}").status_code == 404
    assert len(shown(http, study[0].StudyInstanceUID)) == 4


@pytest.mark.parametrize("path", ["/studies/x", "/studies/1.2/series/..x", "/studies/1.2/series/1.3/instances/%00"])
def test_a_malformed_uid_is_refused(http, path):
    assert http.delete(path).status_code == 400


def test_only_the_three_levels_can_be_deleted(http, study):
    for address in ("/studies", "/series", address_of(study[0]) + "/frames/1", address_of(study[0]) + "/metadata"):
        assert http.delete(address).status_code == 405
    assert "DELETE" in http.put(address_of(study[0], "study")).headers["allow"]


def test_the_change_feed_tells_of_every_instance_that_went_and_came_back(root, http, study):
    begin = root.get("/changes", params={"after": "now"}).json()["after"]
    http.delete(address_of(study[0], "series"))
    order = {"study_instance_uid": study[0].StudyInstanceUID, "series_instance_uid": study[0].SeriesInstanceUID}
    assert root.post("/withheld/restore", json=order).json() == {"count": 2}
    changes = root.get("/changes", params={"after": begin}).json()["changes"]
    told = [(change["kind"], change["sop_instance_uid"], change["facts"]["reason"]) for change in changes]
    uids = [dataset.SOPInstanceUID for dataset in study[:2]]
    kinds = ("instance-withheld", "instance-restored")
    assert told == [(kind, uid, "deleted") for kind in kinds for uid in uids]


def test_every_delete_is_logged_by_its_uids_alone(http, study, caplog):
    with caplog.at_level(logging.INFO):
        http.delete(address_of(study[0], "series"))
    (line,) = [record.getMessage() for record in caplog.records if "deleted" in record.getMessage()]
    assert study[0].SeriesInstanceUID in line
    assert study[0].PatientID not in line
    assert str(study[0].PatientName) not in line


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_what_was_deleted_is_listed_and_restored_as_it_was(root, http, study, level):
    first = study[0]
    before = [(address_of(one), http.get(address_of(one) + "/metadata").json()) for one in study]
    listed = shown(http, first.StudyInstanceUID)
    http.delete(address_of(first, level))
    hidden = root.get("/withheld", params={"study": first.StudyInstanceUID}).json()
    assert {(one["reason"], one["by"]) for one in hidden} == {("deleted", "http")}
    orders = {
        "study": {"study_instance_uid": first.StudyInstanceUID},
        "series": {"study_instance_uid": first.StudyInstanceUID, "series_instance_uid": first.SeriesInstanceUID},
        "instance": {"sop_instance_uid": first.SOPInstanceUID},
    }
    assert root.post("/withheld/restore", json=orders[level]).json() == {"count": len(hidden)}
    assert shown(http, first.StudyInstanceUID) == listed
    for address, metadata in before:
        assert http.get(address + "/metadata").json() == metadata
    assert root.post("/withheld/restore", json=orders[level]).status_code == 404


def test_restoring_a_series_leaves_the_other_one_deleted(root, http, study):
    http.delete(address_of(study[0], "study"))
    order = {"study_instance_uid": study[0].StudyInstanceUID, "series_instance_uid": study[2].SeriesInstanceUID}
    assert root.post("/withheld/restore", json=order).json() == {"count": 2}
    assert shown(http, study[0].StudyInstanceUID) == {one.SOPInstanceUID for one in study[2:]}


def test_restoring_a_study_leaves_what_a_note_rejected_hidden(archive, root, http, study):
    """Undoing a DELETE must not undo somebody's rejection: not one before it, and not one of what was deleted."""
    before, after, *others = study
    push(archive, build_key_objects(QUALITY, [before]), may_reject=True)
    http.delete(address_of(before, "study"))
    push(archive, build_key_objects(QUALITY, [after]), may_reject=True)
    root.post("/withheld/restore", json={"study_instance_uid": before.StudyInstanceUID})
    assert shown(http, before.StudyInstanceUID) == {one.SOPInstanceUID for one in others}


@pytest.mark.parametrize(
    "body",
    [
        {"study_instance_uid": "x"},
        {"series_instance_uid": "1.2"},
        {"study_instance_uid": "1.2", "sop_instance_uid": "1.3"},
        {"study_instance_uid": "1.2", "series_instance_uid": None},
        {"study_instance_uid": ["1.2"]},
    ],
)
def test_an_order_that_says_nothing_clear_is_refused(root, body):
    assert root.post("/withheld/restore", json=body).status_code == 400


class TestSentAgain:
    """A sender that sends again what was deleted wants it there: a deletion is no judgement on the image."""

    def test_by_stow_it_shows_again(self, http, store, study):
        http.delete(address_of(study[0], "study"))
        store(*study)
        assert shown(http, study[0].StudyInstanceUID) == {one.SOPInstanceUID for one in study}

    def test_by_c_store_it_shows_again_and_is_a_change(self, archive, root, http, study):
        http.delete(address_of(study[0]))
        begin = root.get("/changes", params={"after": "now"}).json()["after"]
        push(archive, study[0])
        assert len(shown(http, study[0].StudyInstanceUID)) == 4
        (change,) = root.get("/changes", params={"after": begin}).json()["changes"]
        assert (change["kind"], change["sop_instance_uid"]) == ("instance-stored", study[0].SOPInstanceUID)

    def test_undoing_the_deletion_then_changes_nothing_that_shows(self, archive, root, http, study):
        http.delete(address_of(study[0]))
        push(archive, study[0])
        root.post("/withheld/restore", json={"study_instance_uid": study[0].StudyInstanceUID})
        assert len(shown(http, study[0].StudyInstanceUID)) == 4
        assert root.get("/withheld").json() == []
        assert root.get("/conflicts").json() == []

    def test_with_other_bytes_both_are_kept_and_the_later_one_answers(self, archive, root, http, study):
        http.delete(address_of(study[0]))
        study[0].ImageComments = "another"
        push(archive, study[0])
        root.post("/withheld/restore", json={"sop_instance_uid": study[0].SOPInstanceUID})
        (metadata,) = http.get(address_of(study[0]) + "/metadata").json()
        assert metadata["00204000"]["Value"] == ["another"]
        (conflict,) = root.get("/conflicts").json()
        assert (conflict["kind"], conflict["sop_instance_uid"]) == ("content", study[0].SOPInstanceUID)

    def test_it_can_be_deleted_again_and_the_last_deleted_comes_back(self, archive, root, http, study):
        for comment in ("first", "second"):
            study[0].ImageComments = comment
            http.delete(address_of(study[0]))
            push(archive, study[0])
        http.delete(address_of(study[0]))
        order = {"study_instance_uid": study[0].StudyInstanceUID}
        assert root.post("/withheld/restore", json=order).json() == {"count": 1}
        (metadata,) = http.get(address_of(study[0]) + "/metadata").json()
        assert metadata["00204000"]["Value"] == ["second"]

    def test_what_was_rejected_for_its_quality_still_stays_hidden(self, archive, http, study):
        push(archive, build_key_objects(QUALITY, [study[0]]), may_reject=True)
        assert http.delete(address_of(study[0])).status_code == 404  # it is hidden, so it is not there
        push(archive, study[0])
        assert study[0].SOPInstanceUID not in shown(http, study[0].StudyInstanceUID)


def test_a_rejection_note_needs_no_permission_to_delete(archive, http, study):
    push(archive, build_key_objects(QUALITY, study), may_reject=True)
    assert shown(http, study[0].StudyInstanceUID) == set()
