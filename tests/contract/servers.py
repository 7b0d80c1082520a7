"""Real S3 servers for tests, on a free loopback port with a folder of their own.

Plain context managers, and session fixtures over them; under pytest-xdist each worker starts its own. A server dies
with the process that started it, however that ends.
"""

import http.client
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

START_SECONDS = 60
BUCKET = "pacs-test"


class S3Server(NamedTuple):
    """Where a server listens, over plain HTTP; S3Store creates the bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


def find_binary(name: str) -> str:
    """Return the path of a server's program; skip the test where it is missing, or fail it in CI."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pacs-ci" / "bin"
    found = shutil.which(name) or shutil.which(name, path=str(cache))
    if found is None:
        message = f"{name} is not installed: run .ci/install-servers (needs Go)"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


@contextmanager
def run_minio(folder: Path) -> Iterator[S3Server]:
    """Run MinIO over ``folder`` until the block ends."""
    binary = find_binary("minio")
    access_key, secret_key = _new_credentials()

    def build_command(address: str) -> list[str]:
        return [binary, "server", "--quiet", "--address", address, str(folder)]

    environment = {"MINIO_ROOT_USER": access_key, "MINIO_ROOT_PASSWORD": secret_key, "MINIO_BROWSER": "off"}
    with _run_server(build_command, environment, folder, "/minio/health/live") as endpoint:
        yield S3Server(endpoint, access_key, secret_key, BUCKET)


@contextmanager
def run_versitygw(folder: Path) -> Iterator[S3Server]:
    """Run versitygw over ``folder`` until the block ends."""
    binary = find_binary("versitygw")
    access_key, secret_key = _new_credentials()
    root, sidecar = folder / "root", folder / "sidecar"
    root.mkdir(exist_ok=True)
    sidecar.mkdir(exist_ok=True)

    def build_command(address: str) -> list[str]:
        # Not every file system under a temporary folder has the extended attributes it would otherwise use.
        options = ["--port", address, "--keep-alive", "--quiet", "--health", "/healthz"]
        return [binary, *options, "posix", "--sidecar", str(sidecar), str(root)]

    environment = {"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key}
    with _run_server(build_command, environment, folder, "/healthz") as endpoint:
        yield S3Server(endpoint, access_key, secret_key, BUCKET)


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def versitygw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


def find_closed_port() -> int:
    """Return a loopback port on which nothing listens; somebody else may take it the next moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _run_server(
    build_command: Callable[[str], list[str]], environment: Mapping[str, str], folder: Path, health_path: str
) -> Iterator[str]:
    """Start the server, again on another port if it ends at once, and yield its endpoint when it answers."""
    # The kernel ends the server when this process ends, even by SIGKILL.
    tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    log_path = folder.with_name(f"{folder.name}.log")
    for _ in range(3):
        endpoint = f"127.0.0.1:{find_closed_port()}"
        with (
            log_path.open("wb") as log,
            subprocess.Popen(
                [*tether, *build_command(endpoint)],
                env={**os.environ, **environment, "HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                if _wait_until_healthy(process, endpoint, health_path):
                    yield endpoint
                    return
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    pytest.fail(f"{build_command('')[0]} did not start:\n{log_path.read_text(errors='replace')}", pytrace=False)


def _wait_until_healthy(process: subprocess.Popen[bytes], endpoint: str, path: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(endpoint, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return process.poll() is None
        except OSError:
            pass
        except http.client.HTTPException:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    return False


def _new_credentials() -> tuple[str, str]:
    return secrets.token_hex(8), secrets.token_hex(16)
