"""Building the research database over the one index: its projects, and what they are made of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pacs.app.deidentification import frame_decoder
from pacs.app.lettering import open_lettering
from pacs.app.releases import PartitionOpener
from pacs.app.stores import open_research_stores
from pacs.config import Settings
from pacs.database.base import Database
from pacs.deid import Lettering
from pacs.errors import InvalidSetting, PacsError
from pacs.imaging.sandbox import Sandbox
from pacs.research import Research
from pacs.research.catalogue import Catalogue
from pacs.research.cohorts import Cohorts
from pacs.research.counting import Counting
from pacs.research.exclusions import Exclusions
from pacs.research.exports.service import Exports
from pacs.research.keyring import Keyring
from pacs.research.master_key import MasterKeyFile
from pacs.research.projects import Projects
from pacs.research.reads import Reads
from pacs.research.reidentification import Reidentification
from pacs.research.releases import Releases
from pacs.research.releases.building import Builder
from pacs.research.releases.objections import Objections
from pacs.research.releases.objects import ObjectMaker
from pacs.retrieve import Retriever
from pacs.retrieve.cache import FolderFrameCache
from storage.spool import sweep_spools


@dataclass(frozen=True, slots=True)
class ResearchParts:
    """The services of research, and what makes the releases that they promise."""

    research: Research
    builder: Builder


@contextmanager
def open_research(
    settings: Settings, database: Database, clinical: Retriever, sandbox: Sandbox
) -> Iterator[ResearchParts]:
    """Open the store of releases, and build the services of research over a database that ``clinical`` reads, too."""
    with open_research_stores(settings) as stores:
        sweep_spools(stores.spool_directory)
        cache = FolderFrameCache(settings.data_dir / "cache", settings.imaging.cache_bytes)
        opener = PartitionOpener(database, stores, sandbox, cache)
        maker = ObjectMaker(database, clinical, frame_decoder(sandbox), _lettering(settings))
        yield _build(settings, database, maker, opener, stores.spool_directory)


def _lettering(settings: Settings) -> Lettering | None:
    if not settings.research.reads_text:
        return None
    try:
        return open_lettering()
    except PacsError as error:
        raise InvalidSetting(f"The setting research.reads_text (PACS_RESEARCH__READS_TEXT) is wrong: {error}") from None


def _build(
    settings: Settings, database: Database, maker: ObjectMaker, opener: PartitionOpener, scratch: Path
) -> ResearchParts:
    keys = Keyring(MasterKeyFile(settings.master_key_file))
    # Whoever objects ends releases, and those have to know who has objected.
    exclusions = Exclusions(database, keys, lambda *objection: objections.end(*objection))  # noqa: PLW0108
    objections = Objections(database, keys, exclusions.find_excluded)
    releases = Releases(database, keys, objections, opener)
    cohorts, catalogue = Cohorts(database, exclusions), Catalogue(database)
    research = Research(
        projects=Projects(database, keys, settings.research.k, releases.end_with_key),
        exclusions=exclusions,
        reidentification=Reidentification(database),
        cohorts=cohorts,
        counting=Counting(database, keys, exclusions, settings.research.questions_per_day),
        catalogue=catalogue,
        releases=releases,
        reads=Reads(database),
        exports=Exports(database, releases, settings.data_dir / "research-exports", scratch),
    )
    builder = Builder(
        database,
        keys,
        objections,
        maker,
        open_partition=opener,
        read_candidates=cohorts.read_candidates,
        bring_up_to_date=catalogue.iter_missing,
    )
    return ResearchParts(research, builder)
