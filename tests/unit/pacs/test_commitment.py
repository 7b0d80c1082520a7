"""Storage commitment (PS3.4 Annex J): what is promised, what is not and why, and that nothing asked is forgotten."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import event

from pacs.access import LOCAL, Principal
from pacs.app import Parts, open_archive
from pacs.commitment import MAX_ROUNDS, REPORT, REQUEST, Committer, Item, Report
from pacs.config import CommitmentSettings, DatabaseSettings, Settings, StorageSettings
from pacs.errors import Unavailable
from pacs.index import commitments
from pacs.index.commitments import CommitmentState, Role
from pacs.ingest.incoming import Incoming
from pacs.jobs import queue
from pacs.jobs.queue import JobState
from pacs.jobs.worker import Failed, Finished, LaneBlocked, Postponed
from pacs.model import CLINICAL_PARTITION, Door, Origin
from tests.builders import as_part10, build_ct, build_mr
from tests.key_objects import EXPIRED, QUALITY, SAFETY, WORKLIST, build_key_objects

MODALITY = Principal("CT1")
ORIGIN = Origin(Door.DIMSE, calling_ae_title="CT1", may_reject=True)
TRANSACTION = "2.25.4711"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def parts(request, tmp_path) -> Iterator[Parts]:
    """An archive that does not wait for instances still on their way."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=url),
        commitment=CommitmentSettings(wait_seconds=0),
    )
    with open_archive(settings) as opened:
        yield opened


@pytest.fixture
def store(parts) -> Callable[..., None]:
    def store(dataset) -> None:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, ORIGIN)).is_stored

    return store


def item_of(dataset):
    return Item(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))


def find_job(parts, kind, lane, key):
    with parts.database.read() as connection:
        return queue.find_job(connection, kind, lane, key)


def report_of(parts, *items) -> dict[str, int]:
    """Ask for commitment and return what is reported, by SOP Instance UID."""
    told: list[Report] = []
    assert parts.archive.commit.accept(MODALITY, TRANSACTION, items)
    job = find_job(parts, REPORT, "CT1", TRANSACTION)
    assert list(parts.archive.commit.report([job], lambda _, report: told.append(report))) == [Finished(job)]
    (report,) = told
    assert report.transaction_uid == TRANSACTION
    return {item.sop_instance_uid: item.failure for item in report.items}


def test_stored_instances_are_committed(parts, store):
    images = [build_ct(), build_mr()]
    for image in images:
        store(image)
    assert report_of(parts, *map(item_of, images)) == {image.SOPInstanceUID: 0 for image in images}


def test_unknown_instance_fails_and_does_not_take_the_others_with_it(parts, store):
    image = build_ct()
    store(image)
    missing = build_ct()
    told = report_of(parts, item_of(image), item_of(missing))
    assert told == {image.SOPInstanceUID: 0, missing.SOPInstanceUID: 0x0112}


def test_instance_of_another_class_fails(parts, store):
    image = build_ct()
    store(image)
    item = Item("1.2.840.10008.5.1.4.1.1.4", image.SOPInstanceUID)
    assert report_of(parts, item) == {image.SOPInstanceUID: 0x0119}


def test_lost_object_is_not_committed(parts, store):
    image = build_ct()
    store(image)
    (key,) = parts.store.iter_keys()
    parts.store.remove(key)
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0x0110}


def test_damaged_object_is_not_committed(tmp_path):
    settings = Settings(data_dir=tmp_path / "archive", commitment=CommitmentSettings(wait_seconds=0))
    image = build_ct()
    with open_archive(settings) as parts:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(image))
            parts.archive.ingest.store(Incoming(spool, ORIGIN))
        (path,) = [
            path
            for path in (tmp_path / "archive" / "objects").rglob("*")
            if path.is_file() and path.stat().st_size == len(as_part10(image))
        ]
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(damaged)
        assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0x0110}


def test_conflict_of_duplicates_fails_until_it_is_resolved(parts, store):
    image = build_ct()
    store(image)
    image.StudyDescription = "Other"
    store(image)
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0x0110}


