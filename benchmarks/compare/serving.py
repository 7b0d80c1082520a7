"""How fast what is stored comes out over DICOMweb, from servers that were restarted and have gone quiet."""

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from PIL import Image

from benchmarks.compare import clients, goals, processes, servers
from benchmarks.compare.clients import NODELAY, Request
from benchmarks.compare.data import PATIENTS, SIDE, Series, build_multiframe, build_radiographs, build_slices
from benchmarks.compare.figures import Measured
from benchmarks.compare.goals import Work
from benchmarks.compare.servers import NGINX, Server

JSON = "application/dicom+json"
INSTANCES = 'multipart/related; type="application/dicom"'
FRAMES = 'multipart/related; type="application/octet-stream"'
GZIP = {"Accept-Encoding": "gzip"}
STUDIES = 20
RENDERED = 150
"""Instances that are rendered for the first time in a round."""
QUIET_SECONDS = 20


@dataclass(frozen=True)
class Stored:
    """What both servers hold."""

    hundred: Series
    thousand: Series
    multiframe: Series
    radiographs: list[Series]

    @property
    def all(self) -> list[Series]:
        """Every series."""
        return [self.hundred, self.thousand, self.multiframe, *self.radiographs]


@contextmanager
def measuring(folder: Path, measured: Measured) -> Iterator[Callable[[int], None]]:
    """Fill both servers, let them finish what they do behind an ingest, and give what runs a round."""
    stored = Stored(
        build_slices(folder / "hundred", 100),
        build_slices(folder / "thousand", 1000),
        build_multiframe(folder / "multiframe", 500),
        build_radiographs(folder / "radiographs", STUDIES),
    )
    homes = {servers.archive: folder / "archive", servers.orthanc: folder / "orthanc"}
    for start, home in homes.items():
        with start(home) as server:
            fill(server, stored, measured)
            check(server, stored)
    with ExitStack() as stack:
        limit = stack.enter_context(servers.nginx(folder, _files_of_nginx(homes[servers.archive], stored)))

        def run_round(number: int) -> None:
            with ExitStack() as running:
                contenders = [running.enter_context(start(home)) for start, home in homes.items()]
                contenders = contenders[:: 1 if number % 2 else -1]
                for server in contenders:
                    processes.settle(server.process, 1)
                run_once(contenders, stored, measured, number)
                run_warm(contenders, stored, measured, limit)

        yield run_round


def fill(server: Server, stored: Stored, measured: Measured) -> None:
    """Store everything; ask at once for the metadata of the long series, and wait until the server has gone quiet."""
    for series in stored.all:
        clients.push([series.files], server.dicom_port, server.aet, NODELAY)
        if series is stored.thousand:
            request = Request([f"{series.path}/metadata"], JSON, GZIP)
            measured.time(goals.METADATA_FRESH, server, partial(clients.ask_once, server.root, request))
    processes.settle(server.process, QUIET_SECONDS)


def run_once(contenders: list[Server], stored: Stored, measured: Measured, number: int) -> None:
    """Measure what is different the second time."""
    start = number * RENDERED % (len(stored.thousand.files) - RENDERED)
    never_rendered = stored.thousand.instance_paths[start : start + RENDERED]
    requests = {
        goals.METADATA_1000: Request([f"{stored.thousand.path}/metadata"], JSON, GZIP),
        goals.RENDERED_FIRST: Request([f"{path}/rendered" for path in never_rendered], "image/jpeg"),
    }
    for work, request in requests.items():
        for server in contenders:
            measured.time(work, server, partial(clients.ask_once, server.root, request))


def run_warm(contenders: list[Server], stored: Stored, measured: Measured, limit: str) -> None:
    """Measure what is asked again and again; the servers take turns with each row."""
    for work, (request, connections) in build_requests(stored).items():
        for server in contenders:
            if work is goals.RENDERED_WARM:
                clients.ask_once(server.root, request)
            measured.time(work, server, partial(clients.ask_again, server.root, request, connections))
        if work in (goals.FRAME_1, goals.FRAME_8):
            files = Request([f"/frame-{index}" for index in range(len(stored.hundred.files))], "*/*")
            measured.note(work, NGINX, clients.ask_again(limit, files, connections).rate)
        if work is goals.SERIES:
            measured.note(work, NGINX, clients.ask_again(limit, Request(["/series"], "*/*")).rate)


