"""What attackers cost a good peer, and what idle associations cost the machine.

A good peer stores CT slices over one association and notes how long each answer takes; attackers from another address
hold 200 connections meanwhile, stop half way through PDUs, send garbage, negotiate 128 contexts over and over, send one
byte a second, and flood echoes whose answers they never read. Rounds with and without them alternate; the medians of
their 95th percentiles and the ratio (the goal is at most 2) are printed and written to
``benchmarks/results/hostile.json``, with the growth of the archive's memory, and the processor seconds that 200 idle
associations take.
"""

import argparse
import json
import os
import re
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.builders import as_dataset_bytes, build_ct, new_uid
from tests.conformance.dimse.scu import (
    ASSOCIATE_ACCEPT,
    CT,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    VERIFICATION,
    BareSocket,
    encode_association_request,
    encode_data,
    encode_echo_command,
    encode_store_command,
)
from tests.scenarios.process import ArchiveProcess, serving

RESULTS = Path(__file__).parent / "results"
ATTACKERS = 200
IDLE = 200
MANY_CONTEXTS = encode_association_request([f"2.25.{number}" for number in range(128)], [EXPLICIT, IMPLICIT])
ONE_CONTEXT = encode_association_request([VERIFICATION], [IMPLICIT])
ECHO = encode_data(1, encode_echo_command(), is_command=True)
HALF_A_PDU = struct.pack(">BBL", P_DATA, 0, 200_000) + b"x" * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100, help="a round")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--idle-seconds", type=float, default=10)
    options = parser.parse_args()
    settings = {
        "PACS_DIMSE__MAX_ASSOCIATIONS": str(4 * IDLE),
        "PACS_DIMSE__MAX_ASSOCIATIONS_PER_PEER": str(IDLE),
    }
    with tempfile.TemporaryDirectory() as temporary:
        with serving(Path(temporary) / "idle", **settings) as archive:
            result = measure_idle(archive, options.idle_seconds)
        with serving(Path(temporary) / "attacked") as archive:
            result |= measure_attack(archive, options.instances, options.rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "hostile.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: value for name, value in result.items() if not isinstance(value, list)}, indent=2))


def measure_idle(archive: ArchiveProcess, seconds: float) -> dict[str, float]:
    without = processor_seconds(archive, seconds)
    with ExitStack() as stack:
        for _ in range(IDLE):
            kind, _ = stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)
            if kind != ASSOCIATE_ACCEPT:
                sys.exit("An idle association was rejected.")
        return {
            "idle_associations": IDLE,
            "measured_seconds": seconds,
            "processor_seconds_without": without,
            "processor_seconds_with": processor_seconds(archive, seconds),
        }


def measure_attack(archive: ArchiveProcess, instances: int, rounds: int) -> dict[str, object]:
    quiet, attacked = [], []
    store(archive.dicom_port, instances)
    before = peak_mb(archive)
    for _ in track(range(rounds), description="Rounds"):
        quiet.append(percentile_95(store(archive.dicom_port, instances)))
        with attack(archive.dicom_port):
            attacked.append(percentile_95(store(archive.dicom_port, instances)))
    return {
        "instances": instances,
        "p95_seconds_quiet": quiet,
        "p95_seconds_attacked": attacked,
        "p95_seconds_quiet_median": statistics.median(quiet),
        "p95_seconds_attacked_median": statistics.median(attacked),
        "ratio": statistics.median(attacked) / statistics.median(quiet),
        "memory_growth_mb": peak_mb(archive) - before,
    }


def store(port: int, instances: int) -> list[float]:
    """Store so many slices of 525 KB and return the seconds until each answer."""
    pixels = os.urandom(512 * 512 * 2)
    study, series = new_uid(), new_uid()
    seconds = []
    with BareSocket(port) as peer:
        if peer.associate(CT, syntaxes=[EXPLICIT])[0] != ASSOCIATE_ACCEPT:
            sys.exit("The good peer was rejected.")
        for number in range(instances):
            dataset = build_ct(
                StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number, Rows=512, Columns=512
            )
            dataset.PixelData = pixels
            data = as_dataset_bytes(dataset)
            uid = dataset.SOPInstanceUID.encode()
            started = time.perf_counter()
            peer.send_data(1, encode_store_command(sop_instance_uid=uid, message_id=number), is_command=True)
            for at in range(0, len(data), 131_072):
                is_last = at + 131_072 >= len(data)
                peer.send_data(1, data[at : at + 131_072], is_command=False, is_last=is_last)
            if peer.receive_status()[0] != 0:
                sys.exit("The archive did not store.")
            seconds.append(time.perf_counter() - started)
    return seconds


@contextmanager
def attack(port: int) -> Iterator[None]:
    """Attack from threads of this process, each at a pace that leaves the machine to the archive."""
    is_over = threading.Event()
    attacks = [hold_associations, negotiate_many, send_garbage, send_bytes_one_by_one, flood_echoes]
    threads = [threading.Thread(target=attack, args=(port, is_over)) for attack in attacks]
    for thread in threads:
        thread.start()
    time.sleep(2)
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def hold_associations(port: int, is_over: threading.Event) -> None:
    with ExitStack() as stack:
        for _ in range(ATTACKERS):
            with suppress(OSError):
                stack.enter_context(connect(port)).sendall(ONE_CONTEXT + HALF_A_PDU)
        is_over.wait()


def negotiate_many(port: int, is_over: threading.Event) -> None:
    repeat(port, is_over, 0.1, lambda connection: connection.sendall(MANY_CONTEXTS))


def send_garbage(port: int, is_over: threading.Event) -> None:
    repeat(port, is_over, 0.1, lambda connection: connection.sendall(os.urandom(2000)))


def send_bytes_one_by_one(port: int, is_over: threading.Event) -> None:
    with suppress(OSError), connect(port) as connection:
        connection.sendall(ONE_CONTEXT)
        for byte in ECHO * 1000:
            connection.sendall(bytes([byte]))
            if is_over.wait(1):
                break


def flood_echoes(port: int, is_over: threading.Event) -> None:
    with suppress(OSError), connect(port) as connection:
        connection.settimeout(1)
        connection.sendall(ONE_CONTEXT)
        while not is_over.is_set():
            with suppress(TimeoutError):
                connection.sendall(ECHO * 4)


def repeat(port: int, is_over: threading.Event, pause_seconds: float, act: Callable[[socket.socket], None]) -> None:
    while not is_over.wait(pause_seconds):
        with suppress(OSError), connect(port) as connection:
            act(connection)
            connection.recv(10_000)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=("127.0.0.2", 0))


def processor_seconds(archive: ArchiveProcess, seconds: float) -> float:
    time.sleep(2)
    before = read_processor_seconds(archive)
    time.sleep(seconds)
    return read_processor_seconds(archive) - before


def read_processor_seconds(archive: ArchiveProcess) -> float:
    fields = Path(f"/proc/{archive.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(archive: ArchiveProcess) -> int:
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) // 1024 if found else 0


def percentile_95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


if __name__ == "__main__":
    main()
