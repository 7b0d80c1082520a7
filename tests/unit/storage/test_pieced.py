"""Long streams in pieces: the same bytes, several pieces at once, never many, and the blob's end is where it is."""

import threading
import time

import pytest

from storage.errors import BlobNotFound
from storage.memory import MemoryStore
from storage.pieced import LONG_BYTES, PIECE_BYTES, PiecedStore
from storage.spool import Spool
from tests.contract.blob_store import BlobStoreContract

BODY = bytes(range(251)) * (10 * PIECE_BYTES // 251)


class Counted(MemoryStore):
    """Notes which ranges and streams are read; reads wait while the gate is closed."""

    def __init__(self):
        super().__init__()
        self.ranges = []
        self.streams = 0
        self.gate = threading.Event()
        self.gate.set()

    def open(self, key, start=0, end=None):
        self.streams += 1
        return super().open(key, start, end)

    def read_range(self, key, start, end):
        self.ranges.append((start, end))
        if start > 0:
            self.gate.wait(30)
        return super().read_range(key, start, end)


@pytest.fixture
def store(tmp_path):
    store = Counted()
    with Spool(tmp_path) as spool:
        spool.write(BODY)
        store.put("a/blob", spool)
    return store


@pytest.fixture
def pieced(store):
    pieced = PiecedStore(store)
    yield pieced
    store.gate.set()
    pieced.close()


class TestPiecedStore(BlobStoreContract):
    @pytest.fixture
    def store(self):
        pieced = PiecedStore(MemoryStore())
        yield pieced
        pieced.close()


@pytest.mark.parametrize("start", [0, 7, PIECE_BYTES])
@pytest.mark.parametrize("end", [9 * PIECE_BYTES, 9 * PIECE_BYTES + 1, len(BODY), 20 * PIECE_BYTES])
def test_a_long_stream_gives_the_same_bytes_each_read_once(store, pieced, start, end):
    with pieced.open("a/blob", start, end) as stream:
        assert b"".join(iter(lambda: stream.read(1_000_003), b"")) == BODY[start:end]
        assert stream.read(1) == b""
    assert len(set(store.ranges)) == len(store.ranges)
    assert store.streams == 0


def test_a_short_stream_and_one_without_an_end_are_the_stores_own(store, pieced):
    with pieced.open("a/blob", 5, 5 + LONG_BYTES) as stream:
        assert stream.read() == BODY[5 : 5 + LONG_BYTES]
    with pieced.open("a/blob", 5) as stream:
        assert stream.read() == BODY[5:]
    assert (store.streams, store.ranges) == (2, [])


def test_a_slow_reader_has_five_pieces_at_most_and_one_that_left_none(store, pieced):
    store.gate.clear()
    stream = pieced.open("a/blob", 0, len(BODY))
    deadline = time.monotonic() + 30
    while len(store.ranges) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    stream.close()
    store.gate.set()
    pieced.close()
    assert sorted(store.ranges) == [(at * PIECE_BYTES, (at + 1) * PIECE_BYTES) for at in range(5)]
    assert pieced._shared._given_back.qsize() == 4, "memory is given back"


def test_a_missing_blob_is_missed_when_it_is_opened_and_a_lost_one_when_it_is_read(store, pieced):
    with pytest.raises(BlobNotFound):
        pieced.open("a/nother", 0, len(BODY))
    store.gate.clear()
    with pieced.open("a/blob", 0, len(BODY)) as stream:
        store.remove("a/blob")
        store.gate.set()
        with pytest.raises(BlobNotFound):
            stream.read()
