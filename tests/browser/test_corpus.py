"""OHIF in Chromium opens every displayable object there is, and shows what this archive renders of it.

The objects are those of ``sample_data`` and, where it lies beside the project, of ``../shared/corpus``. Several files
of the corpus carry the UIDs of another one (the same image in another transfer syntax): an archive shows one of them,
so the others get new UIDs first. A folder is one test: its studies are opened together, images in one page, everything
else in a page of its own. ``PACS_SCREENSHOTS=folder`` keeps a picture of everything that was shown.
"""

import hashlib
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest
from playwright.sync_api import Browser, BrowserContext
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from tests.browser.conftest import PROJECT
from tests.browser.exceptions import NO_PICTURE, NOT_SHOWN
from tests.browser.looking import Entry, Looking
from tests.browser.structures import build_structures
from tests.browser.viewing import PATIENCE_SECONDS, Session
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOTS = [root for root in (PROJECT / "sample_data", PROJECT.parent / "shared" / "corpus") if root.is_dir()]
FOLDERS = sorted(
    f"{root.name}/{folder.name}"
    for root in ROOTS
    for folder in root.iterdir()
    if folder.is_dir() and folder.name not in {"dicomdir", "palettes"}  # which are no images
)
QUICK = (
    "corpus/encapsulated",
    "corpus/mr-single",
    "corpus/rt",
    "sample_data/ct-head",
)
"""These are opened in every run of the suite; all of them take the better part of an hour: ``make look``."""
SAMPLE_CT = PROJECT / "sample_data" / "ct-head"
STUDIES_A_PAGE = 12
PIXELS = frozenset({"7FE00008", "7FE00009", "7FE00010"})
SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"

SEEN_BEFORE = """
  localStorage?.setItem("shownTours", JSON.stringify(["basicViewerTour"]));
  sessionStorage?.setItem("investigationalUseDialog", "dismissed");
"""
"""Neither the tour of the tools nor the warning lies over the picture. The frame that holds a PDF has no storage."""

WITHOUT_PIXELS = (
    *NO_PICTURE,
    "1.2.840.10008.5.1.4.1.1.9.",
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.481.3",
)
"""How the UIDs of SOP Classes begin that are shown, or not, without pixel data: waveforms, reports, documents."""


