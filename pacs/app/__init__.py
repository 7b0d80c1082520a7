"""The roof: the one place that chooses implementations, builds the Archive, and starts and stops what serves it."""

from pacs.app.opening import Parts, build_entry_parser, build_origin, check_health, open_archive
from pacs.app.peers import build_caller, build_destinations, build_peers
from pacs.app.services import build_services
from pacs.app.serving import serve

__all__ = [
    "Parts",
    "build_caller",
    "build_destinations",
    "build_entry_parser",
    "build_origin",
    "build_peers",
    "build_services",
    "check_health",
    "open_archive",
    "serve",
]
