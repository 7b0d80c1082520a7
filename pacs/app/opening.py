"""Building an archive from settings: the store, the index, and the use cases over them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from pacs.app.reading import build_reading
from pacs.app.research import open_research
from pacs.app.stores import Stores, make_folder, open_stores
from pacs.archive import Archive
from pacs.audit.log import AuditLog
from pacs.changes import ChangeFeed
from pacs.commitment import Committer
from pacs.config import Settings
from pacs.correction import Corrector
from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.dimse.answers import is_character_set
from pacs.errors import InvalidSetting, PacsError, Unavailable
from pacs.identity import Identity, build_identity
from pacs.imaging.inflation import MemorySink
from pacs.imaging.sandbox import Sandbox
from pacs.index.restored import adopt_logs
from pacs.ingest.charsets import python_names
from pacs.ingest.coercion import CoercionRule, OutboundCoercion, build_rules
from pacs.ingest.header import parse_header
from pacs.ingest.limits import Limits
from pacs.ingest.pipeline import Ingestor
from pacs.ingest.stored import CopyReader
from pacs.ingest.withholding import Withholder
from pacs.jobs import queue
from pacs.jobs.queue import NewJob
from pacs.maintenance.conflicts import Comparer
from pacs.maintenance.recompression import Recompressor
from pacs.maintenance.verification import find_problem
from pacs.model import CLINICAL_PARTITION, Attributes, Door, DuplicatePolicy, Location, Origin
from pacs.research import Research
from pacs.research.releases.building import Builder
from pacs.retrieve.cache import FolderFrameCache
from pacs.routing import forward
from pacs.routing.keeper import QueueKeeper
from pacs.workitems import UnifiedWorklist
from pacs.worklist import PerformedSteps, Worklist
from storage.base import BlobStore
from storage.errors import BlobNotFound, StorageError
from storage.journaled import Journal
from storage.keys import blob_key
from storage.spool import sweep_spools

_ABSENT_KEY = blob_key("0" * 64)


@dataclass(frozen=True, slots=True)
class Parts:
    """What an archive is made of, for the commands that look behind the use cases.

    ``durable`` is the store without what is kept of it for speed: whoever checks what is stored reads from there.
    """

    archive: Archive
    database: Database
    store: BlobStore
    durable: BlobStore
    comparer: Comparer
    recompress: Recompressor
    audit: AuditLog
    identity: Identity
    research: Research
    build_releases: Builder
    journal: Journal | None = None


@contextmanager
def open_archive(settings: Settings) -> Iterator[Parts]:
    """Open the store and the index that the settings name, bring the schema up to date, and build the archive.

    Raises InvalidSetting for a URL or a character set that makes no sense and Unavailable for a server that does not
    answer.
    """
    _check_character_sets(settings)
    coercion = build_rules(settings.coercion)
    make_folder(settings.data_dir)
    with (
        open_stores(settings) as stores,
        closing(_open_database(settings)) as database,
        closing(Sandbox()) as sandbox,
    ):
        store, spool_directory = stores.store, stores.spool_directory
        sweep_spools(spool_directory)
        database.migrate()
        adopt_logs(database, CLINICAL_PARTITION)
        archive = _build_archive(settings, database, stores, sandbox, coercion=coercion)
        recompressor = Recompressor(
            database,
            store,
            CLINICAL_PARTITION,
            sandbox,
            spool_directory,
            character_set=settings.ingest.character_set,
            keep_original=timedelta(days=settings.imaging.keep_original_days),
        )
        comparer = Comparer(store, sandbox, spool_directory)
        with open_research(settings, database, archive.retrieve, sandbox) as built:
            yield Parts(
                archive,
                database,
                store,
                stores.durable,
                comparer,
                recompressor,
                AuditLog(database, settings.data_dir / "audit-head"),
                build_identity(database),
                built.research,
                built.builder,
                stores.journal,
            )


def build_origin(settings: Settings, door: Door) -> Origin:
    """Return the origin of objects that come in by a door without peers of its own.

    Whoever imports administrates the archive, and may reject what is in it; whoever uses STOW need not.
    """
    return Origin(
        door,
        issuer_of_patient_id=settings.ingest.issuer_of_patient_id,
        character_set=settings.ingest.character_set,
        duplicate_policy=DuplicatePolicy(settings.ingest.duplicate_policy),
        may_reject=door is Door.IMPORT,
    )


def build_entry_parser(settings: Settings) -> Callable[[bytes], Attributes]:
    """Return what reads a ``.wl`` file; its function raises InvalidHeader or one of its kinds."""
    limits = Limits(depth=16, elements=50_000, inline_values=100_000, values=200_000, inflated_bytes=16 * 1024 * 1024)

    def parse(content: bytes) -> Attributes:
        source = MemorySink()
        source.write(content)
        return parse_header(source, len(content), (settings.ingest.character_set,), limits).attributes

    return parse


def check_health(parts: Parts) -> dict[str, bool | int]:
    """Return whether index and store answer, by name, and how many objects wait for the store if they may."""
    health: dict[str, bool | int] = {"index": _index_answers(parts.database), "store": _store_answers(parts.store)}
    if parts.journal is not None:
        health["waiting for store"] = parts.journal.count()
    return health


def _build_archive(
    settings: Settings,
    database: Database,
    stores: Stores,
    sandbox: Sandbox,
    *,
    coercion: Sequence[CoercionRule],
) -> Archive:
    store, spool_directory = stores.store, stores.spool_directory
    character_set = settings.ingest.character_set
    copies = CopyReader(store, CLINICAL_PARTITION, spool_directory, character_set, coercion)
    reading = build_reading(
        database,
        store,
        CLINICAL_PARTITION,
        spool_directory,
        sandbox,
        parse=lambda source: parse_header(source, source.size_bytes, (character_set,)),
        cache=FolderFrameCache(settings.data_dir / "cache", settings.imaging.cache_bytes),
        read_ahead=stores.read_ahead,
    )
    return Archive(
        search=reading.search,
        retrieve=reading.retrieve,
        render=reading.render,
        thumbnails=reading.thumbnails,
        series_metadata=reading.series_metadata,
        ingest=Ingestor(
            database,
            store,
            CLINICAL_PARTITION,
            spool_directory,
            character_set=character_set,
            coercion=coercion,
            takes_files=stores.takes_files,
        ),
        coercion=OutboundCoercion(coercion),
        correct=Corrector(database, CLINICAL_PARTITION, copies.prepare),
        withhold=Withholder(database, CLINICAL_PARTITION, copies),
        commit=Committer(
            database,
            CLINICAL_PARTITION,
            lambda location: _is_sound(stores.durable, location),
            wait_seconds=settings.commitment.wait_seconds,
            resend=_resend,
        ),
        worklist=Worklist(database, CLINICAL_PARTITION, lists_in_progress=settings.worklist.lists_in_progress),
        performed_steps=PerformedSteps(
            database,
            CLINICAL_PARTITION,
            forward_to=[peer.ae_title for peer in settings.dimse.peers if peer.forward_mpps],
        ),
        workitems=UnifiedWorklist(database, CLINICAL_PARTITION),
        queue=QueueKeeper(database),
        changes=ChangeFeed(database, CLINICAL_PARTITION),
    )


def _open_database(settings: Settings) -> Database:
    try:
        return open_database(settings.database_url)
    except ValueError as error:
        raise InvalidSetting(f"The setting database.url (PACS_DATABASE__URL) is wrong: {error}") from None


def _is_sound(store: BlobStore, location: Location) -> bool:
    """Read stored bytes again and compare them with their digest; raise Unavailable if the store does not answer."""
    try:
        return not find_problem(store, location)
    except StorageError as error:
        raise Unavailable from error


def _resend(connection: Connection, ae_title: str, sop_instance_uids: Sequence[str]) -> None:
    """List instances to be sent to a peer once more, which has not committed to them."""
    queue.enqueue(connection, [NewJob(forward.KIND, ae_title, uid) for uid in sop_instance_uids], datetime.now(UTC))


def _check_character_sets(settings: Settings) -> None:
    """Raise InvalidSetting for a character set that nobody knows: text would be misread, and nothing would say so."""
    names = {"ingest.character_set (PACS_INGEST__CHARACTER_SET)": settings.ingest.character_set}
    for index, peer in enumerate(settings.dimse.peers):
        names[f"dimse.peers.{index}.character_set"] = peer.character_set or settings.ingest.character_set
    for setting, name in names.items():
        if not python_names((name,)):
            raise InvalidSetting(
                f"The setting {setting} is wrong: it must be a defined term of PS3.3 C.12.1.1.2 or Windows-1256."
            )
    for index, peer in enumerate(settings.dimse.peers):
        if peer.answer_character_set and not is_character_set(peer.answer_character_set.split("\\")):
            raise InvalidSetting(
                f"The setting dimse.peers.{index}.answer_character_set is wrong: it must be defined terms of "
                "PS3.3 C.12.1.1.2, a backslash between them."
            )


def _index_answers(database: Database) -> bool:
    try:
        with database.read() as connection:
            connection.execute(text("SELECT 1 FROM study WHERE 1 = 0"))
    except PacsError:
        return False
    return True


def _store_answers(store: BlobStore) -> bool:
    try:
        store.stat(_ABSENT_KEY)
    except BlobNotFound:
        return True
    except StorageError:
        return False
    return True
