"""The object store as the settings want it: where objects lie for good, and what makes it quick."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pacs.config import Settings
from pacs.errors import InvalidSetting, Unavailable
from storage.ahead import ReadAhead
from storage.base import BlobStore
from storage.cached import CachedStore
from storage.errors import StorageError
from storage.filesystem import FilesystemStore
from storage.journaled import Journal, JournaledStore, Uploader
from storage.opener import open_store
from storage.pieced import PiecedStore
from storage.s3 import S3Store


@dataclass(frozen=True, slots=True)
class Stores:
    """One archive's store, as seen by those who use it.

    ``durable`` is without what is kept of it for speed: whoever checks what is stored reads from there. ``read_ahead``
    is there for a store that answers after a while; ``journal`` if objects may wait for the store. ``takes_files``
    says that what is spooled in a file is stored by giving that file another name.
    """

    store: BlobStore
    durable: BlobStore
    spool_directory: Path
    read_ahead: ReadAhead | None = None
    journal: Journal | None = None
    takes_files: bool = False


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Open what the settings name; raise InvalidSetting or Unavailable."""
    durable = _open_store(settings)
    if isinstance(durable, S3Store):
        with _open_distant(settings, durable) as stores:
            yield stores
        return
    if settings.storage.acknowledge == "journal":
        raise InvalidSetting("The setting storage.acknowledge (PACS_STORAGE__ACKNOWLEDGE) is wrong: only S3 has one.")
    # Spooled inside a folder store, a large object is renamed into place and never copied.
    own = durable.spool_directory if isinstance(durable, FilesystemStore) else None
    yield Stores(durable, durable, own or make_folder(settings.data_dir / "incoming"), takes_files=own is not None)


@contextmanager
def open_research_stores(settings: Settings) -> Iterator[Stores]:
    """Open the store of releases, which has an address and credentials of its own; raise InvalidSetting or Unavailable.

    Nothing of it is kept on this machine but what is under way.
    """
    research = settings.research
    durable = _open_url(
        "research.storage_url (PACS_RESEARCH__STORAGE_URL)",
        settings.research_storage_url,
        research.access_key,
        research.secret_key.get_secret_value(),
    )
    if isinstance(durable, FilesystemStore):
        yield Stores(durable, durable, durable.spool_directory, takes_files=True)
        return
    incoming = make_folder(settings.data_dir / "research-incoming")
    if not isinstance(durable, S3Store):
        yield Stores(durable, durable, incoming)
        return
    with closing(PiecedStore(durable)) as store:
        yield Stores(store, durable, incoming)


@contextmanager
def _open_distant(settings: Settings, distant: S3Store) -> Iterator[Stores]:
    """Put before a distant store what makes it quick: a cache, reading ahead, and a journal if that is wanted."""
    capacity_bytes = settings.storage.cache_bytes
    with ExitStack() as stack:
        pieced = stack.enter_context(closing(PiecedStore(distant)))
        cached = CachedStore(pieced, settings.data_dir / "blob-cache", capacity_bytes) if capacity_bytes else None
        store: BlobStore = cached or pieced
        journal = _open_journal(settings)
        if journal is None:
            read_ahead = stack.enter_context(closing(ReadAhead(store, cached.has if cached else lambda _: False)))
            yield Stores(store, distant, make_folder(settings.data_dir / "incoming"), read_ahead)
            return
        stack.enter_context(closing(Uploader(journal, store)))
        writes_behind = settings.storage.acknowledge == "journal"
        whole = JournaledStore(journal, store, writes_behind=writes_behind)
        durable = JournaledStore(journal, distant, writes_behind=writes_behind)
        read_ahead = stack.enter_context(
            closing(ReadAhead(whole, lambda key: journal.has(key) or (cached is not None and cached.has(key))))
        )
        yield Stores(whole, durable, journal.blobs.spool_directory, read_ahead, journal, writes_behind)


def _open_journal(settings: Settings) -> Journal | None:
    """Return the journal; one that is not wanted any more only as long as it may hold what never arrived."""
    folder = settings.data_dir / "journal"
    if settings.storage.acknowledge == "put" and not folder.exists():
        return None
    try:
        return Journal(folder)
    except StorageError as error:
        raise Unavailable(f"The journal of the object store cannot be opened: {error}") from None


def make_folder(folder: Path) -> Path:
    """Return the folder, made if it was missing; raise InvalidSetting if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(
            f"The setting data_dir (PACS_DATA_DIR) is wrong: {folder} cannot be made: {error.strerror}."
        ) from None
    return folder


def _open_store(settings: Settings) -> BlobStore:
    storage = settings.storage
    name = "storage.url (PACS_STORAGE__URL)"
    return _open_url(name, settings.storage_url, storage.access_key, storage.secret_key.get_secret_value())


def _open_url(setting: str, url: str, access_key: str, secret_key: str) -> BlobStore:
    try:
        return open_store(url, access_key=access_key, secret_key=secret_key)
    except ValueError as error:
        raise InvalidSetting(f"The setting {setting} is wrong: {error}") from None
    except StorageError as error:
        raise Unavailable(f"The object store does not answer: {error}") from None
