"""The archive as a process, the way an administrator starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass
class ArchiveProcess:
    process: subprocess.Popen
    http_port: int
    dicom_port: int
    log: Path
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    def kill(self) -> None:
        """The power cut: no signal handler runs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different: each is held until the last one is known."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


ALONE = {"PACS_HTTP__PROCESSES": "1", "PACS_DIMSE__PROCESSES": "1"}
"""One process, which is half as much to start; tests of several ask for them."""


@contextmanager
def serving(
    data_dir: Path, *, until_ready: bool = True, config: Path | None = None, **environment: str
) -> Iterator[ArchiveProcess]:
    """Run ``pacs serve`` on free ports until the block ends; it answers, and is ready, when the block starts."""
    ports = free_ports(2)
    log = data_dir.parent / f"{data_dir.name}.{ports[0]}.log"
    command = [sys.executable, "-m", "pacs.cli.main", "serve", "--data-dir", str(data_dir)]
    command += ["--http-port", str(ports[0]), "--dicom-port", str(ports[1])]
    command += ["--config", str(config)] if config else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | ALONE | environment,
            start_new_session=True,
        )
    running = ArchiveProcess(process, *ports, log, data_dir)
    try:
        _wait_for(running, "/readyz" if until_ready else "/healthz")
        yield running
    finally:
        if process.poll() is None:
            running.kill()


def _wait_for(running: ArchiveProcess, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert running.process.poll() is None, running.log.read_text()
        try:
            if httpx.get(f"{running.url}{path}", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(running.log.read_text())
