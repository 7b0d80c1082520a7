"""The pages of research in a browser: from a question to a picture, by two people, in three languages, on a phone."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import PROJECT
from tests.browser.viewing import PATIENCE_SECONDS, SEEN, Session, wait_for_picture
from tests.research_site import PASSWORD, PATIENTS, SECRETS, SLUG, Site, build_crowd, build_site
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

DESK, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 800}
MAX_PAGE_BYTES = 30 * 1024
RESEARCH = f"/research/{SLUG}"
DIRECTIONS = {"en": "ltr", "fr": "ltr", "ar": "rtl"}
_SIGNED_IN: dict[tuple[str, str], Any] = {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build_site(tmp_path_factory.mktemp("research") / "data")


@pytest.fixture(scope="module")
def running(site: Site, viewer_directory: Path) -> Iterator[ArchiveProcess]:
    with serving(site.data_dir, PACS_HTTP__VIEWER_DIR=str(viewer_directory)) as process:
        yield process


@contextmanager
def signed_in(chromium: Browser, running: ArchiveProcess, name: str, **options) -> Iterator[Session]:
    """Open a page of somebody who has signed in, once for all tests: a password takes its time."""
    key = (running.url, name)
    context = chromium.new_context(**{"viewport": DESK, "locale": "en", "storage_state": _SIGNED_IN.get(key)} | options)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    session = Session(context.new_page(), running.url)
    session.page.goto(f"{running.url}/research")
    if key not in _SIGNED_IN:
        session.page.locator("[name=name]").fill(name)
        session.page.locator("[name=password]").fill(PASSWORD)
        session.page.locator("main button").click()
        session.page.wait_for_url("**/research")
        _SIGNED_IN[key] = context.storage_state()
    yield session
    context.close()


def shown(page: Page) -> str:
    return page.locator("main").inner_text()


def go_until(page: Page, text: str) -> None:
    """Load a page again until it says something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = ""
    while text not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.3)
        with suppress(PlaywrightError):  # a page of what is being made loads itself again
            page.reload()
            said = shown(page)


