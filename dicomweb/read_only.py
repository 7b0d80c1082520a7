"""DICOMweb over an archive that is only read, made of the same routers as the clinical one: search, retrieve, render.

What writes, deletes or plans work is not mounted, so that it cannot be reached; nor is what stands beside DICOMweb. It
is mounted below an application that compresses, answers HEAD and gives every request its principal.
"""

from dataclasses import dataclass, field
from importlib.metadata import version

from fastapi import FastAPI
from starlette.routing import Route

from dicomweb import capabilities, errors, qido, rendered, wado
from dicomweb.capabilities import AnswerOptions
from dicomweb.context import PICTURES_BYTES, ReadingContext
from dicomweb.middleware import Unrouted
from dicomweb.plain_route import PlainFirst
from dicomweb.threads import RENDERING_THREADS, REQUEST_THREADS, OwnThreads
from pacs.reading import Reading
from pacs.retrieve.cache import FrameCache, MemoryFrameCache

FAMILIES = (qido, wado, rendered, capabilities)
"""The transactions that only read."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all read-only applications of a process have together, however many of them there are."""

    pictures: FrameCache = field(default_factory=lambda: MemoryFrameCache(PICTURES_BYTES), repr=False)
    rendering: OwnThreads = field(default_factory=lambda: OwnThreads(RENDERING_THREADS))
    threads: OwnThreads = field(default_factory=lambda: OwnThreads(REQUEST_THREADS))


def create_read_only_app(
    archive: Reading, *, root: str, boundary_key: bytes, public_url: str = "", shared: Shared | None = None
) -> FastAPI:
    """Return an application that serves ``archive`` at ``root``, an absolute path, and changes nothing in it.

    ``boundary_key`` is what multipart boundaries and entity tags are derived with; archives that must not be told to be
    of the same origin have different ones. The rest is as in ``create_app``.
    """
    shared = shared or Shared()
    context = ReadingContext(
        archive,
        root=root.rstrip("/"),
        public_url=public_url,
        boundary_key=boundary_key,
        pictures=shared.pictures,
        rendering=shared.rendering,
    )
    app = FastAPI(
        title="PACS",
        version=version("pacs"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    errors.install(app)
    routers = [family.build_router(context) for family in FAMILIES]
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    app.router.routes.append(Route("/{rest:path}", Unrouted(routes), include_in_schema=False))
    app.add_middleware(PlainFirst, routes=routes, threads=shared.threads)
    app.add_middleware(AnswerOptions, routes=routes)
    return app
