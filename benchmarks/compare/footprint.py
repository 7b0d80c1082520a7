"""What this archive holds in memory: while an object of 2 GB comes in and goes out, and while nothing happens."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import uid

from benchmarks.compare import clients, goals, processes, servers
from benchmarks.compare.clients import NODELAY, Request
from benchmarks.compare.data import SIDE
from benchmarks.compare.figures import Measured
from benchmarks.compare.servers import Server
from benchmarks.compare.serving import INSTANCES, QUIET_SECONDS
from tests.builders import as_part10, build_dataset, build_image

LARGE_FRAMES = 4096
"""Half a megabyte each: 2 GB together."""
IDLE_SECONDS = 60


@contextmanager
def measuring(folder: Path, measured: Measured) -> Iterator[Callable[[int], None]]:
    """Give what runs a round, which begins with an empty archive: it idles before anything is stored."""

    def run_round(number: int) -> None:
        with servers.archive(folder / f"archive-{number}") as server:
            processes.settle(server.process, QUIET_SECONDS)
            measure_idle(server, measured)
            for work, store in ((goals.MEMORY_C_STORE, _send), (goals.MEMORY_STOW, _post)):
                file = folder / "large.dcm"
                study_instance_uid = build_large(file)
                with processes.watching_peaks(server.process) as peaks:
                    store(server, file)
                measured.note(work, server.name, max(peaks.values()))
            request = Request([f"/studies/{study_instance_uid}"], INSTANCES)
            with processes.watching_peaks(server.process) as peaks:
                length = clients.read_length(server.root, request)
            if length < file.stat().st_size:
                sys.exit(f"{server.name} gave {length} bytes of {file.stat().st_size}.")
            measured.note(goals.MEMORY_WADO, server.name, max(peaks.values()))

    yield run_round


def measure_idle(server: Server, measured: Measured) -> None:
    """Note the memory of all processes, and what they do while nobody asks for anything."""
    measured.note(goals.IDLE_MEMORY, server.name, processes.pss_mb(server.process))
    before = processes.cpu_seconds(server.process)
    time.sleep(IDLE_SECONDS)
    share = (processes.cpu_seconds(server.process) - before) / IDLE_SECONDS
    measured.note(goals.IDLE_CPU, server.name, share * 100)


def build_large(file: Path) -> str:
    """Write an object of zeros that takes no room on the disk; return its Study Instance UID."""
    dataset = build_dataset(SOPClassUID=str(uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage))
    dataset.update(build_image(rows=1, columns=1, frames=LARGE_FRAMES))
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelData = b""
    head = as_part10(dataset)
    length = LARGE_FRAMES * SIDE * SIDE * 2
    with file.open("wb") as content:
        content.write(head[:-4] + length.to_bytes(4, "little"))  # pixels stand at the end, after their length
        content.truncate(len(head) + length)
    return str(dataset.StudyInstanceUID)


def _send(server: Server, file: Path) -> None:
    clients.push([[file]], server.dicom_port, server.aet, NODELAY)


def _post(server: Server, file: Path) -> None:
    clients.post_file(server.root, file)
