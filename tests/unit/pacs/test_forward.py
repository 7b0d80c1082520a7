"""What is stored is listed for its destinations once, whatever happens between two steps."""

from datetime import UTC, datetime, timedelta

import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import RoutingRuleSettings, RoutingSettings, Settings, StorageSettings
from pacs.ingest.importer import import_entry, iter_entries
from pacs.jobs import queue
from pacs.jobs.queue import JobState
from pacs.jobs.worker import Failed, Finished
from pacs.model import CLINICAL_PARTITION, Door, DuplicatePolicy, Origin
from pacs.routing.destinations import Sent, Unreachable
from pacs.routing.following import Follower
from pacs.routing.forward import FOLLOWER, KIND, Forwarder
from pacs.routing.rules import build_rules
from tests.builders import as_part10, build_ct, build_mr
from tests.key_objects import QUALITY, build_key_objects

SENDER = Origin(Door.DIMSE, calling_ae_title="CT1", may_reject=True)


class Remembering:
    """A destination that remembers what it was sent, and refuses what it is told to."""

    name = "CLOUD"

    def __init__(self):
        self.sent = []
        self.refused = {}
        self.is_down = False

    def send(self, records):
        for record in records:
            if self.is_down:
                raise Unreachable
            self.sent.append(record.sop_instance_uid)
            yield Sent(record.sop_instance_uid, not self.refused, **self.refused)


@pytest.fixture
def cloud():
    return Remembering()


@pytest.fixture
def forwarder(parts, cloud):
    return build_forwarder(parts, cloud, ({"Modality": "CT"}, ("CLOUD",)))


def build_forwarder(parts, cloud, *rules):
    settings = RoutingSettings(rules=tuple(RoutingRuleSettings(when=when, to=to) for when, to in rules))
    destinations = {"CLOUD": cloud, "CT1": cloud, "OTHER": cloud}
    return Forwarder(parts.database, CLINICAL_PARTITION, build_rules(settings, destinations), destinations)


@pytest.fixture
def follower(parts, forwarder):
    started = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    started.begin()
    return started


@pytest.fixture
def store(parts, tmp_path):
    def store_one(dataset, origin=SENDER):
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        path.write_bytes(as_part10(dataset))
        (entry,) = iter_entries([path])
        outcome = import_entry(parts.archive.ingest, entry, origin).outcome
        assert outcome.is_stored, outcome.reason
        return dataset.SOPInstanceUID

    return store_one


def listed(parts):
    with parts.database.read() as connection:
        return queue.list_jobs(connection)


def lanes_and_keys(parts):
    return [(job.lane, job.key) for job in listed(parts)]


def claim(parts, lane="CLOUD"):
    now = datetime.now(UTC)
    until = now + timedelta(hours=1)
    return parts.database.write(lambda one: queue.claim(one, KIND, lane, limit=50, now=now, leased_until=until))


def test_what_matches_is_listed_once(parts, store, follower):
    uid = store(build_ct())
    store(build_mr())
    assert follower.follow() == 2
    assert follower.follow() == 0
    assert lanes_and_keys(parts) == [("CLOUD", uid)]


def test_the_same_bytes_again_are_not_forwarded_again(parts, store, follower):
    dataset = build_ct()
    store(dataset)
    store(dataset)
    follower.follow()
    assert len(listed(parts)) == 1


def test_a_replaced_instance_is_forwarded_again(parts, store, forwarder, follower):
    origin = Origin(Door.DIMSE, calling_ae_title="CT1", duplicate_policy=DuplicatePolicy.REPLACE)
    dataset = build_ct()
    uid = store(dataset, origin)
    follower.follow()
    (done,) = forwarder.send(claim(parts))
    parts.database.write(lambda one: queue.finish(one, [done.job], datetime.now(UTC)))
    dataset.StudyDescription = "corrected"
    store(dataset, origin)
    follower.follow()
    assert [(job.key, job.state) for job in listed(parts)] == [(uid, JobState.WAITING)]


def test_what_was_stored_before_the_first_start_is_not_forwarded(parts, store, forwarder):
    store(build_ct())
    first = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    first.begin()
    assert first.follow() == 0
    uid = store(build_ct())
    again = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    again.begin()  # a later start goes on where the first one was
    assert again.follow() == 1
    assert lanes_and_keys(parts) == [("CLOUD", uid)]


def test_a_rule_applies_to_what_comes_after_it(parts, store, cloud):
    nothing = build_forwarder(parts, cloud)
    before = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, nothing.plan)
    before.begin()
    store(build_ct())
    assert before.follow() == 1
    later = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, build_forwarder(parts, cloud, ({}, ("CLOUD",))).plan)
    later.begin()
    assert later.follow() == 0
    assert listed(parts) == []


def test_two_followers_of_one_name_list_everything_once(parts, store, forwarder, follower):
    uid = store(build_ct())
    other = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    planned = []

    def plan(connection, changes):
        planned.append(other.follow())  # the other process is faster, between our reading and our writing
        return forwarder.plan(connection, changes)

    woken = []
    late = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, plan, lambda: woken.append(True))
    assert late.follow() == 1
    assert planned == [1]
    assert woken == []
    assert lanes_and_keys(parts) == [("CLOUD", uid)]
    assert follower.follow() == 0


