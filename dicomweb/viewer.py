"""Serves the built OHIF viewer at ``/`` with its generated configuration and its Content-Security-Policy.

The viewer talks to the host it came from and to no other; the policy makes the browser hold it to that.
"""

import base64
import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Unknown addresses below these belong to the archive's services: there the viewer's page would be a wrong answer.
_RESERVED = frozenset(
    {
        "dicom-web",
        "docs",
        "redoc",
        "openapi.json",
        "healthz",
        "readyz",
        "metrics",
        "wado",
        "research",
        "login",
        "logout",
        "style",
    }
)
_CONFIG = "app-config.js"
_REVALIDATE = "no-cache"
_FOREVER = "public, max-age=31536000, immutable"
# webpack puts a digest of the content into the name: app.bundle.0f6159c501addfe9.js, 5130ccb17e3f3f5b.wasm.
_HASHED_NAME = re.compile(r"(^|\.)[0-9a-f]{16}\.")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# Said here, for what the machine's own table says differs, and a .gz twin goes by the name of what it holds.
_MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".jsonc": "application/json",
}

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",  # with the next one: SharedArrayBuffer for volumes
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

# What the viewer's decoders take. First what they can show before it is whole: HTJ2K from its lowest resolution on
# (RPCL), of everything that is stored without loss. What cannot be coded so (1 or 32 bits) comes uncompressed, for not
# every decoder takes every depth; what was stored with loss is taken as it is, or decoding would make it larger.
_FRAMES = (
    ("image/jphc", "1.2.840.10008.1.2.4.202"),
    ("application/octet-stream", "1.2.840.10008.1.2.1"),
    ("image/jpeg", "1.2.840.10008.1.2.4.50"),
    ("image/jpeg", "1.2.840.10008.1.2.4.51"),
    ("image/jls", "1.2.840.10008.1.2.4.81"),
    ("image/jp2", "1.2.840.10008.1.2.4.91"),
)
_FIRST_LOOK_BYTES = 16 * 1024
"""After how many bytes the viewer decodes what there is of a frame: its default is 128 KiB, 2 seconds at 512 kbit/s."""

_VIEWER_CONFIG: dict[str, Any] = {
    "name": "pacs",
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "maxNumberOfWebWorkers": 3,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": True,
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "showErrorDetails": "always",
    "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "This archive",
                "name": "pacs",
                "qidoSupportsIncludeField": True,
                "imageRendering": "wadors",
                "thumbnailRendering": "thumbnail",
                "thumbnailRequestStrategy": "fetch",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": True,
                "supportsWildcard": True,
                "acceptHeader": [
                    f'multipart/related; type="{media_type}"; transfer-syntax={uid}' for media_type, uid in _FRAMES
                ],
                "stackRetrieveOptions": {
                    "retrieveOptions": {"single": {"streaming": True, "minChunkSize": _FIRST_LOOK_BYTES}}
                },
                "singlepart": "video",
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
# Taken from the address that the browser sees, which behind a proxy only the browser knows for sure.
_CONFIG_TAIL = """
for (const { configuration } of window.config.dataSources) {
  configuration.qidoRoot = configuration.wadoRoot = configuration.wadoUriRoot = window.location.origin + %s;
}
// Without a function here, the viewer's own listener breaks on the first image that does not come.
window.config.httpErrorHandler = (error) => console.warn("pacs: a request failed", error?.request?.status ?? error);
"""

_WITHOUT_VIEWER = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>PACS</title></head>
<body>
<h1>The archive is running</h1>
<ul>
<li><a href="/dicom-web/studies">/dicom-web</a>: DICOMweb</li>
<li><a href="/research">/research</a>: de-identified studies for research</li>
<li><a href="/docs">/docs</a>: the HTTP interface, described</li>
<li><a href="/readyz">/readyz</a>: whether index and store answer</li>
</ul>
<p>The viewer is not installed. On this machine, run <code>pacs fetch-viewer</code>, then reload this page.</p>
</body></html>
"""


def create_viewer(directory: Path | None) -> ASGIApp:
    """Return the app to mount at ``/``; without a viewer in ``directory`` it says what is here and how to get one.

    A viewer that is put into ``directory`` later is served from the next request on.
    """
    return _SecurityHeaders(_Viewer(directory))


def build_config(root: str = "/dicom-web", base: str = "/") -> str:
    """Return ``app-config.js``: the archive at ``root`` as the one data source, and no other host.

    The viewer's own pages are below ``base``.
    """
    config = _VIEWER_CONFIG | {"routerBasename": base}
    return f"window.config = {json.dumps(config, indent=2)};{_CONFIG_TAIL % json.dumps(root)}"


def answer_page(directory: Path | None, base: str, root: str, rest: str) -> Response:
    """Return a page of the viewer below ``base``, over the archive at ``root``, or its configuration.

    The viewer's files are those at ``/``. ``rest`` is what the address has behind ``base``; raises HTTPException 404
    for what is no page.
    """
    headers = _SECURITY_HEADERS | {"Cache-Control": _REVALIDATE, "Content-Security-Policy": _build_policy()}
    if rest == _CONFIG:
        return Response(build_config(root, base), media_type="text/javascript", headers=headers)
    page = _read_page(directory)
    if PurePosixPath(rest).suffix or page is None:
        raise HTTPException(404)
    page = page.replace(f'src="/{_CONFIG}"', f'src="{base}/{_CONFIG}"')
    return HTMLResponse(page, headers=headers | {"Content-Security-Policy": build_content_security_policy(page)})


def build_content_security_policy(page: str) -> str:
    """Return the policy for ``page``: its inline scripts by digest, WebAssembly, workers from blobs, no other host.

    ``'unsafe-eval'`` is for segmentations: the arrays they are unpacked into compile their own accessors.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page))
    return _build_policy("'unsafe-eval'", *(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests))


