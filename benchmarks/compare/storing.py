"""How fast instances come in and are safe: C-STORE over one association and four, and STOW-RS."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.compare import clients, goals, processes, servers
from benchmarks.compare.clients import NODELAY, Request
from benchmarks.compare.data import Series, build_slices
from benchmarks.compare.figures import Measured
from benchmarks.compare.goals import Work
from benchmarks.compare.servers import DISK, PACKAGED, Server

ASSOCIATIONS = 4
A_REQUEST = 10
STALLED = 60
"""Instances of a push that waits 40 ms with each."""


@contextmanager
def measuring(folder: Path, measured: Measured, instances: int) -> Iterator[Callable[[int], None]]:
    """Build what is stored, and give what runs a round."""
    series = build_slices(folder / "slices", instances)
    parts = [series.files[number::ASSOCIATIONS] for number in range(ASSOCIATIONS)]

    def with_archive(at: Path) -> AbstractContextManager[Server]:
        return servers.archive(at)

    def with_orthanc(at: Path) -> AbstractContextManager[Server]:
        return servers.orthanc(at)

    def run_round(number: int) -> None:
        contenders = [with_archive, with_orthanc]
        for start in contenders[:: 1 if number % 2 else -1]:
            with fresh(folder, start) as server:
                push(measured, goals.C_STORE_1, server, [series.files], series)
            with fresh(folder, start) as server:
                push(measured, goals.C_STORE_4, server, parts, series)
            with fresh(folder, start) as server:
                measured.time(goals.STOW, server, partial(clients.post_instances, server.root, series.files, A_REQUEST))
                check(server, series, len(series.files))
        with fresh(folder, lambda at: servers.orthanc(at, has_nodelay=False)) as server:
            few = series.files[:STALLED]
            measured.note(goals.C_STORE_1, PACKAGED, clients.push([few], server.dicom_port, server.aet, {}).rate)
            check(server, series, STALLED)
        for limit in (servers.storescp, servers.bare_pynetdicom):
            with limit() as server:
                for work, files in ((goals.C_STORE_1, [series.files]), (goals.C_STORE_4, parts)):
                    done = clients.push(files, server.dicom_port, server.aet, NODELAY)
                    measured.note(work, server.name, done.rate)
        for work, files in ((goals.C_STORE_1, [series.files]), (goals.C_STORE_4, parts)):
            measured.note(work, DISK, clients.write_durably(files, folder / "disk").rate)
            shutil.rmtree(folder / "disk")

    yield run_round


@contextmanager
def fresh(folder: Path, start: Callable[[Path], AbstractContextManager[Server]]) -> Iterator[Server]:
    """Run a server on nothing, and take away afterwards what it stored."""
    at = folder / "fresh"
    try:
        with start(at) as server:
            processes.settle(server.process, 1)
            yield server
    finally:
        shutil.rmtree(at, ignore_errors=True)


def push(measured: Measured, work: Work, server: Server, parts: Sequence[Sequence[Path]], series: Series) -> None:
    """Time C-STORE without delays, of all files of a series; all of them are there afterwards."""
    measured.time(work, server, partial(clients.push, parts, server.dicom_port, server.aet, NODELAY))
    check(server, series, len(series.files))


def check(server: Server, series: Series, count: int) -> None:
    """End the run unless a server has so many instances of a series."""
    request = Request([f"{series.path}/instances?limit={count + 1}"], "application/dicom+json")
    _, body = clients.fetch(server.root, request)
    if body.count(b'"00080018"') != count:
        sys.exit(f"{server.name} has {body.count(b'00080018')} instances, not {count}.")
