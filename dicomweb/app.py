"""The HTTP application: routers, the order of what surrounds them, and nothing at import time."""

from collections.abc import Callable, Sequence
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from dicomweb import (
    admin,
    capabilities,
    changes,
    corrections,
    delete,
    errors,
    qido,
    queue,
    rendered,
    stow,
    wado,
    wado_uri,
    withheld,
    workitem_events,
    workitems,
    worklist,
)
from dicomweb.capabilities import AnswerOptions, methods_of
from dicomweb.changes import Waiters
from dicomweb.context import Context
from dicomweb.middleware import CompressJson, HeadAsGet, NoSniffing, Unrouted
from pacs.archive import Archive
from pacs.model import Door, Origin

DESCRIPTION = (
    "DICOMweb (PS3.18): store, search and retrieve studies, series, instances, frames and bulk data. "
    "Beside it plain JSON: the worklist, corrections and conflicts, withheld instances, the queue and the change feed."
)

_ALLOWED_HEADERS = (
    "Accept",
    "Authorization",
    "Content-Type",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Range",
)
_EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Allow",
    "Content-Location",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Location",
    "Retry-After",
    "Warning",
)


def create_app(
    archive: Archive,
    *,
    is_ready: Callable[[], dict[str, bool]],
    viewer: ASGIApp | None = None,
    cors_origins: Sequence[str] = (),
    root: str = "/dicom-web",
    origin: Origin | None = None,
    boundary_key: bytes = b"",
    public_url: str = "",
    may_delete: bool = False,
    waiters: Waiters | None = None,
) -> FastAPI:
    """Return an application that serves ``archive``; it can be called more than once in a process.

    ``is_ready`` names what the archive is made of and whether it answers. ``viewer`` gets every path that nothing else
    has. ``origin`` is what the settings say of objects that come in by STOW-RS. ``boundary_key`` must be the same in
    all processes that answer for this archive; without one, each application makes its own. ``public_url`` is scheme,
    host and port by which clients reach this server, for the addresses in its answers; without it, the client's Host is
    believed. ``may_delete``: whoever comes in may delete. ``waiters`` hold the requests that wait for changes, for the
    caller to let go when the server stops.
    """
    context = Context(
        archive,
        root=root.rstrip("/"),
        public_url=public_url,
        origin=origin or Origin(Door.STOW),
        may_delete=may_delete,
        **({"boundary_key": boundary_key} if boundary_key else {}),
    )
    app = FastAPI(
        title="PACS",
        description=DESCRIPTION,
        version=version("pacs"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    errors.install(app)
    workitems.install(app, context)
    services = [family.build_router(context) for family in (stow, qido, wado, rendered, delete)]
    services += [wado_uri.build_router(context), capabilities.build_router(context)]
    services += [family.build_router(context, cors_origins) for family in (workitems, workitem_events)]
    besides = [beside.build_router(context) for beside in (worklist, corrections, withheld, queue)]
    besides += [changes.build_router(context, waiters or Waiters()), admin.build_router(is_ready)]
    for router in (*services, *besides):
        app.include_router(router)
    routes = [route for router in (*services, *besides) for route in router.routes]
    unrouted = Unrouted([route for router in services for route in router.routes])
    app.router.routes.append(Route(context.root + "/{rest:path}", unrouted, include_in_schema=False))
    app.router.routes.append(WebSocketRoute("/{rest:path}", workitem_events.refuse))
    app.add_middleware(CompressJson)
    app.add_middleware(HeadAsGet)
    app.add_middleware(NoSniffing)
    app.add_middleware(AnswerOptions, routes=routes)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=methods_of(routes),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=list(_EXPOSED_HEADERS),
        )
    if viewer is not None:
        app.mount("/", viewer, name="viewer")
    return app
