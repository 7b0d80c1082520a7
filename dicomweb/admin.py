"""Health for whoever watches the archive, and the list of operations for whoever writes a client."""

import html
from collections.abc import Callable, Mapping

import orjson
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_NO_STORE = {"Cache-Control": "no-store"}
_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid var(--edge); }
li { list-style: none; padding: .35rem 0; border-bottom: 1px solid var(--soft); } ul { padding: 0; margin: 0; }
code { font-size: .95em; overflow-wrap: anywhere; } p { margin: .2rem 0; }
b { display: inline-block; min-width: 3.5rem; font: 700 .8em ui-monospace, monospace; }
.get { color: #1a7f37; } .post { color: #0969da; } .put { color: #9a6700; }
.delete { color: #cf222e; } small { opacity: .75; }
"""


def build_router(is_ready: Callable[[], Mapping[str, bool | int]]) -> APIRouter:
    """Return ``/healthz``, ``/readyz`` and ``/docs``; ``is_ready`` names each part and whether it answers.

    What it counts is told as it is.
    """
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", summary="Whether this process is alive", operation_id="check_alive")
    def check_alive() -> Response:
        return _json({"status": "alive"}, 200)

    @router.get("/readyz", summary="Whether index and store answer", operation_id="check_ready")
    def check_ready() -> Response:
        parts = is_ready()
        is_up = not any(answers is False for answers in parts.values())
        words = {True: "up", False: "down"}
        state = {name: words[found] if isinstance(found, bool) else found for name, found in parts.items()}
        return _json({"status": "ready" if is_up else "not ready", "parts": state}, 200 if is_up else 503)

    @router.get("/docs", include_in_schema=False)
    def show_operations(request: Request) -> Response:
        # FastAPI's own pages load their scripts from a public server, which a hospital network does not reach.
        page = render_operations(request.app)
        return HTMLResponse(page, headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})

    return router


def render_operations(app: FastAPI) -> str:
    """Return an HTML page that lists the operations of the OpenAPI document; it needs nothing but itself."""
    document = app.openapi()
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for tag in operation.get("tags", ["Other"])[:1]:
                groups.setdefault(tag, []).append(_render_operation(method, path, operation))
    sections = "".join(f"<h2>{html.escape(tag)}</h2><ul>{''.join(rows)}</ul>" for tag, rows in groups.items())
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info.get('description', ''))}</p>"
        f'<p><small>For programs: <a href="openapi.json">openapi.json</a></small></p>{sections}</body></html>'
    )


def _render_operation(method: str, path: str, operation: dict[str, str]) -> str:
    return (
        f'<li><b class="{html.escape(method)}">{html.escape(method.upper())}</b><code>{html.escape(path)}</code>'
        f"<br><small>{html.escape(operation.get('summary', ''))}</small></li>"
    )


def _json(content: dict[str, object], status: int) -> Response:
    return Response(orjson.dumps(content), status, _NO_STORE, "application/json")
