"""Building the research database over the one index: its projects, and what they are made of."""

from pacs.config import Settings
from pacs.database.base import Database
from pacs.research import Research
from pacs.research.catalogue import Catalogue
from pacs.research.cohorts import Cohorts
from pacs.research.counting import Counting
from pacs.research.exclusions import Exclusions
from pacs.research.keyring import Keyring
from pacs.research.master_key import MasterKeyFile
from pacs.research.projects import Projects
from pacs.research.reidentification import Reidentification


def build_research(settings: Settings, database: Database) -> Research:
    """Return the services of research."""
    keys = Keyring(MasterKeyFile(settings.master_key_file))
    exclusions = Exclusions(database, keys)
    return Research(
        projects=Projects(database, keys, settings.research.k),
        exclusions=exclusions,
        reidentification=Reidentification(database),
        cohorts=Cohorts(database, exclusions),
        counting=Counting(database, keys, exclusions),
        catalogue=Catalogue(database),
    )
