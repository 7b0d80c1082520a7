"""Pages for people, made on the server: templates that escape what they are given, in French, English and Arabic.

No page has a script or a style of its own in it, and the policy makes the browser refuse any. A form carries a token
that is bound to the browser and to who is logged in, so that no other page can send it.
"""

import hmac
from collections.abc import Mapping
from http.cookies import CookieError
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from dicomweb.auth import principal_of
from dicomweb.errors import ContentTooLarge, RequestError
from pacs.errors import NotPermitted

LANGUAGES = {"en": "English", "fr": "Français", "ar": "العربية"}
"""The first one is for whoever asks for none of them."""
_RIGHT_TO_LEFT = frozenset({"ar"})

Texts = Mapping[str, Mapping[str, str]]
"""Sentences by language and then by name, the same names in each; braces are for what ``t`` is given by name."""

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

STYLE_ROOT = "/style"
_STYLE_TYPES = {".css": "text/css", ".svg": "image/svg+xml"}
FORM_TOKEN = "form_token"  # noqa: S105 - a field's name
MAX_FORM_BYTES = 64 * 1024
_LANGUAGE_COOKIE = "pacs_language"
_FORM_COOKIE = "pacs_form"
_YEAR_SECONDS = 365 * 24 * 3600
_FORM_COOKIE_LENGTH = 32
_MASK_LENGTH = 64

_FOLDER = Path(__file__).parent


class InvalidForm(NotPermitted):
    """The form is not from a page of this archive, or its page is too old; load the page again."""


class Pages:
    """Renders pages, and reads what their forms send. ``form_key`` must be the same in every process."""

    def __init__(self, form_key: bytes, *, is_secure: bool = False) -> None:
        self._form_key = form_key
        self._is_secure = is_secure
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, request: Request, template: str, texts: Texts, *, status: int = 200, **values: Any) -> Response:
        """Return a page. In the template ``t("name", ...)`` is a sentence of ``texts``, or of those of all pages.

        It finds there ``language``, ``direction``, ``principal`` and ``form_token`` besides ``values``.
        """
        language = language_of(request)
        browser = _cookies_of(request).get(_FORM_COOKIE, "")
        is_new = len(browser) != _FORM_COOKIE_LENGTH
        browser = token_hex(_FORM_COOKIE_LENGTH // 2) if is_new else browser
        body = self._environment.get_template(template).render(
            t=Translator(language, texts),
            language=language,
            languages=[(code, name, _address_in(request, code)) for code, name in LANGUAGES.items()],
            direction="rtl" if language in _RIGHT_TO_LEFT else "ltr",
            principal=principal_of(request),
            form_token=_hide(self._make_token(request, browser)),
            **values,
        )
        response = HTMLResponse(body, status, {**HEADERS, "Content-Language": language, "Vary": "Accept-Language"})
        if is_new:
            self.set_cookie(request, response, _FORM_COOKIE, browser)
        if request.query_params.get("lang") == language:
            self.set_cookie(request, response, _LANGUAGE_COOKIE, language, max_age=_YEAR_SECONDS)
        return response

    async def read_form(self, request: Request) -> dict[str, str]:
        """Return the fields of a form of ours, of two with one name the last; raise InvalidForm for any other's."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            raise RequestError
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_FORM_BYTES:
                raise ContentTooLarge
        try:
            fields = dict(
                parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=500)
            )
        except ValueError:
            raise RequestError from None
        self.check_token(request, fields.get(FORM_TOKEN, ""))
        return fields

    def check_token(self, request: Request, token: str) -> None:
        """Raise InvalidForm unless a page of ours gave this token to this browser, and to who is logged in now."""
        browser = _cookies_of(request).get(_FORM_COOKIE, "")
        try:
            mask, masked = (bytes.fromhex(half) for half in (token[:_MASK_LENGTH], token[_MASK_LENGTH:]))
        except ValueError:
            raise InvalidForm from None
        if not browser or not hmac.compare_digest(_masked(masked, mask), self._make_token(request, browser)):
            raise InvalidForm

    def set_cookie(
        self, request: Request, response: Response, name: str, value: str, *, max_age: int | None = None
    ) -> None:
        """Set a cookie that no script reads and no other site's form brings along; without an age, for this sitting."""
        is_secure = self._is_secure or request.url.scheme == "https"
        response.set_cookie(name, value, max_age=max_age, secure=is_secure, httponly=True, samesite="lax")

    def _make_token(self, request: Request, browser: str) -> bytes:
        principal = principal_of(request)
        said = f"{browser}\0{principal.name}\0{principal.session}"
        return hmac.digest(self._form_key, said.encode(), "sha256")


class Translator:
    """Sentences of one language."""

    def __init__(self, language: str, texts: Texts) -> None:
        self._sentences = {**TEXTS[language], **texts[language]}

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return a sentence with its values; the template escapes it. A name that there is not raises KeyError."""
        sentence = self._sentences[name]
        return sentence.format(**values) if values else sentence


def language_of(request: Request) -> str:
    """Return the language of an answer: asked for in the address, else the last one so chosen, else accepted."""
    for asked in (request.query_params.get("lang"), _cookies_of(request).get(_LANGUAGE_COOKIE)):
        if asked in LANGUAGES:
            return asked
    accepted = []
    for place, one in enumerate(request.headers.get("accept-language", "").split(",")[:20]):
        name, _, parameter = one.strip().partition(";")
        weight = parameter.strip().removeprefix("q=") if parameter else "1"
        known = name.partition("-")[0].lower()
        if known in LANGUAGES and weight.replace(".", "", 1).isdecimal() and float(weight) > 0:
            accepted.append((-float(weight), place, known))
    return min(accepted)[2] if accepted else next(iter(LANGUAGES))


def build_style_router() -> APIRouter:
    """Return what gives out ``dicomweb/style``, style sheets and an icon, which say nothing of anybody."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in (_FOLDER / "style").iterdir() if path.suffix in _STYLE_TYPES}

    @router.get(STYLE_ROOT + "/{name}")
    def give_style(name: str) -> Response:
        if name not in files:
            return Response(status_code=404)
        file = files[name]
        return FileResponse(file, media_type=_STYLE_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})

    return router


def _hide(token: bytes) -> str:
    """Return a token as no other page has it: its length once compressed must not tell how much of it was guessed."""
    mask = token_bytes(len(token))
    return mask.hex() + _masked(token, mask).hex()


def _masked(token: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(token, mask, strict=False))


def _address_in(request: Request, language: str) -> str:
    url = request.url.include_query_params(lang=language)
    return f"{url.path}?{url.query}"


def _cookies_of(request: Request) -> dict[str, str]:
    try:
        return request.cookies
    except CookieError:
        return {}


TEXTS: Texts = {
    "en": {
        "product": "PACS",
        "language": "Language",
        "signed_in_as": "Signed in as {name}",
        "sign_out": "Sign out",
        "viewer": "Images",
        "research": "Research",
    },
    "fr": {
        "product": "PACS",
        "language": "Langue",
        "signed_in_as": "Connecté : {name}",
        "sign_out": "Se déconnecter",
        "viewer": "Images",
        "research": "Recherche",
    },
    "ar": {
        "product": "PACS",
        "language": "اللغة",
        "signed_in_as": "المستخدم: {name}",
        "sign_out": "تسجيل الخروج",
        "viewer": "الصور",
        "research": "البحث العلمي",
    },
}
"""What stands on every page."""
