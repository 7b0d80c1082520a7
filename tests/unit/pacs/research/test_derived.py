"""What is made of a release is made once, appears whole, and goes with its release."""

import errno
import os
import threading
import time

import pytest

from pacs.errors import OutOfResources
from pacs.research.exports.derived import DerivedFiles
from pacs.research.exports.download import of_bytes, of_file
from pacs.research.exports.recently import Recently


@pytest.fixture
def derived(tmp_path):
    return DerivedFiles(tmp_path / "derived")


def write(content: bytes):
    return lambda target: target.write(content)


def never(_):
    raise AssertionError


def test_a_file_is_made_once_also_by_another_process(derived, tmp_path):
    assert derived.get(1, "index", write(b"made")).read_bytes() == b"made"
    assert DerivedFiles(tmp_path / "derived").get(1, "index", never).read_bytes() == b"made"
    assert derived.get(2, "index", write(b"another")).read_bytes() == b"another"


def test_who_comes_meanwhile_waits_and_finds_it(derived):
    begun, go_on, found = threading.Event(), threading.Event(), []

    def make(target):
        begun.set()
        go_on.wait(60)
        target.write(b"made")

    first = threading.Thread(target=lambda: found.append(derived.get(1, "index", make)))
    first.start()
    begun.wait(60)
    second = threading.Thread(target=lambda: found.append(derived.get(1, "index", never)))
    second.start()
    go_on.set()
    for thread in (first, second):
        thread.join(60)
    assert [path.read_bytes() for path in found] == [b"made", b"made"]


def test_what_fails_half_way_leaves_nothing_and_is_tried_again(derived, tmp_path):
    def fail(target):
        target.write(b"half")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - ours
        derived.get(1, "index", fail)
    assert not list((tmp_path / "derived").iterdir())
    assert derived.get(1, "index", write(b"made")).read_bytes() == b"made"


def test_a_full_disk_is_said_to_be_one_and_leaves_nothing(derived, tmp_path):
    def fill(_):
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OutOfResources):
        derived.get(1, "index", fill)
    assert not list((tmp_path / "derived").iterdir())


def test_what_was_made_of_a_release_that_is_gone_goes_and_what_a_kill_left(derived, tmp_path):
    kept, gone = derived.get(1, "index", write(b"kept")), derived.get(12, "index", write(b"gone"))
    left, new = tmp_path / "derived" / "left.new", tmp_path / "derived" / "underway.new"
    for path in (left, new):
        path.write_bytes(b"half")
    os.utime(left, (time.time() - 7200,) * 2)
    derived.keep_only({1})
    assert kept.exists()
    assert not gone.exists()
    assert not left.exists()
    assert new.exists()


def test_any_range_of_a_download_can_be_read_and_a_file_though_it_is_removed(tmp_path):
    content = bytes(range(256)) * 5000
    path = tmp_path / "file"
    path.write_bytes(content)
    with of_file("file", "text/plain", path) as opened, of_bytes("bytes", "text/plain", content) as held:
        path.unlink()
        for download in (opened, held):
            assert download.length_bytes == len(content)
            assert b"".join(download.iter_range(1000, 1_200_000)) == content[1000:1_200_000]
            assert b"".join(download.iter_chunks()) == content


def test_what_happened_a_while_ago_did_not_happen_recently():
    recently, at_once = Recently(), Recently(seconds=0)
    for one in (recently, at_once):
        assert not one.has("a")
        one.add("a")
    assert recently.has("a")
    assert not recently.has("b")
    assert not at_once.has("a")
    for number in range(5000):
        recently.add(number)
    assert not recently.has("a")
    assert recently.has(4999)
