"""A DICOMDIR (PS3.3 F) for files that leave together: patients, studies, series, and a record for every instance.

It is made while the files are sent: of each instance only what its record says is kept, a few hundred bytes.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from pacs.imaging.elements import UTF_8, AttributeEncoder, encode_element, encode_header, encode_item_header
from pacs.imaging.filemeta import encode_file_meta
from pacs.imaging.sources import Pieces
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from pacs.model import Attributes
from pacs.tags import tag_of, text_of, vr_of

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

_IN_USE = b"\xff\xff"
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "StudyInstanceUID", "StudyID")
_SERIES = ("Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber")
_INSTANCE = (
    "InstanceNumber", "ContentDate", "ContentTime", "ContentLabel", "ContentDescription", "ContentCreatorName",
    "PresentationCreationDate", "PresentationCreationTime", "CompletionFlag", "VerificationFlag", "DocumentTitle",
    "ConceptNameCodeSequence", "MIMETypeOfEncapsulatedDocument", "StructureSetLabel", "StructureSetDate",
    "StructureSetTime", "RTPlanLabel", "RTPlanDate", "RTPlanTime", "DoseSummationType",
)  # fmt: skip
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RECORD_TYPES = (
    ("88.59", "KEY OBJECT DOC"),
    ("88.", "SR DOCUMENT"),
    ("104.", "ENCAP DOC"),
    ("11.", "PRESENTATION"),
    ("9.", "WAVEFORM"),
    ("66.1", "REGISTRATION"),
    ("66.2", "FIDUCIAL"),
    ("66.3", "REGISTRATION"),
    ("66.5", "SURFACE"),
    ("66.6", "TRACT"),
    ("66", "RAW DATA"),
    ("4.2", "SPECTROSCOPY"),
    ("481.2", "RT DOSE"),
    ("481.3", "RT STRUCTURE SET"),
    ("481.5", "RT PLAN"),
    ("481.8", "RT PLAN"),
    ("481.4", "RT TREAT RECORD"),
    ("481.6", "RT TREAT RECORD"),
    ("481.7", "RT TREAT RECORD"),
    ("481.9", "RT TREAT RECORD"),
)
"""Directory record types (PS3.3 F.4) by how a SOP Class UID goes on; images, segmentations and the rest are IMAGE."""


@dataclass(slots=True)
class _Record:
    content: bytes
    """The item's elements from (0004,1430) on."""
    lower: list["_Record"] = field(default_factory=list)
    offset: int = 0

    @property
    def length_bytes(self) -> int:
        return 8 + _LINKS_BYTES + len(self.content)


class Directory:
    """The records of files in the order they are added: all of a series one after the other, and all of a study.

    A study is one patient's, who is known by the ID that the first file of the study has; the same ID is the same one.
    """

    def __init__(self) -> None:
        self._patients: dict[str, _Record] = {}
        self._study = _Record(b"")
        self._study_instance_uid: str | None = None
        self._series_instance_uid = ""

    def add(self, name: str, header: Attributes, transfer_syntax_uid: str) -> None:
        """Add a file by its name, whose parts stand between slashes, and the header of the instance in it."""
        study_instance_uid = text_of(header, "StudyInstanceUID")
        if study_instance_uid != self._study_instance_uid:
            self._study_instance_uid = study_instance_uid
            self._study = _Record(_encode_record("STUDY", header, _STUDY))
            patient_id = text_of(header, "PatientID")
            if patient_id not in self._patients:
                self._patients[patient_id] = _Record(_encode_record("PATIENT", header, _PATIENT))
            self._patients[patient_id].lower.append(self._study)
        series_instance_uid = text_of(header, "SeriesInstanceUID")
        if not self._study.lower or series_instance_uid != self._series_instance_uid:
            self._series_instance_uid = series_instance_uid
            self._study.lower.append(_Record(_encode_record("SERIES", header, _SERIES)))
        sop_class_uid = text_of(header, "SOPClassUID")
        file = (name.split("/"), sop_class_uid, text_of(header, "SOPInstanceUID"), transfer_syntax_uid)
        content = _encode_record(record_type_of(sop_class_uid), header, _INSTANCE, file)
        self._study.lower[-1].lower.append(_Record(content))

    def encode(self) -> bytes:
        """Return the whole file; every offset counts from its start (PS3.3 F.3.2.2)."""
        roots = list(self._patients.values())
        records = list(_walk(roots))
        digest = hashlib.blake2b(b"".join(record.content for record in records), digest_size=16).digest()
        uid = f"2.25.{int.from_bytes(digest, 'big')}"
        meta = encode_file_meta(MEDIA_STORAGE_DIRECTORY, uid, EXPLICIT_VR_LITTLE_ENDIAN)
        start = end = len(meta) + _HEAD_BYTES
        for record in records:
            record.offset = end
            end += record.length_bytes
        first, last = (roots[0].offset, roots[-1].offset) if roots else (0, 0)
        items = b"".join(_encode_items(roots))
        return meta + _encode_head(first, last, end - start) + items


