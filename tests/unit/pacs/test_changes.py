"""The change feed: its cursors as text, and a reader who misses nothing while many write."""

import random
import threading
import time
from contextlib import ExitStack, closing

import pytest

from pacs.access import LOCAL
from pacs.changes import ChangeFeed, cursor_text, parse_cursor
from pacs.database.opener import open_database
from pacs.errors import InvalidQuery
from pacs.index import changes
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor
from tests.contract.database import STORED_AT, run_in_threads

WRITERS = 4
EACH = 15
LARGEST = 2**63 - 1


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'index.sqlite'}"


@pytest.fixture
def databases(url):
    """One for each writer, as processes of their own have them, and one for the reader."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(open_database(url))) for _ in range(WRITERS + 1)]
        opened[0].migrate()
        yield opened


def append(connection, uid, kind=ChangeKind.INSTANCE_STORED):
    changes.append(
        connection,
        CLINICAL_PARTITION,
        kind,
        at=STORED_AT,
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=uid,
    )


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_a_reader_who_reads_on_from_cursors_misses_nothing_that_many_write_at_once(databases, limit):
    """Transactions number their changes early and commit late, each in its own time: what counts is the commit."""
    *writing, reading = databases
    feed = ChangeFeed(reading, CLINICAL_PARTITION)
    committed, have_ended = [], threading.Event()
    seen = []

    def write(number):
        chance = random.Random(number)
        for step in range(EACH):
            uids = [f"1.2.3.{number}.{step}.{part}" for part in range(2)]

            def work(connection, uids=uids):
                append(connection, uids[0])
                time.sleep(chance.random() * 0.01)
                append(connection, uids[1])

            writing[number].write(work)
            committed.extend(uids)

    def read():
        cursor = Cursor()
        while True:
            is_last = have_ended.is_set()
            page = feed.read(LOCAL, cursor, limit)
            seen.extend(page.changes)
            cursor = parse_cursor(cursor_text(page.end))
            if is_last and not page.has_more:
                return

    reader = threading.Thread(target=read)
    reader.start()
    assert run_in_threads(WRITERS, write) == [None] * WRITERS
    have_ended.set()
    reader.join(60)
    assert not reader.is_alive()
    assert sorted(change.sop_instance_uid for change in seen) == sorted(committed)
    assert len(committed) == 2 * WRITERS * EACH
    assert [change.cursor for change in seen] == sorted({change.cursor for change in seen})
    assert feed.read_end(LOCAL) == seen[-1].cursor


def test_what_is_not_committed_yet_is_before_the_end_of_nobody(databases):
    """A reader who starts at the end sees what an older transaction still has to commit."""
    feed = ChangeFeed(databases[-1], CLINICAL_PARTITION)
    has_appended, may_commit = threading.Event(), threading.Event()

    def write_late(connection):
        append(connection, "1.2.3.1")
        has_appended.set()
        may_commit.wait(10)

    late = threading.Thread(target=databases[0].write, args=(write_late,))
    late.start()
    has_appended.wait(10)
    end = feed.read_end(LOCAL)
    may_commit.set()
    late.join(10)
    assert [change.sop_instance_uid for change in feed.read(LOCAL, end).changes] == ["1.2.3.1"]


def test_a_cursor_is_the_same_after_it_was_text_and_sorts_as_text_too():
    chance = random.Random(1)
    numbers = [0, 1, LARGEST, *(chance.randrange(LARGEST) for _ in range(50))]
    cursors = [Cursor(chance.choice(numbers), number) for number in numbers]
    assert [parse_cursor(cursor_text(cursor)) for cursor in cursors] == cursors
    assert sorted(cursors, key=cursor_text) == sorted(cursors)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0-0", f"{0:016x}", f"{0:016x}-", f"{0:016x}-{2**63:016x}", f"{0:016x}-{1:017x}", f"{0:016x}-{10:016X}"],
)
def test_what_was_no_cursor_is_none(text):
    with pytest.raises(InvalidQuery):
        parse_cursor(text)


def test_a_cursor_that_the_log_has_not_come_to_is_refused(databases):
    """It is another archive's: whoever went on from it would miss what is stored first."""
    feed = ChangeFeed(databases[0], CLINICAL_PARTITION)
    with pytest.raises(InvalidQuery):
        feed.read(LOCAL, Cursor(0, 1))
    assert feed.read(LOCAL).changes == ()
