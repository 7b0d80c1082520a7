"""The contract suite on FilesystemStore, and what only a file system can do wrong."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import BlobNotFound, StorageFull, StorageUnavailable
from storage.filesystem import FilesystemStore
from storage.spool import Spool, sweep_spools
from tests.contract.blob_store import BYTES, LastingBlobStoreContract, new_key

PROJECT = Path(__file__).parents[2]
HOLD_A_SPOOL = """
import sys, time
from pathlib import Path
from storage.spool import Spool
spool = Spool(Path(sys.argv[1]), memory_limit_bytes=0)
spool.write(b"half a file")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "tmpfs"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this container may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestFilesystemStore(LastingBlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return FilesystemStore(tmp_path / "new" / "root")

    @pytest.fixture
    def spool_directory(self, store):
        return store.spool_directory

    @pytest.fixture
    def unreachable_store(self, tmp_path):
        store = FilesystemStore(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone")
        return store

    def test_a_root_that_is_gone_is_not_created_again(self, unreachable_store, tmp_path):
        with Spool(tmp_path) as spool, pytest.raises(StorageUnavailable):
            unreachable_store.put(new_key(), spool)
        assert not (tmp_path / "gone").exists()

    def test_a_root_that_cannot_be_created_is_unavailable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageUnavailable):
            FilesystemStore(tmp_path / "file" / "root")

    def test_a_key_never_leads_out_of_the_root(self, store, put, tmp_path):
        outside = tmp_path / "new" / "outside"
        outside.write_bytes(b"secret")
        with pytest.raises(BlobNotFound):
            store.open("../outside")
        with pytest.raises(ValueError, match="not a valid blob key"):
            put("../outside", b"other!")
        store.remove("../outside")
        assert outside.read_bytes() == b"secret"

    def test_a_folder_is_no_blob(self, store, put):
        put("folder/blob", b"data")
        for read in (lambda: store.open("folder"), lambda: store.stat("folder"), lambda: store.stat("folder/blob/x")):
            with pytest.raises(BlobNotFound):
                read()

    def test_a_spool_in_a_file_is_put_in_place_without_a_copy(self, store, spool_directory):
        key = new_key()
        with Spool(spool_directory, memory_limit_bytes=0) as spool:
            spool.write(BYTES)
            inode = spool.path.stat().st_ino
            store.put(key, spool)
        placed = (store.spool_directory.parent / key).stat()
        assert (placed.st_ino, placed.st_nlink) == (inode, 1)
        assert stat.S_IMODE(placed.st_mode) == 0o600

    def test_a_spool_on_another_file_system_is_copied(self, store, tmpfs):
        key = new_key()
        with Spool(tmpfs, memory_limit_bytes=0) as spool:
            spool.write(BYTES)
            store.put(key, spool)
        assert store.read_range(key, 0, 5000) == BYTES
        assert list_files(store.spool_directory) == list_files(tmpfs) == []

    def test_a_spool_in_memory_whose_folder_is_elsewhere_is_stored(self, store, tmp_path):
        key = new_key()
        with Spool(tmp_path) as spool:
            spool.write(BYTES)
            store.put(key, spool)
        assert store.read_range(key, 0, 5000) == BYTES
        assert list_files(store.spool_directory) == []

    def test_file_and_every_new_folder_are_synced_before_a_put_returns(self, store, put, monkeypatch):
        synced = []
        really_sync = os.fsync

        def note_and_sync(descriptor: int) -> None:
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            really_sync(descriptor)

        monkeypatch.setattr(os, "fsync", note_and_sync)
        root = store.spool_directory.parent
        put("a/b/first", b"data")
        spooled, *folders = synced
        assert spooled.parent == store.spool_directory
        assert folders == [root, root / "a", root / "a/b"]

        synced.clear()
        put("a/b/second", b"data")
        assert [path.name for path in synced[1:]] == ["b"]

        synced.clear()
        put("a/b/second", b"data")
        assert synced == [root / "a/b"]

        # Another process sees folders that it did not create and that may not be durable yet.
        synced.clear()
        monkeypatch.setattr(store, "_durable_folders", set())
        put("a/b/second", b"data")
        assert synced == [root, root / "a", root / "a/b"]

    def test_what_a_killed_process_left_is_swept(self, store, put):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD_A_SPOOL, store.spool_directory], stdout=subprocess.PIPE, cwd=PROJECT
        ) as child:
            try:
                assert child.stdout.readline() == b"ready\n"
                assert sweep_spools(store.spool_directory) == 0
                assert len(list_files(store.spool_directory)) == 1
            finally:
                child.send_signal(signal.SIGKILL)
        put("a/key", b"data")
        assert sweep_spools(store.spool_directory) == 1
        assert list_files(store.spool_directory) == []
        assert list(store.iter_keys()) == ["a/key"]

    def test_a_full_disk_is_told_and_leaves_nothing(self, tmpfs, tmp_path):
        store = FilesystemStore(tmpfs / "root")
        key = new_key()
        with Spool(store.spool_directory) as spool:
            spool.write(bytes(700_000))
            store.put(key, spool)
        other = new_key()
        with Spool(store.spool_directory) as spool:
            spool.write(bytes(700_000))
            with pytest.raises(StorageFull):
                store.put(other, spool)
            assert list_files(tmpfs) == [f"root/{key}"]
            store.remove(key)
            assert store.put(other, spool).size_bytes == 700_000, "there is room again"
        assert list_files(tmpfs) == [f"root/{other}"]

    def test_a_spool_that_fills_the_disk_is_told_and_leaves_nothing(self, tmpfs):
        store = FilesystemStore(tmpfs / "root")
        with Spool(store.spool_directory, memory_limit_bytes=0) as spool, pytest.raises(StorageFull):
            spool.write(bytes(2 * 1024 * 1024))
        assert list_files(tmpfs) == []

    def test_many_threads_put_many_keys(self, store, put):
        keys = [new_key() for _ in range(20)]
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(put, key, BYTES) for key in keys * 3]:
                future.result()
        assert sorted(store.iter_keys()) == sorted(keys)
        assert list_files(store.spool_directory) == []

    def test_a_file_system_without_links_renames(self, store, put, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        put("a/key", BYTES, memory_limit_bytes=0)
        assert store.read_range("a/key", 0, 5000) == BYTES
        assert list_files(store.spool_directory) == []

    def test_folders_that_someone_removed_are_made_again(self, store, put):
        put("a/key", b"data")
        store.remove("a/key")
        (store.spool_directory.parent / "a").rmdir()
        with pytest.raises(StorageUnavailable):
            put("a/key", b"data")
        put("a/key", b"data")
        assert store.read_range("a/key", 0, 9) == b"data"

    def test_what_others_put_into_the_root_is_not_listed(self, store, put, spool_directory):
        root = store.spool_directory.parent
        (root / "lost+found").mkdir(0)
        (root / ".hidden").write_bytes(b"")
        (root / "link").symlink_to("/")
        put("a/key", b"data")
        with Spool(spool_directory, memory_limit_bytes=0) as spool:
            spool.write(b"on its way")
            assert list(store.iter_keys()) == ["a/key"]
