"""Every object of the corpus is de-identified and clean, or held back for a reason; nothing else happens."""

import io

import pydicom
import pytest

from pacs.deid import RELEASE_DEFAULT, Image, Option, Profile, Quarantine, Reason, deidentify
from pacs.deid.reading import parse_file, swapped
from tests.conftest import CORPUS
from tests.unit.pacs.deid.running import KEY

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")

FOLDERS = sorted(path.name for path in CORPUS.iterdir() if path.is_dir()) if CORPUS.is_dir() else []
NEARLY_ALL = Profile(
    "nearly all", frozenset(Option) - {Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS, Option.CLEAN_VISUAL_FEATURES}
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_clean_or_held_back(folder):
    for path in sorted((CORPUS / folder).iterdir()):
        for profile, waived in ((RELEASE_DEFAULT, ()), (NEARLY_ALL, set(Reason) - {Reason.RESIDUE})):
            target, reasons = io.BytesIO(), ()
            try:
                with path.open("rb") as source:
                    report = deidentify(source, target, profile, KEY, released_reasons=waived)
            except Quarantine as held:
                reasons = held.reasons
            assert Reason.ENGINE_FAILED not in reasons, path.name
            if reasons:
                assert target.getvalue() == b""
                continue
            output = target.getvalue()
            if not report.cleaned_pixels and "7FE00010" not in {action.path for action in report.actions}:
                before, after = _pixels_of(path.read_bytes()), _pixels_of(output)
                assert after == before or path.parent.name == "broken", path.name
            assert not _uids_of(path.read_bytes()) & _words(output), path.name
            after = pydicom.dcmread(io.BytesIO(output))
            assert after.PatientIdentityRemoved == "YES"
            assert after.SOPInstanceUID.startswith("2.25.")
            break


def _uids_of(data):
    """The three UIDs, as they stand in the file."""
    parsed = parse_file(io.BytesIO(data))
    tags = (0x00080018, 0x0020000D, 0x0020000E)
    parsed.close()
    return {parsed.elements[tag].value.strip(b" \0") for tag in tags} - {b""}


def _pixels_of(data):
    """The pixel data as they are, little endian and without padding."""
    parsed = parse_file(io.BytesIO(data))
    pixels = b""
    if parsed.pixels is not None:
        parsed.stream.seek(parsed.pixels.offset)
        pixels = parsed.stream.read(parsed.pixels.length)
        pixels = swapped(pixels, 2) if parsed.is_big_endian and parsed.pixels.vr == "OW" else pixels
    parsed.close()
    is_native = parsed.pixels is not None and not parsed.pixels.is_encapsulated
    return pixels[: Image.of(parsed.elements).total_bytes] if is_native else pixels


def _words(output):
    return set(output.replace(b" ", b"\0").split(b"\0"))
