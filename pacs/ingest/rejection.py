"""Rejection notes (IHE RAD TF-2 4.66, IOCM): a Key Object Selection whose title says that what it names must not show.

The note and what it names are hidden in one transaction. Only who may reject is obeyed.
"""

from collections.abc import Iterator

from sqlalchemy import Connection

from pacs.index import withholding
from pacs.index.rows import PreparedInstance
from pacs.index.withholding import Cause, Reference, WithheldReason
from pacs.ingest.outcome import Reason
from pacs.ingest.rules import is_uid
from pacs.model import Attributes, Header, Origin
from pacs.tags import text_of, values_of

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

TITLES = {
    "113001": WithheldReason.QUALITY,
    "113037": WithheldReason.PATIENT_SAFETY,
    "113038": WithheldReason.WORKLIST_ENTRY,
    "113039": WithheldReason.RETENTION_EXPIRED,
}
"""The Document Titles that reject, codes of DCM (PS3.16 CID 7011)."""


def find_title(attributes: Attributes) -> WithheldReason | None:
    """Return why a rejection note rejects; None for every other object, ordinary key object selections included."""
    if text_of(attributes, "SOPClassUID") != KEY_OBJECT_SELECTION:
        return None
    for title in values_of(attributes, "ConceptNameCodeSequence"):
        if isinstance(title, dict) and text_of(title, "CodingSchemeDesignator") == "DCM":
            return TITLES.get(text_of(title, "CodeValue"))
    return None


def refuse(header: Header, origin: Origin) -> Reason | None:
    """Return why a rejection note is not taken in: its sender may not reject."""
    return None if origin.may_reject or find_title(header.attributes) is None else Reason.REJECTION_NOT_PERMITTED


def iter_references(attributes: Attributes) -> Iterator[Reference]:
    """Yield what the note's evidence names (PS3.3 C.17.2.3), without what has no usable UID."""
    for study in _items(attributes, "CurrentRequestedProcedureEvidenceSequence"):
        for series in _items(study, "ReferencedSeriesSequence"):
            for instance in _items(series, "ReferencedSOPSequence"):
                reference = Reference(
                    text_of(study, "StudyInstanceUID"),
                    text_of(series, "SeriesInstanceUID"),
                    text_of(instance, "ReferencedSOPInstanceUID"),
                    text_of(instance, "ReferencedSOPClassUID"),
                )
                if is_uid(reference.sop_instance_uid):
                    yield reference


def obey(connection: Connection, new: PreparedInstance) -> bool:
    """Hide a rejection note with everything it names, in the caller's transaction; False if this is none."""
    title = find_title(new.new.header.attributes)
    if title is not None:
        _obey(connection, new, title)
    return title is not None


def hide(connection: Connection, new: PreparedInstance) -> bool:
    """Keep an instance that was rejected before it came without showing it; False if it was not.

    The caller's transaction has joined the stores (``withholding.join_stores``), and no instance of its UID shows.
    """
    hiding = withholding.find_hiding(connection, new.partition_id, new.sop_instance_uid)
    if not hiding:
        return False
    by = next(copy for copy in hiding if copy.reason.hides_resent)
    cause = Cause(by.reason, by.by, new.stored_at, by.note_sop_instance_uid)
    if withholding.keep_hidden(connection, new, cause):
        withholding.append_withheld(connection, new, cause)
    return True


def _obey(connection: Connection, note: PreparedInstance, title: WithheldReason) -> None:
    """Hide what a note names, and the note; a note that comes again does again what it says."""
    withholding.exclude_stores(connection)
    by = note.origin.calling_ae_title or note.origin.door
    cause = Cause(title, by, note.stored_at, note.sop_instance_uid)
    references = {reference.sop_instance_uid: reference for reference in iter_references(note.new.header.attributes)}
    moved = withholding.withhold(connection, note.partition_id, [*references, note.sop_instance_uid], cause)
    if title.hides_resent:
        missing = [reference for uid, reference in references.items() if uid not in moved]
        withholding.expect(connection, note.partition_id, missing, cause)
    if withholding.keep_hidden(connection, note, cause):
        withholding.append_note(connection, note, cause)


def _items(attributes: Attributes, keyword: str) -> Iterator[Attributes]:
    return (item for item in values_of(attributes, keyword) if isinstance(item, dict))
