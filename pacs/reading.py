"""What of an archive only reads: enough for search, retrieval and pictures, and no way to change anything."""

from dataclasses import dataclass

from pacs.retrieve import Renderer, Retriever, SeriesMetadata, Thumbnails
from pacs.search import Searcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The services that read one partition and one store. A release of a research project has no others."""

    search: Searcher
    retrieve: Retriever
    render: Renderer
    thumbnails: Thumbnails
    series_metadata: SeriesMetadata
