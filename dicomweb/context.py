"""What every transaction of the HTTP edge needs: the archive, who asks, and where this service is."""

from dataclasses import dataclass, field
from secrets import token_bytes

from starlette.requests import HTTPConnection, Request

from dicomweb.auth import principal_of
from dicomweb.media_types import MediaRange, parse_accept, parse_accept_parameter
from dicomweb.pages import Pages
from dicomweb.threads import RENDERING_THREADS, OwnThreads
from pacs.access import Principal
from pacs.archive import Archive
from pacs.model import Door, Origin
from pacs.reading import Reading
from pacs.retrieve.cache import FrameCache, MemoryFrameCache

PICTURES_BYTES = 32 * 1024 * 1024
"""Rendered pictures that a process keeps in memory: some 800 of CT slices, for whoever pages back and forth."""

_BASE_URL = "dicomweb.base_url"

_PASSED_ON = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})


@dataclass(frozen=True, slots=True)
class ReadingContext:
    """Given to every router that only reads.

    ``boundary_key`` is the secret that multipart boundaries are derived with, the same in every process that answers
    for this archive. ``public_url`` is where this server is for its clients; without it, they are believed. Pictures
    are made in the threads of ``rendering``, and kept in ``pictures`` by their entity tag.
    """

    archive: Reading
    root: str = "/dicom-web"
    public_url: str = ""
    boundary_key: bytes = field(default_factory=lambda: token_bytes(32), repr=False)
    pictures: FrameCache = field(default_factory=lambda: MemoryFrameCache(PICTURES_BYTES), repr=False)
    rendering: OwnThreads = field(default_factory=lambda: OwnThreads(RENDERING_THREADS))

    def principal(self, connection: HTTPConnection) -> Principal:
        """Return on whose behalf a request acts."""
        return principal_of(connection)

    def base_url(self, request: Request) -> str:
        """Return the absolute address of this service as the request reached it, without a slash at its end."""
        address: str | None = request.scope.get(_BASE_URL)
        if address is None:
            address = (self.public_url.rstrip("/") or _origin_of(request)) + self.root
            request.scope[_BASE_URL] = address  # an answer has it in its tag, and again in each of its parts
        return address


@dataclass(frozen=True, slots=True)
class Context(ReadingContext):
    """Given to every other router.

    ``origin`` carries what the settings say of objects that come in by STOW-RS; ``pages`` renders what people look at.
    """

    archive: Archive
    origin: Origin = Origin(Door.STOW)  # noqa: RUF009 - frozen
    pages: Pages = field(default_factory=lambda: Pages(token_bytes(32)), repr=False)


def _origin_of(request: Request) -> str:
    """Return scheme, host and port as the client gave them, repaired where it left out a port that it must have used.

    dicomweb-client sends a Host without its port. A Host that is this very socket's address, on a request that no proxy
    passed on, can only have been reached at the socket's port.
    """
    url = request.base_url
    host, port = request.scope.get("server") or ("", None)
    is_own = url.hostname == host or (url.hostname == "localhost" and host in ("127.0.0.1", "::1"))
    if is_own and url.port is None and port and _PASSED_ON.isdisjoint(request.headers.keys()):
        url = url.replace(port=port)
    return str(url).rstrip("/")


def accepted(request: Request) -> tuple[MediaRange, ...]:
    """Return the media ranges that a request accepts; the query parameter goes before the header (PS3.18 8.3.3.1)."""
    asked = request.query_params.getlist("accept")
    if asked:
        return parse_accept_parameter(asked)
    return parse_accept(request.headers.getlist("accept"))
