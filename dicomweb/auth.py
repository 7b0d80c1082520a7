"""On whose behalf a request acts, found once and before anything else looks at it, and whether it may be here at all.

While there is no account, whoever comes from this machine to this machine is the demo's ``local``, who may do
everything; whoever else comes in is ``http``, who may do what is clinical and knows of no research. Once there is one,
nobody comes in without a session or a token.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from ipaddress import ip_address
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomweb.cross_origin import check_origin
from dicomweb.errors import problem, problem_for
from dicomweb.rules import READING_METHODS, Rule, Rules
from pacs.access import LOCAL, Permission, Principal
from pacs.errors import NotPermitted, PacsError
from pacs.identity.problems import LoginRequired
from pacs.identity.recognition import Credential, Kind, Recogniser, Recognition

PRINCIPAL = "dicomweb.principal"
"""Where a scope has its Principal."""

SESSION_COOKIE = "pacs_session"
LOGIN = "/login"
RESEARCH = "/research"

NOBODY = Principal("nobody")
"""Who has not said who he is, where that is asked."""

_CLINICAL = frozenset({Permission.READ, Permission.WRITE, Permission.CORRECT, Permission.OPERATE})

ANYBODY = Principal("http", _CLINICAL)
"""Who comes in while there is no account."""

_PASSED_ON = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d+)?", re.ASCII)
_COOKIE = re.compile(rf"(?:^|;)\s*{SESSION_COOKIE}=([\w-]+)".encode())
_BEARER = re.compile(r"bearer +([\w~+/.=-]+) *", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Knows who comes in. ``is_local``: HTTP listens on loopback only. ``may_delete``: whoever comes in may delete.

    Without a ``recogniser`` there are no accounts. Both of the others count only while there is none.
    """

    is_local: bool = False
    may_delete: bool = False
    recogniser: Recogniser | None = None

    def recall(self, scope: Scope) -> Principal | None:
        """Return who it is if that is known without asking the database."""
        if self.recogniser is None:
            return self._anybody(scope)
        found = self.recogniser.recall(None)
        if found is not None and found.is_open:
            return self._anybody(scope)
        credential = credential_of(scope)
        if credential is not None:
            found = self.recogniser.recall(credential)
        return None if found is None else self._admit(scope, found)

    def recognise(self, scope: Scope) -> Principal:
        """Return who it is; it asks the database."""
        assert self.recogniser is not None, "it was known already"
        return self._admit(scope, self.recogniser.recognise(credential_of(scope)))

    def _admit(self, scope: Scope, found: Recognition) -> Principal:
        if found.is_open:
            return self._anybody(scope)
        if found.principal is None:
            return NOBODY
        return replace(found.principal, address=address_of(scope))

    def _anybody(self, scope: Scope) -> Principal:
        if self.is_local and not _is_passed_on(scope):
            return _DEMO_WITH_DELETE if self.may_delete else _DEMO
        return _ANYBODY_WITH_DELETE if self.may_delete else ANYBODY


