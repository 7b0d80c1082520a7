"""What the edges are given: the use cases, and nothing they are made of."""

from dataclasses import dataclass

from pacs.changes import ChangeFeed
from pacs.commitment import Committer
from pacs.correction import Corrector
from pacs.ingest.coercion import OutboundCoercion
from pacs.ingest.pipeline import Ingestor
from pacs.ingest.withholding import Withholder
from pacs.reading import Reading
from pacs.routing.keeper import QueueKeeper
from pacs.workitems import UnifiedWorklist
from pacs.worklist import PerformedSteps, Worklist


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive(Reading):
    """The services of one archive: one partition, one store."""

    ingest: Ingestor
    correct: Corrector
    coercion: OutboundCoercion
    withhold: Withholder
    commit: Committer
    worklist: Worklist
    performed_steps: PerformedSteps
    workitems: UnifiedWorklist
    queue: QueueKeeper
    changes: ChangeFeed
