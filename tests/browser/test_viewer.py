"""A radiologist's browser: Debian's Chromium, headless and rendering in software, opens the sample studies.

``PACS_UPDATE_SCREENSHOT=1`` writes ``docs/viewer.png``, the picture in the README.
"""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from dicomweb.ohif import ViewerUnavailable, fetch_viewer
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    # Whatever the viewer may try, nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PATIENCE_SECONDS = 90
ATTEMPTS = 3
SEEN = 12.0
"""Standard deviation of the grey values on a canvas from which on there is a picture; an empty one has 0."""


@dataclass
class Session:
    """One page, and what it did that nobody sees on the screen."""

    page: Page
    url: str
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.context.on("request", lambda request: self._note(request.url))
        self.page.on("console", lambda message: self._hear(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, url: str) -> None:
        if urlsplit(url).scheme in {"http", "https", "ws", "wss"} and not url.startswith(self.url):
            self.foreign.append(url)

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.complaints.append(text)

    def open_list(self) -> None:
        self.page.goto(self.url)
        self.page.locator("table input").first.wait_for()
        with suppress(PlaywrightError):  # asked once a browser
            self.page.get_by_text("Confirm and hide").click(timeout=5_000)

    def open_study(self, name: str) -> Locator:
        """Find the one study by its patient's name, open it, and return the canvas once there is a picture on it.

        As often as a person would: a browser that renders in software on a busy machine now and then loses a click.
        """
        for _ in range(ATTEMPTS):
            with suppress(PlaywrightError):
                self._find_and_open(name)
                canvas = self.page.locator("canvas.cornerstone-canvas").first
                canvas.wait_for()
                if wait_for_picture(canvas) >= SEEN:
                    return canvas
        pytest.fail("no picture appears in the viewer")

    def _find_and_open(self, name: str) -> None:
        self.open_list()
        self.page.locator("table input").first.fill(name)
        self.page.get_by_text("1-1 of 1").wait_for()
        for _ in range(ATTEMPTS):  # a list that is drawn anew between the two clicks swallows them
            time.sleep(1)
            with suppress(PlaywrightError):
                self.page.locator("tbody tr", has_text=name).first.dblclick(timeout=10_000)
                self.page.wait_for_url("**/viewer?*", wait_until="commit", timeout=10_000)
                break
        with suppress(PlaywrightError):  # the tour of the tools comes only once an image is there, and not always
            self.page.get_by_text("Skip all").click(timeout=10_000)


def contrast(canvas: Locator) -> float:
    """Return the standard deviation of what the canvas shows, 0 to 127."""
    picture = Image.open(io.BytesIO(canvas.screenshot())).convert("L")
    return float(np.asarray(picture, dtype=np.float64).std())


def wait_for_picture(canvas: Locator) -> float:
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen = 0.0
    while seen < SEEN and time.monotonic() < deadline:
        time.sleep(0.3)
        seen = contrast(canvas)
    return seen


def unavailable(what: str) -> None:
    """Skip with one line on a user's machine; in CI a part that is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def viewer_directory() -> Path:
    try:
        return fetch_viewer(PROJECT / ".cache" / "viewer", lambda *_: None)
    except ViewerUnavailable as error:
        unavailable(f"needs the viewer (pacs fetch-viewer --to .cache/viewer): {error}")
        raise


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        unavailable("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, viewer_directory: Path) -> Iterator[ArchiveProcess]:
    data_dir = tmp_path_factory.mktemp("archive") / "data"
    subprocess.run(
        [sys.executable, "-m", "pacs.cli.main", "import", "--data-dir", str(data_dir), str(PROJECT / "sample_data")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with serving(data_dir, PACS_HTTP__VIEWER_DIR=str(viewer_directory)) as process:
        yield process


@pytest.fixture
def session(chromium: Browser, running: ArchiveProcess) -> Iterator[Session]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    yield Session(context.new_page(), running.url)
    context.close()


def test_study_list_shows_every_sample_study_with_its_name_as_it_is_written(session: Session):
    session.open_list()
    for name in ("Échantillon, Démo", "Bénali, Amine", "Essai, Hélène", "اختبار, فاطمة", "Syntaxes, Essai"):
        session.page.get_by_text(name, exact=True).first.wait_for()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Échantillon", id="ct-jpeg-ls"),
        pytest.param("Bénali", id="mr-htj2k"),
        pytest.param("Hélène", id="cr-jpeg-lossless"),
        pytest.param("اختبار", id="us-jpeg-baseline"),
    ],
)
def test_study_found_by_name_opens_and_shows_its_pixels(session: Session, name: str):
    assert contrast(session.open_study(name)) >= SEEN
    assert session.foreign == []
    assert session.complaints == []


def test_scrolling_through_the_ct_shows_another_slice(session: Session):
    canvas = session.open_study("Échantillon")
    first = session.page.get_by_text("(1/30)")
    first.wait_for()
    canvas.hover()
    for _ in range(120):
        session.page.mouse.wheel(0, 100)
        time.sleep(0.2)
        if session.page.get_by_text("(13/30)").is_visible():
            break
    assert not first.is_visible()
    assert wait_for_picture(canvas) >= SEEN
    if os.environ.get("PACS_UPDATE_SCREENSHOT") == "1":
        session.page.mouse.move(0, 0)
        session.page.screenshot(path=PROJECT / "docs" / "viewer.png")
    assert session.foreign == []
