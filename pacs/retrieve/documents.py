"""Instances that are shown as one document: reports as a page or as text, encapsulated documents as they came."""

from collections.abc import Callable, Iterator
from functools import partial

from pacs.errors import BulkDataNotFound, NotAcceptable
from pacs.imaging.opened import OpenInstance, closer
from pacs.imaging.rendition import DOCUMENT_TYPES, list_rendered_types
from pacs.imaging.report import Reference, read_report
from pacs.imaging.report_page import HTML, PLAIN_TEXT, Link, write_html, write_text
from pacs.imaging.representation import Representation
from pacs.imaging.sources import Pieces
from pacs.model import BulkValue
from pacs.overlay import apply
from pacs.tags import tag_of, text_of

_DOCUMENT = tag_of("EncapsulatedDocument")


def no_link(_reference: Reference) -> str:
    """Return nothing: the references of a report are not made links."""
    return ""


def open_document(opened: OpenInstance, media_type: str, link: Link) -> Representation:
    """Return an instance as a document of this media type, or of its own default if that is empty.

    Names are those that leave the archive, coerced and corrected. Raises NotAcceptable for what is no document, or none
    of this type.
    """
    offered = list_rendered_types(text_of(opened.header.attributes, "SOPClassUID"))
    chosen = media_type or offered[0]
    if chosen not in offered or chosen not in DOCUMENT_TYPES:
        raise NotAcceptable(f"The instance is shown as {', '.join(offered)}, but as nothing that was asked for.")
    if chosen not in (HTML, PLAIN_TEXT):
        return _open_encapsulated(opened, chosen)
    report = read_report(apply(opened.header.attributes, opened.steps))
    content = (write_html(report, link) if chosen == HTML else write_text(report)).encode()
    return Representation("", chosen, len(content), lambda: iter((content,)))


def _open_encapsulated(opened: OpenInstance, media_type: str) -> Representation:
    """Return the document (0042,0011) without the byte that may pad it."""
    attributes = opened.header.attributes
    claimed = text_of(attributes, "MIMETypeOfEncapsulatedDocument").lower()
    if claimed and claimed != media_type:
        raise NotAcceptable("The encapsulated document is of another type than its SOP class says.")
    value = opened.find_bulk(_DOCUMENT)
    if value is None:
        content = opened.read_value(attributes.get(_DOCUMENT, {}))
        if not content:
            raise BulkDataNotFound
        content = content[: _unpadded(opened, len(content), content[-1:])]
        return Representation("", media_type, len(content), lambda: iter((content,)))
    return _as_stored(opened, value, media_type)


def _as_stored(opened: OpenInstance, value: BulkValue, media_type: str) -> Representation:
    start, end = value.range.start, value.range.end
    length_bytes = _unpadded(opened, end - start, opened.source.read_range(end - 1, end))
    pieces = Pieces()
    pieces.splice(opened.source, start, start + length_bytes)
    read: Callable[[], Iterator[bytes]] = partial(pieces.iter_range, 0, length_bytes)
    return Representation("", media_type, length_bytes, read, closer(opened.release()), pieces.iter_range)


def _unpadded(opened: OpenInstance, length_bytes: int, last: bytes) -> int:
    """Return the document's length: as (0042,0015) says, else without a NUL at its end (PS3.3 C.24.2)."""
    said = text_of(opened.header.attributes, "EncapsulatedDocumentLength")
    if said.isdecimal() and 0 <= length_bytes - int(said) <= 1:
        return int(said)
    return length_bytes - (last == b"\0")
