"""The contract suite on JournaledStore, and what writing behind promises while the distant store comes and goes."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from storage.errors import BlobNotFound, StorageFull, StorageUnavailable
from storage.journaled import Journal, JournaledStore, Uploader
from storage.keys import blob_key
from storage.memory import MemoryStore
from storage.s3 import S3Store
from storage.spool import Spool
from tests.contract.blob_store import BYTES, BlobStoreContract
from tests.contract.servers import run_minio
from tests.contract.test_s3 import open_s3

PROJECT = Path(__file__).parents[2]
PUT_AND_SAY_SO = """
import hashlib, os, sys
from pathlib import Path
from storage.journaled import Journal, JournaledStore, Uploader
from storage.keys import blob_key
from storage.s3 import S3Store
from storage.spool import Spool

endpoint, access_key, secret_key, bucket, folder = sys.argv[1:]
journal = Journal(Path(folder))
distant = S3Store(endpoint, bucket, access_key=access_key, secret_key=secret_key, secure=False)
store = JournaledStore(journal, distant, writes_behind=True)
Uploader(journal, distant)
while True:
    data = os.urandom(50_000)
    key = blob_key(hashlib.sha256(data).hexdigest())
    with Spool(journal.blobs.spool_directory) as spool:
        spool.write(data)
        store.put(key, spool)
    print(key, flush=True)
"""


class TestJournaledStore(BlobStoreContract):
    """Nothing is uploaded."""

    @pytest.fixture
    def store(self, tmp_path):
        return JournaledStore(Journal(tmp_path / "journal"), MemoryStore(), writes_behind=True)


class TestJournaledStoreThatPutsAtOnce(BlobStoreContract):
    """The journal is there for what it may still hold."""

    @pytest.fixture
    def store(self, tmp_path):
        return JournaledStore(Journal(tmp_path / "journal"), MemoryStore(), writes_behind=False)


@pytest.mark.s3
class TestUploadedStore(BlobStoreContract):
    """Everything is uploaded as soon as it is put."""

    @pytest.fixture
    def store(self, minio_server, tmp_path):
        journal, distant = Journal(tmp_path / "journal"), open_s3(minio_server)
        with closing(Uploader(journal, distant)):
            yield JournaledStore(journal, distant, writes_behind=True)

    @pytest.fixture(autouse=True)
    def keys_that_promise_no_content(self, monkeypatch):
        """The suite's bytes are not what its keys say, which is not uploaded."""
        monkeypatch.setattr("tests.contract.blob_store.new_key", lambda: f"blob/{os.urandom(8).hex()}")

    # The uploader finds out, see below: a put that asked the distant store would not be written behind.
    test_a_put_of_another_size_is_a_conflict_and_changes_nothing = None

    def test_a_second_put_renews_the_time_and_keeps_the_bytes(self, store, put):
        key = "blob/renewed"
        put(key, BYTES)
        wait_until(lambda: not store._journal.has(key))
        first = store.stat(key).modified_at
        time.sleep(1.1)
        put(key, BYTES)
        wait_until(lambda: not store._journal.has(key))
        assert store.stat(key).modified_at > first
        assert list(store.iter_keys()) == [key]


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


def put_content(store, data: bytes) -> str:
    key = blob_key(hashlib.sha256(data).hexdigest())
    with Spool(store._journal.blobs.spool_directory) as spool:
        spool.write(data)
        store.put(key, spool)
    return key


