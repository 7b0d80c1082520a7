"""What a cohort may ask for, and what it may not; and that one question has one spelling."""

import pytest

from pacs.errors import InvalidQuery
from pacs.research.conditions import NAMES, SHORT_NAMES, parse_conditions

SPELLINGS = [
    ({"modality": "mr\\CT"}, {"Modality": "CT\\MR"}),
    ({"Modality": "*"}, {}),
    ({"sex": "f"}, {"PatientSex": "F"}),
    ({"year": "2021"}, {"StudyDate": "2021"}),
    ({"StudyDate": "20210101-20231231"}, {"StudyDate": "2021-2023"}),
    ({"StudyDate": "2021 - 2021"}, {"StudyDate": "2021"}),
    ({"words": "Tête  thorax THORAX"}, {"words": "tete thorax"}),
    ({"StudyDescription": " *Thorax  Sans* "}, {"StudyDescription": "*thorax sans*"}),
    ({"field_strength": "3\\1.50"}, {"MagneticFieldStrength": "1.5\\3"}),
    ({"age_min": "18", "age_max": "89"}, {"age_max": "89", "age_min": "18"}),
    ({"contrast": "Yes"}, {"contrast": "yes"}),
    ({"kernel": "br40*"}, {"ConvolutionKernel": "BR40*"}),
]


@pytest.mark.parametrize(("given", "spelling"), SPELLINGS, ids=str)
def test_one_question_has_one_spelling(given, spelling):
    parsed = parse_conditions(given)
    assert parsed.spelling == spelling
    assert parse_conditions(parsed.spelling) == parsed


TELLING = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "AccessionNumber",
    "StudyID",
    "StudyTime",
    "SeriesDate",
    "ReferringPhysicianName",
    "InstitutionName",
    "StationName",
    "RequestedProcedureID",
    "InstanceNumber",
)


def test_nothing_that_tells_of_one_patient_can_be_asked():
    for keyword in TELLING:
        with pytest.raises(InvalidQuery, match=f"^{keyword} could tell"):
            parse_conditions({keyword: "BENALI"})
    assert not set(TELLING) & set(NAMES)
    assert set(SHORT_NAMES.values()) <= set(NAMES)


@pytest.mark.parametrize(
    "given",
    [
        {"StudyDate": "20210301-20210302"},
        {"StudyDate": "20210101"},
        {"StudyDate": "2023-2021"},
        {"StudyDate": "2021-"},
        {"age_min": "43"},
        {"age_max": "90"},
        {"age_min": "50", "age_max": "49"},
        {"sex": "X"},
        {"contrast": "perhaps"},
        {"words": "a"},
        {"words": "thor*"},
        {"field_strength": "strong"},
        {"sex": "F", "PatientSex": "M"},
        {"nothing": "1"},
        {"Modality": "C\x00T"},
        {"kernel": "x" * 300},
        {"SOPClassUID": "no uid"},
    ],
    ids=str,
)
def test_nonsense_is_refused_without_repeating_it(given):
    with pytest.raises(InvalidQuery) as raised:
        parse_conditions(given)
    assert "BENALI" not in str(raised.value)
    assert str(raised.value).endswith(".")
