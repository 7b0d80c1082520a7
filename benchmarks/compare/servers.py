"""What is measured side by side: this archive, Debian's Orthanc, and what shows the limits of the machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.compare.clients import NODELAY
from pacs.config import Settings
from tests.conformance.dimse.orthanc import run_orthanc
from tests.scenarios.process import free_port, serving

ORTHANC_DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
ARCHIVE, ORTHANC, PACKAGED = "archive", "Orthanc", "Orthanc as packaged"
STORESCP, PYNETDICOM, DISK, NGINX = "storescp --ignore", "bare pynetdicom", "write + fsync", "nginx"
MINIO = "archive on MinIO"

_BARE_ACCEPTOR = """
import sys
from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, evt
entity = AE()
entity.supported_contexts = AllStoragePresentationContexts + VerificationPresentationContexts
entity.maximum_pdu_size = 256 * 1024
entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)])
"""


@dataclass(frozen=True)
class Server:
    """Where a server is. ``root`` is its DICOMweb service, nothing if it has none; ``process`` began all of its own."""

    name: str
    aet: str
    dicom_port: int
    process: int
    root: str = ""


@contextmanager
def archive(folder: Path, name: str = ARCHIVE, **settings: str) -> Iterator[Server]:
    """This archive on what the folder holds: SQLite and files unless settings differ, durable as it always is."""
    folder.mkdir(exist_ok=True)
    usual = Settings()
    processes = {"PACS_HTTP__PROCESSES": usual.http.processes, "PACS_DIMSE__PROCESSES": usual.dimse.processes}
    settings = {name: str(count) for name, count in processes.items()} | settings
    with serving(folder / "archive", **settings) as running:
        yield Server(name, "PACS", running.dicom_port, running.process.pid, running.dicomweb)
        running.stop()


@contextmanager
def orthanc(folder: Path, *, has_nodelay: bool = True) -> Iterator[Server]:
    """Debian's Orthanc with its DICOMweb plugin on what the folder holds; storage and SQLite with their defaults."""
    storage = folder / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    run = folder / f"run-{len(list(folder.iterdir()))}"
    run.mkdir()
    with run_orthanc(
        run,
        plugins=[ORTHANC_DICOMWEB],
        environment=NODELAY if has_nodelay else {},
        StorageDirectory=str(storage),
        IndexDirectory=str(storage),
    ) as running:
        root = str(running.http.base_url).rstrip("/") + "/dicom-web"
        yield Server(ORTHANC if has_nodelay else PACKAGED, running.aet, running.dicom_port, running.process, root)


@contextmanager
def storescp() -> Iterator[Server]:
    """DCMTK's storescp throwing every byte away: the limit of the sender."""
    port = free_port()
    process = subprocess.Popen(["storescp", "--ignore", "--fork", str(port)], env=os.environ | NODELAY)
    try:
        _await_echo(port)
        yield Server(STORESCP, "ANY", port, process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def bare_pynetdicom() -> Iterator[Server]:
    """pynetdicom's own acceptor throwing every byte away: what a plain server in Python does."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _BARE_ACCEPTOR, str(port)])
    try:
        _await_echo(port)
        yield Server(PYNETDICOM, "ANY", port, process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def nginx(folder: Path, files: Mapping[str, bytes]) -> Iterator[str]:
    """nginx with a process a core serving these bytes from a folder: the limit of serving; gives its address."""
    root = folder / "nginx"
    root.mkdir(mode=0o755)
    for name, content in files.items():
        (root / name).write_bytes(content)
    port = free_port()
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes auto;\n"
        "events {}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-e", f"{folder}/nginx.log", "-p", str(folder), "-c", str(configuration)])
    try:
        _await(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_echo(port: int) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            sys.exit("A DICOM server does not start.")
        time.sleep(0.05)


def _await(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"Nothing answers at {url}.")
