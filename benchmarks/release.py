"""A release of 10,000 CT instances: how many a second, and how much memory, with the process killed on the way.

Slices of 525 KB are stored in an archive of its own, then `pacs research release` makes a release of all of them, is
killed with ``kill -9`` a few times at random, and goes on. Its memory is read every tenth of a second. Everything that
was released is then counted and compared with what was stored. Printed, and written to
``benchmarks/results/release.json``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich.progress import track
from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).parent.parent))

from pacs.app import Parts, open_archive
from pacs.config import Settings
from pacs.database.tables import instance
from pacs.jobs import queue
from pacs.maintenance.verification import verify_copies
from pacs.research.model import Release, ReleaseState
from pacs.research.releases import building
from storage.filesystem import FilesystemStore
from storage.prefixed import PrefixedStore
from tests.builders import build_ct, build_image, new_uid
from tests.releases import SLUG, STEWARD, make_project, store

RESULTS = Path(__file__).parent / "results"
SLICES = 200
SIDE = 512


def fill(parts: Parts, count: int) -> None:
    """Store so many slices, each with pixels of its own: noise, which no store can make smaller."""
    noise = np.random.default_rng(6).integers(0, 4096, (SIDE, SIDE)).astype("<u2")
    uids: dict[str, str] = {}
    for number in track(range(count), description="Storing"):
        if number % SLICES == 0:
            uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid()}
        person = {"PatientID": f"MRN{number // SLICES:07}", "PatientName": f"TAZI^PATIENT{number // SLICES:03}"}
        dataset = build_ct(InstanceNumber=number % SLICES + 1, **uids, **person)
        dataset.update(build_image(rows=SIDE, columns=SIDE))
        noise[0, :2] = number % 4096, number // 4096
        dataset.PixelData = noise.tobytes()
        store(parts, dataset)


def memory_kb(process: subprocess.Popen, name: str = "VmRSS") -> int:
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def watch(
    parts: Parts, release: Release, process: subprocess.Popen, until: int, samples: list[tuple[int, int]]
) -> None:
    """Note how much was made and how much memory that takes, until so much is made or the process ends."""
    while process.poll() is None:
        done = parts.build_releases.read(release.id).done
        samples.append((done, memory_kb(process)))
        if done >= until:
            return
        time.sleep(0.1)


def end_lease(parts: Parts, release: Release) -> None:
    key = str(release.id)

    def write(connection) -> None:
        job = queue.find_job(connection, building.KIND, key, key)
        queue.requeue(connection, datetime.now(UTC), ids=[job.id] if job else [])

    parts.database.write(write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder) / "archive", options.instances, options.kills)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "release.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def run(data_dir: Path, count: int, kills: int) -> dict[str, float | int]:
    settings = Settings(data_dir=data_dir)
    with open_archive(settings) as parts:
        fill(parts, count)
        release = parts.research.releases.start(STEWARD, SLUG, make_project(parts))
    command = [sys.executable, "-m", "pacs.cli.main", "research", "release", SLUG, "--data-dir", str(data_dir)]
    command += ["--log-level", "WARNING"]
    chance = random.Random(6)
    samples: list[tuple[int, int]] = []
    seconds = 0.0
    with open_archive(settings) as parts:
        for until in [*sorted(chance.randrange(1, count) for _ in range(kills)), count + 1]:
            if parts.build_releases.read(release.id).state is not ReleaseState.BUILDING:
                break
            began = time.monotonic()
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
            watch(parts, release, process, until, samples)
            seconds += time.monotonic() - began
            if process.poll() is None:
                time.sleep(chance.random())
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                end_lease(parts, release)
        published = parts.research.releases.publish(STEWARD, SLUG, 1)
        statement = select(func.count()).where(instance.c.partition_id == published.partition_id)
        with parts.database.read() as connection:
            in_partition = connection.execute(statement).scalar_one()
        whole = FilesystemStore(data_dir / "research-objects")
        prefix = next(iter(whole.iter_keys())).split("/")[0]
        part = PrefixedStore(whole, prefix)
        problems = sum(bool(one.problem) for one in verify_copies(parts.database, part, published.partition_id))
        blobs = sum(1 for _ in part.iter_keys())
    made = [memory for done, memory in samples if done]
    early = [memory for done, memory in samples if 0.05 * count < done <= 0.15 * count]
    late = [memory for done, memory in samples if done > 0.9 * count]
    return {
        "instances": count,
        "kills": kills,
        "released": published.counts.instances,
        "rows": in_partition,
        "blobs_with_manifest": blobs,
        "damaged": problems,
        "seconds_with_starts": round(seconds, 1),
        "instances_a_second": round(count / seconds, 1),
        "peak_mb": round(max(made, default=0) / 1024, 1),
        "mb_at_a_tenth": round(max(early, default=0) / 1024, 1),
        "mb_at_the_end": round(max(late, default=0) / 1024, 1),
    }


if __name__ == "__main__":
    main()
