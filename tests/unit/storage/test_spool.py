"""Spools: bytes on their way in."""

import errno
import fcntl
import hashlib
import os
import threading

import pytest

from storage import spool as spool_module
from storage.errors import StorageFull, StorageUnavailable
from storage.spool import CHUNK_BYTES, Spool, pread_all, sweep_spools

DATA = bytes(range(256)) * 8


@pytest.fixture(params=[1024 * 1024, 100], ids=["in memory", "in a file"])
def spool(request, tmp_path):
    with Spool(tmp_path, request.param) as opened:
        yield opened


def test_bytes_are_read_back_while_and_after_they_are_written(spool):
    for offset in range(0, len(DATA), 64):
        assert spool.write(DATA[offset : offset + 64]) == 64
        assert spool.read_range(0, spool.size_bytes) == DATA[: offset + 64]
    assert spool.size_bytes == len(DATA)
    assert spool.read_range(10, 20) == DATA[10:20]
    assert spool.read_range(len(DATA) - 5, len(DATA) + 5) == DATA[-5:]
    assert spool.read_range(len(DATA) + 5, len(DATA) + 10) == b""
    assert spool.read_range(20, 10) == b""


def test_every_kind_of_buffer_is_accepted(spool):
    for data in (b"abc", bytearray(b"def"), memoryview(b"ghi")):
        spool.write(data)
    assert spool.read_range(0, 100) == b"abcdefghi"


def test_digest_and_chunks_may_begin_in_the_middle(spool):
    spool.write(DATA)
    assert spool.digest() == hashlib.sha256(DATA).hexdigest()
    assert spool.digest(132) == hashlib.sha256(DATA[132:]).hexdigest()
    assert spool.digest(132, prefix=b"before") == hashlib.sha256(b"before" + DATA[132:]).hexdigest()
    assert spool.digest(132) == hashlib.sha256(DATA[132:]).hexdigest()
    assert b"".join(spool.iter_chunks(132)) == DATA[132:]


@pytest.mark.parametrize("memory_limit_bytes", [1024 * 1024, 100])
def test_digest_is_taken_while_bytes_are_written(tmp_path, monkeypatch, memory_limit_bytes):
    with Spool(tmp_path, memory_limit_bytes, is_digested=True) as spool:
        for offset in range(0, len(DATA), 64):
            spool.write(memoryview(DATA)[offset : offset + 64])
        monkeypatch.setattr(spool_module.hashlib, "sha256", lambda *_: pytest.fail("the bytes are read again"))
        assert spool.digest() == hashlib.new("sha256", DATA).hexdigest()


def test_digest_knows_nothing_of_bytes_that_could_not_be_written(tmp_path):
    with Spool(tmp_path / "absent", memory_limit_bytes=4, is_digested=True) as spool:
        spool.write(b"1234")
        with pytest.raises(StorageUnavailable):
            spool.write(b"5")
        assert spool.digest() == hashlib.sha256(b"1234").hexdigest()


def test_bytes_that_are_on_their_way_to_the_disk_can_still_be_read_and_added_to(spool):
    spool.write(DATA)
    spool.begin_sync()
    assert spool.path is not None
    assert spool.path.read_bytes() == DATA
    assert spool.read_range(10, 20) == DATA[10:20]
    assert spool.digest(132) == hashlib.sha256(DATA[132:]).hexdigest()
    spool.write(b"more")
    spool.begin_sync()
    with spool.open() as reader:
        assert reader.read() == DATA + b"more"
    assert spool.sync_to_file().read_bytes() == DATA + b"more"


def test_what_cannot_be_on_its_way_stays_in_memory(tmp_path):
    with Spool(tmp_path / "absent") as spool:
        spool.write(b"1234")
        with pytest.raises(StorageUnavailable):
            spool.begin_sync()
        assert spool.path is None
        assert spool.read_range(0, 10) == b"1234"


def test_chunks_are_small(tmp_path):
    with Spool(tmp_path, memory_limit_bytes=0) as spool:
        spool.write(bytes(CHUNK_BYTES * 2 + 1))
        assert [len(chunk) for chunk in spool.iter_chunks()] == [CHUNK_BYTES, CHUNK_BYTES, 1]


def test_a_reader_has_a_position_of_its_own(spool):
    spool.write(DATA)
    with spool.open() as first, spool.open() as second:
        assert first.read(10) == DATA[:10]
        assert second.read() == DATA
        assert first.read(10) == DATA[10:20]
    spool.write(b"more")
    assert spool.read_range(len(DATA), len(DATA) + 10) == b"more"


