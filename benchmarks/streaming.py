"""What a study of 2,000 instances costs in memory: its metadata, its instances, its ZIP file, and all of it rendered.

The study is stored once, a gigabyte of CT slices; then each answer is read as fast as it comes, and by a client that
stops half way and leaves the rest in the archive's hands for some seconds. The peak of the archive's resident memory
during each, over what it held just before, is printed and written to ``benchmarks/results/streaming.json``, with the
peak of its largest decoding process, the bytes and the seconds.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.builders import as_part10, build_ct, new_uid
from tests.scenarios.process import ArchiveProcess, serving

RESULTS = Path(__file__).parent / "results"
AT_ONCE = 50
PAUSE_SECONDS = 5.0

ANSWERS = {
    "metadata": ("/metadata", "application/dicom+json", {}),
    "metadata, gzip": ("/metadata", "application/dicom+json", {"Accept-Encoding": "gzip"}),
    "series": ("/series/{series}", 'multipart/related; type="application/dicom"', {}),
    "ZIP": ("", "application/zip", {}),
    "rendered": ("/rendered", 'multipart/related; type="image/jpeg"', {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, serving(Path(temporary) / "data") as archive:
        study, series = new_uid(), new_uid()
        store(archive, study, series, options.instances)
        time.sleep(10)  # thumbnails are made
        base = f"{archive.dicomweb}/studies/{study}"
        rows = []
        for name, (path, accept, more) in ANSWERS.items():
            headers = {"Accept": accept, "Accept-Encoding": "identity", **more}
            url = base + path.format(series=series)
            rows += [measure(archive, name, url, headers, is_stalling=is_stalling) for is_stalling in (False, True)]
            print(
                f"{name}: {rows[-2]['growth_mb']} MB, {rows[-1]['growth_mb']} MB for a client that stalls", flush=True
            )
    RESULTS.mkdir(exist_ok=True)
    result = {"instances": options.instances, "answers": rows}
    (RESULTS / "streaming.json").write_text(json.dumps(result, indent=2) + "\n")


def store(archive: ArchiveProcess, study: str, series: str, count: int) -> None:
    """Store CT slices of 525 KB by STOW-RS, ``AT_ONCE`` a request."""
    noise = np.random.default_rng(1).integers(0, 64, 512 * 512, np.uint16)
    slope = np.arange(512 * 512, dtype=np.uint16) // 128
    with httpx.Client(timeout=120) as client:
        for start in track(range(0, count, AT_ONCE), description="Storing"):
            body = b""
            for number in range(start, min(start + AT_ONCE, count)):
                dataset = build_ct(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number + 1)
                dataset.Rows = dataset.Columns = 512
                dataset.PixelData = (slope + np.roll(noise, number * 1000)).astype("<u2").tobytes()
                body += b"--b\r\nContent-Type: application/dicom\r\n\r\n" + as_part10(dataset) + b"\r\n"
            content_type = 'multipart/related; type="application/dicom"; boundary=b'
            answer = client.post(
                f"{archive.dicomweb}/studies", content=body + b"--b--", headers={"Content-Type": content_type}
            )
            answer.raise_for_status()


def measure(
    archive: ArchiveProcess, name: str, url: str, headers: dict[str, str], *, is_stalling: bool
) -> dict[str, object]:
    forget_peaks(archive)
    before = read_mb(archive.process.pid, "VmRSS")
    started = time.perf_counter()
    length = 0
    with httpx.stream("GET", url, headers=headers, timeout=600) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            length += len(chunk)
            if is_stalling and length > 200_000:
                time.sleep(PAUSE_SECONDS)
                break
    return {
        "answer": name,
        "is_stalling": is_stalling,
        "bytes": length,
        "seconds": round(time.perf_counter() - started, 1),
        "growth_mb": max(0, read_mb(archive.process.pid, "VmHWM") - before),
        "peak_mb": read_mb(archive.process.pid, "VmHWM"),
        "largest_decoder_mb": max((read_mb(child, "VmHWM") for child in children(archive)), default=0),
    }


def children(archive: ArchiveProcess) -> Iterator[int]:
    for tasks in Path(f"/proc/{archive.process.pid}/task").glob("*/children"):
        yield from map(int, tasks.read_text().split())


def forget_peaks(archive: ArchiveProcess) -> None:
    for process in (archive.process.pid, *children(archive)):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def read_mb(process: int, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) // 1024 if found else 0


if __name__ == "__main__":
    main()
