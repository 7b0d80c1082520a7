import pytest
from pydicom.dataset import Dataset

from pacs.dimse.retrieve import MoveService, Tally, Wanted, parse_identifier
from pacs.dimse.sending import Result
from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.query import MAX_VALUES, AnyOf, Equals
from tests.conformance.dimse.holding import build_identifier

ALL = tuple(Level)


def test_values_are_stripped_and_each_counts_once():
    wanted = parse_identifier(build_identifier("STUDY ", StudyInstanceUID=["1.2", "1.3", "1.2"]), ALL)
    assert wanted == Wanted(Level.STUDY, ("1.2", "1.3"))


def test_levels_above_are_conditions_and_those_below_are_not():
    identifier = build_identifier("SERIES", PatientID="A*", StudyInstanceUID=["1.2", "1.3"])
    identifier.SeriesInstanceUID, identifier.SOPInstanceUID = "1.4", "1.5"
    assert parse_identifier(identifier, ALL) == Wanted(
        Level.SERIES, ("1.4",), (Equals("PatientID", "A*"), AnyOf("StudyInstanceUID", ("1.2", "1.3")))
    )


def test_long_lists_are_asked_for_in_parts():
    uids = tuple(f"1.{number}" for number in range(2 * MAX_VALUES + 1))
    queries = list(Wanted(Level.INSTANCE, uids).iter_queries())
    assert [len(query.conditions[0].values) for query in queries[:2]] == [MAX_VALUES, MAX_VALUES]
    assert queries[2].conditions == (Equals("SOPInstanceUID", uids[-1]),)


def test_patients_are_found_by_their_studies():
    (query,) = Wanted(Level.PATIENT, ("P",)).iter_queries()
    assert (query.level, query.conditions) == (Level.STUDY, (Equals("PatientID", "P"),))


def test_too_many_values_are_refused():
    with pytest.raises(InvalidQuery, match="Too many"):
        parse_identifier(build_identifier("IMAGE", SOPInstanceUID=[f"1.{number}" for number in range(65_537)]), ALL)


@pytest.mark.parametrize(
    ("completed", "warning", "failed", "status"),
    [
        (0, 0, 0, 0x0000),
        (3, 0, 0, 0x0000),
        (3, 0, 1, 0xB000),
        (0, 1, 1, 0xB000),
        (0, 1, 0, 0xB000),
        (0, 0, 2, 0xA702),
    ],
)
def test_final_status_follows_the_counts(completed, warning, failed, status):
    assert Tally({}, completed, warning, ["1.2"] * failed).final_status == status


@pytest.mark.parametrize(("asked", "answered"), [(b"\1", b"\1"), (b"\0", b"\0"), (b"\1\1\1", b"\1"), (b"", None)])
def test_only_relational_retrieve_is_agreed_to(asked, answered):
    assert MoveService(None, None, None).negotiate("1.2", asked) == answered


def test_what_waits_when_nothing_more_can_be_sent_has_failed():
    class Record:
        row_id, sop_instance_uid = 1, "1.1"

    tally = Tally({1: "1.1", 2: "1.2", 3: "1.3"})
    tally.add(Result(Record, 0x0000))
    tally.fail_rest()
    assert (tally.remaining, tally.completed, tally.failed) == (0, 1, ["1.2", "1.3"])


def test_identifier_without_anything_is_refused():
    with pytest.raises(InvalidQuery, match="Level"):
        parse_identifier(Dataset(), ALL)
