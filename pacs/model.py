"""What the archive talks about: frozen values, no behaviour that needs a database, a store or a socket."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

CLINICAL_PARTITION = 0

Attributes = dict[str, Any]
"""A data set in the DICOM JSON model (PS3.18 F.2): eight upper-case hex digits -> {"vr": ..., "Value": [...]}."""


class Level(StrEnum):
    """The four levels of the query/retrieve information model (PS3.4 C.6)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    INSTANCE = "IMAGE"


class Door(StrEnum):
    """By which way an object came in."""

    DIMSE = "dimse"
    STOW = "stow"
    IMPORT = "import"
    RELEASE = "release"  # of a research project: de-identified, and into a partition of its own


class DuplicatePolicy(StrEnum):
    """What becomes of another data set under a SOP Instance UID that is already stored."""

    KEEP_FIRST = "keep-first"
    REPLACE = "replace"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object came from, and what its sender's settings supply when the object does not say.

    ``character_set`` is a DICOM defined term (PS3.3 C.12.1.1.2) for text whose own declaration is missing or wrong.
    ``may_reject``: a rejection note from here is obeyed (IHE RAD TF-3 4.66).
    """

    door: Door
    address: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    issuer_of_patient_id: str = ""
    character_set: str = "ISO_IR 100"
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.KEEP_FIRST
    may_reject: bool = False


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``end``."""

    start: int
    end: int

    @property
    def length_bytes(self) -> int:
        """How many bytes the range covers."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value kept out of the header: where its bytes lie in the data set's file, and how to read them.

    ``path`` is tags and 0-based item indexes, as in ``"0040A730/0/54001010"``; ``"7FE00010"`` at the top level.
    """

    path: str
    vr: str
    range: ByteRange


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where (7FE0,0010), (7FE0,0008) or (7FE0,0009) lies.

    ``range`` covers the value: the native bytes, or every item of an encapsulated value including the Basic Offset
    Table and without the sequence delimiter.
    """

    tag: str
    vr: str
    range: ByteRange
    is_encapsulated: bool


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Where each frame's bytes lie in the instance's file; empty if no byte range exists (deflated, unknown).

    A frame is the join of its ranges: one range for a native frame, one for every fragment of an encapsulated one.
    Bit-packed frames that do not start on a byte have ``bit_offset_step`` set: the bits of one frame.
    """

    frames: tuple[tuple[ByteRange, ...], ...] = ()
    bit_offset_step: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """One instance's data set as parsed once at ingest: everything but the bulk values.

    ``dataset_offset`` is the first byte after group 0002. Ranges count from the start of the file; for a deflated
    data set from the start of the inflated data set, and ``is_deflated`` is set.
    """

    transfer_syntax_uid: str
    dataset_offset: int
    attributes: Attributes
    bulk: tuple[BulkValue, ...] = ()
    pixels: PixelElement | None = None
    is_deflated: bool = False
    warnings: tuple[str, ...] = ()
    media_storage_sop_class_uid: str = ""
    media_storage_sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instance's bytes are: ``length_bytes`` bytes from ``offset`` on in one blob."""

    blob_key: str
    offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as the index knows it, without its header."""

    row_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    location: Location
    stored_at: datetime


class ChangeKind(StrEnum):
    """What a change says happened."""

    INSTANCE_STORED = "instance-stored"
    INSTANCE_REPLACED = "instance-replaced"
    CONFLICT_FOUND = "conflict-found"
    CONFLICT_RESOLVED = "conflict-resolved"
    INSTANCE_WITHHELD = "instance-withheld"
    INSTANCE_RESTORED = "instance-restored"
    NOTE_STORED = "note-stored"
    STUDY_CORRECTED = "study-corrected"
    INSTANCE_RECOMPRESSED = "instance-recompressed"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log; ``cursor`` orders entries and resumes reading after this one."""

    cursor: "Cursor"
    kind: ChangeKind
    at: datetime
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position in the change log in commit order: the writing transaction, then its place within it."""

    transaction_id: int = 0
    sequence: int = 0
