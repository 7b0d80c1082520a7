"""Serving: the ports opened, everything started in its order, and stopped in the opposite one."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pacs.app.opening import build_entry_parser, open_archive
from pacs.app.processes import Companions
from pacs.app.services import build_dimse, delivering
from pacs.app.web import build_http, listen, port_problem
from pacs.archive import Archive
from pacs.audit.sealer import Sealer
from pacs.commitment import Report
from pacs.config import Settings
from pacs.dimse.commitment import CommitmentService, pack_report, unpack_report
from pacs.dimse.companion import AskingAdmission, Companion
from pacs.dimse.handover import Crew
from pacs.maintenance.conflicts import ConflictResolver
from pacs.model import CLINICAL_PARTITION
from pacs.worklist.folder import WatchedFolder


def serve(settings: Settings, on_ready: Callable[[int, int], None]) -> None:
    """Serve DICOM and HTTP until SIGINT or SIGTERM; ``on_ready`` is told the DICOM and the HTTP port once both listen.

    At a stop, requests and associations that are open finish what they are doing within ``dimse.grace_seconds``. This
    process does everything; those beside it answer HTTP, or serve associations that this one accepts, or both. Raises
    what ``open_archive`` does, and InvalidSetting for an address that cannot be listened on.
    """
    grace_seconds = settings.dimse.grace_seconds
    with (
        closing(listen(settings)) as listener,
        _crew(settings) as crew,
        Companions(
            max(settings.http.processes, settings.dimse.processes) - 1,
            lambda place, pipe: _serve_beside(settings, place, listener, crew, pipe),
            2 * grace_seconds,  # they are told when HTTP's time begins, after which is that of the associations
            kept=() if crew is None else (crew.kept,),
        ) as companions,
        open_archive(settings) as parts,
    ):
        commitment = CommitmentService(parts.archive.commit, _report_by(crew))
        dimse = build_dimse(settings, parts.archive, commitment, crew=crew)

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
                    Sealer(parts.database, parts.audit),
                    _worklist_folder(settings, parts.archive),
                ):
                    http.run(sockets=[listener])
            finally:
                dimse.stop(grace_seconds)


def _serve_beside(settings: Settings, place: int, listener: socket.socket, crew: Crew | None, pipe: int) -> None:
    """Serve from a process beside the one that does everything else: HTTP until the pipe ends, then what is given."""
    with open_archive(settings) as parts:
        companion = None
        if crew is not None and place < settings.dimse.processes - 1:
            companion = _build_companion(settings, parts.archive, crew)
            companion.start()
        if place < settings.http.processes - 1:
            http = build_http(settings, parts, on_ready=lambda: None, on_stop=lambda: None, pipe=pipe)
            http.run(sockets=[listener])
        if companion is not None:
            listener.close()
            companion.finish(settings.dimse.grace_seconds)


def _build_companion(settings: Settings, archive: Archive, crew: Crew) -> Companion:
    commitment = CommitmentService(archive.commit)
    admission = AskingAdmission()
    dimse = build_dimse(settings, archive, commitment, admission=admission)
    return Companion(
        dimse, admission, crew.entrance, lambda question: commitment.report_at_once(*unpack_report(question))
    )


@contextmanager
def _crew(settings: Settings) -> Iterator[Crew | None]:
    """Give what connections are handed over by, if the settings have other processes serve associations."""
    if settings.dimse.processes == 1:
        yield None
        return
    with closing(Crew()) as crew:
        yield crew


def _report_by(crew: Crew | None) -> Callable[[str, Report], bool]:
    """Return what delivers a report over an association that another process serves, if one does."""
    return lambda peer, report: crew is not None and crew.ask(pack_report(peer, report))


@contextmanager
def _worklist_folder(settings: Settings, archive: Archive) -> Iterator[None]:
    """Take scheduled steps from the watched folder, if the settings name one."""
    if settings.worklist.folder is None:
        yield
        return
    with WatchedFolder(archive.worklist, settings.worklist.folder, build_entry_parser(settings)):
        yield
