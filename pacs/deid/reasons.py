"""Why an object is held back: what the engine cannot vouch for waits for a person, and nothing of it has left."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pacs.errors import PacsError


class Reason(StrEnum):
    """What was found. ``is_releasable``: a person who has looked at the object may let it go all the same."""

    sentence: str
    is_releasable: bool

    def __new__(cls, code: str, sentence: str = "", is_releasable: bool = False) -> Self:
        """Make a reason of its code, the sentence a steward reads, and whether one may release it."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        member.is_releasable = is_releasable
        return member

    PARSE_ERROR = "parse-error", "The bytes do not parse as a DICOM file.", False
    TOO_LARGE = "too-large", "The header nests too deep, or something in it is larger than is taken apart.", False
    NO_UIDS = "no-uids", "The object lacks an instance, study, series or SOP Class UID.", False
    UNKNOWN_SOP_CLASS = "unknown-sop-class", "The SOP Class is private or unknown: what it holds is not known.", True
    SECONDARY_CAPTURE = "secondary-capture", "A secondary capture or screen shot may show anything.", True
    BURNED_IN = "burned-in", "The pixels may show text: the object says so, or objects of its kind often do.", True
    NO_REGIONS = "no-regions", "An ultrasound image without usable regions cannot be blacked out around them.", True
    VISIBLE_FEATURES = "visible-features", "The pixels may show a face, or whatever else is recognised.", True
    DOCUMENT = "document", "An encapsulated document cannot be cleaned.", True
    VIDEO = "video", "A video cannot be cleaned.", True
    AUDIO = "audio", "A recorded voice cannot be cleaned.", True
    OVERLAY_IN_PIXELS = "overlay-in-pixels", "Unused bits of the pixels hold an overlay.", True
    UNDECODABLE = "undecodable", "The pixels have to be cleaned, and do not decode.", False
    PIXEL_LENGTH = "pixel-length", "The pixel data are not as long as the header says.", True
    CODESTREAM = "codestream", "A compressed frame is of a kind in which text cannot be blanked, or is damaged.", True
    LETTERING = "lettering", "Text was read in the pixels.", True
    ENGINE_FAILED = "engine-failed", "The engine broke on this object; tell those who make it.", False
    RESIDUE = "residue", "A value that identifies the patient is still in what was written.", True


class Quarantine(PacsError):
    """The object is held back until a person has looked at it."""

    def __init__(self, reasons: Iterable[Reason]) -> None:
        self.reasons = tuple(sorted(set(reasons)))
        super().__init__(" ".join(reason.sentence for reason in self.reasons))
