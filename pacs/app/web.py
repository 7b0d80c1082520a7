"""HTTP in one process: the application behind a listening socket, and uvicorn without its clock."""

import asyncio
import signal
import socket
from collections.abc import Callable
from email.utils import formatdate
from time import time
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from uvicorn.server import ServerState

from dicomweb.app import create_app
from dicomweb.auth import is_loopback
from dicomweb.changes import Waiters
from dicomweb.connection import MAX_MESSAGE_BYTES, GuardedProtocol, GuardedWebSocket
from dicomweb.viewer import create_viewer
from pacs.app.opening import Parts, build_origin, check_health
from pacs.config import Settings
from pacs.errors import InvalidSetting
from pacs.index import secrets
from pacs.model import Door

_MAX_HTTP_CONNECTIONS = 512
"""Beyond them requests are answered 503: a process that has no file left to open could not store anything either."""

_BACKLOG = 2048


def build_http(
    settings: Settings, parts: Parts, *, on_ready: Callable[[], None], on_stop: Callable[[], None], pipe: int = -1
) -> "_HttpServer":
    """Return the HTTP door of the settings.

    In its event loop ``on_ready`` is called once it listens, and ``on_stop`` before requests under way are waited for.
    The end of ``pipe``, a descriptor to read from, stops it as a signal does.
    """
    waiters = Waiters(parts.archive.changes.watch)
    app = create_app(
        parts.archive,
        is_ready=lambda: check_health(parts),
        viewer=create_viewer(settings.viewer_dir),
        cors_origins=settings.http.cors_origins,
        origin=build_origin(settings, Door.STOW),
        boundary_key=secrets.get_or_make(parts.database, "multipart-boundary"),
        public_url=settings.http.public_url,
        may_delete=settings.http.may_delete,
        is_local=_is_local(settings),
        form_key=secrets.get_or_make(parts.database, "form"),
        identity=parts.identity,
        record=parts.audit.write,
        waiters=waiters,
        research=parts.research,
        viewer_directory=settings.viewer_dir,
    )
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws=GuardedWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        limit_concurrency=_MAX_HTTP_CONNECTIONS,
        # Of asyncio this is how many connections are accepted at a time: one, so that processes that share the socket
        # share what comes together. The socket's own backlog is set afterwards.
        backlog=1,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.dimse.grace_seconds)),
    )

    def end() -> None:
        on_stop()
        waiters.end()

    return _HttpServer(config, on_ready, end, pipe)


def _is_local(settings: Settings) -> bool:
    """Whether only this machine reaches HTTP, and nobody is told of another way to it."""
    public_host = urlsplit(settings.http.public_url).hostname
    return is_loopback(settings.http.host) and (public_host is None or is_loopback(public_host))


class _HttpServer(uvicorn.Server):
    """uvicorn's server, with a word when it listens, and a stop that lets the rest of the process stop too.

    ``on_stop`` is called in the event loop, before requests under way are waited for. It sleeps while there are no
    requests; uvicorn's looks ten times a second whether it shall stop, and sets the date for its answers.
    """

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], on_stop: Callable[[], None], pipe: int
    ) -> None:
        super().__init__(config)
        self.server_state = _DatedState()
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._pipe = pipe
        self._exiting = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signals: socket.socket | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)
        if self._pipe >= 0:
            self._loop.add_reader(self._pipe, self._end)
        if self._signals is not None:
            self._loop.add_reader(self._signals, self._signals.recv, 4096)
        self._on_ready()

    async def main_loop(self) -> None:
        if not self.should_exit:
            await self._exiting.wait()

    def _end(self) -> None:
        assert self._loop is not None, "it runs in it"
        self._loop.remove_reader(self._pipe)
        self.should_exit = True
        self._exiting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._pipe >= 0:  # it is the archive's process that is to be stopped, which tells the others
            return
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._exiting.set)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # After its own stop uvicorn raises the signal once more, at whoever handled it before: that must not end the
        # process before the associations have.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # The kernel gives a signal to any thread, and Python handles it in this one, which may be asleep.
        self._signals, sender = socket.socketpair()
        with self._signals, sender:
            sender.setblocking(False)
            previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            try:
                super().run(sockets)
            finally:
                signal.set_wakeup_fd(previous)


class _DatedState(ServerState):
    """What uvicorn's connections share, with a date that is reckoned when an answer needs it."""

    def __init__(self) -> None:
        self._second = 0
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer."""
        second = int(time())
        if second != self._second:
            self._second, self._headers = second, [(b"date", formatdate(second, usegmt=True).encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        pass


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket of the settings; raise InvalidSetting if it cannot be had."""
    host, port = settings.http.host, settings.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise port_problem("http", host, port, error) from None
    # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not, and
    # each answer whose head and body are two segments would wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def port_problem(section: str, host: str, port: int, error: OSError) -> InvalidSetting:
    """Return what is wrong with the address of a door that cannot listen."""
    return InvalidSetting(
        f"The setting {section}.host or {section}.port (PACS_{section.upper()}__PORT) is wrong: "
        f"cannot listen on {host} port {port}: {error.strerror}."
    )
