"""The catalogue: what it says of a header, and that it says it of the series as it is now."""

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from pacs.access import LOCAL
from pacs.correction import PatientKey
from pacs.database.research_tables import research_catalogue
from pacs.imaging.inflation import MemorySink
from pacs.ingest.header import parse_header
from pacs.jobs.queue import JobState, drop, list_jobs
from pacs.research import catalogue
from pacs.research.catalogue_values import describe
from pacs.routing.following import Follower
from tests.builders import as_part10, build_dataset
from tests.unit.pacs.research.projects.conftest import on_both_engines


def described(**values):
    source = MemorySink()
    content = as_part10(build_dataset(**values), "1.2.840.10008.1.2.1")
    source.write(content)
    return describe(parse_header(source, len(content), ("ISO_IR 100",)).attributes)


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"PatientSex": "F"}, "sex", "F"),
        ({"PatientSex": "FEMALE"}, "sex", None),
        ({"PatientAge": "045Y"}, "age_years", 45),
        ({"PatientAge": "103Y"}, "age_years", 90),
        ({"PatientAge": "018M"}, "age_years", 1),
        ({"PatientAge": None, "PatientBirthDate": "19700131", "StudyDate": "20240229"}, "age_years", 54),
        ({"PatientAge": None, "PatientBirthDate": None}, "age_years", None),
        ({"Manufacturer": "SIEMENS Healthineers"}, "manufacturer", "SIEMENS"),
        ({"Manufacturer": "GE MEDICAL SYSTEMS"}, "manufacturer", "GE"),
        ({"Manufacturer": "Clinique du Dr Benali"}, "manufacturer", None),
        ({"BodyPartExamined": "HEAD_NECK"}, "body_part", "HEADNECK"),
        ({"BodyPartExamined": "BENALI"}, "body_part", None),
        ({"ConvolutionKernel": "Br40f\\3"}, "kernel", "BR40F"),
        ({"ConvolutionKernel": "0661223344"}, "kernel", None),
        ({"MagneticFieldStrength": "2.89362"}, "field_strength", 3000),
        ({"MagneticFieldStrength": "15000"}, "field_strength", 1500),
        ({"MagneticFieldStrength": "4.4"}, "field_strength", None),
        ({"ContrastBolusAgent": "Iopamidol"}, "has_contrast", True),
        ({"ContrastBolusAgent": "none"}, "has_contrast", False),
        ({"ContrastBolusAgentSequence": [item(ContrastBolusAgentNumber=1)]}, "has_contrast", True),
        ({}, "has_contrast", False),
        ({"StudyDescription": "TDM Thorax de M. BENALI, CIN AB123456"}, "study_description", "tdm thorax de"),
        ({"SeriesDescription": "Tête 06 12 34 56 78"}, "series_description", "tete"),
        ({"PatientName": "THORAX^Foie", "ProtocolName": "Thorax foie abdomen"}, "protocol_name", "abdomen"),
        ({"StudyDescription": "Thorax", "SeriesDescription": "thorax abdomen"}, "words", " abdomen  thorax "),
    ],
    ids=str,
)
def test_a_header_is_told_in_words_and_numbers_that_tell_of_nobody(values, name, expected):
    assert getattr(described(**values), name) == expected


def test_a_value_that_all_frames_share_is_found():
    shared = item(CTReconstructionSequence=[item(ConvolutionKernel="B30")])
    assert described(SharedFunctionalGroupsSequence=[shared]).kernel == "B30"


def rows_of(parts):
    with parts.database.read() as connection:
        return connection.execute(select(research_catalogue)).all()


@pytest.fixture
def follow(parts):
    """Follow the change log to its end and do what it lists, as a running archive does by and by."""
    follower = Follower(parts.database, 0, catalogue.FOLLOWER, parts.research.catalogue.plan)
    follower.begin()

    def follow():
        while follower.follow():
            pass
        with parts.database.read() as connection:
            jobs = list_jobs(connection, state=JobState.WAITING, lane=catalogue.KIND)
        return len(list(parts.research.catalogue.work(jobs)))

    return follow


@on_both_engines
def test_it_follows_what_comes_and_goes(parts, archive, store, follow):
    first = build_dataset(PatientSex="F", SeriesDescription="Thorax")
    store(first)
    assert follow() == 1
    (row,) = rows_of(parts)
    assert (row.sex, row.series_description) == ("F", "thorax")

    late = build_dataset(
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=first.SeriesInstanceUID,
        InstanceNumber=0,
        SeriesDescription="Abdomen",
        PatientSex="F",
    )
    store(late)
    follow()
    (row,) = rows_of(parts)
    assert row.series_description == "abdomen"

    uids = (first.StudyInstanceUID, first.SeriesInstanceUID)
    archive.withhold.withhold(LOCAL, *uids, late.SOPInstanceUID)
    follow()
    (row,) = rows_of(parts)
    assert row.series_description == "thorax"

    archive.withhold.withhold(LOCAL, *uids)
    assert rows_of(parts) == []
    follow()
    assert rows_of(parts) == []


def test_a_correction_is_told_of(parts, archive, store, follow):
    dataset = build_dataset(PatientSex="O", PatientID="P1")
    store(dataset)
    follow()
    archive.correct.correct_patient(LOCAL, PatientKey("P1", ""), {"PatientSex": "F"}, reason="Mistyped.")
    follow()
    (row,) = rows_of(parts)
    assert row.sex == "F"


@on_both_engines
def test_what_was_stored_before_is_made_by_command_and_in_the_background(parts, store):
    store(*(build_dataset(PatientID=f"P{number}") for number in range(3)))
    assert parts.research.catalogue.count_missing() == 3
    assert sum(parts.research.catalogue.iter_missing()) == 3
    assert parts.research.catalogue.count_missing() == 0
    assert sum(parts.research.catalogue.iter_missing()) == 0

    store(build_dataset())
    parts.research.catalogue.begin()
    while jobs := waiting(parts):
        done = list(parts.research.catalogue.work_on_missing(jobs))
        assert len(done) == len(jobs)
        parts.database.write(lambda connection, jobs=jobs: drop(connection, ids=[job.id for job in jobs]))
    assert parts.research.catalogue.count_missing() == 0
    parts.research.catalogue.begin()
    assert waiting(parts) == []


def waiting(parts):
    with parts.database.read() as connection:
        return list_jobs(connection, state=JobState.WAITING, lane=catalogue.KIND_MISSING)


def test_rows_by_older_rules_are_made_anew(parts, store):
    store(build_dataset())
    assert sum(parts.research.catalogue.iter_missing()) == 1
    parts.database.write(lambda connection: connection.execute(research_catalogue.update().values(rules=0)))
    assert parts.research.catalogue.count_missing() == 1


def test_no_value_of_a_patient_is_in_it(parts, store):
    store(
        build_dataset(
            PatientName="CANARYONE^CANARYTWO",
            PatientID="CANARYTHREE",
            AccessionNumber="CANARYFOUR",
            StudyDescription="CANARYFIVE thorax",
            SeriesDescription="CANARYSIX",
            ProtocolName="CANARYSEVEN",
            Manufacturer="CANARYEIGHT",
            BodyPartExamined="CANARYNINE",
            ConvolutionKernel="CANARY 20241231",
            InstitutionName="CANARYTWELVE",
        )
    )
    assert sum(parts.research.catalogue.iter_missing()) == 1
    (row,) = rows_of(parts)
    assert "canary" not in repr(tuple(row)).lower()
    assert "2024" not in repr(tuple(row))
