"""The worklist's use case: what a query finds is what its conditions say, whatever the database narrows."""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.errors import InvalidEntry, ScheduledStepExists
from pacs.worklist import StepState, parse_entries, parse_query
from pacs.worklist.matching import holds
from tests.worklist_entries import build_entry, build_entry_json, build_key_json

NAMES = ("Bénali^Omar", "الفاسي^فاطمة", "DUPONT^ANNE")
STATIONS = ("CT1", "MR1")
DATES = ("20260705", "20260706")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """An archive with a step for every name, station and date."""
    configuration = Settings(data_dir=tmp_path_factory.mktemp("archive"), storage=StorageSettings(url="memory:"))
    with open_archive(configuration) as parts:
        yield fill(parts.archive.worklist)


def fill(worklist):
    for number, (name, station, date) in enumerate(product(NAMES, STATIONS, DATES)):
        worklist.add(
            LOCAL,
            build_entry_json(
                PatientName=name,
                PatientID=f"P{number % 4}",
                AccessionNumber=f"A{number % 3}",
                RequestedProcedureID=f"R{number}",
                ScheduledStationAETitle=[station, "ANY"],
                Modality=station[:2],
                ScheduledProcedureStepStartDate=date,
                ScheduledProcedureStepStartTime=f"{8 + number:02}0000",
            ),
        )
    return worklist


KEYS = st.fixed_dictionaries(
    {},
    optional={
        "PatientName": st.sampled_from(["benali*", "*", "الفاسى*", "dupont^anne", "nobody"]),
        "PatientID": st.sampled_from(["P0", "P1", "P?", "p0", "P0 "]),
        "AccessionNumber": st.sampled_from(["A0", "A*", "B"]),
        "ScheduledStationAETitle": st.sampled_from(["CT1", "MR1", "ANY", "*1", "ct1", "CT%", "C_1"]),
        "Modality": st.sampled_from(["CT", "ct", ["CT", "MR"], "?R", "US"]),
        "ScheduledProcedureStepStartDate": st.sampled_from(["20260705", "20260706-", "-20260705", "20260705-20260706"]),
        "ScheduledProcedureStepStartTime": st.sampled_from(["0900-1100", "10-", "-12", "080000"]),
        "ScheduledProcedureStepID": st.sampled_from(["S1", "S*", "X"]),
    },
)


@given(KEYS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_narrowing_loses_no_match(filled, keys):
    query = parse_query(build_key_json(**keys))
    everything = list(filled.find(LOCAL, parse_query({})))
    expected = [step.id for step in everything if holds(query.conditions, step.attributes)]
    assert [step.id for step in filled.find(LOCAL, query)] == expected


@pytest.mark.postgres
def test_both_engines_find_the_same(filled, postgres_url, tmp_path):
    configuration = Settings(
        data_dir=tmp_path, storage=StorageSettings(url="memory:"), database=DatabaseSettings(url=postgres_url)
    )
    with open_archive(configuration) as parts:
        other = fill(parts.archive.worklist)
        for keys in (
            {},
            {"PatientName": "benali*"},
            {"ScheduledStationAETitle": "CT1", "ScheduledProcedureStepStartDate": "20260706-"},
            {"Modality": ["CT", "MR"], "PatientID": "P1"},
            {"ScheduledStationAETitle": "C_1"},
        ):
            query = parse_query(build_key_json(**keys))
            found = [
                [step.attributes["00401001"]["Value"] for step in one.find(LOCAL, query)] for one in (filled, other)
            ]
            assert found[0] == found[1]
        (step,) = other.add(LOCAL, build_entry_json(RequestedProcedureID="NEW", StudyInstanceUID="2.25.7"))
        with pytest.raises(ScheduledStepExists):
            other.add(LOCAL, build_entry_json(RequestedProcedureID="NEW", StudyInstanceUID="2.25.7"))
        assert other.set_state(LOCAL, step.id, StepState.COMPLETED).state is StepState.COMPLETED
        assert other.find_studies(LOCAL, step) == []
        other.remove(LOCAL, step.id)


def test_page_ends_between_steps_of_one_moment(archive, monkeypatch):
    monkeypatch.setattr("pacs.worklist.scheduled.PAGE_SIZE", 2)
    for number in range(7):
        archive.worklist.add(LOCAL, build_entry_json(RequestedProcedureID=f"R{number}"))
    found = [step.id for step in archive.worklist.find(LOCAL, parse_query({}))]
    assert found == sorted(found)
    assert len(found) == 7


def test_entry_of_several_steps_is_kept_whole_or_not_at_all(archive):
    uid = "2.25.9"
    archive.worklist.add(LOCAL, build_entry_json(StudyInstanceUID=uid, ScheduledProcedureStepID="S2"))
    entry = build_entry_json(StudyInstanceUID=uid)
    (item,) = entry["00400100"]["Value"]
    entry["00400100"]["Value"] = [item, {**item, "00400009": {"vr": "SH", "Value": ["S2"]}}]
    with pytest.raises(ScheduledStepExists):
        archive.worklist.add(LOCAL, entry)
    assert len(list(archive.worklist.find(LOCAL, parse_query({})))) == 1


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("ARRIVED", StepState.ARRIVED),
        ("STARTED", StepState.IN_PROGRESS),
        ("CANCELED", StepState.DISCONTINUED),
        ("UNKNOWN", StepState.SCHEDULED),
    ],
)
def test_status_of_an_entry_says_how_far_it_is(status, state):
    (entry,) = parse_entries(build_entry_json(ScheduledProcedureStepStatus=status))
    assert entry.state is state


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ScheduledProcedureStepStartDate", "2026"),
        ("ScheduledProcedureStepStartTime", "noon"),
        ("StudyInstanceUID", "CANARY"),
        ("PatientID", ["CANARY", "TWO"]),
    ],
)
def test_entry_that_makes_no_sense_is_refused_without_its_value(keyword, value):
    attributes = build_entry().to_json_dict()
    tag = {"StudyInstanceUID": "0020000D", "PatientID": "00100020"}.get(keyword)
    values = value if isinstance(value, list) else [value]
    if tag:
        attributes[tag]["Value"] = values
    else:
        item = attributes["00400100"]["Value"][0]
        item["00400002" if keyword.endswith("Date") else "00400003"]["Value"] = values
    with pytest.raises(InvalidEntry, match=keyword) as refused:
        parse_entries(attributes)
    assert "CANARY" not in str(refused.value)
