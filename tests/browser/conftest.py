"""What every browser test needs: the pinned viewer, and Debian's Chromium, headless and rendering in software."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from dicomweb.ohif import ViewerUnavailable, fetch_viewer
from tests.browser.viewing import CHROMIUM_ARGUMENTS, find_chromium

PROJECT = Path(__file__).parents[2]


def unavailable(what: str) -> None:
    """Skip with one line on a user's machine; in CI a part that is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def viewer_directory() -> Path:
    try:
        return fetch_viewer(PROJECT / ".cache" / "viewer", lambda *_: None)
    except ViewerUnavailable as error:
        unavailable(f"needs the viewer (pacs fetch-viewer --to .cache/viewer): {error}")
        raise


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        unavailable("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
