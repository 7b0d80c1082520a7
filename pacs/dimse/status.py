"""Outcome and Reason -> DIMSE status (PS3.7 Annex C, PS3.4 B.2.3). The only codes here are those no Reason carries."""

from pydicom.dataset import Dataset

from pacs.ingest.outcome import Outcome, Reason

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211

ERROR_COMMENT_LENGTH = 64
"""Error Comment (0000,0902) is an LO."""

_OFFENDING_ELEMENTS = {
    Reason.SOP_CLASS_MISMATCH: 0x00080016,
    Reason.SOP_INSTANCE_MISMATCH: 0x00080018,
    Reason.DUPLICATE_REJECTED: 0x00080018,
    Reason.STUDY_MISMATCH: 0x0020000D,
}


def build_status(outcome: Outcome) -> Dataset:
    """Return the status elements that answer a C-STORE with this outcome."""
    return build_refusal(outcome.reason) if outcome.reason else build_code(SUCCESS)


def build_refusal(reason: Reason) -> Dataset:
    """Return the status elements for a reason, which may also be a warning: its code, its sentence, and the element."""
    status = build_code(reason.code, reason.comment)
    if reason in _OFFENDING_ELEMENTS:
        status.OffendingElement = [_OFFENDING_ELEMENTS[reason]]
    return status


def build_code(code: int, comment: str = "") -> Dataset:
    """Return the status elements for a bare code; a comment is cut to what Error Comment holds."""
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:ERROR_COMMENT_LENGTH]
    return status
