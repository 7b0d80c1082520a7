"""What the edges are given: the use cases, and nothing they are made of."""

from dataclasses import dataclass

from pacs.changes import ChangeFeed
from pacs.commitment import Committer
from pacs.correction import Corrector
from pacs.ingest.coercion import OutboundCoercion
from pacs.ingest.pipeline import Ingestor
from pacs.ingest.withholding import Withholder
from pacs.retrieve import Renderer, Retriever, SeriesMetadata, Thumbnails
from pacs.routing.keeper import QueueKeeper
from pacs.search import Searcher
from pacs.workitems import UnifiedWorklist
from pacs.worklist import PerformedSteps, Worklist


@dataclass(frozen=True, slots=True)
class Archive:
    """The services of one archive: one partition, one store."""

    ingest: Ingestor
    correct: Corrector
    coercion: OutboundCoercion
    withhold: Withholder
    commit: Committer
    search: Searcher
    retrieve: Retriever
    render: Renderer
    thumbnails: Thumbnails
    series_metadata: SeriesMetadata
    worklist: Worklist
    performed_steps: PerformedSteps
    workitems: UnifiedWorklist
    queue: QueueKeeper
    changes: ChangeFeed