class Gated(MemoryStore):
    """Puts wait while the gate is closed, and fail while the store is away; what is read is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.is_putting = threading.Event()
        self.is_away = False
        self.puts = []
        self.under_way = 0

    def put(self, key, spool):
        self.is_putting.set()
        with self._lock:
            self.under_way += 1
        self.gate.wait(60)
        with self._lock:
            self.under_way -= 1
        if self.is_away:
            raise StorageUnavailable
        self.puts.append(key)
        return super().put(key, spool)


def test_what_is_put_is_read_at_once_and_leaves_the_journal_once_it_has_arrived(journal):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    key = put_content(store, BYTES)
    assert journal.count() == 1
    assert list(distant.iter_keys()) == []
    assert store.read_range(key, 0, 5000) == BYTES
    with closing(Uploader(journal, distant)):
        wait_until(lambda: journal.count() == 0)
        assert distant.read_range(key, 0, 5000) == store.read_range(key, 0, 5000) == BYTES


def test_a_blob_of_many_megabytes_is_uploaded_from_where_it_lies(journal, minio_server):
    distant = open_s3(minio_server)
    store = JournaledStore(journal, distant, writes_behind=True)
    data = os.urandom(20 * 1024 * 1024)
    key = put_content(store, data)
    with closing(Uploader(journal, distant)):
        wait_until(lambda: journal.count() == 0)
    assert distant.read_range(key, 0, len(data)) == data
    assert list(journal.blobs.spool_directory.iterdir()) == []


def test_reads_never_miss_a_blob_while_it_moves(journal):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    known, misses, has_ended = [], [], threading.Event()

    def read() -> None:
        while not has_ended.is_set():
            for key in known[-20:]:
                try:
                    assert store.read_range(key, 0, 10)
                    with store.open(key) as stream:
                        assert stream.read()
                    store.stat(key)
                except BlobNotFound:
                    misses.append(key)

    reader = threading.Thread(target=read)
    with closing(Uploader(journal, distant)):
        reader.start()
        known.extend(put_content(store, os.urandom(500)) for _ in range(150))
        wait_until(lambda: journal.count() == 0)
        has_ended.set()
        reader.join()
    assert misses == []
    assert sorted(store.iter_keys()) == sorted(known)


def test_a_store_that_is_away_is_tried_again_and_nothing_is_lost(journal, caplog):
    distant = Gated()
    distant.is_away = True
    store = JournaledStore(journal, distant, writes_behind=True)
    keys = [put_content(store, os.urandom(100)) for _ in range(10)]
    with closing(Uploader(journal, distant)):
        assert distant.is_putting.wait(60)
        wait_until(lambda: "does not take" in caplog.text)
        assert journal.count() == 10
        assert store.read_range(keys[0], 0, 1000)
        distant.is_away = False
        wait_until(lambda: journal.count() == 0)
    assert sorted(distant.iter_keys()) == sorted(keys)


@pytest.mark.parametrize(("is_busy", "at_once"), [(True, 1), (False, 4)])
def test_uploads_leave_room_while_objects_come_in(journal, monkeypatch, is_busy, at_once):
    distant = Gated()
    distant.gate.clear()
    store = JournaledStore(journal, distant, writes_behind=True)
    for _ in range(20):
        put_content(store, os.urandom(100))
    assert journal.is_busy()
    monkeypatch.setattr(journal, "is_busy", lambda: is_busy)
    with closing(Uploader(journal, distant)):
        wait_until(lambda: distant.under_way == at_once)
        time.sleep(0.1)
        assert distant.under_way == at_once
        distant.gate.set()
        wait_until(lambda: journal.count() == 0)


def test_one_process_uploads_and_another_takes_over_when_it_ends(journal, tmp_path):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    leading = Journal(tmp_path / "journal").try_lead()
    with closing(Uploader(journal, distant)):
        put_content(store, BYTES)
        assert not distant.is_putting.wait(0.5)
        os.close(leading)
        wait_until(lambda: journal.count() == 0)


def test_a_blob_removed_on_its_way_is_gone_when_it_arrives(journal):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    distant.gate.clear()
    key = put_content(store, BYTES)
    with closing(Uploader(journal, distant)):
        assert distant.is_putting.wait(60)
        store.remove(key)
        distant.gate.set()
        wait_until(lambda: distant.puts == [key])
    assert list(store.iter_keys()) == []


def test_a_blob_removed_and_put_again_on_its_way_is_not_lost(journal):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    distant.gate.clear()
    key = put_content(store, BYTES)
    with closing(Uploader(journal, distant)):
        assert distant.is_putting.wait(60)
        store.remove(key)
        put_content(store, BYTES)
        distant.gate.set()
        wait_until(lambda: journal.count() == 0)
    assert distant.puts == [key, key]
    assert store.read_range(key, 0, 5000) == BYTES


def test_a_blob_that_is_damaged_here_is_never_uploaded_and_keeps_nobody_back(journal, caplog):
    distant = Gated()
    store = JournaledStore(journal, distant, writes_behind=True)
    damaged = put_content(store, BYTES)
    path = journal.blobs.spool_directory.parent / damaged
    path.write_bytes(BYTES[:-1] + b"?")
    good = put_content(store, b"good")
    with closing(Uploader(journal, distant)):
        wait_until(lambda: journal.count() == 1)
        wait_until(lambda: "stays in the journal" in caplog.text)
    assert list(distant.iter_keys()) == [good]


def test_a_blob_of_which_the_store_has_another_size_stays_and_is_the_one_that_is_read(journal, tmp_path, caplog):
    distant = MemoryStore()
    store = JournaledStore(journal, distant, writes_behind=True)
    key = blob_key(hashlib.sha256(BYTES).hexdigest())
    with Spool(tmp_path) as spool:
        spool.write(b"short")
        distant.put(key, spool)
    put_content(store, BYTES)
    with closing(Uploader(journal, distant)):
        wait_until(lambda: "stays in the journal" in caplog.text)
    assert store.read_range(key, 0, 5000) == BYTES
    assert distant.read_range(key, 0, 5000) == b"short"


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        journal, distant = Journal(folder / "journal"), Gated()
        store = JournaledStore(journal, distant, writes_behind=True)
        key = put_content(store, os.urandom(700_000))
        with pytest.raises(StorageFull):
            put_content(store, os.urandom(700_000))
        assert list(store.iter_keys()) == [key]
        with closing(Uploader(journal, distant)):
            wait_until(lambda: journal.count() == 0)
        assert store.read_range(put_content(store, bytes(700_000)), 0, 10) == bytes(10), "there is room again"
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.s3
def test_what_was_acknowledged_survives_a_kill_and_is_uploaded_by_the_next_process(tmp_path, minio_server, journal):
    bucket = f"kill-{os.urandom(8).hex()}"
    command = [sys.executable, "-c", PUT_AND_SAY_SO, *minio_server[:3], bucket, str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as child:
        acknowledged = [child.stdout.readline().strip() for _ in range(60)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().split()
    distant = open_s3(minio_server, bucket=bucket, prefix="")
    store = JournaledStore(journal, distant, writes_behind=True)
    read_whole(store, acknowledged)
    with closing(Uploader(journal, distant)):
        wait_until(lambda: journal.count() == 0)
    read_whole(distant, acknowledged)


@pytest.mark.s3
def test_a_server_that_stops_and_starts_again_gets_everything(tmp_path, journal):
    (tmp_path / "minio").mkdir()
    distant = None
    keys = []
    with run_minio(tmp_path / "minio") as server:
        distant = S3Store(**server._asdict(), secure=False)
        store = JournaledStore(journal, distant, writes_behind=True)
        with closing(Uploader(journal, distant)):
            keys.append(put_content(store, os.urandom(1000)))
            wait_until(lambda: journal.count() == 0)
    with closing(Uploader(journal, distant)):
        keys += [put_content(store, os.urandom(1000)) for _ in range(20)]
        read_whole(store, keys[1:])
        with pytest.raises(StorageUnavailable):
            store.read_range(keys[0], 0, 10)
        assert journal.count() == 20
    with run_minio(tmp_path / "minio") as server:
        # Another port and other credentials, but the same objects.
        distant = S3Store(**server._asdict(), secure=False)
        store = JournaledStore(journal, distant, writes_behind=True)
        with closing(Uploader(journal, distant)):
            wait_until(lambda: journal.count() == 0)
        read_whole(distant, keys)
        assert sorted(distant.iter_keys()) == sorted(keys)


def read_whole(store, keys: list[str]) -> None:
    for key in keys:
        with store.open(key) as stream:
            assert blob_key(hashlib.sha256(stream.read()).hexdigest()) == key
