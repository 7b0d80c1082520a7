"""This archive beside Debian's Orthanc and the limits of the machine, in one run, taking turns: ``make bench``.

Every row is measured several times, and the servers take turns within each round, so that what else the machine does
falls on all of them. Medians and ratios go to ``benchmarks/results/compare.json``, ``.md`` and ``.svg``; a run of some
groups only prints them. Durability is on: this archive answers after fsync and commit. docs/performance.md says how
each row is measured.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rich.progress import Progress

from benchmarks.compare import figures, footprint, goals, object_store, serving, storing
from benchmarks.compare.figures import Measured

RESULTS = Path(__file__).parent.parent / "results"
PROGRAMS = {"storescu": "dcmtk", "Orthanc": "orthanc orthanc-dicomweb", "nginx": "nginx-light", "wrk": "wrk"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each row is measured (%(default)s)")
    parser.add_argument("--instances", type=int, default=300, help="of a push (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=goals.GROUPS, help="these groups of rows; nothing is written")
    parser.add_argument("--to", type=Path, help="the folder that results are written to")
    options = parser.parse_args()
    target = options.to or (None if options.only else RESULTS)
    find_programs()
    measured = Measured()
    with tempfile.TemporaryDirectory() as temporary, Progress() as progress:
        Path(temporary).chmod(0o755)  # nginx reads as somebody else
        groups: dict[str, Callable[[Path], AbstractContextManager[Callable[[int], None]]]] = {
            goals.STORE: lambda folder: storing.measuring(folder, measured, options.instances),
            goals.SERVE: lambda folder: serving.measuring(folder, measured),
            goals.S3: lambda folder: object_store.measuring(folder, measured, options.instances),
            goals.FOOTPRINT: lambda folder: footprint.measuring(folder, measured),
        }
        chosen = [group for group in goals.GROUPS if group in (options.only or goals.GROUPS)]
        for group in chosen:
            # What memory a thing takes hardly changes from round to round.
            rounds = 1 if group == goals.FOOTPRINT else options.rounds
            task = progress.add_task(f"{group}: data", total=rounds)
            folder = Path(temporary) / group
            folder.mkdir()
            with groups[group](folder) as run_round:
                for number in range(rounds):
                    progress.update(task, description=f"{group}: round {number + 1}")
                    run_round(number)
                    progress.advance(task)
            shutil.rmtree(folder)
            if target:
                figures.write(measured, target)
    print(figures.as_markdown(measured.rows()))


def find_programs() -> None:
    """End the run if a program is missing."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)]
    if missing:
        sys.exit(f"Something to measure with is missing: apt-get install {' '.join(missing)}")


if __name__ == "__main__":
    main()