def _build_policy(*script_sources: str) -> str:
    scripts = " ".join(("'self'", "'wasm-unsafe-eval'", *script_sources))
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",  # the viewer's components write style elements
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' blob:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "object-src 'self' blob:",  # encapsulated PDF
            "frame-src 'self' blob:",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


class _SecurityHeaders:
    """Adds the same headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # A worker is held to the policy of its own script, not of the page, so every answer has one. The codecs in the
        # image loader's worker are emscripten's and make their bindings with `new Function`.
        self._headers = {**_SECURITY_HEADERS, "Content-Security-Policy": _build_policy("'unsafe-eval'")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Viewer(StaticFiles):
    """The files of a viewer; a page of its router, known only to it, is its index."""

    def __init__(self, directory: Path | None) -> None:
        super().__init__(directory=directory, check_dir=False)
        self._directory = directory

    async def check_config(self) -> None:
        """Ask nothing of the folder: there may be no viewer yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            # Answered here, not by the app around: its problem documents are for programs, and its handlers would not
            # pass the headers above.
            answer = PlainTextResponse(error.detail, error.status_code, error.headers)
            await answer(scope, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        pure = PurePosixPath(path)
        if path == _CONFIG:
            return Response(build_config(), media_type="text/javascript", headers={"Cache-Control": _REVALIDATE})
        if path in (".", "index.html"):
            return self._index()
        if pure.parts[0] in _RESERVED or pure.name.startswith("."):
            raise HTTPException(404)
        if not pure.suffix:
            return self._index()
        return await self._file(path, scope)

    def _index(self) -> Response:
        page = _read_page(self._directory) or _WITHOUT_VIEWER
        headers = {"Cache-Control": _REVALIDATE, "Content-Security-Policy": build_content_security_policy(page)}
        return HTMLResponse(page, headers=headers)

    async def _file(self, path: str, scope: Scope) -> Response:
        answer = await self._compressed(path, scope) or await super().get_response(path, scope)
        name = PurePosixPath(path)
        if answer.status_code == 200 and name.suffix in _MEDIA_TYPES:
            answer.headers["Content-Type"] = _MEDIA_TYPES[name.suffix]
        answer.headers["Vary"] = "Accept-Encoding"
        answer.headers["Cache-Control"] = _FOREVER if _HASHED_NAME.search(name.name) else _REVALIDATE
        return answer

    async def _compressed(self, path: str, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if "gzip" not in headers.get("Accept-Encoding", "") or "Range" in headers:
            return None
        try:
            answer = await super().get_response(f"{path}.gz", scope)
        except HTTPException:
            return None
        answer.headers["Content-Encoding"] = "gzip"
        return answer


def _read_page(directory: Path | None) -> str | None:
    if directory is None:
        return None
    try:
        return (directory / "index.html").read_text(encoding="utf-8")
    except OSError:
        return None
