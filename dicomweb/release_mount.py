"""Releases as DICOMweb: one application each, found for every request by who asks, and made when it is first read.

What a principal may not read is not there. An unknown project, one that it is no member of, a version that was never
published and one that was withdrawn are asked for by the same statements and answered by the same bytes.
"""

import asyncio
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from time import monotonic
from typing import Generic, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.addresses import is_uid
from dicomweb.context import Context
from dicomweb.read_only import Shared, create_read_only_app
from pacs.access import Principal
from pacs.reading import Reading

KNOWN_SECONDS = 3.0
"""How long a release stays found for a principal: so long may one still read who was just removed from a project."""
MAX_KNOWN = 4096
MAX_OPEN = 16
"""Applications that are kept: each is some 200 routes and what it holds of metadata."""
MAX_SEEN = 16_384
"""Reads that are remembered as recorded; beyond them an old one is recorded once more."""

PREFIX = "/research/{project}"
NEWEST = f"{PREFIX}/dicom-web"
VERSION = f"{PREFIX}/releases/{{version}}/dicom-web"

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_STUDY = re.compile(r"/studies/([^/]*)")
_NO_VERSION = 0
"""What no release has as its version, and is looked for all the same where an address has none that can be."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Readable:
    """A release that somebody may read. ``id`` is the same in every process, and never another release's.

    ``open`` returns what reads it.
    """

    id: int
    project: str
    version: int
    open: Callable[[], Reading] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a release, by whom: a study, or a list ``by`` these keys if ``study_instance_uid`` is empty.

    What was looked for is not in it.
    """

    principal: Principal
    release: Readable
    study_instance_uid: str = ""
    by: tuple[str, ...] = ()


Find = Callable[[Principal, str, int | None], Readable | None]
"""Returns the release of a project with a version, the newest published one without; None for what is not there."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where releases come from, and where it is written down that they were read. All of it is called in a thread."""

    find: Find
    record: Callable[[Read], None]


@dataclass(slots=True)
class _Bounded(Generic[K, V]):
    """The values that were used last."""

    size: int
    values: OrderedDict[K, V] = field(default_factory=OrderedDict)

    def get(self, key: K) -> V | None:
        value = self.values.get(key)
        if value is not None:
            self.values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self.values[key] = value
        self.values.move_to_end(key)
        while len(self.values) > self.size:
            self.values.popitem(last=False)


class ReleaseMount:
    """Answers below ``/research/{project}/dicom-web`` and ``/research/{project}/releases/{version}/dicom-web``."""

    def __init__(self, context: Context, source: Source) -> None:
        self._context = context
        self._source = source
        self._shared = Shared()
        self._known: _Bounded[tuple[Principal, str, int | None], tuple[float, Readable | None]] = _Bounded(MAX_KNOWN)
        self._open: _Bounded[tuple[int, str], ASGIApp] = _Bounded(MAX_OPEN)
        self._seen: _Bounded[tuple[date, str, Read, str], bool] = _Bounded(MAX_SEEN)
        self._opening = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the routes to add to the application, which say nothing of themselves in its OpenAPI document."""
        paths = [root + rest for root in (NEWEST, VERSION) for rest in ("", "/{rest:path}")]
        return [Route(path, self, include_in_schema=False) for path in paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request for a release; raise HTTPException 404 if there is none for who asks."""
        if scope["type"] != "http":
            raise HTTPException(404)
        request = Request(scope)
        principal = self._context.principal(request)
        given = scope["path_params"]
        project = given["project"] if _SLUG.fullmatch(given["project"]) else ""
        version = version_of(given["version"]) if "version" in given else None
        release = await self._find(principal, project, version)
        if release is None:
            raise HTTPException(404)
        root = NEWEST if version is None else VERSION
        root = root.format(project=release.project, version=release.version)
        app = await self._app_of(release, root)
        recording = _Recording(send, partial(self._record, request, principal, release, root))
        await app({**scope, "path_params": {}}, receive, recording)

    async def _find(self, principal: Principal, project: str, version: int | None) -> Readable | None:
        key = (principal, project, version)
        known = self._known.get(key)
        if known is None or known[0] < monotonic():
            found = await self._shared.threads.run(partial(self._source.find, principal, project, version))
            known = (monotonic() + KNOWN_SECONDS, found)
            self._known.put(key, known)
        return known[1]

    async def _app_of(self, release: Readable, root: str) -> ASGIApp:
        key = (release.id, root)
        async with self._opening:  # made once, however many ask for it at first
            app = self._open.get(key)
            if app is None:
                app = await self._shared.threads.run(partial(self._build, release, root))
                self._open.put(key, app)
        return app

    def _build(self, release: Readable, root: str) -> Starlette:
        return create_read_only_app(
            release.open(),
            root=root,
            boundary_key=derive_key(self._context.boundary_key, release),
            public_url=self._context.public_url,
            shared=self._shared,
        )

    async def _record(self, request: Request, principal: Principal, release: Readable, root: str) -> None:
        """Write down that a study was read, or something searched, once a session and day.

        A viewer asks for each slice, and for the same list again.
        """
        match = _STUDY.match(request.url.path.removeprefix(root))
        study = match[1] if match is not None and is_uid(match[1]) else ""
        by = () if study else tuple(sorted({name[:64] for name in request.query_params if name.isprintable()}))
        read = Read(principal, release, study, by)
        seen = (datetime.now(UTC).date(), principal.session, read, "" if study else str(request.url.query))
        if self._seen.get(seen):
            return
        await self._shared.threads.run(partial(self._source.record, read))
        self._seen.put(seen, True)


class _Recording:
    """Lets an answer that gives something go out only once that is written down."""

    def __init__(self, send: Send, record: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._record = record

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            await self._record()
        await self._send(message)


def derive_key(key: bytes, release: Readable) -> bytes:
    """Return what a release's boundaries and entity tags are derived with: no two releases have it in common."""
    return hmac.digest(key, b"release\0%d" % release.id, hashlib.sha256)


def version_of(text: str) -> int:
    """Return the version in an address; one that no release has for what is no number."""
    return int(text) if _NUMBER.fullmatch(text) else _NO_VERSION
