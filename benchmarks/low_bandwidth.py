"""How long a radiologist waits for the first image of a CT behind 512 kbit/s and 700 ms, in the real viewer.

Chromium opens the sample CT's address in OHIF, through ``slow_link.py``, from a real ``pacs serve``. The viewer's own
files are in the browser's cache already, as they are for the second study of a day: the first is opened at full speed
and not measured. Two ways alternate, each in a browser that knows nothing of the other:

``before``  a plain set-up: JSON as it is, uncompressed frames, thumbnails made by the browser from whole frames
``after``   what this archive serves: JSON compressed, thumbnails rendered here, frames in HTJ2K from coarse to fine

Medians of the seconds and of the bytes over the link, to the first picture on the canvas and to its whole frame, go to
``benchmarks/results/low_bandwidth.json``, and a picture of them to ``docs/low-bandwidth.svg``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page, Request, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.slow_link import SlowLink, slow_link
from dicomweb.ohif import fetch_viewer
from tests.browser.viewing import CHROMIUM_ARGUMENTS, SEEN, find_chromium
from tests.scenarios.process import serving

PROJECT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PICTURE = PROJECT / "docs" / "low-bandwidth.svg"
BITS_PER_SECOND = 512_000
DELAY_SECONDS = 0.35
PATIENCE_SECONDS = 300
WAYS = ("before", "after")

# Over what the configuration says: how a viewer is set up that knows of nothing better.
PLAIN = """
let config;
Object.defineProperty(window, "config", {
  get: () => config,
  set: (given) => {
    config = given;
    for (const { configuration } of config.dataSources) {
      const uncompressed = "type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
      configuration.acceptHeader = [`multipart/related; ${uncompressed}`];
      configuration.thumbnailRendering = "wadors";
      delete configuration.stackRetrieveOptions;
    }
  },
});
"""
HAS_PICTURE = """(seen) => {
  const canvas = document.querySelector("canvas.cornerstone-canvas");
  if (!canvas || !canvas.width || !canvas.height) return false;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0, sum = 0, squares = 0;
  for (let at = 0; at < data.length; at += 52) {
    const grey = (data[at] + data[at + 1] + data[at + 2]) / 3;
    count += 1; sum += grey; squares += grey * grey;
  }
  return Math.sqrt(squares / count - (sum / count) ** 2) >= seen;
}"""


@dataclass(frozen=True)
class Opening:
    """One opening of the study: seconds from the address on, and bytes that came down the link until then."""

    first_picture_seconds: float
    first_picture_bytes: int
    whole_frame_seconds: float
    whole_frame_bytes: int
    kinds: dict[str, int]
    """Bytes of the answers that had come whole by then, by what they were for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each way")
    options = parser.parse_args()
    viewer = fetch_viewer(PROJECT / ".cache" / "viewer", lambda *_: None)
    with tempfile.TemporaryDirectory() as temporary:
        data_dir = Path(temporary) / "data"
        import_sample(data_dir)
        with serving(data_dir, PACS_HTTP__VIEWER_DIR=str(viewer)) as archive, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS)
            studies = find_studies(archive.dicomweb)
            openings = defaultdict(list)
            for way in track(WAYS * options.rounds, description="Opening", transient=True):
                with slow_link(archive.http_port) as link:
                    openings[way].append(measure(browser, link, studies, way))
            browser.close()
    write(dict(openings))


def import_sample(data_dir: Path) -> None:
    command = [sys.executable, "-m", "pacs.cli.main", "import", "--data-dir", str(data_dir)]
    folders = [str(PROJECT / "sample_data" / name) for name in ("ct-head", "cr-pattern")]
    subprocess.run([*command, *folders], check=True, stdout=subprocess.DEVNULL)


def find_studies(dicomweb: str) -> tuple[str, str]:
    """Return the study that warms the browser up, and the sample CT."""
    answer = httpx.get(f"{dicomweb}/studies", headers={"Accept": "application/dicom+json"}, timeout=60)
    by_modality = {study["00080061"]["Value"][0]: study["0020000D"]["Value"][0] for study in answer.json()}
    return by_modality["CR"], by_modality["CT"]


