"""A private PostgreSQL server for one test process: its own folder, a Unix socket, no port, gone when it ends.

``initdb`` refuses to run as root, so that root runs the server as the user ``postgres``. Every xdist worker has its
own server; every test has its own database.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

_USER = "postgres"
_SETTINGS = (
    "listen_addresses=''",
    "max_connections=60",
    "shared_buffers=32MB",
    "fsync=off",  # the server dies with the tests; what is durable is PostgreSQL's own promise
    "synchronous_commit=off",  # so that a test can see that the archive does not accept it
    "full_page_writes=off",
    "autovacuum=off",
    "max_wal_size=64MB",
    "deadlock_timeout=100ms",
)


class PostgresServer:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create_database(self, name: str = "", template: str = "template1") -> str:
        """Return the URL of a new database, a copy of ``template``."""
        name = name or f"test_{uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"postgresql://{_USER}@/{name}?host={self._folder}"

    def execute(self, statement: str) -> str:
        """Run a statement as the superuser and return what it prints."""
        command = ["psql", "-h", str(self._folder), "-U", _USER, "-d", "postgres", "-qAtc", statement]
        return _run(command)


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a server for as long as the block lasts; skip the test where PostgreSQL is not installed."""
    if _binaries() is None:
        message = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    # A Unix socket's path holds 107 bytes at most, which pytest's own folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="pacs-pg-"))
    data = folder / "data"
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _USER)
        _run(["initdb", "-D", str(data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"unix_socket_directories={folder}"))
        log = str(folder / "log")
        _run(["pg_ctl", "-D", str(data), "-l", log, "-w", "-t", "60", "-o", options, "start"])
        try:
            yield PostgresServer(folder)
        finally:
            _run(["pg_ctl", "-D", str(data), "-w", "-m", "fast", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    """Return the folder of the newest server installed; Debian keeps it out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def _run(command: list[str]) -> str:
    binaries = _binaries()
    assert binaries is not None
    command = [str(binaries / command[0]), *command[1:]]
    if os.geteuid() == 0:
        command = ["runuser", "-u", _USER, "--", *command]
    # Output goes to files: a pipe would stay open in the server that pg_ctl leaves running.
    with tempfile.TemporaryFile() as output:
        result = subprocess.run(command, stdout=output, stderr=output, cwd="/", check=False, timeout=120)
        output.seek(0)
        text = output.read().decode(errors="replace")
    assert result.returncode == 0, text
    return text
