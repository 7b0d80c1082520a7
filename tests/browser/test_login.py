"""A person's browser before an archive with accounts: the login, the viewer behind it, and out again."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PROJECT
from tests.browser.viewing import PATIENCE_SECONDS, Session
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, viewer_directory: Path) -> Iterator[ArchiveProcess]:
    data_dir = tmp_path_factory.mktemp("archive") / "data"
    for words, typed in (
        (["import", str(PROJECT / "sample_data")], ""),
        (["user", "add", "ilham", "--role", "radiologist"], PASSWORD),
    ):
        command = [sys.executable, "-m", "pacs.cli.main", *words, "--data-dir", str(data_dir)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, input=typed, text=True)
    with serving(data_dir, PACS_HTTP__VIEWER_DIR=str(viewer_directory)) as process:
        yield process


@pytest.fixture
def session(chromium: Browser, running: ArchiveProcess) -> Iterator[Session]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="ar-MA")
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    yield Session(context.new_page(), running.url)
    context.close()


def test_who_opens_the_viewer_logs_in_first_sees_the_studies_and_leaves(session: Session):
    page = session.page
    page.goto(session.url)
    expect(page).to_have_url(re.compile(r"/login\?next=%2F$"))
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    box, label = page.locator("#name").bounding_box(), page.locator("label[for=name]").bounding_box()
    assert box
    assert label
    assert page.locator(".product").bounding_box()["x"] > box["x"] + box["width"], "the product stands on the right"
    page.get_by_text("Français").click()
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    page.locator("#name").fill("ilham")
    page.locator("#password").fill(PASSWORD)
    page.locator("form.panel button").click()
    page.locator("table input").first.wait_for()
    page.get_by_text("Échantillon, Démo", exact=True).first.wait_for()
    assert session.complaints == []
    assert session.foreign == []
    page.goto(f"{session.url}/logout")
    page.locator("form.panel button").click()
    expect(page).to_have_url(re.compile(r"/login$"))
    page.goto(session.url)
    expect(page.locator("#password")).to_be_visible()
