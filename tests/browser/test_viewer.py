"""A radiologist's browser: Debian's Chromium, headless and rendering in software, opens the sample studies.

``PACS_UPDATE_SCREENSHOT=1`` writes ``docs/viewer.png``, the picture in the README.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import PROJECT
from tests.browser.viewing import PATIENCE_SECONDS, SEEN, Session, contrast, wait_for_picture
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

ATTEMPTS = 3


def open_list(session: Session) -> None:
    session.page.goto(session.url)
    session.page.locator("table input").first.wait_for()
    with suppress(PlaywrightError):  # asked once a browser
        session.page.get_by_text("Confirm and hide").click(timeout=5_000)


def open_study(session: Session, name: str) -> Locator:
    """Find the one study by its patient's name, open it, and return the canvas once there is a picture on it.

    As often as a person would: a browser that renders in software on a busy machine now and then loses a click.
    """
    for _ in range(ATTEMPTS):
        with suppress(PlaywrightError):
            _find_and_open(session, name)
            canvas = session.page.locator("canvas.cornerstone-canvas").first
            canvas.wait_for()
            if wait_for_picture(canvas) >= SEEN:
                return canvas
    pytest.fail("no picture appears in the viewer")


def _find_and_open(session: Session, name: str) -> None:
    open_list(session)
    session.page.locator("table input").first.fill(name)
    session.page.get_by_text("1-1 of 1").wait_for()
    for _ in range(ATTEMPTS):  # a list that is drawn anew between the two clicks swallows them
        time.sleep(1)
        with suppress(PlaywrightError):
            session.page.locator("tbody tr", has_text=name).first.dblclick(timeout=10_000)
            session.page.wait_for_url("**/viewer?*", wait_until="commit", timeout=10_000)
            break
    with suppress(PlaywrightError):  # the tour of the tools comes only once an image is there, and not always
        session.page.get_by_text("Skip all").click(timeout=10_000)


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
    open_list(session)
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
    assert contrast(open_study(session, name)) >= SEEN
    assert session.foreign == []
    assert session.complaints == []


def test_scrolling_through_the_ct_shows_another_slice(session: Session):
    canvas = open_study(session, "Échantillon")
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
