"""C-ECHO (PS3.4 Annex A): the answer says that we are here and speak DICOM, nothing about disk or index."""

from pynetdicom.events import Event

from pacs.dimse.status import SUCCESS


def answer_echo(_: Event) -> int:
    """Return Success; whoever asks has got an association already."""
    return SUCCESS
