"""OHIF as a test sees it: what it complains of, what it has, and what is on its screen."""

import base64
import io
import shutil
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, Response

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
SEEN = 12.0
"""Standard deviation of the grey values on a canvas from which on there is a picture; an empty one has 0."""

_GRID = 64
_FLAT = 2.0
"""Grey values around the mean, which JPEG may make of one colour."""
_SAME, _SAME_ANYWHERE = 2.0, 24.0
"""How many grey values two pictures differ by that are the same, on average and at most; the last is of resampling."""

HARMLESS = {
    "_setThrew is not defined": "the bundled OpenJPH breaks on a part of a frame in which the resolution that the"
    " viewer tries has not begun; the viewer passes over it and decodes the next, longer part, or the whole",
    "The stack viewport has been destroyed": "a picture came after the viewer had made room for the next one",
}
"""What the console may say: that the frame is shown in the end is tested."""

_SERVICES = "const services = window.extensionManager?._servicesManager.services; if (!services) return null;"
_DISPLAY_SETS = f"""() => {{ {_SERVICES}
  return services.displaySetService.getActiveDisplaySets().map((one) => ({{
    id: one.displaySetInstanceUID,
    study: one.StudyInstanceUID,
    series: one.SeriesInstanceUID,
    handler: one.SOPClassHandlerId.split(".").pop(),
    isUnsupported: Boolean(one.unsupported),
    instances: (one.instances ?? [one.instance]).map((instance) => instance.SOPInstanceUID),
  }}));
}}"""
# What a double click on a thumbnail does.
_SHOW = f"""(id) => {{ {_SERVICES}
  const viewportId = services.viewportGridService.getActiveViewportId();
  const viewportsToUpdate = services.hangingProtocolService.getViewportsRequireUpdate(viewportId, id, false);
  window.commandsManager.run("setDisplaySetsForViewports", {{ viewportsToUpdate }});
}}"""
_VIEWPORT = f"""{_SERVICES}
  const viewportId = services.viewportGridService.getActiveViewportId();
  const viewport = services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
  if (!viewport) return null;"""
_IMAGE_IDS = f"() => {{ {_VIEWPORT} return viewport.getImageIds?.() ?? []; }}"
_STEP = f"async (index) => {{ {_VIEWPORT} await viewport.setImageIdIndex(index); viewport.render(); }}"
_CANVAS = f"""() => {{ {_VIEWPORT}
  const image = viewport.getImageData?.();
  if (!image) return null;
  const [width, height] = image.dimensions;
  const corner = (column, row) => viewport.worldToCanvas(
    [0, 1, 2].map((axis) => image.origin[axis]
      + column * image.spacing[0] * image.direction[axis] + row * image.spacing[1] * image.direction[3 + axis]));
  return {{
    imageId: viewport.getCurrentImageId(),
    corners: [corner(-0.5, -0.5), corner(width - 0.5, height - 0.5)],
    picture: viewport.getCanvas().toDataURL("image/jpeg", 0.95).split(",")[1],
  }};
}}"""

_BARE = """() => {
  for (const control of document.querySelectorAll(".ol-control, .ol-scale-line")) control.style.visibility = "hidden";
}"""

Pixels = NDArray[np.float64]


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass(frozen=True)
class DisplaySet:
    """What OHIF made one entry of its list of: a series, or a part of one. ``handler`` says how it would show it."""

    id: str
    study: str
    series: str
    handler: str
    is_unsupported: bool
    instances: tuple[str, ...]


@dataclass
class Session:
    """One page, and what it did that nobody sees on the screen."""

    page: Page
    url: str
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.context.on("request", lambda request: self._note(request.url))
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._complain(str(error)))
        self.page.on("response", self._look)

    def open_viewer(self, studies: list[str], mode: str = "viewer") -> list[DisplaySet]:
        """Open the studies in one page and return what the viewer found in them, once it finds no more."""
        self.page.goto(f"{self.url}/{mode}?StudyInstanceUIDs={','.join(studies)}")
        deadline = time.monotonic() + PATIENCE_SECONDS
        found: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            time.sleep(1)
            before, found = found, self.page.evaluate(_DISPLAY_SETS) or []
            if found == before and {one["study"] for one in found} >= set(studies):
                break
        return [
            DisplaySet(
                one["id"],
                one["study"],
                one["series"],
                one["handler"],
                one["isUnsupported"],
                tuple(filter(None, one["instances"])),
            )
            for one in found
        ]

    def show(self, display_set: DisplaySet) -> None:
        self.page.evaluate(_SHOW, display_set.id)

    def image_ids(self) -> list[str]:
        """Return the addresses of the frames that the active viewport scrolls through."""
        return self.page.evaluate(_IMAGE_IDS) or []

    def step_to(self, index: int) -> None:
        self.page.evaluate(_STEP, index)

    def read_canvas(self) -> tuple[str, Image.Image] | None:
        """Return the address of the frame that is shown, and what the canvas shows of it; None while there is none."""
        shown = self.page.evaluate(_CANVAS)
        if shown is None or not shown["imageId"] or not np.isfinite(np.float64(shown["corners"])).all():
            return None
        picture = Image.open(io.BytesIO(base64.b64decode(shown["picture"]))).convert("RGB")
        (left, top), (right, bottom) = ((round(x), round(y)) for x, y in (corner[:2] for corner in shown["corners"]))
        box = (max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            return None
        return shown["imageId"], picture.crop(box)

    def bare_slide(self) -> Locator:
        """Return the pane of a slide, with nothing else in it: no overview, no scale."""
        pane = self.page.locator(".ol-viewport").first
        self.page.locator(".ol-overviewmap").first.wait_for(state="attached")
        self.page.evaluate(_BARE)
        return pane

    def _note(self, url: str) -> None:
        if urlsplit(url).scheme in {"http", "https", "ws", "wss"} and not url.startswith(self.url):
            self.foreign.append(url)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complain(f"{message.text} ({message.location.get('url', '')})")

    def _complain(self, complaint: str) -> None:
        if not any(text in complaint for text in HARMLESS):
            self.complaints.append(complaint)

    def _look(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} for {response.url}")


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Return the correlation of a picture with ours of the same thing, 1 for the same; windows and sizes may differ.

    A picture of one colour all over is like another such one only; and little correlates in one with a few specks.
    """
    # No finer than the picture has pixels, for what lies between them is the viewer's choice.
    size = (min(_GRID, other.width), min(_GRID, other.height))
    first, second = (_grid(picture, size) for picture in (one, other))
    differences = np.abs(first - second)
    if differences.mean() < _SAME and differences.max() < _SAME_ANYWHERE:
        return 1.0
    first, second = first - first.mean(), second - second.mean()
    if max(np.abs(first).max(), np.abs(second).max()) < _FLAT:
        return 1.0
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm else 0.0


def _grid(picture: Image.Image, size: tuple[int, int]) -> Pixels:
    return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.float64)


def contrast(canvas: Locator) -> float:
    """Return the standard deviation of what the canvas shows, 0 to 127."""
    return spread(Image.open(io.BytesIO(canvas.screenshot())))


def spread(picture: Image.Image) -> float:
    return float(np.asarray(picture.convert("L"), dtype=np.float64).std())


def wait_for_picture(canvas: Locator) -> float:
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen = 0.0
    while seen < SEEN and time.monotonic() < deadline:
        time.sleep(0.3)
        seen = contrast(canvas)
    return seen
