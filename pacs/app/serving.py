"""Serving: the ports opened, everything started in its order, and stopped in the opposite one."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pacs.app.opening import build_entry_parser, open_archive
from pacs.app.processes import Companions
from pacs.app.services import build_dimse, delivering
from pacs.app.web import build_http, listen, port_problem
from pacs.archive import Archive
from pacs.config import Settings
from pacs.dimse.commitment import CommitmentService
from pacs.maintenance.conflicts import ConflictResolver
from pacs.model import CLINICAL_PARTITION
from pacs.worklist.folder import WatchedFolder


def serve(settings: Settings, on_ready: Callable[[int, int], None]) -> None:
    """Serve DICOM and HTTP until SIGINT or SIGTERM; ``on_ready`` is told the DICOM and the HTTP port once both listen.

    At a stop, requests and associations that are open finish what they are doing within ``dimse.grace_seconds``. This
    process does everything; those beside it answer HTTP only. Raises what ``open_archive`` does, and InvalidSetting
    for an address that cannot be listened on.
    """
    grace_seconds = settings.dimse.grace_seconds
    with (
        closing(listen(settings)) as listener,
        Companions(
            settings.http.processes - 1, lambda pipe: _serve_http(settings, listener, pipe), grace_seconds
        ) as companions,
        open_archive(settings) as parts,
    ):
        commitment = CommitmentService(parts.archive.commit)
        dimse = build_dimse(settings, parts.archive, commitment)

        def ready() -> None:
            companions.start()
            on_ready(dimse.port, listener.getsockname()[1])

        http = build_http(settings, parts, on_ready=ready, on_stop=companions.stop)
        with delivering(settings, parts, commitment):
            try:
                dimse.start()
            except OSError as error:
                raise port_problem("dimse", settings.dimse.host, settings.dimse.port, error) from None
            try:
                with (
                    ConflictResolver(parts.database, parts.comparer, CLINICAL_PARTITION),
                    _worklist_folder(settings, parts.archive),
                ):
                    http.run(sockets=[listener])
            finally:
                dimse.stop(grace_seconds)


def _serve_http(settings: Settings, listener: socket.socket, pipe: int) -> None:
    """Answer HTTP from a process beside the one that does everything else, until the pipe ends."""
    with open_archive(settings) as parts:
        build_http(settings, parts, on_ready=lambda: None, on_stop=lambda: None, pipe=pipe).run(sockets=[listener])


@contextmanager
def _worklist_folder(settings: Settings, archive: Archive) -> Iterator[None]:
    """Take scheduled steps from the watched folder, if the settings name one."""
    if settings.worklist.folder is None:
        yield
        return
    with WatchedFolder(archive.worklist, settings.worklist.folder, build_entry_parser(settings)):
        yield
