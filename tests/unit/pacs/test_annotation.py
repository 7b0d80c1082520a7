"""Text burnt into pictures: legible, in the corners, and in letters that are there or not at all."""

import os

import numpy as np
import pytest
from PIL import Image, features

from pacs.imaging import annotation, lettering
from pacs.imaging.annotation import PATIENT, TECHNIQUE, UNDRAWABLE, annotate
from pacs.imaging.lettering import can_draw, draw_text, letter_height
from tests.builders import as_part10, build_ct
from tests.imaging import Memory, open_instance


def attributes(**keywords):
    return open_instance(Memory(as_part10(build_ct(SpecificCharacterSet="ISO_IR 192", **keywords)))).header.attributes


def gray(size=(512, 512), level=0):
    return Image.new("L", size, level)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by the corner it stands in."""
    lines = {}
    monkeypatch.setattr(
        annotation,
        "draw_corner",
        lambda _image, texts, *, is_right: lines.update({"right" if is_right else "left": texts}),
    )
    return lines


def test_patient_stands_in_the_left_corner_and_technique_in_the_right():
    for words, corner in (((PATIENT,), 0), ((TECHNIQUE,), 1)):
        shown = np.asarray(annotate(gray(), attributes(), words))
        quarters = shown[:150, :256], shown[:150, 256:]
        assert quarters[corner].max() == 255
        assert not quarters[1 - corner].any()
        assert not shown[200:].any()


def test_what_is_said_is_whose_image_it_is_and_how_it_was_made(drawn):
    annotate(gray(), attributes(SeriesDescription="Chest", SeriesNumber=2, InstanceNumber=7), (PATIENT, TECHNIQUE))
    assert drawn["left"] == ["BUILT TEST", "BUILT-1", "1970-01-31 O", "2024-02-29"]
    assert drawn["right"] == ["CT 2/7", "Chest", "120 kV ST 1.25 mm"]


def test_picture_that_was_given_stays_as_it_is():
    image = gray()
    assert annotate(image, attributes(), ()) is image
    assert annotate(image, attributes(), (PATIENT,)) is not image
    assert not np.asarray(image).any()


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_text_is_legible_on_any_ground(mode, level):
    ground = Image.new(mode, (200, 60), level if mode == "L" else (level,) * 3)
    draw_text(ground, "Text", (5, 5))
    shown = np.asarray(ground.convert("L"))
    assert {0, 255} <= set(np.unique(shown).tolist())


def test_letters_grow_with_the_picture_within_bounds():
    assert [letter_height((side, side)) for side in (64, 512, 1024, 8000)] == [10, 16, 32, 64]


@pytest.mark.parametrize("start", [(95, 55), (-5, -5)])
def test_text_that_would_leave_the_picture_is_moved_in(start):
    whole, moved = gray((100, 60)), gray((100, 60))
    draw_text(whole, "Text", (20, 20))
    draw_text(moved, "Text", start)
    assert size_of(moved.getbbox()) == size_of(whole.getbbox())


def size_of(box):
    return box[2] - box[0], box[3] - box[1]


@pytest.mark.skipif(
    (lettering._load("DejaVuSans.ttf", 10) is None or not features.check("raqm")) and os.environ.get("CI") != "true",
    reason="needs a font with Arabic letters, and fribidi (apt-get install fonts-dejavu-core libfribidi0)",
)
def test_arabic_is_drawn_in_letters_that_join():
    assert can_draw("بنعلي^فاطمة")
    joined, apart = gray((300, 60)), gray((300, 60))
    draw_text(joined, "بنعلي", (5, 5))
    draw_text(apart, "\u200c".join("بنعلي"), (5, 5))
    widths = [image.getbbox()[2] - image.getbbox()[0] for image in (joined, apart)]
    assert widths[0] < widths[1]


def test_without_shaping_no_arabic_is_drawn(monkeypatch, drawn):
    monkeypatch.setattr(features, "check", lambda _: False)
    annotate(gray(), attributes(PatientName="بنعلي^فاطمة", PatientID="7"), (PATIENT,))
    assert drawn["left"][:2] == [UNDRAWABLE, "7"]


def test_name_is_drawn_in_the_script_that_can_be_drawn(monkeypatch, drawn):
    monkeypatch.setattr(features, "check", lambda _: False)
    annotate(gray(), attributes(PatientName="Benali^Fatima=بنعلي^فاطمة"), (PATIENT,))
    assert drawn["left"][0] == "Fatima Benali"


def test_without_a_font_of_the_system_latin_letters_are_drawn(monkeypatch):
    monkeypatch.setattr(lettering, "_FONTS", ())
    assert can_draw("Text")
    assert not can_draw("Ελλάδα")
    image = gray((100, 40))
    draw_text(image, "Text", (5, 5))
    assert image.getbbox()