def test_what_could_not_be_listed_is_read_again(parts, store, follower):
    uid = store(build_ct())

    def fail(_connection, _changes):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, fail).follow()
    assert follower.follow() == 1
    assert lanes_and_keys(parts) == [("CLOUD", uid)]


def test_nothing_goes_back_to_its_sender(parts, store, cloud):
    forwarder = build_forwarder(parts, cloud, ({}, ("CT1", "OTHER")))
    follower = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    follower.begin()
    uid = store(build_ct())
    follower.follow()
    assert lanes_and_keys(parts) == [("OTHER", uid)]


def test_a_batch_is_sent_and_reported(parts, store, forwarder, follower, cloud):
    uids = [store(build_ct()) for _ in range(3)]
    follower.follow()
    results = list(forwarder.send(claim(parts)))
    assert cloud.sent == uids
    assert [type(result) for result in results] == [Finished] * 3


def test_a_refusal_is_a_failure_with_its_reason(parts, store, forwarder, follower, cloud):
    store(build_ct())
    follower.follow()
    cloud.refused = {"problem": "0xA900", "is_final": True}
    (result,) = forwarder.send(claim(parts))
    assert (type(result), result.problem, result.is_final) == (Failed, "0xA900", True)


def test_a_destination_that_is_down_blocks_the_lane(parts, store, forwarder, follower, cloud):
    store(build_ct())
    follower.follow()
    cloud.is_down = True
    with pytest.raises(Unreachable):
        list(forwarder.send(claim(parts)))


def test_what_is_gone_meanwhile_is_finished(parts, store, forwarder, follower, cloud):
    dataset = build_ct()
    store(dataset)
    follower.follow()
    parts.archive.withhold.withhold(LOCAL, dataset.StudyInstanceUID)
    (result,) = forwarder.send(claim(parts))
    assert isinstance(result, Finished)
    assert cloud.sent == []


def test_a_destination_that_left_the_settings_makes_dead_letters(parts, store, forwarder, follower):
    store(build_ct())
    follower.follow()
    stranger = Forwarder(parts.database, CLINICAL_PARTITION, build_rules(RoutingSettings(), ()), {})
    (result,) = stranger.send(claim(parts))
    assert result.is_final
    assert "settings" in result.problem


def test_a_rejection_note_goes_where_the_images_went_and_nowhere_else(parts, store, cloud):
    """RULES.md, IOCM: the note itself is forwarded to where the images went."""
    forwarder = build_forwarder(
        parts,
        cloud,
        ({"Modality": "CT"}, ("CLOUD",)),
        ({"Modality": "MR"}, ("OTHER",)),
        ({"Modality": "KO"}, ("OTHER",)),
    )
    follower = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    follower.begin()
    image, other = build_ct(), build_mr()
    store(image)
    store(other)
    follower.follow()
    note = store(build_key_objects(QUALITY, [image]))
    follower.follow()
    assert [(job.lane, job.key) for job in listed(parts) if job.key == note] == [("CLOUD", note)]
    results = list(forwarder.send(claim(parts)))
    assert [type(result) for result in results] == [Finished, Finished]
    assert cloud.sent == [note]  # the image was rejected before it was sent


def test_a_rejection_note_does_not_go_back_to_who_rejected(parts, store, cloud):
    forwarder = build_forwarder(parts, cloud, ({}, ("CT1", "CLOUD")))
    follower = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
    follower.begin()
    image = build_ct()
    store(image, Origin(Door.DIMSE, calling_ae_title="MODALITY"))
    follower.follow()
    note = store(build_key_objects(QUALITY, [image]))
    follower.follow()
    assert sorted(lanes_and_keys(parts)) == sorted(
        [("CLOUD", image.SOPInstanceUID), ("CT1", image.SOPInstanceUID), ("CLOUD", note)]
    )


@pytest.mark.postgres
def test_forwarding_is_the_same_on_postgres(tmp_path, postgres_url, cloud):
    settings = Settings.model_validate(
        {"data_dir": tmp_path / "archive", "storage": StorageSettings(url="memory:"), "database": {"url": postgres_url}}
    )
    with open_archive(settings) as parts:
        forwarder = build_forwarder(parts, cloud, ({"Modality": "CT"}, ("CLOUD",)))
        follower = Follower(parts.database, CLINICAL_PARTITION, FOLLOWER, forwarder.plan)
        follower.begin()
        path = tmp_path / "one.dcm"
        path.write_bytes(as_part10(build_ct()))
        for entry in iter_entries([path]):
            import_entry(parts.archive.ingest, entry, SENDER)
        assert follower.follow() == 1
        assert follower.follow() == 0
        assert [type(result) for result in forwarder.send(claim(parts))] == [Finished]
    assert len(cloud.sent) == 1
