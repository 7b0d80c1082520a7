"""Accept, warn or reject: one rule a function, each naming its Reason. A warning never keeps an object out.

What only breaks the sender's own promises (types, value multiplicities, dates) is no business of these rules: a refusal
at night is a technician who cannot work. Refused is what the archive could not find again, or not give back.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pacs.ingest.incoming import Expected
from pacs.ingest.outcome import Reason
from pacs.model import Header
from pacs.tags import tag_of, text_of

_UID = re.compile(r"(?=\.*[0-9])[0-9.]{1,64}")
_REQUIRED_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PLACE_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID")

NON_PATIENT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)
"""Classes whose instances belong to no patient and so to no study (PS3.4 Table GG.3-1)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says. ``text`` names attributes, never values; without a ``reason`` it is a note for the record."""

    text: str
    reason: Reason | None = None


Rule = Callable[[Header, Expected], Iterator[Finding]]


def is_uid(text: str) -> bool:
    """Whether this is a UID as far as the archive keeps one: digits and dots, and not dots alone.

    "." and ".." are steps of a path, which no client sends in an address: such an object could not be fetched again.
    """
    return _UID.fullmatch(text) is not None


def require_uids(header: Header, _: Expected) -> Iterator[Finding]:
    """Refuse an object that has no usable UID on one of the levels (PS3.5 9.1; leniently: any digits and dots)."""
    for keyword in _REQUIRED_UIDS:
        uid = text_of(header.attributes, keyword)
        if not is_uid(uid):
            yield Finding(f"{keyword} is missing or malformed", Reason.INVALID_UID)
        elif re.search(r"(^|\.)0[0-9]", uid) or ".." in uid or uid[0] == "." or uid[-1] == ".":
            yield Finding(f"{keyword} has a component that PS3.5 9.1 does not allow")


def match_announced_class(header: Header, expected: Expected) -> Iterator[Finding]:
    """Refuse a data set of another SOP Class than the C-STORE command announced (PS3.4 B.2.3)."""
    if expected.sop_class_uid and expected.sop_class_uid != text_of(header.attributes, "SOPClassUID"):
        yield Finding("SOPClassUID differs from the command's", Reason.SOP_CLASS_MISMATCH)


def match_announced_instance(header: Header, expected: Expected) -> Iterator[Finding]:
    """Refuse a data set with another SOP Instance UID than the C-STORE command announced (PS3.4 B.2.3)."""
    if expected.sop_instance_uid and expected.sop_instance_uid != text_of(header.attributes, "SOPInstanceUID"):
        yield Finding("SOPInstanceUID differs from the command's", Reason.SOP_INSTANCE_MISMATCH)


def match_addressed_study(header: Header, expected: Expected) -> Iterator[Finding]:
    """Refuse an instance of another study than a STOW-RS request addressed (PS3.18 10.5.1)."""
    if expected.study_instance_uid and expected.study_instance_uid != text_of(header.attributes, "StudyInstanceUID"):
        yield Finding("StudyInstanceUID differs from the address's", Reason.STUDY_MISMATCH)


def compare_file_meta(header: Header, _: Expected) -> Iterator[Finding]:
    """Note a file meta that names another object than the data set does (PS3.10 7.1): the data set wins."""
    for keyword, meta in (
        ("SOPClassUID", header.media_storage_sop_class_uid),
        ("SOPInstanceUID", header.media_storage_sop_instance_uid),
    ):
        if meta and meta != text_of(header.attributes, keyword):
            yield Finding(f"{keyword} differs between file meta and data set")


RULES: tuple[Rule, ...] = (
    require_uids,
    match_announced_class,
    match_announced_instance,
    match_addressed_study,
    compare_file_meta,
)


def place(header: Header) -> Header:
    """Return a header that has a study and a series: an object that belongs to none gets its own, made of its UID.

    Only the index sees them; the stored bytes stay as they came. Two archives make the same ones.
    """
    attributes = header.attributes
    if text_of(attributes, "SOPClassUID") not in NON_PATIENT_CLASSES or text_of(attributes, "StudyInstanceUID"):
        return header
    sop_instance_uid = text_of(attributes, "SOPInstanceUID")
    own = {
        tag_of(keyword): {"vr": "UI", "Value": [_derive_uid(keyword, sop_instance_uid)]} for keyword in _PLACE_KEYWORDS
    }
    return replace(header, attributes=dict(sorted((attributes | own).items())))


def check(header: Header, expected: Expected) -> tuple[Reason | None, tuple[str, ...]]:
    """Return the first reason to refuse, if any, and every finding's text in the order of the rules."""
    findings = [finding for rule in RULES for finding in rule(header, expected)]
    refusal = next((finding.reason for finding in findings if finding.reason), None)
    return refusal, tuple(finding.text for finding in findings)


def _derive_uid(keyword: str, sop_instance_uid: str) -> str:
    """Return a UID under 2.25 (PS3.5 B.2) that only this object has."""
    digest = hashlib.sha256(f"{keyword} of {sop_instance_uid}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
