"""What webhooks are told of the change log: everything of their kinds, at least once, each by itself."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pacs.app.peers import build_webhooks
from pacs.config import Settings, WebhookSettings
from pacs.errors import InvalidSetting
from pacs.jobs import queue
from pacs.jobs.turn import Patience
from pacs.jobs.worker import Failed, Finished, Worker
from pacs.model import CLINICAL_PARTITION, ChangeKind
from pacs.routing.destinations import Unreachable
from pacs.routing.following import PAGE, Follower
from pacs.routing.webhooks import KIND, Notifier, Webhook
from tests.unit.pacs.test_changes import append

ALL = frozenset(ChangeKind)
QUICK = Patience(timedelta(days=7), first_pause_seconds=0.001)


class Remembering:
    """A webhook that remembers what it was told and does what it is told."""

    def __init__(self, name="HOOK", kinds=ALL):
        self.webhook = Webhook(name, kinds, self.post)
        self.deliveries = []
        self.is_down = False
        self.problem = ""

    def post(self, delivery):
        self.deliveries.append(delivery)
        if self.is_down:
            raise Unreachable(f"{self.webhook.name} answers HTTP 500.")
        return self.problem

    @property
    def told(self):
        return [change.sop_instance_uid for delivery in self.deliveries for change in delivery.changes]


@pytest.fixture
def database(parts):
    return parts.database


def notifier_of(database, *hooks):
    return Notifier(database, CLINICAL_PARTITION, [hook.webhook for hook in hooks])


def follow(database, *hooks):
    """Go through the log for each webhook as far as it goes."""
    for name, plan in notifier_of(database, *hooks).plans().items():
        follower = Follower(database, CLINICAL_PARTITION, name, plan)
        follower.begin()
        while follower.follow():
            pass


def jobs_of(database, hook, limit=50):
    now = datetime.now(UTC)
    return database.write(lambda one: queue.claim(one, KIND, hook.webhook.name, limit=limit, now=now, leased_until=now))


def log(database, *uids):
    for uid in uids:
        database.write(lambda connection, uid=uid: append(connection, uid))


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_page_of_the_log_is_one_delivery_and_all_of_them_are_the_log_in_its_order(database):
    hook = Remembering()
    follow(database, hook)
    uids = [f"1.2.{number}" for number in range(PAGE + 20)]
    database.write(lambda connection: [append(connection, uid) for uid in uids])
    follow(database, hook)
    jobs = jobs_of(database, hook)
    results = list(notifier_of(database, hook).tell(jobs))
    assert results == [Finished(job, leaves_receipt=False) for job in jobs]
    assert hook.told == uids
    assert [len(delivery.changes) for delivery in hook.deliveries] == [PAGE, 20]
    assert len({delivery.id for delivery in hook.deliveries}) == 2


def test_what_was_in_the_log_before_a_webhook_is_not_told_and_what_it_missed_while_it_was_away_is(database):
    hook = Remembering()
    log(database, "1.2.1")
    follow(database, hook)
    log(database, "1.2.2")
    follow(database)  # it is not in the settings now
    follow(database, hook)
    list(notifier_of(database, hook).tell(jobs_of(database, hook)))
    assert hook.told == ["1.2.2"]


def test_a_webhook_is_told_of_its_kinds_alone(database):
    mine, other = Remembering("MINE", frozenset({ChangeKind.INSTANCE_STORED})), Remembering("OTHER")
    third = Remembering("THIRD", frozenset({ChangeKind.STUDY_CORRECTED}))
    follow(database, mine, other, third)

    def write(connection):
        append(connection, "1.2.1")
        append(connection, "1.2.2", ChangeKind.INSTANCE_WITHHELD)
        append(connection, "1.2.3")

    database.write(write)
    follow(database, mine, other, third)
    for hook in (mine, other):
        list(notifier_of(database, mine, other).tell(jobs_of(database, hook)))
    assert (mine.told, other.told) == (["1.2.1", "1.2.3"], ["1.2.1", "1.2.2", "1.2.3"])
    assert jobs_of(database, third) == []


def test_a_delivery_that_is_tried_again_has_the_same_name_and_the_same_changes(database):
    hook = Remembering()
    follow(database, hook)
    log(database, "1.2.1", "1.2.2")
    follow(database, hook)
    hook.is_down = True
    for _ in range(3):
        with pytest.raises(Unreachable):
            list(notifier_of(database, hook).tell(jobs_of(database, hook)))
        log(database, "1.2.3")
    first, *again = hook.deliveries
    assert again == [first, first]
    assert [change.sop_instance_uid for change in first.changes] == ["1.2.1", "1.2.2"]


def test_what_is_wanted_no_more_and_a_webhook_that_is_gone_are_final(database):
    hook = Remembering()
    follow(database, hook)
    log(database, "1.2.1")
    follow(database, hook)
    (job,) = jobs_of(database, hook)
    hook.problem = "HTTP 410"
    assert list(notifier_of(database, hook).tell([job])) == [Failed(job, "HTTP 410", is_final=True)]
    (result,) = notifier_of(database).tell([job])
    assert (result.is_final, result.problem) == (True, "There is no such webhook in the settings.")


@pytest.fixture
def working(database):
    """Return what starts everything for some webhooks, as the archive does, and stops it at the end."""
    stack = []

    def start(*hooks):
        notifier = notifier_of(database, *hooks)
        worker = Worker(database, {KIND: notifier.tell}, QUICK, grace_seconds=5)
        stack.append(worker)
        worker.__enter__()
        for name, plan in notifier.plans().items():
            stack.append(Follower(database, CLINICAL_PARTITION, name, plan, worker.wake))
            stack[-1].__enter__()

    yield start
    for one in reversed(stack):
        one.__exit__(None, None, None)


def test_a_webhook_that_hangs_or_fails_delays_no_other(database, working):
    hanging, failing, well = Remembering("HANGING"), Remembering("FAILING"), Remembering("WELL")
    release, hangs = threading.Event(), threading.Event()

    def hang(delivery):
        hangs.set()
        release.wait(20)
        return ""

    failing.is_down = True
    hanging.webhook = Webhook("HANGING", ALL, hang)
    working(hanging, failing, well)
    log(database, "1.2.1")
    assert hangs.wait(20)
    log(database, "1.2.2", "1.2.3")
    wait_until(lambda: well.told == ["1.2.1", "1.2.2", "1.2.3"])
    wait_until(lambda: len(failing.deliveries) > 2)
    release.set()


def test_a_webhook_that_comes_back_is_told_everything_it_missed(database, working):
    hook = Remembering()
    hook.is_down = True
    working(hook)
    log(database, "1.2.1")
    wait_until(lambda: len(hook.deliveries) > 1)
    log(database, "1.2.2")
    hook.is_down, hook.deliveries = False, []

    def is_done():
        with database.read() as connection:
            return set(hook.told) == {"1.2.1", "1.2.2"} and not queue.list_jobs(connection)

    wait_until(is_done)


def test_the_documentation_lists_every_kind():
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [kind for kind in ChangeKind if f"| `{kind}` |" not in page] == []


def settings_of(**changes):
    return WebhookSettings(**{"name": "HOOK", "url": "https://hook.example/x", "secret": "s" * 16} | changes)


def test_settings_make_a_webhook_of_its_kinds_or_of_all():
    hooks = (settings_of(name="ONE", kinds=("note-stored",)), settings_of(name="TWO"))
    one, two = build_webhooks(Settings(webhooks=hooks))
    assert (one.name, one.kinds) == ("ONE", {ChangeKind.NOTE_STORED})
    assert (two.name, two.kinds) == ("TWO", ALL)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kinds": ("instance-stored", "instance-stord")}, "webhooks.1.kinds is wrong: instance-stord"),
        ({"name": "FIRST"}, "webhooks.1.name is wrong"),
        ({"url": "http://[::1/x"}, "webhooks.1.url is wrong"),
    ],
)
def test_a_webhook_that_makes_no_sense_is_refused_in_one_sentence_without_its_secret(wrong, words):
    with pytest.raises(InvalidSetting, match=words) as raised:
        build_webhooks(Settings(webhooks=(settings_of(name="FIRST"), settings_of(**wrong))))
    assert "ssss" not in str(raised.value)
    assert "hook.example" not in str(raised.value)