@pytest.mark.parametrize(("title", "failure"), [(QUALITY, 0), (SAFETY, 0), (WORKLIST, 0), (EXPIRED, 0x0112)])
def test_rejected_instance_is_committed_unless_its_retention_expired(parts, store, title, failure):
    image = build_ct()
    store(image)
    store(build_key_objects(title, [image]))
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: failure}


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST, EXPIRED])
def test_rejection_note_is_committed(parts, store, title):
    image = build_ct()
    store(image)
    note = build_key_objects(title, [image])
    store(note)
    assert report_of(parts, item_of(note)) == {note.SOPInstanceUID: 0}


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST])
def test_instance_sent_again_after_its_rejection_is_committed(parts, store, title):
    image = build_ct()
    store(build_key_objects(title, [image]))
    store(image)
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0}


def test_rejected_instance_that_never_came_is_not_committed(parts, store):
    image = build_ct()
    store(build_key_objects(QUALITY, [image]))
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0x0112}


def test_deleted_instance_is_not_committed(parts, store):
    image = build_ct()
    store(image)
    parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
    assert report_of(parts, item_of(image)) == {image.SOPInstanceUID: 0x0112}


def test_transaction_uid_is_used_once_by_a_peer(parts):
    item = item_of(build_ct())
    assert parts.archive.commit.accept(MODALITY, TRANSACTION, [item])
    assert not parts.archive.commit.accept(MODALITY, TRANSACTION, [item])
    assert parts.archive.commit.accept(Principal("CT2"), TRANSACTION, [item])


def test_instance_that_is_still_on_its_way_is_waited_for(parts, store):
    patient = Committer(parts.database, CLINICAL_PARTITION, lambda _: True, wait_seconds=3600)
    image = build_ct()
    told: list[Report] = []
    patient.accept(MODALITY, TRANSACTION, [item_of(image)])
    job = find_job(parts, REPORT, "CT1", TRANSACTION)
    (later,) = patient.report([job], lambda _, report: told.append(report))
    assert isinstance(later, Postponed)
    assert later.at > job.due_at
    assert told == []
    store(image)
    list(patient.report([job], lambda _, report: told.append(report)))
    assert [item.failure for item in told[0].items] == [0]


def test_instance_that_is_named_often_is_read_once_and_reported_as_often(parts, store):
    image = build_ct()
    store(image)
    read = []
    committer = Committer(
        parts.database, CLINICAL_PARTITION, lambda location: bool(read.append(location)) or True, wait_seconds=0
    )
    committer.accept(MODALITY, TRANSACTION, [item_of(image)] * 100)
    told: list[Report] = []
    list(committer.report([find_job(parts, REPORT, "CT1", TRANSACTION)], lambda _, report: told.append(report)))
    assert [item.failure for item in told[0].items] == [0] * 100
    assert len(read) == 1


def test_thousands_of_references_in_two_studies_cost_few_statements(parts, store):
    images = [build_ct(), build_ct()]
    for image in images:
        store(image)
    items = [item_of(image) for image in images] + [Item("1.2.3", f"2.25.{number}") for number in range(10_000)]
    parts.archive.commit.accept(MODALITY, TRANSACTION, items)
    with parts.database.read() as connection:
        statements = []
        event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments))
        kept = commitments.find_kept(connection, CLINICAL_PARTITION, [item.sop_instance_uid for item in items])
    assert kept.keys() == {image.SOPInstanceUID for image in images}
    assert len(statements) < 100
    told: list[Report] = []
    job = find_job(parts, REPORT, "CT1", TRANSACTION)
    list(parts.archive.commit.report([job], lambda _, report: told.append(report)))
    assert [item.failure for item in told[0].items] == [0, 0] + [0x0112] * 10_000


def test_report_that_was_not_delivered_says_the_same_when_it_is_sent_again(parts, store):
    image = build_ct()
    parts.archive.commit.accept(MODALITY, TRANSACTION, [item_of(image)])
    job = find_job(parts, REPORT, "CT1", TRANSACTION)

    def fail(_, __) -> None:
        raise Unavailable

    with pytest.raises(LaneBlocked):
        list(parts.archive.commit.report([job], fail))
    store(image)
    told: list[Report] = []
    list(parts.archive.commit.report([job], lambda _, report: told.append(report)))
    assert [item.failure for item in told[0].items] == [0x0112]
    assert parts.archive.commit.find(Role.SCP, "CT1", TRANSACTION).state is CommitmentState.REPORTED


def test_delivered_report_is_not_sent_again(parts):
    parts.archive.commit.accept(MODALITY, TRANSACTION, [item_of(build_ct())])
    job = find_job(parts, REPORT, "CT1", TRANSACTION)
    told: list[Report] = []
    for _ in range(2):
        list(parts.archive.commit.report([job], lambda _, report: told.append(report)))
    assert len(told) == 1