def record_type_of(sop_class_uid: str) -> str:
    """Return the type of the record for an instance of this SOP Class."""
    rest = sop_class_uid.removeprefix(_STORAGE)
    if rest == sop_class_uid:
        return "IMAGE"
    return next((kind for start, kind in _RECORD_TYPES if _begins(rest, start)), "IMAGE")


def _begins(rest: str, start: str) -> bool:
    return rest.startswith(start) if start.endswith(".") else rest == start


def _walk(records: Sequence[_Record]) -> list[_Record]:
    return [found for record in records for found in (record, *_walk(record.lower))]


def _encode_items(records: Sequence[_Record]) -> list[bytes]:
    items: list[bytes] = []
    for position, record in enumerate(records):
        following = records[position + 1].offset if position + 1 < len(records) else 0
        lower = record.lower[0].offset if record.lower else 0
        items.append(encode_item_header(record.length_bytes - 8) + _encode_links(following, lower) + record.content)
        items.extend(_encode_items(record.lower))
    return items


def _encode_links(following: int, lower: int) -> bytes:
    return (
        _encode(0x00041400, "UL", struct.pack("<I", following))
        + _encode(0x00041410, "US", _IN_USE)
        + _encode(0x00041420, "UL", struct.pack("<I", lower))
    )


def _encode_head(first: int, last: int, items_bytes: int) -> bytes:
    return (
        _encode(0x00041130, "CS", b"")
        + _encode(0x00041200, "UL", struct.pack("<I", first))
        + _encode(0x00041202, "UL", struct.pack("<I", last))
        + _encode(0x00041212, "US", b"\0\0")
        + encode_header(0x00041220, "SQ", items_bytes)
    )


def _encode_record(
    kind: str, header: Attributes, keywords: Sequence[str], file: tuple[list[str], str, str, str] | None = None
) -> bytes:
    encoder = AttributeEncoder(UTF_8, lambda _: None)
    content = _encode(0x00041430, "CS", kind.encode())
    if file is not None:
        parts, *uids = file
        content += _encode(0x00041500, "CS", "\\".join(parts).encode())
        for tag, uid in zip((0x00041510, 0x00041511, 0x00041512), uids, strict=True):
            content += _encode(tag, "UI", uid.encode("ascii", "replace"))
    content += _encode(0x00080005, "CS", b"ISO_IR 192")
    for keyword in sorted(keywords, key=tag_of):
        element = header.get(tag_of(keyword))
        if element is None and file is not None:
            continue
        content += _bytes_of(encoder.encode(int(tag_of(keyword), 16), element or {"vr": vr_of(keyword)}))
    return content


def _encode(tag: int, vr: str, value: bytes) -> bytes:
    return _bytes_of(encode_element(tag, vr, value))


def _bytes_of(pieces: Pieces) -> bytes:
    return b"".join(pieces.iter_chunks())


_LINKS_BYTES = len(_encode_links(0, 0))
_HEAD_BYTES = len(_encode_head(0, 0, 0))
