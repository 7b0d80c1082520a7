"""Kept frames come back whole or not at all, within their bound, in memory and on disk, from any process."""

import os
import threading
import time

import pytest

from pacs.retrieve.cache import FolderFrameCache, MemoryFrameCache, frame_key

CAPACITY = 1024 * 1024
FRAME = 32 * 1024


@pytest.fixture(params=["memory", "folder"])
def cache(request, tmp_path):
    return MemoryFrameCache(CAPACITY) if request.param == "memory" else FolderFrameCache(tmp_path / "cache", CAPACITY)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def key_of(number):
    return frame_key("blob", 0, number)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def put_aged(folder, number, content, age_seconds):
    """Keep a frame that was last asked for so long ago."""
    assert FolderFrameCache(folder, 64 * CAPACITY).put(key_of(number), content)
    at = time.time() - age_seconds
    os.utime(folder / key_of(number)[:2] / key_of(number), (at, at))


def test_what_was_put_is_found(cache):
    assert cache.find(key_of(1)) is None
    assert cache.put(key_of(1), b"frame")
    assert cache.put(key_of(2), b"")
    assert (cache.find(key_of(1)), cache.find(key_of(2)), cache.find(key_of(3))) == (b"frame", b"", None)


def test_put_again_it_is_there_once(cache):
    for _ in range(3):
        assert cache.put(key_of(1), b"frame")
    assert cache.find(key_of(1)) == b"frame"


def test_no_identity_imitates_another():
    assert len({frame_key("a", "b"), frame_key("ab"), frame_key("a, b"), frame_key("a", 1), frame_key("a", "1")}) == 5


def test_a_frame_larger_than_its_share_is_not_kept(cache):
    assert not cache.put(key_of(1), b"x" * (CAPACITY // 8 + 1))
    assert cache.find(key_of(1)) is None


def test_without_capacity_nothing_is_kept_or_made(folder):
    for none in (MemoryFrameCache(0), FolderFrameCache(folder, 0)):
        assert not none.put(key_of(1), b"frame")
    assert not folder.exists()


def test_it_never_outgrows_its_capacity_by_more_than_a_sixteenth(folder):
    caches = [FolderFrameCache(folder, CAPACITY) for _ in range(2)]
    for number in range(120):
        caches[number % 2].put(key_of(number), b"x" * FRAME)
        assert sum(path.stat().st_blocks * 512 for path in files_in(folder)) <= CAPACITY * 18 // 16 + 2 * FRAME
    assert len(files_in(folder)) >= CAPACITY // FRAME // 2


def test_in_memory_it_never_outgrows_its_capacity():
    cache = MemoryFrameCache(CAPACITY)
    for number in range(100):
        cache.put(key_of(number), b"x" * FRAME)
    kept = [number for number in range(100) if cache.find(key_of(number))]
    assert kept == list(range(100 - CAPACITY // FRAME, 100))


def test_what_was_asked_for_last_stays(folder):
    for number in range(40):
        put_aged(folder, number, b"x" * FRAME, age_seconds=1000 - number)
    assert FolderFrameCache(folder, CAPACITY).find(key_of(3))  # which makes it the newest
    FolderFrameCache(folder, CAPACITY).put(key_of(99), b"x" * FRAME)
    cache = FolderFrameCache(folder, CAPACITY)
    assert cache.find(key_of(3))
    assert cache.find(key_of(99))
    assert cache.find(key_of(0)) is None
    assert cache.find(key_of(39))


def test_what_another_process_left_is_counted(folder):
    for number in range(60):
        put_aged(folder, number, b"x" * FRAME, age_seconds=100)
    FolderFrameCache(folder, CAPACITY).put(key_of(99), b"x")
    assert len(files_in(folder)) <= CAPACITY // FRAME


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content + b"x",
        lambda content: content[:-1] + b"?",
        lambda content: b"?" + content[1:],
        lambda content: b"\0" * len(content),
    ],
    ids=["shorter", "empty", "cut", "longer", "other", "other digest", "zeros"],
)
def test_what_a_power_cut_spoiled_is_not_believed(folder, spoil):
    cache = FolderFrameCache(folder, CAPACITY)
    cache.put(key_of(1), b"frame" * 100)
    (path,) = files_in(folder)
    path.write_bytes(spoil(path.read_bytes()))
    assert cache.find(key_of(1)) is None
    assert files_in(folder) == []
    assert cache.put(key_of(1), b"frame")
    assert cache.find(key_of(1)) == b"frame"


def test_a_frame_under_the_name_of_another_is_not_believed(folder):
    cache = FolderFrameCache(folder, CAPACITY)
    cache.put(key_of(1), b"frame")
    (path,) = files_in(folder)
    (folder / key_of(2)[:2]).mkdir(exist_ok=True)
    path.rename(folder / key_of(2)[:2] / key_of(2))
    assert cache.find(key_of(2)) is None


def test_nobody_else_can_read_it(folder):
    FolderFrameCache(folder, CAPACITY).put(key_of(1), b"frame")
    assert {path.stat().st_mode & 0o777 for path in files_in(folder)} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o700}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_not_finished_is_removed_once_it_is_old(folder):
    put_aged(folder, 1, b"frame", age_seconds=0)
    (path,) = files_in(folder)
    old, new = path.with_suffix(".1-1.new"), path.with_suffix(".2-2.new")
    for unfinished in (old, new):
        unfinished.write_bytes(b"half")
    at = time.time() - 7200
    os.utime(old, (at, at))
    FolderFrameCache(folder, CAPACITY).put(key_of(2), b"frame")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_disk_that_takes_nothing_costs_nobody_a_frame(tmp_path, caplog):
    blocked = tmp_path / "cache"
    blocked.write_bytes(b"a file where the folder should be")
    cache = FolderFrameCache(blocked, CAPACITY)
    assert not cache.put(key_of(1), b"frame")
    assert cache.find(key_of(1)) is None
    assert "not kept" in caplog.text


def test_threads_that_put_and_find_at_once_see_whole_frames(folder):
    wrong = []

    def work(seed):
        cache = FolderFrameCache(folder, CAPACITY)
        for step in range(60):
            number = (seed * 7 + step) % 50
            cache.put(key_of(number), bytes([number]) * FRAME)
            other = (number * 3) % 50
            if cache.find(key_of(other)) not in (None, bytes([other]) * FRAME):
                wrong.append(other)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
