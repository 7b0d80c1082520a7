"""What became of one incoming object, in terms that DIMSE and STOW-RS both answer with."""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Disposition(StrEnum):
    """What the archive did."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    WITHHELD = "withheld"  # kept, and hidden: a rejection note, or what one names


class Reason(Enum):
    """Why something was refused or accepted with a warning: its DICOM code (PS3.4 B.2.3, PS3.18 I.2.2) and a sentence.

    The sentence fits an Error Comment (0000,0902): at most 64 characters, never a patient value.
    """

    OUT_OF_RESOURCES = (0xA700, "No room left; make room and send again.")
    UNAVAILABLE = (0xA700, "The archive cannot store now; send again later.")
    SOP_CLASS_MISMATCH = (0xA900, "SOP Class UID differs from the one announced.")
    SOP_INSTANCE_MISMATCH = (0xA900, "SOP Instance UID differs from the one announced.")
    STUDY_MISMATCH = (0xA900, "Study Instance UID differs from the one in the address.")
    INVALID_UID = (0xA900, "A required UID is missing or malformed.")
    NOT_DICOM = (0xC000, "These bytes are not a DICOM data set.")
    TRUNCATED = (0xC000, "The data set ends before it is complete.")
    TOO_COMPLEX = (0xC000, "The data set nests too deep or has too many elements.")
    DUPLICATE_REJECTED = (0xC003, "Another data set has this SOP Instance UID.")
    REJECTION_NOT_PERMITTED = (0x0124, "This sender may not reject instances; the note is not kept.")
    INTERNAL_ERROR = (0xC004, "The archive failed; its log says why.")
    INVALID_METADATA = (0xC005, "The metadata of this instance cannot be understood.")
    BULK_DATA_MISSING = (0xC006, "The metadata name bulk data that did not come.")
    BULK_DATA_UNNAMED = (0xC007, "Bulk data came that no metadata name.")
    FRAMES_MISMATCH = (0xC008, "Pixel data came in another number of parts than frames.")
    UNSUPPORTED_TRANSFER_SYNTAX = (0xC122, "The pixel data are in a form that cannot be stored.")
    CONFLICT = (0xB000, "Another data set has this SOP Instance UID; both are kept.")
    DATA_SET_MISMATCH = (0xB007, "Something in the data set is not as it must be; stored as it is.")

    @property
    def code(self) -> int:
        """The DIMSE status, which is also the STOW-RS Failure or Warning Reason."""
        return self.value[0]

    @property
    def comment(self) -> str:
        """One sentence for the sender, at most 64 characters."""
        return self.value[1]

    @property
    def is_warning(self) -> bool:
        """Whether the object was stored all the same."""
        return self.code & 0xF000 == 0xB000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one ``Ingestor.store``; whatever it says is stored is durable.

    ``reason`` is None for a plain success. UIDs are as found in the data set, or as announced if it has none.
    """

    disposition: Disposition
    reason: Reason | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_stored(self) -> bool:
        """Whether the bytes are in the archive now, by this call or an earlier one."""
        return self.disposition is not Disposition.REJECTED
