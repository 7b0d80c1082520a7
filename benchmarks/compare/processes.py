"""What a server's processes cost: memory and processor time of the whole tree, from /proc."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.05
_QUIET = 0.03
_WINDOW_SECONDS = 2.0


def iter_tree(process: int) -> Iterator[int]:
    """Yield a process and all that it started, directly or not."""
    yield process
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        for child in _read(tasks).split():
            yield from iter_tree(int(child))


def cpu_seconds(process: int) -> float:
    """Return the processor time of the tree up to now; what has ended counts with who waited for it."""
    total = 0
    for member in iter_tree(process):
        _, _, rest = _read(Path(f"/proc/{member}/stat")).rpartition(")")
        total += sum(map(int, rest.split()[11:15]))
    return total / _TICKS


def pss_mb(process: int) -> float:
    """Return the tree's memory in megabytes, of shared pages its share."""
    found = (_read_field(f"/proc/{member}/smaps_rollup", "Pss") for member in iter_tree(process))
    return sum(found) / 1024


@contextmanager
def watching_peaks(process: int) -> Iterator[dict[int, float]]:
    """Fill in the peak of resident memory of each process of the tree, in megabytes, while the block runs."""
    peaks: dict[int, float] = {}
    for member in iter_tree(process):
        Path(f"/proc/{member}/clear_refs").write_text("5")
    has_ended = threading.Event()

    def watch() -> None:
        while not has_ended.wait(_POLL_SECONDS):
            _note_peaks(process, peaks)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        has_ended.set()
        thread.join()
        _note_peaks(process, peaks)


def settle(process: int, at_least_seconds: float, at_most_seconds: float = 180) -> None:
    """Wait until the tree does nothing any more: what a server does behind an ingest is not to be measured with it."""
    time.sleep(at_least_seconds)
    deadline = time.monotonic() + at_most_seconds
    while time.monotonic() < deadline:
        before = cpu_seconds(process)
        time.sleep(_WINDOW_SECONDS)
        if cpu_seconds(process) - before < _QUIET * _WINDOW_SECONDS:
            return


def _note_peaks(process: int, peaks: dict[int, float]) -> None:
    for member in iter_tree(process):
        peaks[member] = max(peaks.get(member, 0), _read_field(f"/proc/{member}/status", "VmHWM") / 1024)


def _read_field(file: str, name: str) -> int:
    """Return a figure in KiB; 0 of a process that has ended."""
    found = re.search(rf"^{name}:\s+(\d+)", _read(Path(file)), re.MULTILINE)
    return int(found[1]) if found else 0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