def build_requests(stored: Stored) -> dict[Work, tuple[Request, int]]:
    """Return what is asked, over how many connections: the same of every server."""
    instances = stored.hundred.instance_paths
    frames = Request([f"{path}/frames/1" for path in instances], FRAMES)
    (many,) = stored.multiframe.instance_paths
    studies = Request(["/studies"], JSON)
    return {
        goals.QIDO_1: (studies, 1),
        goals.QIDO_8: (studies, 8),
        goals.QIDO_PATIENT: (Request([f"/studies?PatientID=CR-{number}" for number in range(PATIENTS)], JSON), 1),
        goals.METADATA_100: (Request([f"{stored.hundred.path}/metadata"], JSON, GZIP), 1),
        goals.FRAME_1: (frames, 1),
        goals.FRAME_8: (frames, 8),
        goals.FRAME_OF_500: (Request([f"{many}/frames/{number}" for number in range(1, 501)], FRAMES), 1),
        goals.RENDERED_WARM: (Request([f"{path}/rendered" for path in instances], "image/jpeg"), 1),
        goals.SERIES: (Request([stored.hundred.path], INSTANCES), 1),
    }


def check(server: Server, stored: Stored) -> None:
    """End the run unless a server's answers are what was asked for."""
    asked = {work: request for work, (request, _) in build_requests(stored).items()}
    for series in (stored.hundred, stored.thousand):
        headers, body = clients.fetch(server.root, Request([f"{series.path}/metadata"], JSON, GZIP))
        expect(server, headers.get("Content-Encoding") == "gzip", "metadata is not compressed")
        expect(server, len(orjson.loads(gzip.decompress(body))) == len(series.files), "metadata of another number")
    _, body = clients.fetch(server.root, asked[goals.QIDO_1])
    expect(server, len(orjson.loads(body)) == STUDIES + 3, "another number of studies")
    _, body = clients.fetch(server.root, asked[goals.QIDO_PATIENT])
    expect(server, len(orjson.loads(body)) == STUDIES // PATIENTS, "another number of studies of a patient")
    _, body = clients.fetch(server.root, asked[goals.FRAME_1], 50)
    expect(server, _pixels_of(stored.hundred.files[50], 0) in body, "another frame")
    _, body = clients.fetch(server.root, asked[goals.FRAME_OF_500], 249)
    expect(server, _pixels_of(stored.multiframe.files[0], 249) in body, "another frame of many")
    _, body = clients.fetch(server.root, asked[goals.RENDERED_WARM])
    with Image.open(io.BytesIO(body)) as image:
        expect(server, image.format == "JPEG" and image.size == (SIDE, SIDE), "another image")
    _, body = clients.fetch(server.root, asked[goals.SERIES])
    expect(server, all(_pixels_of(file, 0) in body for file in stored.hundred.files), "pixels of the series")


def expect(server: Server, is_so: bool, problem: str) -> None:
    if not is_so:
        sys.exit(f"{server.name} answered wrongly: {problem}.")


def _files_of_nginx(home: Path, stored: Stored) -> dict[str, bytes]:
    """Return the same answers as files: this archive's."""
    requests = build_requests(stored)
    frames, _ = requests[goals.FRAME_1]
    series, _ = requests[goals.SERIES]
    with servers.archive(home) as server:
        files = {f"frame-{index}": clients.fetch(server.root, frames, index)[1] for index in range(len(frames.paths))}
        return files | {"series": clients.fetch(server.root, series)[1]}


def _pixels_of(file: Path, frame_index: int) -> bytes:
    """Return a frame's bytes; frames of native files stand at the end, and each is as long."""
    content, length = file.read_bytes(), SIDE * SIDE * 2
    first = len(content) % length if len(content) > length else 0
    return content[first + frame_index * length :][:length]
