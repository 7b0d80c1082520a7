"""Pages for people: made on the server of templates, in their language, without any script.

Whatever a template shows is escaped. The policy that goes with each page lets a browser run nothing, load nothing from
elsewhere, and send forms nowhere else.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dicomweb.languages import COOKIE, LANGUAGES, PARAMETER, choose_language

STATIC = "/static"
"""Where the files of pages are; the viewer has none there."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Vary": "Accept-Language, Cookie",
}
_YEAR_SECONDS = 365 * 24 * 3600
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {"css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


@cache
def environment() -> Environment:
    """Return what templates are read with: everything is escaped, and a name that nobody gave is an error."""
    made = Environment(
        loader=PackageLoader("dicomweb"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = address_of
    return made


def render(
    request: Request, template: str, values: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] = {}
) -> Response:
    """Return a page in the language of who asks; the one that an address names is kept in a cookie."""
    words = choose_language(request)
    given = {"t": words, "languages": _switches(request), "path": request.url.path, **values}
    page = environment().get_template(template).render(given)
    response = HTMLResponse(page, status, {**_HEADERS, "Content-Language": words.code, **headers})
    if request.query_params.get(PARAMETER) in LANGUAGES:
        response.set_cookie(
            COOKIE,
            words.code,
            max_age=_YEAR_SECONDS,
            path="/",
            samesite="lax",
            httponly=True,
            secure=request.url.scheme == "https",
        )
    return response


def _switches(request: Request) -> list[tuple[str, str, str]]:
    """Return code and name of each language, and the address of this page in it."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != PARAMETER]
    return [(code, name, "?" + urlencode([*kept, (PARAMETER, code)])) for code, name in LANGUAGES.items()]


@cache
def _read_static(name: str) -> tuple[bytes, str]:
    """Return a file of pages and what tells its versions apart."""
    content = (files("dicomweb") / "static" / name).read_bytes()
    return content, hashlib.blake2b(content, digest_size=6).hexdigest()


def address_of(name: str) -> str:
    """Return the address of a file of pages, which is another one once the file is."""
    return f"{STATIC}/{name}?{_read_static(name)[1]}"


def static_route() -> Route:
    """Return the route of these files."""
    names = {entry.name for entry in (files("dicomweb") / "static").iterdir()}

    def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names:
            raise HTTPException(404)
        content, _ = _read_static(name)
        media_type = _TYPES[name.rpartition(".")[2]]
        return Response(content, headers={"Cache-Control": _FOREVER, "Content-Type": media_type})

    return Route(f"{STATIC}/{{name}}", answer, include_in_schema=False)
