"""The HTTP application: routers, the order of what surrounds them, and nothing at import time."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from secrets import token_bytes

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from dicomweb import (
    admin,
    capabilities,
    changes,
    corrections,
    delete,
    errors,
    login,
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
from dicomweb import (
    research as research_edge,
)
from dicomweb.auth import Doorkeeper, Guarded
from dicomweb.capabilities import AnswerOptions, methods_of
from dicomweb.changes import Waiters
from dicomweb.context import Context
from dicomweb.middleware import CompressJson, HeadAsGet, NoSniffing, Unrouted
from dicomweb.pages import Pages, build_style_router
from dicomweb.plain_route import PlainFirst
from dicomweb.reads import Record, Recorded
from dicomweb.rules import Rules
from pacs.archive import Archive
from pacs.identity import Identity
from pacs.model import Door, Origin
from pacs.research import Research

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
    is_ready: Callable[[], Mapping[str, bool | int]],
    viewer: ASGIApp | None = None,
    cors_origins: Sequence[str] = (),
    root: str = "/dicom-web",
    origin: Origin | None = None,
    boundary_key: bytes = b"",
    public_url: str = "",
    may_delete: bool = False,
    is_local: bool = False,
    form_key: bytes = b"",
    identity: Identity | None = None,
    record: Record | None = None,
    waiters: Waiters | None = None,
    research: Research | None = None,
    viewer_directory: Path | None = None,
) -> FastAPI:
    """Return an application that serves ``archive``; it can be called more than once in a process.

    ``is_ready`` names what the archive is made of and whether it answers. ``viewer`` gets every path that nothing else
    has. ``origin`` is what the settings say of objects that come in by STOW-RS. ``boundary_key`` must be the same in
    all processes that answer for this archive; without one, each application makes its own. ``public_url`` is scheme,
    host and port by which clients reach this server, for the addresses in its answers; without it, the client's Host is
    believed. ``form_key`` is to the forms of pages what ``boundary_key`` is to multipart. ``identity`` knows who may
    come in. While that is nobody, or without one, everybody may; then ``may_delete`` says whether everybody may delete,
    and ``is_local`` that only this machine reaches the server, so that everybody may do all the rest. ``record`` writes
    down who saw what. ``waiters`` hold the requests that wait for changes, for the caller to let go when the server
    stops. ``research`` is what the addresses of research answer with; without it there are none. ``viewer_directory``
    holds the viewer that opens releases.
    """
    context = Context(
        archive,
        root=root.rstrip("/"),
        public_url=public_url,
        origin=origin or Origin(Door.STOW),
        boundary_key=boundary_key or token_bytes(32),
        pages=Pages(form_key or token_bytes(32), is_secure=public_url.startswith("https:")),
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
    services = _build_services(context, cors_origins)
    routers = [*services, *_build_besides(context, is_ready, waiters or Waiters(archive.changes.watch))]
    if identity is not None:
        routers.append(login.build_router(context, identity))
    if research is not None:
        routers += research_edge.build_routers(context, research)
    for router in routers:
        app.include_router(router)
    unrouted = Unrouted([route for router in services for route in router.routes])
    app.router.routes.append(Route(context.root + "/{rest:path}", unrouted, include_in_schema=False))
    if research is not None:
        app.router.routes += research_edge.build_routes(context, research, viewer_directory)
    app.router.routes.append(WebSocketRoute("/{rest:path}", workitem_events.refuse))
    routes = [route for router in routers for route in router.routes]
    recogniser = None if identity is None else identity.recogniser
    doorkeeper = Doorkeeper(is_local=is_local, may_delete=may_delete, recogniser=recogniser)
    _surround(app, routes, cors_origins, context, doorkeeper, record=record)
    if viewer is not None:
        app.mount("/", viewer, name="viewer")
    return app


def _build_services(context: Context, cors_origins: Sequence[str]) -> list[APIRouter]:
    """Return the transactions of PS3.18, and the one that it lacks."""
    return [
        *(family.build_router(context) for family in (stow, qido, wado, rendered, delete, wado_uri, capabilities)),
        *(family.build_router(context, cors_origins) for family in (workitems, workitem_events)),
    ]


def _build_besides(
    context: Context, is_ready: Callable[[], Mapping[str, bool | int]], waiters: Waiters
) -> list[APIRouter]:
    """Return what is plain JSON, for DICOM has no service for it."""
    return [
        *(beside.build_router(context) for beside in (worklist, corrections, withheld, queue)),
        changes.build_router(context, waiters),
        admin.build_router(is_ready),
        build_style_router(),
    ]


def _surround(
    app: FastAPI,
    routes: Sequence[BaseRoute],
    cors_origins: Sequence[str],
    context: Context,
    doorkeeper: Doorkeeper,
    *,
    record: Record | None,
) -> None:
    """Put around the application what every request passes; what is added last is the outermost."""
    app.add_middleware(PlainFirst, routes=routes)
    if record is not None:
        app.add_middleware(Recorded, record=record, root=context.root)
    rules = Rules(context.root)
    public_url = context.public_url
    app.add_middleware(Guarded, doorkeeper=doorkeeper, rules=rules, public_url=public_url, cors_origins=cors_origins)
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
