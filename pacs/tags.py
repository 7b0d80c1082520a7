"""The attributes the archive indexes, as one table, and how to read any attribute of a DICOM JSON data set.

Columns: keyword, level, how it is matched (None: returned, never matched), whether QIDO returns it unasked
(PS3.18 Tables 10.6.3-3 to 10.6.3-5) and, for C-FIND, its key type (PS3.4 Tables C.6-1 to C.6-5). The database schema,
the search, both edges and the conformance statement read this table.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword

from pacs.model import Attributes, Level


class Matching(Enum):
    """How a key of this attribute is compared (PS3.4 C.2.2.2)."""

    UID = "list of UIDs"
    TEXT = "single value and wildcard"
    CODE = "single value and wildcard, upper case"
    NAME = "person name: folded, wildcard"
    DATE = "date and date range"
    TIME = "time and time range"
    NUMBER = "integer"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One indexed attribute. ``sequence`` is the keyword of the sequence it is matched inside, if any."""

    keyword: str
    level: Level
    matching: Matching | None
    returned_by_default: bool
    key_type: str = "O"
    sequence: str = ""

    @property
    def tag(self) -> str:
        """The tag as the DICOM JSON model spells it."""
        return tag_of(self.keyword)

    @property
    def vr(self) -> str:
        """The value representation, from PS3.6."""
        return vr_of(self.keyword)

    @property
    def column(self) -> str:
        """The database column: the keyword in snake case."""
        return snake_case(self.keyword)


P, S, E, I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE  # noqa: E741 - a table reads best narrow
M = Matching
_REQUEST = "RequestAttributesSequence"

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("PatientName", P, M.NAME, returned_by_default=True, key_type="R"),
    Attribute("PatientID", P, M.TEXT, returned_by_default=True, key_type="U"),
    Attribute("IssuerOfPatientID", P, M.TEXT, returned_by_default=False),
    Attribute("PatientBirthDate", P, M.DATE, returned_by_default=True),
    Attribute("PatientSex", P, M.CODE, returned_by_default=True),
    Attribute("PatientBirthTime", P, None, returned_by_default=False),
    Attribute("OtherPatientIDsSequence", P, None, returned_by_default=False),
    Attribute("EthnicGroup", P, None, returned_by_default=False),
    Attribute("PatientComments", P, None, returned_by_default=False),
    Attribute("StudyInstanceUID", S, M.UID, returned_by_default=True, key_type="U"),
    Attribute("StudyDate", S, M.DATE, returned_by_default=True, key_type="R"),
    Attribute("StudyTime", S, M.TIME, returned_by_default=True, key_type="R"),
    Attribute("AccessionNumber", S, M.TEXT, returned_by_default=True, key_type="R"),
    Attribute("StudyID", S, M.TEXT, returned_by_default=True, key_type="R"),
    Attribute("StudyDescription", S, M.TEXT, returned_by_default=True),
    Attribute("ReferringPhysicianName", S, M.NAME, returned_by_default=True),
    Attribute("NameOfPhysiciansReadingStudy", S, M.NAME, returned_by_default=False),
    Attribute("TimezoneOffsetFromUTC", S, None, returned_by_default=True),
    Attribute("SpecificCharacterSet", S, None, returned_by_default=True),
    Attribute("IssuerOfAccessionNumberSequence", S, None, returned_by_default=False),
    Attribute("ProcedureCodeSequence", S, None, returned_by_default=False),
    Attribute("AdmittingDiagnosesDescription", S, None, returned_by_default=False),
    Attribute("PatientAge", S, None, returned_by_default=False),
    Attribute("PatientSize", S, None, returned_by_default=False),
    Attribute("PatientWeight", S, None, returned_by_default=False),
    Attribute("AdditionalPatientHistory", S, None, returned_by_default=False),
    Attribute("Modality", E, M.CODE, returned_by_default=True, key_type="R"),
    Attribute("SeriesInstanceUID", E, M.UID, returned_by_default=True, key_type="U"),
    Attribute("SeriesNumber", E, M.NUMBER, returned_by_default=True, key_type="R"),
    Attribute("SeriesDescription", E, M.TEXT, returned_by_default=True),
    Attribute("SeriesDate", E, M.DATE, returned_by_default=False),
    Attribute("SeriesTime", E, M.TIME, returned_by_default=False),
    Attribute("PerformedProcedureStepStartDate", E, M.DATE, returned_by_default=True),
    Attribute("PerformedProcedureStepStartTime", E, M.TIME, returned_by_default=True),
    Attribute("BodyPartExamined", E, M.CODE, returned_by_default=False),
    Attribute("Laterality", E, M.CODE, returned_by_default=False),
    Attribute("ProtocolName", E, M.TEXT, returned_by_default=False),
    Attribute("InstitutionName", E, M.TEXT, returned_by_default=False),
    Attribute("InstitutionalDepartmentName", E, M.TEXT, returned_by_default=False),
    Attribute("StationName", E, M.TEXT, returned_by_default=False),
    Attribute("Manufacturer", E, M.TEXT, returned_by_default=False),
    Attribute("ManufacturerModelName", E, M.TEXT, returned_by_default=False),
    Attribute("OperatorsName", E, None, returned_by_default=False),
    Attribute("PerformingPhysicianName", E, None, returned_by_default=False),
    Attribute("PatientPosition", E, None, returned_by_default=False),
    Attribute("RequestAttributesSequence", E, None, returned_by_default=True),
    Attribute("ScheduledProcedureStepID", E, M.TEXT, returned_by_default=False, sequence=_REQUEST),
    Attribute("RequestedProcedureID", E, M.TEXT, returned_by_default=False, sequence=_REQUEST),
    Attribute("SOPClassUID", I, M.UID, returned_by_default=True),
    Attribute("SOPInstanceUID", I, M.UID, returned_by_default=True, key_type="U"),
    Attribute("InstanceNumber", I, M.NUMBER, returned_by_default=True, key_type="R"),
    Attribute("Rows", I, None, returned_by_default=True),
    Attribute("Columns", I, None, returned_by_default=True),
    Attribute("BitsAllocated", I, None, returned_by_default=True),
    Attribute("NumberOfFrames", I, None, returned_by_default=True),
    Attribute("ContentDate", I, None, returned_by_default=False),
    Attribute("ContentTime", I, None, returned_by_default=False),
)
"""Every indexed attribute; derived ones (counts, modalities) are in ``DERIVED``."""

