"""More than a thousand planted values that identify somebody: none is in any byte of the output, in any encoding."""

import contextlib
import io
import re
import unicodedata

import pydicom
import pytest

from pacs.deid import RELEASE_DEFAULT, Option, Profile, ProjectKey, deidentify
from pacs.names import fold
from tests.unit.pacs.deid import planting
from tests.unit.pacs.deid.planting import COMPREHENSIVE_SR, CT, PIXELS, Planted

KEY = ProjectKey(bytes(range(32)))
ENCODINGS = ("utf-8", "latin-1", "iso8859_6", "cp1256", "utf-16-le", "utf-16-be")
CHARSETS = [
    ("ISO_IR 100", "latin-1", Planted.accented_word),
    ("ISO_IR 192", "utf-8", Planted.arabic_word),
    ("ISO_IR 192", "utf-8", Planted.accented_word),
    ("ISO_IR 127", "iso8859_6", Planted.arabic_word),
    ("", "cp1256", Planted.arabic_word),
    ("", "latin-1", Planted.accented_word),
    ("", "utf-8", Planted.arabic_word),
]
PROFILES = [
    RELEASE_DEFAULT,
    Profile("basic"),
    Profile("most", frozenset(Option) - {Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS, Option.RETAIN_DEVICE_IDENTITY,
                                         Option.RETAIN_INSTITUTION_IDENTITY, Option.CLEAN_VISUAL_FEATURES}),
]  # fmt: skip


def run(data: bytes, profile=RELEASE_DEFAULT, **options):
    target = io.BytesIO()
    report = deidentify(io.BytesIO(data), target, profile, KEY, **options)
    return target.getvalue(), report


def found_in(output: bytes, planted: Planted) -> set[str]:
    """Return which planted values are in some bytes, or a word or number of one, in whatever case and encoding."""
    lowered = output.lower()
    # A number is one where digits begin and end: some of a UID's forty are always somebody's eight.
    numbers = set(re.findall(rb"[0-9]+", lowered))
    found = set()
    for value, kind in planted.values.items():
        forms = {value, fold(value), value.upper(), unicodedata.normalize("NFD", value)}
        forms.update(re.findall(r"[^\W\d_]{5,}", value))
        needles = {encoded for form in forms for encoded in encodings_of(form.lower()) if len(encoded) >= 4}
        digits = re.sub(r"[^0-9]", "", unicodedata.normalize("NFKD", value)).encode()
        is_number = kind in ("phone", "MRN", "CIN") and (digits in numbers or digits[-9:] in numbers)
        if is_number or any(needle in lowered for needle in needles):
            found.add(f"{kind} {value}")
    return found


def encodings_of(text: str) -> set[bytes]:
    encoded = set()
    for encoding in ENCODINGS:
        with contextlib.suppress(UnicodeEncodeError):
            encoded.add(text.encode(encoding))
    return encoded


def everything(seed=1, charset="ISO_IR 192", encoding="utf-8", word=Planted.arabic_word):
    planted = Planted(seed)
    parts = planting.plant_everywhere(planted, depth=4) if seed == 1 else planting.plant_some(planted, depth=3)
    parts |= planting.private_parts(planted)
    parts |= planting.overlays(planted)
    parts |= planting.identified(planted, CT, charset, encoding, lambda: word(planted))
    return planting.file_of(planting.image(parts), planted), planted


def report(seed=2):
    planted = Planted(seed)
    parts = planting.identified(planted, COMPREHENSIVE_SR, "ISO_IR 192", "utf-8", planted.arabic_word)
    parts |= planting.report_content(planted)
    parts |= planting.text(0x00080060, "CS", "SR") | planting.text(0x0040A040, "CS", "CONTAINER")
    return planting.file_of(parts, planted), planted


def test_there_are_a_thousand_values_and_all_are_in_the_original():
    data, planted = everything()

    assert len(found_in(data, planted)) > 1000


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_planted_value_is_in_any_byte_of_the_output(profile):
    data, planted = everything()
    output, _ = run(data, profile)
    assert found_in(output, planted) == set()


@pytest.mark.parametrize(("charset", "encoding", "word"), CHARSETS)
def test_no_planted_value_is_left_whatever_the_character_set_was(charset, encoding, word):
    for seed in range(10, 13):
        data, planted = everything(seed, charset, encoding, word)
        output, _ = run(data)
        assert found_in(output, planted) == set()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_planted_value_is_left_in_a_structured_report(profile):
    data, planted = report()
    output, _ = run(data, profile)
    assert found_in(output, planted) == set()


def test_pixels_are_bit_for_bit_what_they_were():
    data, _ = everything()
    output, _ = run(data)
    assert pydicom.dcmread(io.BytesIO(output)).PixelData == PIXELS


def test_no_value_is_in_the_report_or_in_the_reasons():
    data, planted = everything()
    _, done = run(data)
    assert found_in(repr(done.to_json()).encode(), planted) == set()
