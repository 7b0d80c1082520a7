"""What a test of the viewer wants to see, page by page, and what it says is wrong with what it saw."""

import io
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import httpx
import numpy as np
import pydicom
from PIL import Image
from playwright.sync_api import Error as PlaywrightError

from tests.browser.exceptions import NO_PICTURE, OTHERWISE
from tests.browser.viewing import DisplaySet, Session, likeness, spread
from tests.scenarios.process import ArchiveProcess

T = TypeVar("T")

FRAMES_A_STACK = 16
"""More are sampled evenly, the first and the last among them."""
ALIKE = 0.95
UNLIKE = 0.7
"""What is asked of the likeness where the viewer shows the same pixels in other colours."""
LOOKS = 2
LOOK_SECONDS = 30
VISIBLE = 8.0
COLOURED_PIXELS = 20
BLACK = 16


@dataclass(frozen=True)
class Entry:
    """One file as the archive got it."""

    name: str
    path: Path
    study: str
    series: str
    instance: str
    sop_class: str
    transfer_syntax: str


@dataclass
class Looking:
    """What one test wants to see, what it saw, and what was wrong."""

    archive: ArchiveProcess
    wanted: dict[str, Entry]
    shown: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def look_through(self, open_page: Callable[[], Session], mode: str, studies: list[str]) -> None:
        """Show everything wanted in these studies: images one after another, the rest in a page each.

        An image that is not seen is looked for again, in a page of its own: the viewer, drawn without a graphics card,
        now and then keeps the camera of the image before, or misses that a palette has come. A slide always has its
        own: each takes more of the few WebGL contexts of a page.
        """
        session = open_page()
        apart: list[DisplaySet] = []
        for display_set in session.open_viewer(studies, mode):
            if not self._is_expected(display_set):
                continue
            if display_set.is_unsupported:
                self._expect_no_picture(display_set)
            elif display_set.handler != "stack" or self._try(session, display_set, self._see_stack):
                apart.append(display_set)
        self._take_complaints(session)
        for known in apart:
            self._look_apart(open_page, mode, known)

    def _is_expected(self, display_set: DisplaySet) -> bool:
        """Return whether it holds anything wanted."""
        return any(uid in self.wanted for uid in display_set.instances)

    def _look_apart(self, open_page: Callable[[], Session], mode: str, known: DisplaySet) -> None:
        for _ in range(LOOKS):
            session = open_page()
            problem = self._find(session, mode, known)
            self._take_complaints(session)
            if not problem:
                return
        self.problems.append(f"{self._names(known)}: {problem}")

    def _find(self, session: Session, mode: str, known: DisplaySet) -> str:
        found = session.open_viewer([known.study], mode)
        same = [one for one in found if one.series == known.series and one.instances == known.instances]
        see = self._SEE.get(known.handler)
        if not same or see is None:
            return f"nobody knows how {known.handler} looks"
        return self._try(session, same[0], partial(see, self))

    def _try(self, session: Session, display_set: DisplaySet, see: Callable[[Session, DisplaySet], str]) -> str:
        """Show it and return what is wrong with what is seen; "" if nothing is."""
        try:
            session.show(display_set)
            problem = see(session, display_set)
        except PlaywrightError as error:
            problem = error.message.splitlines()[0]
        except httpx.HTTPStatusError as error:
            problem = f"rendering answers {error.response.status_code}"
        if not problem:
            self.shown |= {self.wanted[uid].name for uid in display_set.instances if uid in self.wanted}
        if folder := os.environ.get("PACS_SCREENSHOTS"):
            name = self._names(display_set).replace("/", "-")[:80]
            session.page.screenshot(path=Path(folder) / f"{'BAD-' if problem else ''}{name}.png")
        return problem

    def _see_stack(self, session: Session, display_set: DisplaySet) -> str:
        """Scroll through it; every frame must look as the archive renders it."""
        addresses = wait_for(
            session.image_ids, lambda found: bool(found) and names_any(found[0], display_set.instances)
        )
        if not addresses or not names_any(addresses[0], display_set.instances):
            return "the viewport does not take it"
        # A viewport is made anew for it: nothing may be asked of it before it shows the first of its frames, if it can.
        if self._is_to_appear(addresses[0]) and not names_any(
            wait_for_canvas(session, display_set), display_set.instances
        ):
            return "the viewport does not show it"
        if len(addresses) > FRAMES_A_STACK:
            addresses_at = [round(k * (len(addresses) - 1) / (FRAMES_A_STACK - 1)) for k in range(FRAMES_A_STACK)]
        else:
            addresses_at = list(range(len(addresses)))
        for index in addresses_at:
            address = addresses[index].removeprefix("wadors:")
            if not self._is_to_appear(address):
                continue
            expected = self._render(address)
            if len(addresses) > 1:
                session.step_to(index)
            least = UNLIKE if any(self._is_otherwise(uid) for uid in address.split("/")) else ALIKE
            best = wait_for(partial(compare, session, address, expected), lambda alike, least=least: alike >= least)
            if best < least:
                return f"frame {index + 1} is not what is rendered: {best:.3f}"
        return ""

    def _is_to_appear(self, address: str) -> bool:
        return any(uid in self.wanted for uid in address.split("/"))

    def _is_otherwise(self, uid: str) -> bool:
        return uid in self.wanted and self.wanted[uid].name in OTHERWISE

    def _see_canvas(self, session: Session, display_set: DisplaySet) -> str:
        del display_set
        pane = session.page.locator(".viewport-wrapper, [data-cy=viewport-pane]").first
        seen = wait_for(lambda: spread(Image.open(io.BytesIO(pane.screenshot()))), lambda value: value >= VISIBLE)
        return "" if seen >= VISIBLE else "nothing is drawn"

    def _see_slide(self, session: Session, display_set: DisplaySet) -> str:
        """All tiles of the slide are drawn, each in its place; the viewer turns the slide as it lay."""
        entry = next(self.wanted[uid] for uid in display_set.instances if uid in self.wanted)
        expected = self._render_slide(entry)
        turned = [expected.rotate(degrees) for degrees in (0, 90, 180, 270)]
        pane = session.bare_slide()
        best = wait_for(
            lambda: max(likeness(find_slide(pane.screenshot()), one) for one in turned), lambda alike: alike >= ALIKE
        )
        return "" if best >= ALIKE else f"the slide is not what is rendered: {best:.3f}"

    def _see_overlay(self, session: Session, display_set: DisplaySet) -> str:
        """A segmentation: it is loaded, and something on the grey image has a colour."""
        seen = wait_for(partial(colours, session, display_set), lambda count: count >= COLOURED_PIXELS)
        return "" if seen >= COLOURED_PIXELS else "no colour is laid over the image"

    def _see_contours(self, session: Session, display_set: DisplaySet) -> str:
        """A structure set: a line in the structure's colour is drawn on the image."""
        del display_set
        lines = session.page.locator("svg.svg-layer path")
        return "" if wait_for(lines.count, bool) else "no contour is drawn"

    def _see_document(self, session: Session, display_set: DisplaySet) -> str:
        source = session.page.locator("object[data^='blob:']").get_attribute("data")
        head = session.page.evaluate("async (url) => (await (await fetch(url)).text()).slice(0, 5)", source)
        return self._see_canvas(session, display_set) if head == "%PDF-" else "no PDF is embedded"

    def _see_report(self, session: Session, display_set: DisplaySet) -> str:
        """The words of the report stand on the page."""
        (entry,) = (self.wanted[uid] for uid in display_set.instances if uid in self.wanted)
        words = read_words(entry.path)
        body = session.page.locator("[data-cy=viewport-grid]")
        seen = wait_for(lambda: sum(word in body.inner_text() for word in words), lambda count: count == len(words))
        return "" if seen == len(words) else f"{seen} of {len(words)} words of the report are shown"

    def _see_measurement(self, session: Session, display_set: DisplaySet) -> str:
        """A report that measures is drawn on the image it measures, with words beside the drawing."""
        del display_set
        words = session.page.locator("svg.svg-layer text")
        return "" if wait_for(words.count, bool) else "no measurement is drawn"

    _SEE: ClassVar = {
        "stack": _see_stack,
        "dicom-seg": _see_overlay,
        "dicom-rt": _see_contours,
        "dicom-pdf": _see_document,
        "dicom-sr": _see_report,
        "dicom-sr-3d": _see_measurement,
        "dicom-video": _see_canvas,
        "DicomMicroscopySopClassHandler": _see_slide,
        "DicomEcgSopClassHandler": _see_canvas,
    }

    def _render(self, address: str) -> Image.Image:
        answer = httpx.get(f"{address}/rendered", headers={"Accept": "image/png"}, timeout=60)
        return Image.open(io.BytesIO(answer.raise_for_status().content)).convert("RGB")

    def _render_slide(self, entry: Entry) -> Image.Image:
        """Return all tiles of a slide that has them in order, row after row (TILED_FULL)."""
        slide = pydicom.dcmread(entry.path, stop_before_pixels=True)
        picture = Image.new("RGB", (slide.TotalPixelMatrixColumns, slide.TotalPixelMatrixRows))
        across = -(-picture.width // slide.Columns)
        series = f"{self.archive.dicomweb}/studies/{entry.study}/series/{entry.series}"
        for index in range(int(slide.NumberOfFrames)):
            tile = self._render(f"{series}/instances/{entry.instance}/frames/{index + 1}")
            picture.paste(tile, (index % across * slide.Columns, index // across * slide.Rows))
        return picture

    def _expect_no_picture(self, display_set: DisplaySet) -> None:
        for uid in display_set.instances:
            if (entry := self.wanted.get(uid)) is None:
                continue
            if entry.sop_class in NO_PICTURE:
                self.shown.add(entry.name)
            else:
                self.problems.append(f"{entry.name}: the viewer has no viewport for {entry.sop_class}")

    def _take_complaints(self, session: Session) -> None:
        """Note what the page complained of, but for what another test looks at."""
        for line in session.complaints:
            named = set(re.findall(r"/instances/([0-9.]+)", line))
            if not named or named & self.wanted.keys():
                self.problems.append(line)

    def _names(self, display_set: DisplaySet) -> str:
        names = sorted(self.wanted[uid].name for uid in display_set.instances if uid in self.wanted)
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def find_slide(screenshot: bytes) -> Image.Image:
    """Return what is drawn on the black in the middle of the pane."""
    pane = Image.open(io.BytesIO(screenshot)).convert("RGB")
    middle = pane.crop((pane.width // 4, pane.height // 5, pane.width * 4 // 5, pane.height * 4 // 5))
    return middle.crop(middle.convert("L").point(lambda grey: 255 * (grey > BLACK)).getbbox() or (0, 0, 1, 1))


def wait_for_canvas(session: Session, display_set: DisplaySet) -> str:
    """Return the address of the frame on the canvas as soon as it is one of these; "" if there is none."""
    seen = wait_for(session.read_canvas, lambda seen: seen is not None and names_any(seen[0], display_set.instances))
    return seen[0] if seen else ""


def compare(session: Session, address: str, expected: Image.Image) -> float:
    """Return how alike the canvas is to the picture; less than 0 while it shows another frame, or none."""
    seen = session.read_canvas()
    if seen is None or seen[0].removeprefix("wadors:") != address:
        return -1.0
    return likeness(seen[1], expected)


def colours(session: Session, display_set: DisplaySet) -> int:
    """Return how many pixels of the canvas are no grey, once the viewer holds the segmentation; else 0."""
    del display_set
    seen = session.read_canvas()
    if seen is None:
        return 0
    pixels = np.asarray(seen[1], dtype=np.int16)
    return int(((pixels.max(axis=2) - pixels.min(axis=2)) > 24).sum())


def read_words(path: Path) -> set[str]:
    """Return what a report says below its title: texts, the meanings of codes, and numbers."""
    report = pydicom.dcmread(path, stop_before_pixels=True)
    words = set()
    for content in report.ContentSequence:
        words.add(content.get("TextValue", ""))
        words |= {code.CodeMeaning for code in content.get("ConceptCodeSequence", ())}
    return {" ".join(word.split()) for word in words if word.strip()}


def names_any(address: str, uids: Iterable[str]) -> bool:
    return any(f"/{uid}/" in address for uid in uids)


def wait_for(look: Callable[[], T], is_good: Callable[[T], bool]) -> T:
    """Return what is seen as soon as it is good, or what is seen when patience ends."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        seen = look()
        if is_good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.1)
