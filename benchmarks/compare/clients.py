"""Clients that cost the machine little: storescu, wrk, plain sockets. Each ends the run if anything is no success."""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
WRK_SECONDS = 3
TIMEOUT_SECONDS = 300
FEW = 10
"""With fewer answers in that time, what is cut off at its end would count."""
NODELAY = {"TCP_NODELAY": "1"}
"""DCMTK, and Orthanc that is built on it, leave Nagle's algorithm on unless this variable is set, at either end."""

_OK = (http.client.OK, http.client.ACCEPTED)
_HEAD, _TAIL = b"--b\r\nContent-Type: application/dicom\r\n\r\n", b"\r\n--b--\r\n"
_STOW = {
    "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
    "Accept": "application/dicom+json",
}


@dataclass(frozen=True)
class Done:
    """How much was done, in what the row counts, and how long it took."""

    count: float
    seconds: float

    @property
    def rate(self) -> float:
        """How much a second."""
        return self.count / self.seconds


@dataclass(frozen=True)
class Request:
    """What is asked for: one path of a server's DICOMweb service, or several in turn."""

    paths: Sequence[str]
    accept: str
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """All header fields; without gzip nothing is to be compressed."""
        return {"Accept": self.accept, "Accept-Encoding": "identity", **self.more}


def push(parts: Sequence[Sequence[Path]], port: int, aet: str, environment: Mapping[str, str]) -> Done:
    """Send files by storescu, each part over an association of its own, all at once; count instances."""
    commands = [["storescu", "-aec", aet, "127.0.0.1", str(port), *map(str, part)] for part in parts]
    started = time.perf_counter()
    running = [subprocess.Popen(command, env=os.environ | dict(environment)) for command in commands]
    if max(process.wait() for process in running):
        sys.exit(f"storescu failed with {aet}.")
    return Done(sum(map(len, parts)), time.perf_counter() - started)


def post_instances(root: str, files: Sequence[Path], at_once: int) -> Done:
    """Store files by STOW-RS over one connection, ``at_once`` a request; count instances."""
    bodies = []
    for start in range(0, len(files), at_once):
        parts = [_HEAD + file.read_bytes() for file in files[start : start + at_once]]
        bodies.append(b"\r\n".join(parts) + _TAIL)
    url = urlsplit(f"{root}/studies")
    with closing(_connect(root)) as connection:
        started = time.perf_counter()
        for body in bodies:
            connection.request("POST", url.path, body, _STOW)
            _expect_success(connection.getresponse(), root)
        return Done(len(files), time.perf_counter() - started)


def post_file(root: str, file: Path) -> None:
    """Store one file by STOW-RS, sent from the disk without being read here."""
    length = len(_HEAD) + file.stat().st_size + len(_TAIL)
    with closing(_connect(root)) as connection, file.open("rb") as content:
        connection.putrequest("POST", urlsplit(f"{root}/studies").path)
        for name, value in {**_STOW, "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders(_HEAD)
        connection.sock.sendfile(content)
        connection.sock.sendall(_TAIL)
        _expect_success(connection.getresponse(), root)


def write_durably(parts: Sequence[Sequence[Path]], folder: Path) -> Done:
    """Write what files hold and fsync each, a thread a part: the least that is durable; count files."""
    folder.mkdir()
    contents = [[file.read_bytes() for file in part] for part in parts]

    def write(number: int) -> None:
        for index, content in enumerate(contents[number]):
            with (folder / f"{number}-{index}").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    with ThreadPoolExecutor(len(parts)) as pool:
        started = time.perf_counter()
        list(pool.map(write, range(len(parts))))
        return Done(sum(map(len, parts)), time.perf_counter() - started)


def ask_again(root: str, request: Request, connections: int = 1) -> Done:
    """Let wrk ask over so many connections for some seconds; count answers.

    What one connection waits long for is counted to the end of the last answer instead, which wrk would cut off.
    """
    first = ask_once(root, replace(request, paths=request.paths[:1]))
    if connections == 1 and first.rate * WRK_SECONDS < FEW:
        more = ask_once(root, replace(request, paths=(*request.paths, *request.paths)[1:3]))
        return Done(first.count + more.count, first.seconds + more.seconds)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{WRK_SECONDS}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    for name, value in request.headers.items():
        command += ["-H", f"{name}: {value}"]
    prefix = urlsplit(root).path
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as paths:
        paths.write("".join(f"{prefix}{path}\n" for path in request.paths))
        paths.flush()
        command += ["-s", str(HERE / "rotate.lua"), root, "--", paths.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    # A server that ends an answer by closing its connection counts as an error of reading, and is none.
    errors = re.search(r"Socket errors: connect (\d+), read \d+, write (\d+), timeout (\d+)", output)
    if not found or not rate or "Non-2xx" in output or (errors and any(map(int, errors.groups()))):
        sys.exit(f"Not every answer was a success at {root}{request.paths[0]}:\n{output}")
    return Done(int(found[1]), int(found[1]) / float(rate[1]))


def ask_once(root: str, request: Request) -> Done:
    """Ask for each path once, over one new connection, and read the answers to their end; count answers."""
    prefix = urlsplit(root).path
    started = time.perf_counter()
    with closing(_connect(root)) as connection:
        for path in request.paths:
            for _ in _iter_body(connection, prefix + path, request.headers):
                pass
    return Done(len(request.paths), time.perf_counter() - started)


def read_whole(root: str, request: Request) -> Done:
    """Read one answer over a new connection; count megabytes."""
    started = time.perf_counter()
    return Done(read_length(root, request) / 1e6, time.perf_counter() - started)


def read_length(root: str, request: Request) -> int:
    """Read the answer to one request over a new connection, keep nothing of it, and return how many bytes it had."""
    with closing(_connect(root)) as connection:
        return sum(_iter_body(connection, urlsplit(root).path + request.paths[0], request.headers))


def fetch(root: str, request: Request, index: int = 0) -> tuple[http.client.HTTPMessage, bytes]:
    """Return the header fields and the body of one answer."""
    with closing(_connect(root)) as connection:
        connection.request("GET", urlsplit(root).path + request.paths[index], headers=request.headers)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status not in _OK:
        sys.exit(f"{root}{request.paths[index]} was answered {answer.status}: {body[:500]!r}")
    return answer.headers, body


def _iter_body(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> Iterator[int]:
    """Yield the lengths of an answer's pieces, which are thrown away."""
    connection.request("GET", path, headers=dict(headers))
    answer = connection.getresponse()
    if answer.status not in _OK:
        sys.exit(f"{path} was answered {answer.status}.")
    buffer = bytearray(1024 * 1024)
    while length := answer.readinto(buffer):
        yield length


def _expect_success(answer: http.client.HTTPResponse, root: str) -> None:
    answer.read()
    if answer.status not in _OK:
        sys.exit(f"STOW-RS was answered {answer.status} at {root}.")


def _connect(root: str) -> http.client.HTTPConnection:
    url = urlsplit(root)
    return http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_SECONDS)