@pytest.fixture(scope="module")
def released(chromium: Browser, running: ArchiveProcess, site: Site) -> str:
    """Go the whole way by its pages once, and return the address of what was published."""
    with (
        signed_in(chromium, running, "rania") as researcher,
        signed_in(chromium, running, "samir") as steward,
    ):
        page = researcher.page
        page.get_by_role("link", name="Lung nodules").click()
        page.get_by_role("link", name="New cohort").click()
        page.get_by_label("Modality").select_option("CT")
        page.get_by_label("Body part").fill("CHEST")
        page.get_by_label("Age from").select_option("18")
        page.get_by_role("button", name="Count").click()
        expect(page.get_by_role("table", name="Sex")).to_be_visible()
        page.get_by_label("Name of the cohort").fill("Adults' chests")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Ask for approval").click()
        assert "requested" in shown(page)
        assert "Approve\n" not in shown(page)

        desk = steward.page
        desk.goto(page.url)
        desk.get_by_role("button", name="Approve").click()
        desk.get_by_role("button", name="Make a release").click()
        go_until(desk, "in review")
        address = desk.url.removeprefix(running.url)
        desk.get_by_role("link", name="Review the quarantine").click()
        desk.get_by_text("Show the image").click()
        picture = desk.locator(".proof img")
        picture.scroll_into_view_if_needed()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not picture.evaluate("image => image.complete && image.naturalWidth > 0"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        desk.get_by_label("Remark").fill("A name is in the picture.")
        desk.get_by_role("button", name="Refuse").click()
        assert "Undecided: 0" in shown(desk)
        desk.goto(running.url + address)
        desk.get_by_role("button", name="Publish").click()
        assert "published" in shown(desk)
        for one in (researcher, steward):
            assert one.foreign == []
            assert one.complaints == []
    return address


def test_release_shows_pictures_of_what_nobody_is_named_in(
    chromium: Browser, running: ArchiveProcess, released: str, site: Site
):
    with signed_in(chromium, running, "rania") as session:
        session.page.goto(running.url + released)
        session.page.wait_for_load_state("networkidle")
        images = session.page.locator(".pictures img")
        assert images.count() == min(PATIENTS, 24)
        widths = images.evaluate_all("all => all.filter((one) => one.complete).map((one) => one.naturalWidth)")
        assert widths
        assert all(widths)
        content = session.page.content()
        for secret in (*SECRETS, *site.clinical_uids):
            assert secret not in content
        assert session.complaints == []


def test_viewer_opens_a_released_study_without_a_complaint(chromium: Browser, running: ArchiveProcess, released: str):
    with signed_in(chromium, running, "rania") as session:
        session.page.goto(running.url + released)
        session.page.locator(".pictures a").first.click()
        canvas = session.page.locator("canvas.cornerstone-canvas").first
        canvas.wait_for()
        assert wait_for_picture(canvas) >= SEEN
        assert session.page.url.startswith(f"{running.url}{released}/view/viewer?")
        assert session.foreign == []
        assert session.complaints == []


def test_viewer_lists_the_newest_release_of_a_project(chromium: Browser, running: ArchiveProcess, released: str):
    with signed_in(chromium, running, "rania") as session:
        session.page.goto(f"{running.url}{RESEARCH}/view/")
        session.page.locator("table input").first.wait_for()
        session.page.get_by_text("2.25.").or_(session.page.get_by_text("CT")).first.wait_for()
        assert session.foreign == []
        assert session.complaints == []


@pytest.mark.parametrize("language", DIRECTIONS)
def test_pages_fit_a_desk_and_a_phone_in_every_language(
    chromium: Browser, running: ArchiveProcess, released: str, language: str
):
    with signed_in(chromium, running, "samir", locale=language) as session:
        for path in pages_of(released):
            answer = session.page.goto(running.url + path)
            assert answer is not None
            assert answer.status == 200, path
            assert len(answer.body()) < MAX_PAGE_BYTES
            assert answer.header_value("content-encoding") == "br"
            root = session.page.locator("html")
            assert (root.get_attribute("lang"), root.get_attribute("dir")) == (language, DIRECTIONS[language])
            for size in (DESK, PHONE):
                session.page.set_viewport_size(size)
                too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert session.page.evaluate(too_wide) <= 0, path
                keep_screenshot(session.page, f"{path.partition('?')[0]}-{language}-{size['width']}")
        assert session.complaints == []


def keep_screenshot(page: Page, name: str) -> None:
    """Keep what a page looks like, for a person to look at, where the environment says so."""
    if folder := os.environ.get("PACS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name.strip('/').replace('/', '-')}.png", full_page=True)


def pages_of(released: str) -> list[str]:
    query = "?Modality=CT&count=1"
    cohorts = f"{RESEARCH}/cohorts"
    return ["/research", RESEARCH, f"{cohorts}/new{query}", f"{cohorts}/1", released, f"{released}/quarantine"]


def test_pages_can_be_used_with_the_keyboard_alone(chromium: Browser, running: ArchiveProcess, released: str):
    with signed_in(chromium, running, "rania") as session:
        page = session.page
        page.goto(f"{running.url}{RESEARCH}/cohorts/new")
        page.get_by_label("Modality").focus()
        page.keyboard.type("CT")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == "Count":
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        page.keyboard.press("Enter")
        expect(page.get_by_role("table", name="Modality")).to_be_visible()


def test_form_of_another_site_does_nothing(running: ArchiveProcess, site: Site, released: str):
    answer = httpx.post(f"{running.url}{released}/withdraw", data={"reason": "mischief"}, headers=site.headers("samir"))
    assert answer.status_code == 403
    assert httpx.get(f"{running.url}{released}", headers=site.headers("samir")).status_code == 200


def test_facets_of_a_crowd_are_drawn_and_none_is_told_to_the_unit(chromium: Browser, tmp_path: Path):
    """The documentation has its picture from here: ``PACS_UPDATE_SCREENSHOT=1`` makes it anew, of a larger crowd."""
    is_updating = os.environ.get("PACS_UPDATE_SCREENSHOT") == "1"
    site = build_site(tmp_path / "data", build_crowd(300 if is_updating else 60))
    with serving(site.data_dir) as running, signed_in(chromium, running, "rania", viewport=DESK) as session:
        session.page.goto(f"{running.url}{RESEARCH}/cohorts/new?words=thorax&age_min=18&count=1")
        cells = session.page.get_by_role("table", name="Sex").get_by_role("cell").all_inner_texts()
        numbers = [int(cell) for cell in cells if cell.strip().isdigit()]
        assert numbers
        assert all(number % 5 == 0 for number in numbers)
        if is_updating:
            session.page.screenshot(path=PROJECT / "docs" / "research.png", full_page=True)
