"""The research database: projects, cohorts, releases, and what is taken from them."""

from dataclasses import dataclass

from pacs.research.catalogue import Catalogue
from pacs.research.cohorts import Cohorts
from pacs.research.counting import Counting
from pacs.research.exclusions import Exclusions
from pacs.research.exports.service import Exports
from pacs.research.projects import Projects
from pacs.research.reads import Reads
from pacs.research.reidentification import Reidentification
from pacs.research.releases import Releases


@dataclass(frozen=True, slots=True)
class Research:
    """The services of research, as ``Archive`` has those of one archive. Each takes a Principal first."""

    projects: Projects
    exclusions: Exclusions
    reidentification: Reidentification
    cohorts: Cohorts
    counting: Counting
    catalogue: Catalogue
    releases: Releases
    reads: Reads
    exports: Exports