def measure(browser: Browser, link: SlowLink, studies: tuple[str, str], way: str) -> Opening:
    """Open the first study at full speed, then the other one behind the slow link, and time that."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    if way == "before":
        context.add_init_script(PLAIN)
        link.rewrite = ask_plainly
    link.set_speed(float("inf"), 0.0)
    page = context.new_page()
    page.goto(f"{link.url}/viewer?StudyInstanceUIDs={studies[0]}")
    page.wait_for_function(HAS_PICTURE, arg=SEEN, polling=100)
    page.wait_for_load_state("networkidle")
    page.goto("about:blank")
    link.set_speed(BITS_PER_SECOND, DELAY_SECONDS)
    opening = time_opening(page, link, studies[1])
    context.close()
    return opening


def ask_plainly(chunk: bytes) -> bytes:
    """Return a request for DICOM without its wish for compression; Playwright could only with the cache off."""
    return chunk.replace(b"Accept-Encoding:", b"X-Not-Encoding:") if b" /dicom-web/" in chunk else chunk


def time_opening(page: Page, link: SlowLink, study: str) -> Opening:
    finished: list[tuple[float, Request]] = []
    page.on("requestfinished", lambda request: finished.append((time.perf_counter(), request)))
    before_bytes, started_at = link.down.total_bytes, time.perf_counter()
    page.goto(f"{link.url}/viewer?StudyInstanceUIDs={study}", wait_until="commit")
    page.wait_for_function(HAS_PICTURE, arg=SEEN, polling=50)
    picture_at, picture_bytes = time.perf_counter(), link.down.total_bytes - before_bytes
    while not (frames := [at for at, request in finished if is_frame(request)]):
        page.wait_for_timeout(50)
    whole_at, whole_bytes = max(frames[0], picture_at), link.down.total_bytes - before_bytes
    kinds: dict[str, int] = defaultdict(int)
    for at, request in finished:
        if at <= whole_at:
            with suppress(PlaywrightError):
                sizes = request.sizes()
                kinds[kind_of(request)] += sizes["responseBodySize"] + sizes["responseHeadersSize"]
    return Opening(picture_at - started_at, picture_bytes, whole_at - started_at, whole_bytes, dict(kinds))


def is_frame(request: Request) -> bool:
    return "/frames/" in request.url


def kind_of(request: Request) -> str:
    path = urlsplit(request.url).path
    if not path.startswith("/dicom-web/"):
        return "viewer"
    if "/frames/" in path:
        return "frames"
    return next((kind for kind in ("metadata", "thumbnail") if path.endswith(kind)), "search")


def write(openings: dict[str, list[Opening]]) -> None:
    result = {"bits_per_second": BITS_PER_SECOND, "round_trip_seconds": 2 * DELAY_SECONDS}
    result |= {way: summarize(openings[way]) for way in WAYS}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "low_bandwidth.json").write_text(json.dumps(result, indent=2) + "\n")
    PICTURE.write_text(draw(result))
    print(json.dumps(result, indent=2))


def summarize(openings: list[Opening]) -> dict[str, Any]:
    """Return the medians, and the seconds of every round beside them."""
    kinds = sorted({kind for one in openings for kind in one.kinds})
    return {
        "rounds": len(openings),
        "first_picture_seconds": round(statistics.median(one.first_picture_seconds for one in openings), 2),
        "first_picture_bytes": round(statistics.median(one.first_picture_bytes for one in openings)),
        "whole_frame_seconds": round(statistics.median(one.whole_frame_seconds for one in openings), 2),
        "whole_frame_bytes": round(statistics.median(one.whole_frame_bytes for one in openings)),
        "bytes_by_kind": {kind: round(statistics.median(one.kinds.get(kind, 0) for one in openings)) for kind in kinds},
        "all_first_picture_seconds": [round(one.first_picture_seconds, 2) for one in openings],
    }


def draw(result: dict[str, Any]) -> str:
    """Return a bar for each way, as long as its seconds to the first picture, as SVG."""
    longest = max(result[way]["first_picture_seconds"] for way in WAYS)
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 150" font-family="sans-serif" font-size="14">',
        '<rect width="640" height="150" fill="#ffffff"/>',
        '<text x="16" y="26">Sample CT in OHIF, 512 kbit/s and 700 ms: seconds to the first image</text>',
    ]
    for row, (way, colour) in enumerate(zip(WAYS, ("#9aa5b1", "#1f6feb"), strict=True)):
        seconds, size = result[way]["first_picture_seconds"], result[way]["first_picture_bytes"]
        top, length = 46 + row * 48, round(400 * seconds / longest)
        lines += [
            f'<text x="16" y="{top + 21}">{way}</text>',
            f'<rect x="72" y="{top}" width="{length}" height="32" fill="{colour}"/>',
            f'<text x="{72 + length + 8}" y="{top + 21}">{seconds:.1f} s, {size / 1000:.0f} kB</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    main()