DERIVED: tuple[Attribute, ...] = (
    Attribute("NumberOfPatientRelatedStudies", P, None, returned_by_default=False),
    Attribute("NumberOfPatientRelatedSeries", P, None, returned_by_default=False),
    Attribute("NumberOfPatientRelatedInstances", P, None, returned_by_default=False),
    Attribute("ModalitiesInStudy", S, M.CODE, returned_by_default=True),
    Attribute("SOPClassesInStudy", S, None, returned_by_default=False),
    Attribute("NumberOfStudyRelatedSeries", S, None, returned_by_default=True),
    Attribute("NumberOfStudyRelatedInstances", S, None, returned_by_default=True),
    Attribute("NumberOfSeriesRelatedInstances", E, None, returned_by_default=True),
    Attribute("InstanceAvailability", S, None, returned_by_default=True),
    Attribute("RetrieveURL", S, None, returned_by_default=True),
)
"""Attributes the archive computes for an answer (PS3.4 C.3.4); only ModalitiesInStudy can be matched."""

BY_KEYWORD = {attribute.keyword: attribute for attribute in (*ATTRIBUTES, *DERIVED)}


def attributes_of(*levels: Level) -> tuple[Attribute, ...]:
    """Return the top-level attributes that belong to these levels, in the table's order."""
    return tuple(attribute for attribute in ATTRIBUTES if attribute.level in levels and not attribute.sequence)


@cache
def snake_case(keyword: str) -> str:
    """Return a DICOM keyword in snake case: ``StudyInstanceUID`` -> ``study_instance_uid``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z](?!s[A-Z])[a-z])", "_", keyword).lower()


@cache
def tag_of(keyword: str) -> str:
    """Return the tag of a keyword as eight upper-case hex digits; raise KeyError if PS3.6 has no such keyword."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return f"{tag:08X}"


@cache
def keyword_of(tag: str) -> str:
    """Return the keyword of a tag in eight hex digits, or an empty string if PS3.6 has none."""
    try:
        return dictionary_keyword(int(tag, 16))
    except KeyError:
        return ""


@cache
def vr_of(keyword: str) -> str:
    """Return the value representation that PS3.6 gives a keyword."""
    return dictionary_VR(int(tag_of(keyword), 16))


def values_of(attributes: Attributes, keyword: str) -> list[Any]:
    """Return the values of an attribute of a DICOM JSON data set; empty if it is absent or has none."""
    values = attributes.get(tag_of(keyword), {}).get("Value", [])
    return values if isinstance(values, list) else []


def text_of(attributes: Attributes, keyword: str) -> str:
    """Return the first value as text without padding, or an empty string; person names give the alphabetic group."""
    for value in values_of(attributes, keyword)[:1]:
        if isinstance(value, dict):
            return str(value.get("Alphabetic", ""))
        return "" if value is None else str(value).strip(" \0")
    return ""
