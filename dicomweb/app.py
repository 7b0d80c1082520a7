"""The HTTP application: routers, the order of what surrounds them, and nothing at import time."""

from collections.abc import Callable, Sequence
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from dicomweb import admin, corrections, errors, qido, queue, rendered, stow, wado, withheld, worklist
from dicomweb.context import Context
from dicomweb.middleware import CompressJson, HeadAsGet, NoSniffing, Unrouted
from pacs.archive import Archive
from pacs.model import Door, Origin

DESCRIPTION = (
    "DICOMweb (PS3.18): store, search and retrieve studies, series, instances, frames and bulk data. "
    "Beside it plain JSON: the worklist, corrections and conflicts, withheld instances, and the queue."
)

_EXPOSED_HEADERS = (
    "Accept-Ranges",
    "Content-Location",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
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
) -> FastAPI:
    """Return an application that serves ``archive``; it can be called more than once in a process.

    ``is_ready`` names what the archive is made of and whether it answers. ``viewer`` gets every path that nothing else
    has. ``origin`` is what the settings say of objects that come in by STOW-RS. ``boundary_key`` must be the same in
    all processes that answer for this archive; without one, each application makes its own. ``public_url`` is scheme,
    host and port by which clients reach this server, for the addresses in its answers; without it, the client's Host is
    believed.
    """
    context = Context(
        archive,
        root=root.rstrip("/"),
        public_url=public_url,
        origin=origin or Origin(Door.STOW),
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
    routers = tuple(family.build_router(context) for family in (stow, qido, wado, rendered))
    for router in routers:
        app.include_router(router)
    for beside in (worklist, corrections, withheld, queue):
        app.include_router(beside.build_router(context))
    app.include_router(admin.build_router(is_ready))
    app.router.routes.append(
        Route(
            context.root + "/{rest:path}",
            Unrouted([route for router in routers for route in router.routes]),
            include_in_schema=False,
        )
    )
    app.add_middleware(CompressJson)
    app.add_middleware(HeadAsGet)
    app.add_middleware(NoSniffing)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Accept", "Authorization", "Content-Type", "If-None-Match", "If-Range", "Range"],
            expose_headers=list(_EXPOSED_HEADERS),
        )
    if viewer is not None:
        app.mount("/", viewer, name="viewer")
    return app
