"""Pages for people: what they are given is escaped, their language is the reader's, and only their own forms count."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from dicomweb import errors, pages
from dicomweb.auth import Doorkeeper, Guarded
from dicomweb.pages import LANGUAGES, TEXTS, Pages, build_style_router
from dicomweb.rules import Rules
from tests.conformance.dicomweb.service import serving

GREETING = {code: {"greeting": f"{code}: {{name}}"} for code in LANGUAGES}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A browser in front of one page with a form."""
    for path in (Path(pages.__file__).parent / "templates").glob("*.html"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "greeting.html").write_text(
        '{% extends "base.html" %}{% block main %}<p>{{ t("greeting", name=name) }}</p>'
        '<input name="form_token" value="{{ form_token }}">{% endblock %}'
    )
    made = Pages(b"k" * 32)
    made._environment.loader.searchpath = [str(tmp_path)]
    app = FastAPI()
    errors.install(app)

    @app.get("/greeting")
    def greet(request: Request, name: str = "x"):
        return made.render(request, "greeting.html", GREETING, name=name)

    @app.post("/greeting")
    async def answer(request: Request):
        return JSONResponse(await made.read_form(request))

    app.include_router(build_style_router())
    app.add_middleware(Guarded, doorkeeper=Doorkeeper(), rules=Rules("/dicom-web"))
    with serving(app) as address, httpx.Client(base_url=address) as opened:
        yield opened


def token_of(response):
    return re.search(r'name="form_token" value="(\w+)"', response.text)[1]


def test_what_a_page_is_given_is_escaped(client):
    assert "<p>en: &lt;script&gt;</p>" in client.get("/greeting?name=<script>").text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("fr-MA,fr;q=0.9,ar;q=0.8", "fr"),
        ("de, ar;q=0.4, fr;q=0.2", "ar"),
        ("de", "en"),
        ("fr;q=x, ;;", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_what_the_browser_prefers_of_those_there_are(client, accepted, language):
    response = client.get("/greeting", headers={"Accept-Language": accepted})
    assert f'<html lang="{language}"' in response.text
    assert response.headers["Content-Language"] == language


def test_a_language_that_was_chosen_once_stays(client):
    assert 'lang="ar" dir="rtl"' in client.get("/greeting?lang=ar").text
    assert 'lang="ar" dir="rtl"' in client.get("/greeting", headers={"Accept-Language": "fr"}).text
    assert 'lang="fr" dir="ltr"' in client.get("/greeting?lang=fr").text


def test_links_to_the_languages_keep_the_rest_of_the_address(client):
    assert 'href="/greeting?name=a&amp;lang=fr"' in client.get("/greeting?name=a&lang=en").text


def test_every_sentence_is_there_in_every_language():
    assert set(TEXTS) == set(LANGUAGES)
    assert len({frozenset(sentences) for sentences in TEXTS.values()}) == 1


def test_a_form_of_our_own_is_read(client):
    token = token_of(client.get("/greeting"))
    response = client.post("/greeting", data={"form_token": token, "name": "é", "empty": ""})
    assert response.json() == {"form_token": token, "name": "é", "empty": ""}


def test_no_two_pages_have_the_same_token(client):
    first, second = token_of(client.get("/greeting")), token_of(client.get("/greeting"))
    assert first != second
    assert client.post("/greeting", data={"form_token": first}).is_success
    assert client.post("/greeting", data={"form_token": second}).is_success


@pytest.mark.parametrize("token", ["", "0" * 64, "0" * 128, "0" * 127, "é"])
def test_a_form_of_another_page_is_refused(client, token):
    client.get("/greeting")
    response = client.post("/greeting", data={"form_token": token})
    assert (response.status_code, response.json()["error"]) == (403, "InvalidForm")


def test_a_token_of_another_browser_is_refused(client):
    token = token_of(client.get("/greeting"))
    client.cookies.clear()
    client.get("/greeting")
    assert client.post("/greeting", data={"form_token": token}).status_code == 403
    client.cookies.clear()
    assert client.post("/greeting", data={"form_token": token}).status_code == 403


def test_a_form_has_an_end_and_its_own_type(client):
    assert client.post("/greeting", content=b"{}", headers={"Content-Type": "application/json"}).status_code == 400
    assert client.post("/greeting", data={"a": "x" * pages.MAX_FORM_BYTES}).status_code == 413


def test_a_page_may_load_nothing_from_elsewhere_and_run_nothing(client):
    response = client.get("/greeting")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert "script" not in response.headers["Content-Security-Policy"]
    assert response.headers["Cache-Control"] == "no-store"
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_pages_have_their_style_sheet_and_icon(client):
    addresses = re.findall(r'href="(/style/[^"]+)"', client.get("/greeting").text)
    types = [client.get(address).headers["Content-Type"].partition(";")[0] for address in addresses]
    assert types == ["image/svg+xml", "text/css"]
    assert client.get("/style/..%2fpages.py").status_code == 404
