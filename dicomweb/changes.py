"""The change feed over HTTP: pages of the log, and waiting for what comes next without holding anything.

A request that waits is an entry in a table of the event loop: no thread, no connection, no transaction. While anybody
waits, one task looks at the end of the log after each commit and wakes whoever it has passed.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from operator import gt
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dicomweb.commits import Watch, ringing
from dicomweb.context import Context
from dicomweb.plain_json import parse_limit, parse_number, query_fields, respond
from pacs.changes import MAX_PAGE, ChangePage, cursor_text, parse_cursor
from pacs.errors import InvalidQuery, PacsError, Unavailable
from pacs.model import Change, Cursor

MAX_WAIT_SECONDS = 60
MAX_WAITERS = 128
"""Fewer than a server has connections: those who wait must leave room for those who work."""

AFTER_FAILURE_SECONDS = 5.0

NOW = "now"

_DEFAULT_LIMIT = 100
_SHOWN_FACTS = ("door", "reason", "note", "correction_id", "conflict_id", "transfer_syntax_uid", "received_as")
"""What the log says beside kind, UIDs and time, as far as it is everybody's business: addresses, AE titles and who did
it are not."""

LOGGER = logging.getLogger(__name__)


class Waiters:
    """Those who wait for the log to pass their cursor, all in one event loop. ``end`` lets all of them go for good."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._bell = asyncio.Event()
        self._waiting: dict[asyncio.Future[None], Cursor] = {}
        self._poller: asyncio.Task[None] | None = None
        self._has_ended = False

    async def wait(self, request: Request, read_end: Callable[[], Cursor], after: Cursor, seconds: float) -> None:
        """Return once the log has passed ``after``, the time is over, or the server stops, whichever is first.

        ``read_end`` is called in a pool thread. Raises ClientDisconnect if the client hangs up, and Unavailable if too
        many wait already.
        """
        if len(self._waiting) >= MAX_WAITERS:
            raise Unavailable("Too many are waiting for changes; ask again later, or without wait.")
        if self._has_ended:
            return
        passed = asyncio.get_running_loop().create_future()
        gone = asyncio.create_task(_until_gone(request))
        self._waiting[passed] = after
        if self._poller is None or self._poller.done():
            self._bell = asyncio.Event()
            self._poller = asyncio.create_task(self._poll(read_end, self._bell))
        self._bell.set()  # what was written since the caller has looked
        try:
            await asyncio.wait((passed, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientDisconnect
        finally:
            gone.cancel()
            del self._waiting[passed]
            if not self._waiting:
                self._poller.cancel()
                self._poller = None  # at once: it may still be in a thread, and must not be taken for one that looks

    def end(self) -> None:
        """Let everybody go, now and from now on; to be called in the event loop."""
        self._has_ended = True
        self._wake(lambda _: True)

    async def _poll(self, read_end: Callable[[], Cursor], bell: asyncio.Event) -> None:
        with ringing(self._watch, bell):
            while await bell.wait():
                bell.clear()
                try:
                    end = await run_in_threadpool(read_end)
                except PacsError as error:
                    LOGGER.warning("The end of the change log cannot be read now: %s", error)
                except Exception:
                    LOGGER.exception("The end of the change log cannot be read")
                else:
                    self._wake(partial(gt, end))
                    continue
                await asyncio.sleep(AFTER_FAILURE_SECONDS)
                bell.set()

    def _wake(self, concerns: Callable[[Cursor], bool]) -> None:
        for passed, after in self._waiting.items():
            if concerns(after) and not passed.done():
                passed.set_result(None)


def build_router(context: Context, waiters: Waiters) -> APIRouter:
    """Return ``/changes``: ``after`` a cursor or ``now``, at most ``limit``, with ``wait`` for the first of them."""
    router = APIRouter(prefix="/changes", tags=["Changes"])
    feed = context.archive.changes

    @router.get("", summary="Read the change log, and wait for what comes next", operation_id="list_changes")
    async def list_changes(request: Request) -> Response:
        principal = context.principal(request)
        after, limit, wait_seconds = _parse(query_fields(request))
        if after is None:
            after = await run_in_threadpool(feed.read_end, principal)
        page = await run_in_threadpool(feed.read, principal, after, limit)
        if wait_seconds and not page.changes and not page.has_more:
            await waiters.wait(request, lambda: feed.read_end(principal), after, wait_seconds)
            page = await run_in_threadpool(feed.read, principal, after, limit)
        return respond(describe_page(page))

    return router


def describe_page(page: ChangePage) -> dict[str, Any]:
    """Return a page as JSON has it; ``after`` is what the next request says."""
    return {
        "changes": [describe(change) for change in page.changes],
        "after": cursor_text(page.end),
        "has_more": page.has_more,
    }


def describe(change: Change) -> dict[str, Any]:
    """Return a change as JSON has it, here and in webhooks; a level that it does not concern is empty."""
    return {
        "cursor": cursor_text(change.cursor),
        "kind": change.kind.value,
        "at": change.at.isoformat(),
        "study_instance_uid": change.study_instance_uid,
        "series_instance_uid": change.series_instance_uid,
        "sop_instance_uid": change.sop_instance_uid,
        "facts": {name: change.facts[name] for name in _SHOWN_FACTS if name in change.facts},
    }


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _parse(fields: list[tuple[str, str]]) -> tuple[Cursor | None, int, int]:
    """Return where to begin, None for the end of the log, how many changes a page has, and how long to wait."""
    after: Cursor | None = Cursor()
    limit, wait_seconds = _DEFAULT_LIMIT, 0
    for name, value in fields:
        match name:
            case "after":
                after = None if value == NOW else parse_cursor(value)
            case "limit":
                limit = parse_limit(value, MAX_PAGE)
            case "wait":
                wait_seconds = min(parse_number("wait", value), MAX_WAIT_SECONDS)
            case _:
                raise InvalidQuery("The parameters are after, limit and wait.")
    return after, limit, wait_seconds
