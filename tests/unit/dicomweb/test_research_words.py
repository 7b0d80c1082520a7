"""Pages of research say everything in three languages, and hold no script, no style and no other host."""

import re
from pathlib import Path

import pytest

from dicomweb.pages import LANGUAGES
from dicomweb.research import anonymity_pages, builder, charts, downloads
from dicomweb.research.words import TEXTS
from pacs.deid import Reason
from pacs.research.counting import FACETS
from pacs.research.model import (
    CohortState,
    ExclusionScope,
    Facet,
    ProjectRole,
    QuarantineState,
    ReidentificationState,
    ReleaseState,
    Shown,
)
from pacs.research.releases.kept_back import OWN_REASONS, sentence_of

TEMPLATES = sorted((Path(downloads.__file__).parent.parent / "templates" / "research").glob("*.html"))
_SAID = re.compile(r"""\bt\(\s*(?:"([^"]*)"|'([^']*)')""")
_PLACE = re.compile(r"\{\w*\}")
STATES = (CohortState, ReleaseState, QuarantineState, ReidentificationState, ProjectRole, ExclusionScope)


def sentences():
    for path in TEMPLATES:
        yield from (first or second for first, second in _SAID.findall(path.read_text(encoding="utf-8")))
    for kind in STATES:
        yield from (one.value for one in kind)
    yield from (reason.sentence for reason in Reason)
    yield from (sentence_of(reason) for reason in OWN_REASONS)
    for field in builder.FIELDS:
        yield from (text for text in (field.label, field.hint) if text)
        yield from (label for _, label in field.choices if label.islower())
    yield from builder.LABELS.values()
    yield from (text for kind in downloads.KINDS for text in (kind.label, kind.hint))
    yield from charts.TITLES.values()
    yield from anonymity_pages.LABELS.values()
    yield from (label for labels in charts.LABELS.values() for label in labels.values())


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_everything_that_is_said_is_translated(code):
    assert sorted({one for one in sentences() if one not in TEXTS[code]}) == []


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_translation_has_the_places_of_its_sentence(code):
    for english, said in TEXTS[code].items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(said)), english
        assert said.strip(" ") == said != ""


def test_languages_know_the_same_sentences():
    assert len({frozenset(sentences) for sentences in TEXTS.values()}) == 1


def test_arabic_is_written_in_arabic():
    kept = [said for said in TEXTS["ar"].values() if said != ":" and not re.search("[\u0600-\u06ff]", said)]
    assert kept == []


def test_data_are_called_pseudonymised_and_anonymised_by_their_words():
    said = {code: (TEXTS[code]["Pseudonymised data"], TEXTS[code]["Anonymised data"]) for code in ("fr", "ar")}
    assert said == {
        "fr": ("Données pseudonymisées", "Données anonymisées"),
        "ar": ("بيانات مرمّزة الهوية", "بيانات مجهولة الهوية"),
    }


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_script_no_style_and_no_other_host(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|<style|\son[a-z]+=|\sstyle=|javascript:|https?://|\|\s*safe", text)


def test_every_facet_has_a_title():
    assert set(FACETS) <= set(charts.TITLES)


def test_bar_is_as_long_as_its_number_and_a_number_that_is_not_told_has_a_length_that_tells_nothing():
    (chart,) = charts.draw([Facet("sex", (("F", Shown(100, 5)), ("M", Shown(50, 5)), ("other", Shown(None, 5))))])
    assert [(bar.label, bar.width) for bar in chart.bars] == [("female", 100), ("male", 50), ("other", charts.FEW)]


def test_facet_without_values_is_not_drawn():
    assert charts.draw([Facet("sex", ())]) == []


def test_form_asks_for_what_was_filled_in_and_for_nothing_else():
    given = {"Modality": "CT", "words": "  thorax ", "PatientSex": "", "PatientName": "X", "form_token": "0"}
    assert builder.read_conditions(given) == {"Modality": "CT", "words": "thorax"}
