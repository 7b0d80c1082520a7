"""Debian's Orthanc as a peer: its DICOM port and its REST interface on free ports, what it stores in a folder."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc. ``http`` is a client of its REST interface; paths begin with a slash."""

    aet: str
    process: int
    dicom_port: int
    http: httpx.Client
    log: Path

    def upload(self, file: bytes) -> str:
        """Give Orthanc a file and return its own name for the instance."""
        return str(self._json("POST", "/instances", content=file)["ID"])

    def files(self) -> dict[str, bytes]:
        """Return what Orthanc holds, by SOP Instance UID."""
        found = {}
        for name in self._json("GET", "/instances"):
            uid = self._json("GET", f"/instances/{name}")["MainDicomTags"]["SOPInstanceUID"]
            found[uid] = self.http.get(f"/instances/{name}/file").content
        return found

    def post(self, path: str, value: Any) -> Any:
        """Post JSON and return the answer, which must be a success."""
        return self._json("POST", path, json=value)

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        response = self.http.request(method, path, **arguments)
        assert response.is_success, f"{path}: {response.status_code} {response.text}\n{self.log.read_text()[-4000:]}"
        return response.json()


@contextmanager
def run_orthanc(
    tmp_path: Path,
    peers: Mapping[str, tuple[str, str, int]] | None = None,
    aet: str = "ORTHANC",
    plugins: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    **configuration: Any,
) -> Iterator[Orthanc]:
    """Run Orthanc until the block ends; it answers when the block starts.

    ``peers`` are its modalities by name: title, host and port. ``plugins`` are paths of shared objects,
    ``environment`` are variables of its own, and ``configuration`` are further options, spelled as Orthanc does. An
    Orthanc that is not installed is an error.
    """
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    assert Path(program).exists(), "Orthanc is not installed: apt-get install orthanc"
    folder = tmp_path / f"orthanc-{aet}"
    folder.mkdir()
    dicom_port, http_port = _free_ports(2)
    options: dict[str, Any] = {
        "Name": aet,
        "DicomAet": aet,
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": list(plugins),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "DicomModalities": {name: list(peer) for name, peer in (peers or {}).items()},
    }
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(options | configuration))
    log = folder / "orthanc.log"
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [program, str(settings)], stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(environment or {})
        )
        stack.callback(_stop, process)
        http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60, trust_env=False))
        orthanc = Orthanc(aet, process.pid, dicom_port, http, log)
        _wait_for(process, orthanc)
        yield orthanc


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill it: nothing it stored is wanted, and an orderly stop takes seconds."""
    process.kill()
    process.wait()


def _wait_for(process: subprocess.Popen[bytes], orthanc: Orthanc) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, orthanc.log.read_text()
        try:
            if orthanc.http.get("/system").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(orthanc.log.read_text())


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different: each is held until the last one is known."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports
