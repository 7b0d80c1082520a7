import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from pacs.index.metadata import dump
from pacs.index.rows import NewInstance, prepare
from pacs.model import Attributes, Door, Header, Location, Origin
from pacs.normal import normal_date, normal_time
from pacs.tags import tag_of, vr_of


def build(issuer: str = "", **values: Any) -> NewInstance:
    attributes: Attributes = {
        tag_of(keyword): {"vr": vr_of(keyword), "Value": [value]} for keyword, value in values.items()
    }
    attributes[tag_of("StudyInstanceUID")] = {"vr": "UI", "Value": ["1.2"]}
    digest = hashlib.sha256(b"").hexdigest()
    origin = Origin(Door.DIMSE, issuer_of_patient_id=issuer)
    header = Header("1.2.840.10008.1.2.1", 0, attributes)
    return NewInstance(0, header, b"", Location("key", 0, 1), digest, origin, datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("20240229", "20240229"),
        ("2024.02.29", "20240229"),
        ("20230229", None),
        ("2024-02-29", None),
        ("2024.0229", None),
        ("00000101", None),
        ("٢٠٢٤٠٢٢٩", None),
        ("", None),
    ],
)
def test_a_date_is_normal_or_nothing(text: str, normal: str | None) -> None:
    assert normal_date(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("10", "100000.000000"),
        ("1030", "103000.000000"),
        ("103059", "103059.000000"),
        ("103059.5", "103059.500000"),
        ("10:30:59.25", "103059.250000"),
        ("235960", "235960.000000"),
        ("24", None),
        ("1060", None),
        ("103059.1234567", None),
        ("noon", None),
    ],
)
def test_a_time_is_normal_or_nothing(text: str, normal: str | None) -> None:
    assert normal_time(text) == normal


def test_identity_is_issuer_and_patient_id() -> None:
    identities = [
        prepare(build(PatientID="1", IssuerOfPatientID="A")).identity,
        prepare(build(PatientID="1", IssuerOfPatientID="A", issuer="B")).identity,
        prepare(build(PatientID="1", issuer="A")).identity,
        prepare(build(PatientID="1")).identity,
        prepare(build(PatientID="A1")).identity,
        prepare(build()).identity,
    ]
    assert len(set(identities[:3])) == 1
    assert len(set(identities)) == 4


def test_an_identity_that_is_too_long_for_an_index_is_cut_and_stays_its_own() -> None:
    one, other = (prepare(build(PatientID="x" * 5000 + end)).identity for end in "ab")
    assert one != other
    assert max(len(one), len(other)) < 700


def test_match_columns_are_normal_and_answers_are_as_received() -> None:
    row = prepare(build(PatientSex="f", StudyDate="2024.01.02", StudyDescription="x" * 1000)).study
    assert (row["patient_sex"], row["study_date"], len(row["study_description"])) == ("F", "20240102", 256)
    answer = orjson.loads(row["attributes"])
    assert answer[tag_of("StudyDate")]["Value"] == ["2024.01.02"]
    assert len(answer[tag_of("StudyDescription")]["Value"][0]) == 1000


@pytest.mark.parametrize("value", ["1.5", "9" * 20, "x", None, {"Alphabetic": "1"}])
def test_a_number_that_is_none_is_not_matched(value: object) -> None:
    assert prepare(build(InstanceNumber=value)).instance["instance_number"] in (None, 1)


def test_an_instance_row_is_small() -> None:
    longest = "9" * 64
    prepared = prepare(build(SOPInstanceUID=longest, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", InstanceNumber=1))
    row = prepared.instance | {"series_row_id": 2**40, "blob_key": "sha256/aa/" + "0" * 64}
    assert sum(len(value) if isinstance(value, str | bytes) else 8 for value in row.values()) < 400


def test_json_holds_what_json_cannot() -> None:
    assert orjson.loads(dump({"a": ["\ud800x", 2**70, float("nan"), True, None, 1.5, (1,)]})) == {
        "a": ["?x", str(2**70), None, True, None, 1.5, [1]]
    }


@pytest.mark.parametrize("length", [1, 5_000])
def test_what_is_remembered_of_a_series_is_what_its_attributes_say(length: int) -> None:
    """The longer ones are too long to be remembered."""
    values = {"StudyDescription": "x" * length, "AdditionalPatientHistory": "y" * 2 * length, "StudyDate": "2024.01.02"}
    first = prepare(build(**values))
    first.study["study_date"] = first.series["modality"] = "spoilt"
    again = prepare(build(**values, Modality="ct", SeriesNumber="7"))
    assert (again.study["study_date"], again.study["study_description"]) == ("20240102", "x" * min(length, 256))
    assert (again.series["modality"], again.series["series_number"]) == ("CT", 7)
    other = prepare(build("issuer", **values | {"StudyDate": "20240103"}, Modality="MR"))
    assert (other.study["study_date"], other.study["issuer_of_patient_id"]) == ("20240103", "issuer")
    assert (other.series["modality"], other.series["series_number"]) == ("MR", None)
    assert prepare(build(**values)).study["issuer_of_patient_id"] is None
    assert prepare(build(**values)).series["modality"] is None
