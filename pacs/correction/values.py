"""What a correction changes, as elements: what a person gave, or what a study needs to become another patient's."""

from collections.abc import Mapping

from pacs.elements import parse_element
from pacs.errors import InvalidValue
from pacs.index.rows import PATIENT_TAGS
from pacs.model import Attributes, Level
from pacs.tags import BY_KEYWORD, keyword_of, tag_of, vr_of

MAX_REASON_LENGTH = 1024
MAX_VALUE_LENGTH = 16 * 1024
"""Characters of one attribute's values: more than any that can be corrected holds, and checked in no time."""

_OF_A_PERSON = (
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDs",
    "OtherPatientNames",
    "OtherPatientIDsSequence",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientInsurancePlanCodeSequence",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientTelecomInformation",
    "CountryOfResidence",
    "RegionOfResidence",
    "MilitaryRank",
    "BranchOfService",
    "MedicalRecordLocator",
    "ReferencedPatientPhotoSequence",
    "ReferencedPatientSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
)
"""What identifies a person and is no part of the study (PS3.3 C.2.2, C.2.3): a moved study must not keep another's."""


def check_reason(reason: str) -> str:
    """Return a reason without what surrounds it; raise InvalidValue if there is none, or more than a few sentences."""
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise InvalidValue(f"A reason must be given, one line of at most {MAX_REASON_LENGTH} characters.")
    return reason


def parse_changes(values: Mapping[str, str], *levels: Level) -> Attributes:
    """Return the elements of what a person gave by keyword; raise InvalidValue with one sentence for the first wrong.

    Only what belongs to these levels can be corrected, and a Patient ID cannot be taken away.
    """
    if not values:
        raise InvalidValue("Nothing is given that could be corrected.")
    changes: Attributes = {}
    for keyword, text in values.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is None or attribute.level not in levels or attribute.tag not in _CORRECTABLE:
            shown = keyword if keyword.isascii() and keyword.isalnum() and len(keyword) <= 64 else "This attribute"
            named = " or ".join(level.value.lower() for level in levels)
            raise InvalidValue(f"{shown} is nothing of a {named} that can be corrected.")
        if len(text) > MAX_VALUE_LENGTH:
            raise InvalidValue(f"{keyword} must have at most {MAX_VALUE_LENGTH} characters.")
        changes |= parse_element(keyword, text)
    if "PatientID" in values and not changes[tag_of("PatientID")].get("Value"):
        raise InvalidValue("PatientID must have a value.")
    return changes


def adopt(attributes: Attributes, patient_id: str, issuer: str) -> Attributes:
    """Return what makes a study one of the patient that these attributes, this Patient ID and this issuer describe."""
    changes = {tag: element for tag, element in attributes.items() if tag in PATIENT_TAGS and element.get("vr") != "SQ"}
    changes |= _element("PatientID", patient_id)
    return changes | _element("IssuerOfPatientID", issuer)


def forget_person(changes: Attributes) -> Attributes:
    """Return the changes with everything of a person emptied that they do not set."""
    emptied = {tag: {"vr": vr_of(keyword_of(tag))} for tag in PATIENT_TAGS}
    return emptied | {tag_of(keyword): {"vr": vr_of(keyword)} for keyword in _OF_A_PERSON} | changes


def _element(keyword: str, text: str) -> Attributes:
    element: Attributes = {"vr": vr_of(keyword)}
    return {tag_of(keyword): element | {"Value": [text]} if text else element}


_CORRECTABLE = frozenset(
    attribute.tag
    for attribute in BY_KEYWORD.values()
    if attribute.level in (Level.PATIENT, Level.STUDY)
    and attribute.vr not in ("SQ", "UI")
    and attribute.keyword
    not in (
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "InstanceAvailability",
        "RetrieveURL",
    )
)
