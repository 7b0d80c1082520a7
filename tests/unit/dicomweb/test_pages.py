"""Pages: in the language that is asked for, without script, and with every sentence in every language."""

import re
from importlib.resources import files

import pytest
from starlette.requests import Request

from dicomweb.languages import LANGUAGES, choose_language, read_sentences, words_of
from dicomweb.pages import address_of, render

TEMPLATES = sorted(path for path in (files("dicomweb") / "templates").rglob("*.html"))
_SAID = re.compile(r"""\bt\(\s*(?:"([^"]*)"|'([^']*)')""")
_PLACE = re.compile(r"\{\w*\}")


def asked(query="", cookie="", accept=""):
    headers = [(b"cookie", cookie.encode()), (b"accept-language", accept.encode())]
    scope = {"type": "http", "method": "GET", "path": "/research", "scheme": "http", "server": ("pacs", 80)}
    return Request(scope | {"query_string": query.encode(), "headers": headers})


@pytest.mark.parametrize(
    ("query", "cookie", "accept", "language"),
    [
        ("", "", "", "en"),
        ("", "", "de, fr-MA;q=0.8, ar;q=0.9", "ar"),
        ("", "", "*", "en"),
        ("", "", "fr;q=0", "en"),
        ("", "pacs_language=fr", "ar", "fr"),
        ("language=ar", "pacs_language=fr", "en", "ar"),
        ("language=xx", "pacs_language=yy", "en", "en"),
    ],
)
def test_language_is_that_of_the_address_then_the_one_chosen_then_the_browsers(query, cookie, accept, language):
    assert choose_language(asked(query, cookie, accept)).code == language


def test_arabic_is_written_from_right_to_left():
    assert {code: words_of(code).direction for code in LANGUAGES} == {"en": "ltr", "fr": "ltr", "ar": "rtl"}


def sentences_of_templates():
    for path in TEMPLATES:
        yield from (first or second for first, second in _SAID.findall(path.read_text()))


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_every_sentence_of_a_template_is_translated_with_its_places(code):
    sentences = read_sentences(code)
    assert [one for one in sentences_of_templates() if one not in sentences] == []
    for english, said in sentences.items():
        assert sorted(_PLACE.findall(english)) == sorted(_PLACE.findall(said)), english
        assert said.strip() == said != ""


def test_languages_know_the_same_sentences():
    assert read_sentences("fr").keys() == read_sentences("ar").keys()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_script_and_no_style(path):
    assert not re.search(r"<script|<style|\son[a-z]+=|\sstyle=|javascript:|https?://|\|\s*safe", path.read_text())


def test_page_lets_a_browser_run_nothing_and_load_nothing_from_elsewhere():
    answer = render(asked(), "page.html", {})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert address_of("page.css").encode() in answer.body


def test_language_in_an_address_is_remembered():
    assert "pacs_language=ar" in render(asked("language=ar"), "page.html", {}).headers["set-cookie"]
    assert "set-cookie" not in render(asked("language=xx"), "page.html", {}).headers


def test_switch_keeps_what_the_address_asked_for():
    page = render(asked("Modality=CT&language=fr"), "page.html", {}).body.decode()
    assert 'href="?Modality=CT&amp;language=ar"' in page
    assert 'lang="fr" dir="ltr"' in page
