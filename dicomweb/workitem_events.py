"""Event reports of work items over WebSocket (PS3.18 8.10.4, 8.10.5 and 11.13): DICOM JSON, one text message a report.

A subscriber that is connected is an entry in a table of the event loop: no thread, no connection to the database, no
transaction. While anybody is, one task reads the log of events, whichever process they happened in, and puts them where
they belong. Nothing is kept for who is not connected (PS3.4 CC.2.4.3): who comes back searches first.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from dicomweb.commits import ringing
from dicomweb.context import Context
from dicomweb.cross_origin import check_origin
from dicomweb.errors import problem, problem_for
from dicomweb.workitem_requests import check_ae_title
from pacs.access import Principal
from pacs.errors import PacsError, Unavailable
from pacs.model import Cursor
from pacs.workitems import UnifiedWorklist

MAX_LISTENERS = 128
"""Fewer than a server has connections: those who listen must leave room for those who work."""
MAX_WAITING_CHARACTERS = 4 * 1024 * 1024
"""What may wait for one client that reads slowly; it is cut off beyond that."""

PAGE_SIZE = 100

_AFTER_FAILURE_SECONDS = 5.0
_TRY_AGAIN_LATER = 1013

LOGGER = logging.getLogger(__name__)


class _Listener:
    """What waits for one connection."""

    def __init__(self) -> None:
        self.is_too_slow = False
        self._reports: deque[str] = deque()
        self._characters = 0
        self._has_some = asyncio.Event()

    def offer(self, report: str) -> None:
        """Add a report, unless too much waits already."""
        if self._reports and self._characters + len(report) > MAX_WAITING_CHARACTERS:
            self.is_too_slow = True
        if not self.is_too_slow:
            self._reports.append(report)
            self._characters += len(report)
        self._has_some.set()

    async def take(self) -> str | None:
        """Return the next report once there is one, None if the client has been too slow for them."""
        await self._has_some.wait()
        if self.is_too_slow:
            return None
        report = self._reports.popleft()
        self._characters -= len(report)
        if not self._reports:
            self._has_some.clear()
        return report


class Listeners:
    """Those who are connected, by AE title, all in one event loop."""

    def __init__(self, worklist: UnifiedWorklist) -> None:
        self._subscriptions = worklist.subscriptions
        self._by_title: dict[str, set[_Listener]] = {}
        self._count = 0
        self._poller: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def check_room(self) -> None:
        """Raise Unavailable if too many listen already."""
        if self._count >= MAX_LISTENERS:
            raise Unavailable("Too many are listening for events; try again later.")

    async def begin(self, principal: Principal) -> None:
        """See to it that what happens from now on is read; raise Unavailable if it cannot be."""
        async with self._starting:
            if self._poller is None or self._poller.done():
                end = await run_in_threadpool(self._subscriptions.read_end, principal)
                self._poller = asyncio.create_task(self._poll(principal, end))

    @contextmanager
    def listening(self, ae_title: str) -> Iterator[_Listener]:
        """Put what is for an AE title into the listener until the block ends."""
        listener = _Listener()
        self._by_title.setdefault(ae_title, set()).add(listener)
        self._count += 1
        try:
            yield listener
        finally:
            self._count -= 1
            self._by_title[ae_title].discard(listener)
            if not self._by_title[ae_title]:
                del self._by_title[ae_title]
            if not self._count and self._poller is not None:
                self._poller.cancel()
                self._poller = None  # at once: it may still be in a thread, and must not be taken for one that reads

    async def _poll(self, principal: Principal, cursor: Cursor) -> None:
        bell = asyncio.Event()
        with ringing(self._subscriptions.watch, bell):
            while await bell.wait():
                bell.clear()
                try:
                    page = await run_in_threadpool(self._subscriptions.read_events, principal, cursor, PAGE_SIZE)
                except PacsError as error:
                    LOGGER.warning("The events of work items cannot be read now: %s", error)
                except Exception:
                    LOGGER.exception("The events of work items cannot be read")
                else:
                    for event in page:
                        self._hand_out(event.report, event.recipients)
                        cursor = event.cursor
                    if len(page) == PAGE_SIZE:
                        bell.set()
                    continue
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)
                bell.set()

    def _hand_out(self, report: str, recipients: Collection[str]) -> None:
        for ae_title in self._by_title.keys() & recipients:
            for listener in self._by_title[ae_title]:
                listener.offer(report)


def build_router(context: Context, cors_origins: Collection[str] = ()) -> APIRouter:
    """Return ``/subscribers/{aetitle}``: a WebSocket; a plain GET is told so."""
    router = APIRouter(prefix=context.root, tags=["UPS-RS"], default_response_class=Response)
    listeners = Listeners(context.archive.workitems)

    @router.websocket("/subscribers/{aetitle}")
    async def open_channel(websocket: WebSocket, aetitle: str) -> None:
        principal = context.principal(websocket)
        try:
            # A page of another site must not read along: a browser opens a WebSocket to anywhere without asking.
            check_origin(websocket, cors_origins, context.public_url)
            title = check_ae_title(aetitle)
            await listeners.check_room()
            with listeners.listening(title) as listener:
                await listeners.begin(principal)
                await websocket.accept()
                await _serve(websocket, listener)
        except PacsError as error:
            await websocket.send_denial_response(problem_for(error))

    @router.get(
        "/subscribers/{aetitle}",
        summary="Open a WebSocket for event reports",
        operation_id="open_event_channel",
        status_code=101,
    )
    def explain(request: Request, aetitle: str) -> Response:
        del request
        check_ae_title(aetitle)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return problem(426, "UpgradeRequired", "Event reports are sent over a WebSocket.", headers)

    return router


async def refuse(websocket: WebSocket) -> None:
    """Answer a WebSocket to an address that has none."""
    await websocket.send_denial_response(problem(404, "HttpError", "There is nothing here."))


async def _serve(websocket: WebSocket, listener: _Listener) -> None:
    """Send what the listener is given until the client goes, or falls too far behind."""
    sending = asyncio.create_task(_send_all(websocket, listener))
    gone = asyncio.create_task(_until_gone(websocket))
    try:
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, gone):
            task.cancel()
        await asyncio.gather(sending, gone, return_exceptions=True)
    if listener.is_too_slow:
        LOGGER.warning("A subscriber reads more slowly than things happen to work items, and was cut off")
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(_TRY_AGAIN_LATER)


async def _send_all(websocket: WebSocket, listener: _Listener) -> None:
    while (report := await listener.take()) is not None:
        await websocket.send_text(report)


async def _until_gone(websocket: WebSocket) -> None:
    """Return once the client has hung up, or the server stops; whatever it says is passed over."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
