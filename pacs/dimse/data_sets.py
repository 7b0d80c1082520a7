"""Data sets of requests to the DICOM JSON model, by the parser that every stored object goes through."""

from io import BytesIO

from pydicom.uid import UID

from pacs.imaging import syntaxes
from pacs.imaging.inflation import MemorySink, inflate
from pacs.ingest.charsets import python_names
from pacs.ingest.dataset import DatasetParser
from pacs.ingest.limits import Limits
from pacs.ingest.window import Window
from pacs.model import Attributes

_LIMITS = Limits(depth=16, elements=50_000, inline_values=100_000, values=200_000, header_bytes=16 * 1024 * 1024)
_INFLATED_BYTES = 16 * 1024 * 1024


def parse_data_set(encoded: BytesIO | None, transfer_syntax_uid: str, character_set: str) -> Attributes:
    """Return what a message carries; nothing carries no attributes.

    ``character_set`` is tried for text that nothing declared explains. Raises InvalidHeader or one of its kinds.
    """
    source = MemorySink()
    source.write(encoded.getvalue() if encoded is not None else b"")
    size_bytes = len(encoded.getvalue()) if encoded is not None else 0
    if not size_bytes:
        return {}
    syntax = syntaxes.lookup(UID(transfer_syntax_uid))
    if syntax.is_deflated:
        inflated = MemorySink()
        size_bytes = inflate(source, 0, size_bytes, inflated, max_bytes=_INFLATED_BYTES)
        source = inflated
    window = Window(source, size_bytes, _LIMITS.header_bytes)
    parser = DatasetParser(window, _LIMITS, python_names((character_set,)), is_little_endian=syntax.is_little_endian)
    return parser.parse(0, is_implicit_vr=syntax.is_implicit_vr).attributes