class Guarded:
    """Gives every request and every WebSocket its Principal, and answers those that may not be here."""

    def __init__(
        self,
        app: ASGIApp,
        doorkeeper: Doorkeeper,
        rules: Rules,
        *,
        public_url: str = "",
        cors_origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._rules = rules
        self._public_url = public_url
        self._cors_origins = cors_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        answer = None
        if scope["type"] in ("http", "websocket"):
            rule = self._rules.find(scope["path"])
            try:
                scope[PRINCIPAL] = await self._recognise(scope, rule)
                answer = self._judge(scope, rule)
            except PacsError as error:
                answer = problem_for(error)
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _deny(answer, receive, send)
        else:
            await answer(scope, receive, send)

    async def _recognise(self, scope: Scope, rule: Rule) -> Principal:
        if rule.is_unasked:
            return NOBODY
        principal = self._doorkeeper.recall(scope)
        if principal is None:
            principal = await run_in_threadpool(partial(self._doorkeeper.recognise, scope))
        return principal

    def _judge(self, scope: Scope, rule: Rule) -> Response | None:
        """Return what is answered instead, or None; raise NotPermitted for what is seen, and may not be done."""
        principal: Principal = scope[PRINCIPAL]
        method = scope.get("method", "GET")
        if rule.is_public or method == "OPTIONS":  # which says what is mounted, and nothing of what is stored
            return None
        if principal is NOBODY:
            return _ask_to_log_in(scope) if rule.is_page and _is_looked_at(scope) else _refuse_nobody()
        if rule.see is not None and rule.see not in principal.permissions:
            if scope["path"] == "/" and Permission.RESEARCH in principal.permissions:
                return RedirectResponse(RESEARCH, 303)
            return problem(404, "HttpError", "There is nothing here.")
        if not (method in READING_METHODS and scope["type"] == "http"):
            self._check_page(scope, principal)
        needed = rule.needed(method)
        if needed is not None and needed not in principal.permissions:
            raise NotPermitted
        return None

    def _check_page(self, scope: Scope, principal: Principal) -> None:
        """Raise NotPermitted for what a page of another origin does in the name of whoever has it open.

        With a cookie, which the browser brings along; and in the demo, where it is enough to be on this machine.
        """
        if principal.name == LOCAL.name:
            check_origin(HTTPConnection(scope), self._cors_origins, self._public_url)
        elif principal.session:
            credential = credential_of(scope)
            if credential is not None and credential.kind is Kind.SESSION:
                check_origin(HTTPConnection(scope), (), self._public_url)


def principal_of(connection: HTTPConnection) -> Principal:
    """Return on whose behalf a request acts."""
    principal: Principal = connection.scope.get(PRINCIPAL, NOBODY)
    return principal


def credential_of(scope: Scope) -> Credential | None:
    """Return what a request shows: a token, or else a cookie."""
    cookie = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            match = _BEARER.fullmatch(value.decode("latin-1"))
            if match is not None:
                return Credential(Kind.TOKEN, match[1])
        if name == b"cookie":
            cookie = value
    found = _COOKIE.search(cookie)
    return Credential(Kind.SESSION, found[1].decode("latin-1")) if found is not None else None


def address_of(scope: Scope) -> str:
    """Return where a request comes from, as far as the server knows."""
    client = scope.get("client")
    return client[0] if client else ""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address, or a name that stands for one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_passed_on(scope: Scope) -> bool:
    """Whether a request may come from another machine all the same.

    A proxy says that it passes it on. A page whose name was made to lead here (DNS rebinding) has that in Host.
    """
    host = b""
    for name, value in scope["headers"]:
        if name in _PASSED_ON:
            return True
        if name == b"host":
            host = value
    return not _is_own(host)


@lru_cache(maxsize=64)
def _is_own(host: bytes) -> bool:
    """Whether a Host is an address or a name of this machine for itself; most requests have the same one."""
    match = _HOST.fullmatch(host.decode("latin-1"))
    return match is not None and is_loopback(match[1])


def _is_looked_at(scope: Scope) -> bool:
    """Whether a person's browser goes there, and no program."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _ask_to_log_in(scope: Scope) -> Response:
    path = quote(scope["path"], safe="/")
    query = scope["query_string"].decode("latin-1")
    wanted = f"{path}?{query}" if query else path
    return RedirectResponse(f"{LOGIN}?{urlencode({'next': wanted})}", 303, {"Cache-Control": "no-store"})


def _refuse_nobody() -> Response:
    return problem(401, LoginRequired.__name__, str(LoginRequired()), {"WWW-Authenticate": "Bearer"})


async def _deny(answer: Response, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket with an answer, as the extension of ASGI for it has it."""
    await receive()
    headers = answer.raw_headers
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": bytes(answer.body)})


_DELETE = frozenset({Permission.DELETE})
_ANYBODY_WITH_DELETE = Principal(ANYBODY.name, _CLINICAL | _DELETE)
_DEMO = Principal(LOCAL.name, LOCAL.permissions - _DELETE, LOCAL.roles)
_DEMO_WITH_DELETE = LOCAL
