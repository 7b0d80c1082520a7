"""What the DICOM port answers, and what is delivered to others meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from pacs.app.opening import Parts
from pacs.app.peers import build_caller, build_credentials, build_destinations, build_peers, build_webhooks
from pacs.archive import Archive
from pacs.commitment import REPORT, REQUEST
from pacs.config import Settings
from pacs.database.base import Database
from pacs.dimse.admission import Admission
from pacs.dimse.commitment import CommitmentCaller, CommitmentService
from pacs.dimse.find import FindService
from pacs.dimse.handover import Crew
from pacs.dimse.mpps import PerformedStepService
from pacs.dimse.mpps_forwarding import PerformedStepCaller
from pacs.dimse.notification import NotificationCaller
from pacs.dimse.peers import Peers
from pacs.dimse.retrieve import GetService, MoveService
from pacs.dimse.server import DimseServer, create_server
from pacs.dimse.service import Service
from pacs.dimse.tls import build_server_context
from pacs.dimse.worklist import WorklistService
from pacs.jobs.turn import Patience
from pacs.jobs.worker import TaskFunction, Worker
from pacs.maintenance import recompression
from pacs.model import CLINICAL_PARTITION
from pacs.research import catalogue
from pacs.research.releases import building
from pacs.retrieve import series_metadata, thumbnails
from pacs.routing import availability, forward, rules, webhooks
from pacs.routing.availability import Announcer
from pacs.routing.following import Follower, Plan
from pacs.routing.forward import Forwarder
from pacs.routing.webhooks import Notifier
from pacs.workitems import reports
from pacs.workitems.reports import ReportCompleter
from pacs.worklist.performed import FORWARD_JOB


def build_services(
    settings: Settings, archive: Archive, peers: Peers, commitment: CommitmentService
) -> tuple[Service, ...]:
    """Return every DIMSE service besides C-ECHO and C-STORE."""
    return (
        FindService(archive.search, settings.dimse.ae_title),
        MoveService(archive, peers, build_caller(settings)),
        GetService(archive),
        WorklistService(archive.worklist),
        PerformedStepService(archive.performed_steps),
        commitment,
    )


def build_dimse(
    settings: Settings,
    archive: Archive,
    commitment: CommitmentService,
    *,
    crew: Crew | None = None,
    admission: Admission | None = None,
) -> DimseServer:
    """Return the DICOM port of the settings, not listening yet; ``crew`` and ``admission`` as in ``create_server``."""
    peers = build_peers(settings)
    tls_port = settings.dimse.tls.port
    return create_server(
        archive,
        host=settings.dimse.host,
        port=settings.dimse.port,
        ae_title=settings.dimse.ae_title,
        max_pdu_bytes=settings.dimse.max_pdu_bytes,
        max_associations=settings.dimse.max_associations,
        peers=peers,
        tls=None if tls_port is None else (tls_port, build_server_context(build_credentials(settings))),
        services=build_services(settings, archive, peers, commitment),
        crew=crew,
        admission=admission,
    )


@contextmanager
def delivering(settings: Settings, parts: Parts, commitment: CommitmentService) -> Iterator[None]:
    """Do what the queue lists, and list what is to be forwarded and announced of what is stored meanwhile."""
    destinations = build_destinations(settings, parts.archive)
    routing = rules.build_rules(settings.routing, destinations)
    forwarder = Forwarder(parts.database, CLINICAL_PARTITION, routing, destinations)
    announcer = _build_announcer(settings, parts.database)
    notifier = Notifier(parts.database, CLINICAL_PARTITION, build_webhooks(settings))
    pictures = parts.archive.thumbnails
    completer = _build_completer(settings, parts)
    tasks: dict[str, TaskFunction] = {
        forward.KIND: forwarder.send,
        webhooks.KIND: notifier.tell,
        thumbnails.KIND: pictures.make,
        series_metadata.KIND: parts.archive.series_metadata.make,
        reports.KIND: completer.complete,
        building.KIND: parts.build_releases.work,
        catalogue.KIND: parts.research.catalogue.work,
        catalogue.KIND_MISSING: parts.research.catalogue.work_on_missing,
        **_build_peer_tasks(settings, parts.archive, commitment, announcer),
    }
    plans: dict[str, Plan] = {forward.FOLLOWER: forwarder.plan, availability.FOLLOWER: announcer.plan}
    plans[series_metadata.FOLLOWER] = parts.archive.series_metadata.plan
    plans |= notifier.plans()
    plans[catalogue.FOLLOWER] = parts.research.catalogue.plan
    if settings.imaging.thumbnails:
        plans[thumbnails.FOLLOWER] = pictures.plan
    if settings.imaging.recompress != "none":
        plans[recompression.FOLLOWER] = parts.recompress.plan
        tasks[recompression.KIND] = parts.recompress.work
    if settings.workitems.reports_complete:
        plans[reports.FOLLOWER] = completer.plan
    parts.research.catalogue.begin()
    patience = Patience(timedelta(days=settings.routing.give_up_days))
    with (
        Worker(parts.database, tasks, patience, grace_seconds=settings.dimse.grace_seconds) as worker,
        ExitStack() as followers,
    ):
        for name, plan in plans.items():
            followers.enter_context(Follower(parts.database, CLINICAL_PARTITION, name, plan, worker.wake))
        yield


def _build_completer(settings: Settings, parts: Parts) -> ReportCompleter:
    worklist, ae_title = parts.archive.workitems, settings.dimse.ae_title
    return ReportCompleter(parts.database, worklist, CLINICAL_PARTITION, ae_title)


def _build_announcer(settings: Settings, database: Database) -> Announcer:
    titles = [peer.ae_title for peer in settings.dimse.peers if peer.notify_availability]
    return Announcer(database, CLINICAL_PARTITION, titles, quiet_seconds=settings.routing.quiet_seconds)


def _build_peer_tasks(
    settings: Settings, archive: Archive, commitment: CommitmentService, announcer: Announcer
) -> dict[str, TaskFunction]:
    """Return what is done for peers besides sending them instances: commitment, both ways, and notices."""
    peers, caller = build_peers(settings), build_caller(settings)
    commitments = CommitmentCaller(caller, peers, commitment, archive.commit)
    notifications = NotificationCaller(caller, peers)
    performed = PerformedStepCaller(caller, peers)
    return {
        REPORT: lambda jobs: archive.commit.report(jobs, commitments.report),
        REQUEST: lambda jobs: archive.commit.ask(jobs, commitments.ask),
        availability.KIND: lambda jobs: announcer.announce(jobs, notifications.notify),
        FORWARD_JOB: lambda jobs: archive.performed_steps.forward(jobs, performed.tell),
    }
