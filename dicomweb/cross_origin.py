"""Which pages may act here: a browser sends what any page asks it to, and says in Origin which page that was."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from pacs.errors import NotPermitted


def check_origin(connection: HTTPConnection, allowed: Collection[str], public_url: str = "") -> None:
    """Raise NotPermitted for what a page of another site sends, unless its origin is allowed.

    To be asked where a browser does not ask by itself (CORS): for a WebSocket, and for a request without a body. What
    is no browser sends no Origin, and may act.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    host = _host_of(origin)
    if not host or host not in (connection.headers.get("host", "").lower(), _host_of(public_url)):
        raise NotPermitted("Pages of this origin may not do this; http.cors_origins names those that may.")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
