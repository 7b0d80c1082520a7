"""Which permission each address needs, as one table; what has no row in it is the viewer's, and is only looked at.

Without the permission to see an address it is not there: the answer is that of an address where nothing is, whatever is
there. Whoever sees it, but may not do what he asks, is told so. What a single use case needs besides, it checks itself.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pacs.access import Permission

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one needs to ``see`` an address, and to ``change`` something there; None is nothing.

    ``is_public``: whoever is not logged in is there, too. ``is_unasked``: nor is asked who it is. ``is_page``: a person
    looks at it, who is shown the login if need be.
    """

    see: Permission | None = None
    change: Permission | None = None
    is_public: bool = False
    is_unasked: bool = False
    is_page: bool = False

    def needed(self, method: str) -> Permission | None:
        """Return what a method needs besides seeing the address."""
        return None if method in READING_METHODS else self.change


_ALIVE = Rule(is_public=True, is_unasked=True)
_ENTRANCE = Rule(is_public=True)
_READ_AND_WRITE = Rule(Permission.READ, Permission.WRITE)
_READ_AND_CORRECT = Rule(Permission.READ, Permission.CORRECT)
_READ_AND_OPERATE = Rule(Permission.READ, Permission.OPERATE)

VIEWER = Rule(Permission.READ, is_page=True)
"""For what has no row: the viewer answers there, which changes nothing."""

VIEWER_FILE = Rule(is_public=True, is_unasked=True)
"""For the viewer's files, which are those that its publisher gives to everybody: those who study releases load them,
too, and a browser asks for some of them without saying who it is."""

_PAGES = frozenset({"", ".html"})


class Rules:
    """The table of an application whose DICOMweb service is at ``root``, an absolute path or nothing."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._rows = {
            "healthz": _ALIVE,
            "readyz": _ALIVE,
            "style": _ALIVE,
            "login": _ENTRANCE,
            "logout": _ENTRANCE,
            "docs": Rule(is_page=True),
            "openapi.json": Rule(),
            "research": Rule(Permission.RESEARCH, Permission.RESEARCH, is_page=True),
            "wado": _READ_AND_WRITE,
            "worklist": _READ_AND_WRITE,
            "corrections": _READ_AND_CORRECT,
            "conflicts": _READ_AND_CORRECT,
            "withheld": _READ_AND_CORRECT,
            "queue": _READ_AND_OPERATE,
            "changes": _READ_AND_OPERATE,
        }

    def find(self, path: str) -> Rule:
        """Return the rule of an address."""
        is_page = path == "/app-config.js" or PurePosixPath(path).suffix in _PAGES
        return self.find_row(path) or (VIEWER if is_page else VIEWER_FILE)

    def find_row(self, path: str) -> Rule | None:
        """Return the row of an address, None if it has none."""
        row = self._rows.get(path[1:].partition("/")[0])
        if row is None and (path == self._root or path.startswith(f"{self._root}/")):
            return _READ_AND_WRITE
        return row
