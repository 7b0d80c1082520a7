"""The manifest of a release: an object a line of JSON, with the digest that tells whether it came whole."""

from collections.abc import Iterable
from dataclasses import asdict

import orjson

from pacs.research.releases.contents import Line
from storage.spool import Spool

MEDIA_TYPE = "application/x-ndjson"


def write_lines(lines: Iterable[Line], spool: Spool) -> None:
    """Write the manifest of these objects; the same objects make the same bytes."""
    for line in lines:
        spool.write(orjson.dumps(asdict(line), option=orjson.OPT_APPEND_NEWLINE))
