"""Serving: the ports opened, everything started in its order, and stopped in the opposite one."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from dicomweb.app import create_app
from dicomweb.changes import Waiters
from dicomweb.connection import MAX_MESSAGE_BYTES, GuardedProtocol, GuardedWebSocket
from dicomweb.viewer import create_viewer
from pacs.app.opening import Parts, build_entry_parser, build_origin, check_health
from pacs.app.services import build_dimse, delivering
from pacs.archive import Archive
from pacs.config import Settings
from pacs.dimse.commitment import CommitmentService
from pacs.errors import InvalidSetting
from pacs.index import secrets
from pacs.maintenance.conflicts import ConflictResolver
from pacs.model import CLINICAL_PARTITION, Door
from pacs.worklist.folder import WatchedFolder

_MAX_HTTP_CONNECTIONS = 512
"""Beyond them requests are answered 503: a process that has no file left to open could not store anything either."""


def serve(settings: Settings, parts: Parts, on_ready: Callable[[int, int], None]) -> None:
    """Serve DICOM and HTTP until SIGINT or SIGTERM; ``on_ready`` is told the DICOM and the HTTP port once both listen.

    At a stop, requests and associations that are open finish what they are doing within ``dimse.grace_seconds``.
    """
    commitment = CommitmentService(parts.archive.commit)
    dimse = build_dimse(settings, parts.archive, commitment)
    waiters = Waiters()
    app = create_app(
        parts.archive,
        is_ready=lambda: check_health(parts),
        viewer=create_viewer(settings.viewer_dir),
        cors_origins=settings.http.cors_origins,
        origin=build_origin(settings, Door.STOW),
        boundary_key=secrets.get_or_make(parts.database, "multipart-boundary"),
        public_url=settings.http.public_url,
        may_delete=settings.http.may_delete,
        waiters=waiters,
    )
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws=GuardedWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        limit_concurrency=_MAX_HTTP_CONNECTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.dimse.grace_seconds)),
    )
    with closing(_listen(settings)) as listener, delivering(settings, parts, commitment):
        try:
            dimse.start()
        except OSError as error:
            raise _port_problem("dimse", settings.dimse.host, settings.dimse.port, error) from None
        try:
            with (
                ConflictResolver(parts.database, parts.comparer, CLINICAL_PARTITION),
                _worklist_folder(settings, parts.archive),
            ):
                server = _HttpServer(config, lambda: on_ready(dimse.port, listener.getsockname()[1]), waiters.end)
                server.run(sockets=[listener])
        finally:
            dimse.stop(settings.dimse.grace_seconds)


class _HttpServer(uvicorn.Server):
    """uvicorn's server, with a word when it listens, and a stop that lets the rest of the process stop too.

    ``on_stop`` is called in the event loop, before requests under way are waited for.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # After its own stop uvicorn raises the signal once more, at whoever handled it before: that must not end the
        # process before the associations have.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        super().run(sockets)


@contextmanager
def _worklist_folder(settings: Settings, archive: Archive) -> Iterator[None]:
    """Take scheduled steps from the watched folder, if the settings name one."""
    if settings.worklist.folder is None:
        yield
        return
    with WatchedFolder(archive.worklist, settings.worklist.folder, build_entry_parser(settings)):
        yield


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.http.host, settings.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _port_problem("http", host, port, error) from None
    # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not, and
    # each answer whose head and body are two segments would wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _port_problem(section: str, host: str, port: int, error: OSError) -> InvalidSetting:
    return InvalidSetting(
        f"The setting {section}.host or {section}.port (PACS_{section.upper()}__PORT) is wrong: "
        f"cannot listen on {host} port {port}: {error.strerror}."
    )
