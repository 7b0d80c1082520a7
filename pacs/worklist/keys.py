"""What a worklist entry is made of (PS3.4 Table K.6-1), as one table: what is a key, and what is required.

An attribute that is not listed here is an unsupported optional key: a worklist query leaves it out and says so.
"""

from pacs.tags import tag_of

STEP_SEQUENCE = tag_of("ScheduledProcedureStepSequence")
STEP_STATUS = tag_of("ScheduledProcedureStepStatus")
CHARACTER_SET = tag_of("SpecificCharacterSet")
TIMEZONE = tag_of("TimezoneOffsetFromUTC")
"""Describes the times of an identifier and is no key: never matched, never answered without a value (K.4.1.1.3)."""

REQUIRED_IN_STEP = (
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledProcedureStepID",
)
REQUIRED = ("PatientName", "PatientID", "RequestedProcedureID")
"""Return keys of type 1; Study Instance UID is one too, and is given to an entry that has none."""

DESCRIPTIONS_IN_STEP = ("ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence")
DESCRIPTIONS = ("RequestedProcedureDescription", "RequestedProcedureCodeSequence")
"""Type 1C: one of the two at least."""

_STEP = (
    *REQUIRED_IN_STEP,
    *DESCRIPTIONS_IN_STEP,
    "ScheduledPerformingPhysicianName", "ScheduledPerformingPhysicianIdentificationSequence",
    "ScheduledProcedureStepEndDate", "ScheduledProcedureStepEndTime", "ScheduledStationName",
    "ScheduledProcedureStepLocation", "ReferencedDefinedProtocolSequence", "ReferencedPerformedProtocolSequence",
    "PreMedication", "RequestedContrastAgent", "ScheduledProcedureStepStatus",
    "CommentsOnTheScheduledProcedureStep", "AnatomicalOrientationType",
)  # fmt: skip

_TOP = (
    *REQUIRED,
    *DESCRIPTIONS,
    # Scheduled Procedure Step
    "ScheduledProcedureStepSequence", "ScheduledSpecimenSequence", "BarcodeValue",
    # Requested Procedure
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "ReferencedStudySequence",
    "RequestedProcedurePriority", "PatientTransportArrangements", "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence", "RequestedProcedureComments", "RequestedProcedureLocation",
    "ConfidentialityCode", "ReportingPriority", "NamesOfIntendedRecipientsOfResults",
    "IntendedRecipientsOfResultsIdentificationSequence",
    # Imaging Service Request
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestingPhysician", "ReferringPhysicianName",
    "RequestingPhysicianIdentificationSequence", "ReferringPhysicianIdentificationSequence",
    "ImagingServiceRequestComments", "RequestingService", "RequestingServiceCodeSequence",
    "IssueDateOfImagingServiceRequest", "IssueTimeOfImagingServiceRequest",
    "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    "OrderPlacerIdentifierSequence", "OrderFillerIdentifierSequence", "OrderEnteredBy", "OrderEntererLocation",
    "OrderCallbackPhoneNumber",
    # Visit
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "IssuerOfServiceEpisodeIDSequence",
    "ServiceEpisodeDescription", "AdmittingDate", "AdmittingTime", "RouteOfAdmissions", "CurrentPatientLocation",
    "InstitutionName", "InstitutionAddress", "InstitutionCodeSequence", "VisitStatusID", "PatientInstitutionResidence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "ReferencedPatientSequence",
    # Patient
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate", "PatientBirthTime",
    "PatientSex", "PatientSexNeutered", "PatientAge", "PatientSize", "PatientWeight", "PatientAddress",
    "PatientTelephoneNumbers", "MilitaryRank", "BranchOfService", "CountryOfResidence", "RegionOfResidence",
    "EthnicGroup", "Occupation", "PatientReligiousPreference", "PatientComments", "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "ConfidentialityConstraintOnPatientDataDescription",
    "PatientState", "PregnancyStatus", "MedicalAlerts", "Allergies", "SpecialNeeds", "SmokingStatus",
    "AdditionalPatientHistory", "LastMenstrualDate", "PertinentDocumentsSequence", "PatientPrimaryLanguageCodeSequence",
)  # fmt: skip

TOP_TAGS = frozenset(tag_of(keyword) for keyword in _TOP)
STEP_TAGS = frozenset(tag_of(keyword) for keyword in _STEP)


def is_supported(tag: str, sequence: str) -> bool:
    """Whether a key is one: at the top if ``sequence`` is empty, else in an item of the sequence of that tag.

    Inside the small sequences, such as codes, whatever stands there may be asked for.
    """
    if not sequence:
        return tag in TOP_TAGS
    return tag in STEP_TAGS if sequence == STEP_SEQUENCE else True
