"""The roof: the one module that chooses implementations, builds the Archive, and starts and stops what serves it."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import text

from dicomweb.app import create_app
from dicomweb.connection import GuardedProtocol
from dicomweb.viewer import create_viewer
from pacs.archive import Archive
from pacs.config import PeerSettings, Settings
from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import DimseServer, create_server
from pacs.errors import InvalidSetting, PacsError, Unavailable
from pacs.imaging.sandbox import Sandbox
from pacs.ingest.charsets import python_names
from pacs.ingest.pipeline import Ingestor
from pacs.maintenance.conflicts import Comparer, ConflictResolver
from pacs.model import CLINICAL_PARTITION, Door, DuplicatePolicy, Origin
from pacs.retrieve import Retriever
from pacs.search import Searcher
from storage.base import BlobStore
from storage.errors import BlobNotFound, StorageError
from storage.filesystem import FilesystemStore
from storage.keys import blob_key
from storage.opener import open_store
from storage.spool import sweep_spools

_ABSENT_KEY = blob_key("0" * 64)
_MAX_HTTP_CONNECTIONS = 512
"""Beyond them requests are answered 503: a process that has no file left to open could not store anything either."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an archive is made of, for the commands that look behind the use cases."""

    archive: Archive
    database: Database
    store: BlobStore
    comparer: Comparer


@contextmanager
def open_archive(settings: Settings) -> Iterator[Parts]:
    """Open the store and the index that the settings name, bring the schema up to date, and build the archive.

    Raises InvalidSetting for a URL or a character set that makes no sense and Unavailable for a server that does not
    answer.
    """
    _check_character_sets(settings)
    _make_folder(settings.data_dir)
    try:
        store = open_store(
            settings.storage_url,
            access_key=settings.storage.access_key,
            secret_key=settings.storage.secret_key.get_secret_value(),
        )
    except ValueError as error:
        raise InvalidSetting(f"The setting storage.url (PACS_STORAGE__URL) is wrong: {error}") from None
    except StorageError as error:
        raise Unavailable(f"The object store does not answer: {error}") from None
    try:
        database = open_database(settings.database_url)
    except ValueError as error:
        raise InvalidSetting(f"The setting database.url (PACS_DATABASE__URL) is wrong: {error}") from None
    spool_directory = _spool_directory(settings, store)
    sweep_spools(spool_directory)
    with closing(database), closing(Sandbox()) as sandbox:
        database.migrate()
        archive = Archive(
            ingest=Ingestor(
                database, store, CLINICAL_PARTITION, spool_directory, character_set=settings.ingest.character_set
            ),
            search=Searcher(database, CLINICAL_PARTITION),
            retrieve=Retriever(database, store, CLINICAL_PARTITION, spool_directory, sandbox),
        )
        yield Parts(archive, database, store, Comparer(store, sandbox, spool_directory))


def build_origin(settings: Settings, door: Door) -> Origin:
    """Return the origin of objects that come in by a door without peers of its own."""
    return Origin(
        door,
        issuer_of_patient_id=settings.ingest.issuer_of_patient_id,
        character_set=settings.ingest.character_set,
        duplicate_policy=DuplicatePolicy(settings.ingest.duplicate_policy),
    )


def check_health(parts: Parts) -> dict[str, bool]:
    """Return whether index and store answer, by name."""
    return {"index": _index_answers(parts.database), "store": _store_answers(parts.store)}


def serve(settings: Settings, parts: Parts, on_ready: Callable[[int, int], None]) -> None:
    """Serve DICOM and HTTP until SIGINT or SIGTERM; ``on_ready`` is told the DICOM and the HTTP port once both listen.

    At a stop, requests and associations that are open finish what they are doing within ``dimse.grace_seconds``.
    """
    dimse = _build_dimse(settings, parts.archive)
    app = create_app(
        parts.archive,
        is_ready=lambda: check_health(parts),
        viewer=create_viewer(settings.viewer_dir),
        cors_origins=settings.http.cors_origins,
        origin=build_origin(settings, Door.STOW),
        public_url=settings.http.public_url,
    )
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        limit_concurrency=_MAX_HTTP_CONNECTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(settings.dimse.grace_seconds)),
    )
    with closing(_listen(settings)) as listener:
        try:
            dimse.start()
        except OSError as error:
            raise _port_problem("dimse", settings.dimse.host, settings.dimse.port, error) from None
        try:
            with ConflictResolver(parts.database, parts.comparer, CLINICAL_PARTITION):
                server = _HttpServer(config, lambda: on_ready(dimse.port, listener.getsockname()[1]))
                server.run(sockets=[listener])
        finally:
            dimse.stop(settings.dimse.grace_seconds)


class _HttpServer(uvicorn.Server):
    """uvicorn's server, with a word when it listens, and a stop that lets the rest of the process stop too."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # After its own stop uvicorn raises the signal once more, at whoever handled it before: that must not end the
        # process before the associations have.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        super().run(sockets)


def _build_dimse(settings: Settings, archive: Archive) -> DimseServer:
    return create_server(
        archive,
        host=settings.dimse.host,
        port=settings.dimse.port,
        ae_title=settings.dimse.ae_title,
        max_pdu_bytes=settings.dimse.max_pdu_bytes,
        max_associations=settings.dimse.max_associations,
        peers=Peers(tuple(_build_peer(peer, settings) for peer in settings.dimse.peers), _build_peer(None, settings)),
    )


def _build_peer(peer: PeerSettings | None, settings: Settings) -> Peer:
    """Return a peer with what its own settings leave open taken from the archive's; None is any other sender."""
    ingest, dimse = settings.ingest, settings.dimse
    own = peer.model_dump(exclude_none=True) if peer else {"ae_title": ""}
    defaults: dict[str, Any] = {
        "issuer_of_patient_id": ingest.issuer_of_patient_id,
        "character_set": ingest.character_set,
        "duplicate_policy": ingest.duplicate_policy,
        "max_pdu_bytes": dimse.max_pdu_bytes,
    }
    values = defaults | own
    return Peer(**(values | {"duplicate_policy": DuplicatePolicy(values["duplicate_policy"])}))


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


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.http.host, settings.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _port_problem("http", host, port, error) from None


def _port_problem(section: str, host: str, port: int, error: OSError) -> InvalidSetting:
    return InvalidSetting(
        f"The setting {section}.host or {section}.port (PACS_{section.upper()}__PORT) is wrong: "
        f"cannot listen on {host} port {port}: {error.strerror}."
    )


def _spool_directory(settings: Settings, store: BlobStore) -> Path:
    """Spool inside a folder store, so that a large object is renamed into place and never copied."""
    if isinstance(store, FilesystemStore):
        return store.spool_directory
    return _make_folder(settings.data_dir / "incoming")


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(
            f"The setting data_dir (PACS_DATA_DIR) is wrong: {folder} cannot be made: {error.strerror}."
        ) from None
    return folder


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