def test_a_reader_is_not_changed_by_later_writes_in_memory(tmp_path):
    with Spool(tmp_path) as spool:
        spool.write(b"abc")
        with spool.open() as reader:
            spool.write(b"def")
            assert reader.read() == b"abc"
        assert spool.read_range(0, 10) == b"abcdef"


def test_memory_holds_up_to_its_limit_and_then_a_file_does(tmp_path):
    with Spool(tmp_path, memory_limit_bytes=4) as spool:
        spool.write(b"1234")
        assert spool.path is None
        spool.write(b"5")
        assert spool.path is not None
        assert spool.path.parent == tmp_path
        assert spool.read_range(0, 10) == b"12345"


def test_sync_to_file_moves_memory_into_the_folder_asked_for(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    with Spool(tmp_path) as spool:
        spool.write(DATA)
        path = spool.sync_to_file(folder)
        assert path.parent == folder
        assert path.read_bytes() == DATA
        assert spool.sync_to_file(tmp_path) == path, "a file stays where it is"
    assert not path.exists()


def test_close_frees_everything_and_may_be_called_twice(spool, tmp_path):
    spool.write(DATA)
    spool.close()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_close_leaves_a_file_that_a_store_moved_away(tmp_path):
    with Spool(tmp_path, memory_limit_bytes=0) as spool:
        spool.write(DATA)
        spool.sync_to_file().rename(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == DATA


def test_a_missing_folder_is_unavailable_and_the_bytes_stay(tmp_path):
    with Spool(tmp_path / "absent", memory_limit_bytes=4) as spool:
        spool.write(b"1234")
        with pytest.raises(StorageUnavailable):
            spool.write(b"5")
        assert spool.read_range(0, 10) == b"1234"
        (tmp_path / "absent").mkdir()
        spool.write(b"5")
        assert spool.read_range(0, 10) == b"12345"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_an_error_of_its_own(number):
    with pytest.raises(StorageFull), spool_module.disk_errors():
        raise OSError(number, os.strerror(number))


def test_sweeping_spares_files_in_use_and_other_files(tmp_path):
    (tmp_path / "left.spool").write_bytes(b"from a killed process")
    (tmp_path / "other").write_bytes(b"")
    with Spool(tmp_path, memory_limit_bytes=0) as spool:
        spool.write(DATA)
        assert sweep_spools(tmp_path) == 1
        assert spool.read_range(0, 10) == DATA[:10]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["other", spool.path.name])


def test_a_sweep_between_creating_and_locking_a_file_loses_no_bytes(tmp_path, monkeypatch):
    really_lock = fcntl.flock
    swept = []

    def sweep_first(descriptor, operation):
        if not swept:
            swept.append(None)
            swept[0] = sweep_spools(tmp_path)
        really_lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with Spool(tmp_path, memory_limit_bytes=0) as spool:
        spool.write(DATA)
        assert swept == [1]
        assert spool.sync_to_file().read_bytes() == DATA


def test_many_threads_sweep_and_spool_at_once(tmp_path):
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            sweep_spools(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(200):
            with Spool(tmp_path, memory_limit_bytes=0) as spool:
                spool.write(DATA)
                assert spool.sync_to_file().read_bytes() == DATA
    finally:
        stop.set()
        sweeper.join()


def test_what_was_written_half_is_overwritten_by_the_next_attempt(tmp_path, monkeypatch):
    really_write, tries = os.pwrite, []

    def fail_first(descriptor, data, offset):
        tries.append(offset)
        if len(tries) == 1:
            return really_write(descriptor, data[:3], offset)
        if len(tries) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_write(descriptor, data[:7], offset)

    with Spool(tmp_path, memory_limit_bytes=0, is_digested=True) as spool:
        spool.write(b"first")
        monkeypatch.setattr(os, "pwrite", fail_first)
        with pytest.raises(StorageFull):
            spool.write(b"lost bytes")
        assert spool.size_bytes == 5
        spool.write(DATA)
        assert spool.read_range(0, len(DATA) + 10) == b"first" + DATA
        assert spool.digest() == hashlib.sha256(b"first" + DATA).hexdigest()
        assert spool.sync_to_file().read_bytes() == b"first" + DATA
    assert tries[:4] == [5, 8, 5, 12]


def test_short_reads_are_continued(tmp_path, monkeypatch):
    really_read = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: really_read(descriptor, min(count, 7), offset))
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as file:
        assert pread_all(file.fileno(), 3, 100) == DATA[3:100]
        assert pread_all(file.fileno(), 3, 100_000) == DATA[3:]