def test_report_of_an_unknown_request_is_given_up(parts):
    parts.archive.commit.accept(MODALITY, TRANSACTION, [item_of(build_ct())])
    job = find_job(parts, REPORT, "CT1", TRANSACTION)
    committer = Committer(parts.database, CLINICAL_PARTITION + 1, lambda _: True, wait_seconds=0)
    (result,) = committer.report([job], lambda *_: None)
    assert isinstance(result, Failed)
    assert result.is_final


def ask(parts, committer, *images) -> Report:
    """Ask peer B for what it has got and return the request that it sees."""
    committer.request("B", [item_of(image) for image in images])
    jobs = [find_job(parts, REQUEST, "B", image.SOPInstanceUID) for image in images]
    asked: list[Report] = []
    assert len(list(committer.ask(jobs, lambda _, request: asked.append(request)))) == len(images)
    return asked[0]


def test_everything_sent_to_a_peer_is_asked_for_in_one_transaction(parts):
    images = [build_ct(), build_mr()]
    request = ask(parts, parts.archive.commit, *images)
    assert set(request.items) == {item_of(image) for image in images}


def test_request_that_did_not_reach_its_peer_leaves_nothing_behind(parts):
    image = build_ct()
    parts.archive.commit.request("B", [item_of(image)])
    job = find_job(parts, REQUEST, "B", image.SOPInstanceUID)
    uids: list[str] = []

    def fail(_, request) -> None:
        uids.append(request.transaction_uid)
        raise Unavailable

    with pytest.raises(LaneBlocked):
        list(parts.archive.commit.ask([job], fail))
    assert parts.archive.commit.find(Role.SCU, "B", uids[0]) is None


def test_report_of_a_peer_is_noted_and_what_failed_is_sent_again(parts):
    sent: list[tuple[str, list[str]]] = []
    committer = Committer(
        parts.database,
        CLINICAL_PARTITION,
        lambda _: True,
        wait_seconds=0,
        resend=lambda _, peer, uids: sent.append((peer, list(uids))),
    )
    kept, lost = build_ct(), build_ct()
    request = ask(parts, committer, kept, lost)
    items = (
        Item(str(kept.SOPClassUID), kept.SOPInstanceUID, 0),
        Item(str(lost.SOPClassUID), lost.SOPInstanceUID, 0x0112),
    )
    report = Report(request.transaction_uid, items)
    assert committer.take_report(Principal("B"), report)
    assert committer.take_report(Principal("B"), report)
    assert sent == [("B", [lost.SOPInstanceUID])]
    found = committer.find(Role.SCU, "B", request.transaction_uid)
    assert found.state is CommitmentState.REPORTED
    assert {item.sop_instance_uid: item.failure for item in found.items} == {
        kept.SOPInstanceUID: 0,
        lost.SOPInstanceUID: 0x0112,
    }


def test_instance_that_a_report_leaves_out_counts_as_failed(parts):
    request = ask(parts, parts.archive.commit, build_ct())
    parts.archive.commit.take_report(Principal("B"), Report(request.transaction_uid, ()))
    (item,) = parts.archive.commit.find(Role.SCU, "B", request.transaction_uid).items
    assert item.failure == 0x0110


def test_report_of_somebody_who_was_not_asked_is_not_taken(parts):
    request = ask(parts, parts.archive.commit, build_ct())
    assert not parts.archive.commit.take_report(Principal("C"), Report(request.transaction_uid, ()))
    assert not parts.archive.commit.take_report(Principal("B"), Report("2.25.1", ()))


def test_instance_that_is_never_committed_is_not_sent_for_ever(parts):
    image = build_ct()
    for _ in range(MAX_ROUNDS):
        request = ask(parts, parts.archive.commit, image)
        parts.archive.commit.take_report(Principal("B"), Report(request.transaction_uid, ()))
        sent = find_job(parts, "send", "B", image.SOPInstanceUID)
    with parts.database.read() as connection:
        assert len(queue.list_jobs(connection, state=JobState.WAITING)) >= 1
    assert sent is not None
    before = sent.created_at
    request = ask(parts, parts.archive.commit, image)
    parts.archive.commit.take_report(Principal("B"), Report(request.transaction_uid, ()))
    assert find_job(parts, "send", "B", image.SOPInstanceUID).created_at == before
