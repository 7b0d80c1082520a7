"""Reading ahead: the same bytes, asked for earlier, never much of them, and nothing for who has left."""

import gc
import threading
import time

import pytest

from storage.ahead import _WINDOW_BLOBS, Extent, ReadAhead
from storage.errors import BlobNotFound
from storage.memory import MemoryStore
from storage.spool import Spool


class Counted(MemoryStore):
    """Notes which keys are read, and by which thread; reads wait while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = []
        self.gate = threading.Event()
        self.gate.set()

    def read_range(self, key, start, end):
        self.reads.append((key, threading.current_thread() is threading.main_thread()))
        self.gate.wait(30)
        return super().read_range(key, start, end)


@pytest.fixture
def store(tmp_path):
    store = Counted()
    for number in range(40):
        with Spool(tmp_path) as spool:
            spool.write(bytes([number]) * 1000)
            store.put(f"blob/{number}", spool)
    return store


@pytest.fixture
def shared(store):
    ahead = ReadAhead(store)
    yield ahead
    store.gate.set()
    ahead.close()


EXTENTS = [Extent(f"blob/{number}", 0, 1000) for number in range(40)]


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_sequence_is_read_once_each_and_ahead(store, shared):
    reader = shared.over(EXTENTS)
    for number in range(40):
        assert reader.read_range(f"blob/{number}", 0, 1000) == bytes([number]) * 1000
    assert sorted(key for key, _ in store.reads) == sorted(extent.key for extent in EXTENTS)
    assert [key for key, is_reader in store.reads if is_reader] == ["blob/0"], "only the first was waited for"


def test_parts_and_streams_come_from_what_was_read_ahead(store, shared):
    reader = shared.over(EXTENTS)
    reader.read_range("blob/0", 0, 1000)
    assert reader.read_range("blob/1", 10, 20) == bytes([1]) * 10
    assert reader.read_range("blob/1", 990, 1000) == bytes([1]) * 10
    with reader.open("blob/2") as stream:
        assert stream.read() == bytes([2]) * 1000
    with reader.open("blob/2", 100, 1000) as stream:
        assert stream.read() == bytes([2]) * 900
    assert [key for key, is_reader in store.reads if is_reader] == ["blob/0"]


def test_no_more_than_a_few_are_ahead_of_a_slow_reader(store, shared):
    reader = shared.over(EXTENTS)
    reader.read_range("blob/0", 0, 1000)
    wait_until(lambda: len(store.reads) == 1 + _WINDOW_BLOBS)
    time.sleep(0.05)
    assert len(store.reads) == 1 + _WINDOW_BLOBS


def test_a_reader_that_left_costs_nothing_more_and_gives_its_memory_back(store, shared):
    free_bytes = shared._free_bytes
    store.gate.clear()
    readers = [shared.over(EXTENTS) for _ in range(5)]
    for reader in readers:
        reader._fill(0)
    wait_until(lambda: len(store.reads) == _WINDOW_BLOBS)
    del reader
    readers.clear()
    gc.collect()
    store.gate.set()
    reader = shared.over(EXTENTS[:2])
    reader.read_range("blob/0", 0, 1000)
    reader.read_range("blob/1", 0, 1000)
    assert len(store.reads) == _WINDOW_BLOBS + 2, "what was only queued was never read"
    assert shared._free_bytes == free_bytes - 1000


def test_without_memory_everything_is_still_read(store, shared):
    shared._free_bytes = 1500
    reader = shared.over(EXTENTS)
    for number in range(40):
        assert reader.read_range(f"blob/{number}", 0, 1000) == bytes([number]) * 1000


def test_what_is_near_or_large_is_left_to_the_reader(store):
    ahead = ReadAhead(store, is_near=lambda key: key == "blob/1")
    reader = ahead.over([*EXTENTS[:2], Extent("blob/2", 0, 100 * 1024 * 1024), EXTENTS[3]])
    reader.read_range("blob/0", 0, 1000)
    wait_until(lambda: len(store.reads) == 2)
    ahead.close()
    assert {key for key, _ in store.reads} == {"blob/0", "blob/3"}


def test_what_is_near_is_looked_for_once(store):
    asked = []
    ahead = ReadAhead(store, is_near=lambda key: not asked.append(key))
    reader = ahead.over(EXTENTS)
    for number in range(40):
        reader.read_range(f"blob/{number}", 0, 1000)
    ahead.close()
    assert asked == [extent.key for extent in EXTENTS[1:]]


def test_a_blob_that_is_missing_is_missed_when_its_turn_comes(store, shared):
    store.remove("blob/1")
    reader = shared.over(EXTENTS)
    assert reader.read_range("blob/0", 0, 1000)
    with pytest.raises(BlobNotFound):
        reader.read_range("blob/1", 0, 1000)
    assert reader.read_range("blob/2", 0, 1000)


def test_another_order_and_unknown_keys_give_the_same_bytes(store, shared):
    reader = shared.over(EXTENTS[:20])
    for number in (5, 3, 19, 0, 30, 7, 7):
        assert reader.read_range(f"blob/{number}", 0, 1000) == bytes([number]) * 1000
        with reader.open(f"blob/{number}", 998) as stream:
            assert stream.read() == bytes([number]) * 2
