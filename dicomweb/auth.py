"""On whose behalf a request acts, found once and before anything else looks at it; every door asks for it here.

While there is no account, whoever comes from this machine to this machine is the demo's ``local``, who may do
everything; whoever else comes in is ``http``, who may do what is clinical and knows of no research.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from pacs.access import LOCAL, Permission, Principal

PRINCIPAL = "dicomweb.principal"
"""Where a scope has its Principal."""

_CLINICAL = frozenset({Permission.READ, Permission.WRITE, Permission.CORRECT, Permission.OPERATE})

ANYBODY = Principal("http", _CLINICAL)
"""Who comes in while there is no account."""

_PASSED_ON = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Knows who comes in. ``is_local``: HTTP listens on loopback only. ``may_delete``: whoever comes in may delete."""

    is_local: bool = False
    may_delete: bool = False

    def recognise(self, connection: HTTPConnection) -> Principal:
        """Return who it is; it asks no database."""
        if self.is_local and not _is_passed_on(connection.scope):
            return _DEMO_WITH_DELETE if self.may_delete else _DEMO
        return _ANYBODY_WITH_DELETE if self.may_delete else ANYBODY


class Recognised:
    """Gives every request and every WebSocket its Principal."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] in ("http", "websocket"):
            scope[PRINCIPAL] = self._doorkeeper.recognise(HTTPConnection(scope))
        await self._app(scope, receive, send)


def principal_of(connection: HTTPConnection) -> Principal:
    """Return on whose behalf a request acts."""
    principal: Principal = connection.scope.get(PRINCIPAL, ANYBODY)
    return principal


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
    match = _HOST.fullmatch(host.decode("latin-1"))
    return match is None or not is_loopback(match[1])


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d+)?", re.ASCII)

_DELETE = frozenset({Permission.DELETE})
_ANYBODY_WITH_DELETE = Principal(ANYBODY.name, _CLINICAL | _DELETE)
_DEMO = Principal(LOCAL.name, LOCAL.permissions - _DELETE, LOCAL.roles)
_DEMO_WITH_DELETE = LOCAL
