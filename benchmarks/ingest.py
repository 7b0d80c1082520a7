"""Ingest over one association, against pynetdicom's bare acceptor in the same run.

Sends CT slices of 525 KB with DCMTK's storescu to an acceptor that throws every byte away, and to the archive on a
folder and SQLite, durable: fsync and a committed index row before each answer. The two take turns; medians and their
ratio are printed and written to ``benchmarks/results/ingest.json``. Absolute figures are the machine's: the ratio
counts.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.builders import as_part10, build_ct, new_uid
from tests.scenarios.process import free_port, serving

HERE = Path(__file__).parent
BARE_ACCEPTOR = """
import sys
from pynetdicom import AE, AllStoragePresentationContexts, VerificationPresentationContexts, evt
entity = AE(ae_title="PACS")
entity.supported_contexts = AllStoragePresentationContexts + VerificationPresentationContexts
entity.maximum_pdu_size = 256 * 1024
entity.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("storescu") is None:
        sys.exit("This benchmark sends with DCMTK's storescu: install the package dcmtk.")
    with tempfile.TemporaryDirectory() as temporary:
        report(measure(Path(temporary), options.instances, options.rounds))


def measure(folder: Path, instances: int, rounds: int) -> dict[str, object]:
    environment = os.environ | preload_nodelay(folder)
    rates: dict[str, list[float]] = {"bare acceptor": [], "archive": []}
    for number in track(range(rounds), description="Rounds"):
        slices = build_series(folder / f"slices-{number}", instances)
        with bare_acceptor() as port:
            rates["bare acceptor"].append(push(slices, port, instances, environment))
        with serving(folder / f"data-{number}") as archive:
            rates["archive"].append(push(slices, archive.dicom_port, instances, environment))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "instances": instances,
        "is_nagle_off": "LD_PRELOAD" in environment,
        "rounds_per_second": rates,
        "medians_per_second": medians,
        "ratio": medians["archive"] / medians["bare acceptor"],
    }


def build_series(folder: Path, instances: int) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(7)
    ramp = np.add.outer(np.arange(512), np.arange(512))
    study, series = new_uid(), new_uid()
    for number in range(instances):
        pixels = (ramp + noise.normal(0, 20, (512, 512)) + number).clip(0, 4095).astype("<u2")
        dataset = build_ct(
            StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=number + 1, Rows=512, Columns=512
        )
        dataset.PixelData = pixels.tobytes()
        (folder / f"{number:04}.dcm").write_bytes(as_part10(dataset))
    return folder


@contextmanager
def bare_acceptor() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE_ACCEPTOR, str(port)])
    try:
        while subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True, check=False).returncode:
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def push(folder: Path, port: int, instances: int, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    command = ["storescu", "-aec", "PACS", "+sd", "127.0.0.1", str(port), str(folder)]
    subprocess.run(command, env=environment, check=True)
    return instances / (time.perf_counter() - started)


def preload_nodelay(folder: Path) -> dict[str, str]:
    library = folder / "nodelay.so"
    compiler = shutil.which("cc")
    if compiler is None:
        return {}
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "nodelay.c", "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def report(result: dict[str, object]) -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "ingest.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, rate in result["medians_per_second"].items():  # type: ignore[attr-defined]
        print(f"{name:<14} {rate:7.1f} instances/s")
    print(f"{'ratio':<14} {result['ratio']:7.0%}")


if __name__ == "__main__":
    main()
