"""Who saw which study, and who searched by what: written down before the first byte leaves, once a session and day.

Only what somebody does who is logged in is written down; the demo's ``local`` and ``http`` are nobody. Of a search the
names of its keys are kept, and none of their values, which may be a patient's.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicomweb.addresses import is_uid
from dicomweb.auth import PRINCIPAL
from dicomweb.errors import problem_for
from pacs.access import Principal
from pacs.audit import Entry
from pacs.errors import PacsError

Record = Callable[[Entry], None]
"""Writes an entry down durably; it is called in a thread."""

READ = "study.read"
SEARCH = "study.search"

MAX_SEEN = 16_384
"""What is remembered as written down, in each process; beyond it the oldest would be written down once more."""

_SEARCHED = frozenset({"studies", "series", "instances"})
_NO_KEYS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept"})
_WADO_URI = "wado"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What somebody did in a session on a day, which matters for a token: it may live for a year."""

    day: date
    name: str
    session: str
    kind: str
    subject: str
    keys: tuple[str, ...] = ()

    def entry(self, principal: Principal) -> Entry:
        return Entry(self.kind, principal, self.subject, {"by": list(self.keys)} if self.keys else {})


class Recorded:
    """Holds back an answer that shows something until it is written down that it does."""

    def __init__(self, app: ASGIApp, record: Record, root: str) -> None:
        self._app = app
        self._record = record
        self._root = root
        self._seen: dict[_Seen, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        seen = self._what(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if seen is not None and seen not in self._seen:
            send = _HeldBack(scope, receive, send, partial(self._write_down, seen, scope[PRINCIPAL]))
        await self._app(scope, receive, send)

    async def _write_down(self, seen: _Seen, principal: Principal) -> None:
        await run_in_threadpool(self._record, seen.entry(principal))
        if len(self._seen) >= MAX_SEEN:
            self._seen.pop(next(iter(self._seen)))
        self._seen[seen] = None

    def _what(self, scope: Scope) -> _Seen | None:
        """Return what an answer will show, None if that is nothing of a patient, or to nobody in particular."""
        principal: Principal = scope[PRINCIPAL]
        if not principal.session:
            return None
        who = (datetime.now(UTC).date(), principal.name, principal.session)
        path: str = scope["path"]
        at_service, _, rest = path.removeprefix(self._root).lstrip("/").partition("/")
        if at_service == _WADO_URI:
            study = dict(_parameters(scope)).get("studyUID", "")
        elif not path.startswith(f"{self._root}/") or at_service not in _SEARCHED:
            return None
        elif not rest:
            keys = sorted({name for name, _ in _parameters(scope)} - _NO_KEYS)
            return _Seen(*who, SEARCH, "", tuple(keys))
        else:
            study = rest.partition("/")[0]
        return _Seen(*who, READ, study) if is_uid(study) else None


class _HeldBack:
    """Sends an answer once it is written down; what cannot be is not shown."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, write_down: Callable[[], Awaitable[None]]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._write_down = write_down
        self._is_refused = False

    async def __call__(self, message: Message) -> None:
        if self._is_refused:
            return
        if message["type"] == "http.response.start" and message["status"] < 400:
            try:
                await self._write_down()
            except PacsError as error:
                self._is_refused = True
                await problem_for(error)(self._scope, self._receive, self._send)
                return
        await self._send(message)


def _parameters(scope: Scope) -> list[tuple[str, str]]:
    query: bytes = scope["query_string"]
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