@dataclass(frozen=True)
class Collection:
    archive: ArchiveProcess
    entries: dict[str, list[Entry]]
    """By folder."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, viewer_directory: Path) -> Iterator[Collection]:
    scratch = tmp_path_factory.mktemp("corpus")
    renamed = scratch / "renamed"
    renamed.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom, of files that are broken on purpose
        entries = gather(renamed)
    data_dir = scratch / "data"
    command = [sys.executable, "-m", "pacs.cli.main", "import", "--data-dir", str(data_dir)]
    paths = [str(entry.path) for held in entries.values() for entry in held]
    subprocess.run([*command, *paths], check=False, stdout=subprocess.DEVNULL)
    with serving(data_dir, PACS_HTTP__VIEWER_DIR=str(viewer_directory)) as archive:
        yield Collection(
            archive, {folder: [e for e in held if is_displayable(archive, e)] for folder, held in entries.items()}
        )


def gather(renamed: Path) -> dict[str, list[Entry]]:
    """Return the files by folder; one whose SOP Instance UID came before is copied to ``renamed`` under new UIDs.

    What is not looked for is left out: what the viewer breaks on would spoil the stack that it is in, or the study.
    """
    entries: dict[str, list[Entry]] = defaultdict(list)
    seen: set[str] = set()
    entries["sample_data/ct-head"].append(write_structures(renamed / "structures.dcm"))
    for root in ROOTS:
        for original in sorted(path for path in root.rglob("*") if path.is_file()):
            name, path = original.relative_to(root.parent).as_posix(), original
            if name in NOT_SHOWN:
                continue
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True)
                if header.SOPInstanceUID in seen:
                    path = renamed / f"{len(seen):04}-{path.name}"
                    header = rename(original, path)
            except (InvalidDicomError, AttributeError, ValueError, OSError):
                continue  # what pydicom cannot read is no displayable object
            seen.add(header.SOPInstanceUID)
            uids = (header.get(keyword, "") for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
            study, series, instance = map(str, uids)
            syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
            entry = Entry(name, path, study, series, instance, str(header.get("SOPClassUID", "")), syntax)
            entries["/".join(name.split("/")[:2])].append(entry)
    return entries


def rename(path: Path, target: Path) -> pydicom.FileDataset:
    """Write the object with UIDs made of its path: a study for all of one name, a series for each.

    A segmentation stays in the study of the images that it is of.
    """
    dataset = pydicom.dcmread(path)
    if dataset.SOPClassUID != SEGMENTATION:
        dataset.StudyInstanceUID = derive_uid(str(dataset.SOPInstanceUID))
    dataset.SeriesInstanceUID = derive_uid(f"series {path.name}")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = derive_uid(f"instance {path.name}")
    dataset.save_as(target)
    return dataset


def write_structures(target: Path) -> Entry:
    """Write a structure set of the sample CT, for the corpus has none that says which images it is of."""
    slices = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(SAMPLE_CT.glob("*.dcm"))]
    made = build_structures(slices, derive_uid("series structures"), derive_uid("structures"))
    made.save_as(target, enforce_file_format=True)
    uids = map(str, (made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID, made.SOPClassUID))
    return Entry("made/structures.dcm", target, *uids, str(made.file_meta.TransferSyntaxUID))


def derive_uid(text: str) -> UID:
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15])}")


def is_displayable(archive: ArchiveProcess, entry: Entry) -> bool:
    """Return whether the archive took it and it has something to show: pixels, or it is of a kind that needs none."""
    if not (entry.study and entry.series):
        return False
    address = f"/studies/{entry.study}/series/{entry.series}/instances/{entry.instance}/metadata"
    answer = httpx.get(archive.dicomweb + address, headers={"Accept": "application/dicom+json"}, timeout=60)
    if answer.status_code != httpx.codes.OK:
        return False
    (metadata,) = answer.json()
    return entry.sop_class.startswith(WITHOUT_PIXELS) or not PIXELS.isdisjoint(metadata)


@pytest.fixture
def open_page(chromium: Browser, collection: Collection) -> Iterator[Callable[[], Session]]:
    """Open a page and close the one before, for all of them share the few WebGL contexts that there are."""
    contexts: list[BrowserContext] = []

    def close_all() -> None:
        while contexts:
            contexts.pop().close()

    def open_one() -> Session:
        close_all()
        context = chromium.new_context(viewport={"width": 1000, "height": 700})
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        context.add_init_script(SEEN_BEFORE)
        contexts.append(context)
        return Session(context.new_page(), collection.archive.url)

    yield open_one
    close_all()


@pytest.mark.parametrize(
    "folder", [pytest.param(folder, marks=() if folder in QUICK else pytest.mark.long) for folder in FOLDERS]
)
def test_every_displayable_object_is_shown_as_the_archive_renders_it(
    collection: Collection, open_page: Callable[[], Session], folder: str
):
    looking = Looking(collection.archive, {entry.instance: entry for entry in collection.entries[folder]})
    assert looking.wanted, "nothing here is displayable"
    for mode, studies in plan_pages(list(looking.wanted.values())):
        looking.look_through(open_page, mode, studies)
    missing = {entry.name for entry in looking.wanted.values()} - looking.shown
    assert not looking.problems, "\n".join(looking.problems)
    assert not missing, "the viewer has no picture of " + ", ".join(sorted(missing))


def plan_pages(entries: list[Entry]) -> Iterator[tuple[str, list[str]]]:
    """Yield the viewer's mode and the studies of one page after another."""
    slides = {entry.study for entry in entries if entry.sop_class == SLIDE}
    others = sorted({entry.study for entry in entries} - slides)
    yield from (("microscopy", [study]) for study in sorted(slides))
    for start in range(0, len(others), STUDIES_A_PAGE):
        yield "viewer", others[start : start + STUDIES_A_PAGE]
