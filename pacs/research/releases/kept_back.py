"""Why an object was kept back: for a reason of the engine, or because it could not be made."""

from pacs.deid import Reason

MISSING = "missing"
UNREADABLE = "unreadable"
NOT_STORED = "not-stored"
UNVERIFIED = "unverified"
BROKEN = "broken"

_SENTENCES = {
    MISSING: "The bytes of the clinical instance are not in the store.",
    UNREADABLE: "The clinical instance cannot be written as it would leave the archive.",
    NOT_STORED: "The archive does not take what was made of it.",
    UNVERIFIED: "What was stored did not read back as it was made.",
    BROKEN: "The engine failed on it; the log says with which error.",
}
"""Where the engine had no reason of its own. To release one of these is to try again."""

OWN_REASONS = tuple(_SENTENCES)
_OF_ENGINE = {reason.value: reason for reason in Reason}


def sentence_of(reason: str) -> str:
    """Return what a steward reads."""
    known = _OF_ENGINE.get(reason)
    return known.sentence if known is not None else _SENTENCES.get(reason, reason)


def is_releasable(reason: str) -> bool:
    """Return whether a person may set a reason aside."""
    known = _OF_ENGINE.get(reason)
    return known is None or known.is_releasable
