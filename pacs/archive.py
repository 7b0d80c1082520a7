"""What the edges are given: the use cases, and nothing they are made of."""

from dataclasses import dataclass

from pacs.ingest.pipeline import Ingestor
from pacs.retrieve import Retriever
from pacs.search import Searcher


@dataclass(frozen=True, slots=True)
class Archive:
    """The services of one archive: one partition, one store."""

    ingest: Ingestor
    search: Searcher
    retrieve: Retriever
