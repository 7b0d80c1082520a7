"""Who waits for commits is woken by them, by failures, and after a long silence; and nobody looks for nobody."""

import threading
import time
from contextlib import contextmanager

import pytest

from pacs.database import watcher
from pacs.database.watcher import Watcher
from pacs.errors import Unavailable


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(watcher, "_AFTER_FAILURE_SECONDS", 0.005)


class Versions:
    """A database whose version is what the test says; an exception in its place is raised, once."""

    def __init__(self):
        self.current = 0
        self.looks = 0
        self.openings = 0

    @contextmanager
    def open(self):
        self.openings += 1
        yield self.read

    def read(self):
        self.looks += 1
        found = self.current
        if isinstance(found, Exception):
            self.current = 0
            raise found
        return found


class Bell:
    def __init__(self):
        self.rings = 0

    def __call__(self):
        self.rings += 1


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_looks(versions, count=5):
    reached = versions.looks + count
    wait_until(lambda: versions.looks >= reached)


def test_all_are_woken_after_a_commit_and_not_without_one():
    versions, first, second = Versions(), Bell(), Bell()
    watching = Watcher(versions.open)
    with watching.watch(first), watching.watch(second):
        wait_for_looks(versions)
        before = first.rings, second.rings
        wait_for_looks(versions)
        assert (first.rings, second.rings) == before
        versions.current = 1
        wait_for_looks(versions)
        assert (first.rings, second.rings) == (before[0] + 1, before[1] + 1)


def test_whoever_begins_to_watch_is_woken_at_once():
    bell = Bell()
    watching = Watcher(Versions().open)
    with watching.watch(Bell()), watching.watch(bell):
        assert bell.rings


def test_nobody_is_woken_after_the_end_and_nobody_looks_when_nobody_watches():
    versions, bell = Versions(), Bell()
    watching = Watcher(versions.open)
    with watching.watch(bell):
        wait_for_looks(versions)
    rings = bell.rings
    wait_until(lambda: not any(thread.name == "commit-watcher" for thread in threading.enumerate()))
    versions.current = 1
    looks = versions.looks
    with watching.watch(Bell()):
        wait_until(lambda: versions.looks > looks)
    assert bell.rings == rings


def test_a_long_silence_wakes_without_a_commit(monkeypatch):
    monkeypatch.setattr(watcher, "LONGEST_SILENCE_SECONDS", 0.0)
    bell = Bell()
    with Watcher(Versions().open).watch(bell):
        wait_until(lambda: bell.rings > 5)


@pytest.mark.parametrize("error", [Unavailable("gone"), RuntimeError("a bug")])
def test_a_database_that_fails_wakes_everybody_and_is_opened_again(error, caplog):
    versions, bell = Versions(), Bell()
    with Watcher(versions.open).watch(bell):
        wait_for_looks(versions)
        rings = bell.rings
        versions.current = error
        wait_until(lambda: versions.openings == 2)
        wait_for_looks(versions)
        assert bell.rings == rings + 2  # by the failure, and by the first look after it
        versions.current = 7
        wait_until(lambda: bell.rings == rings + 3)
    assert "cannot be watched" in caplog.text
