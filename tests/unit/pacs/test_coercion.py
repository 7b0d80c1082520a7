"""Coercion on the way in is recorded and the original kept; on the way out it is kept nowhere."""

import io
import json

import pydicom
import pytest

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import CoercionRuleSettings, Settings, StorageSettings
from pacs.errors import InvalidSetting
from pacs.ingest.coercion import build_rules, coerce_out
from pacs.ingest.incoming import Incoming
from pacs.ingest.outcome import Disposition
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION, Door, Level, Origin
from pacs.query import Equals, Query
from pacs.tags import text_of
from tests.builders import as_part10, build_ct


@pytest.fixture
def coercing(tmp_path):
    """Open an archive with these rules."""
    opened = []

    def open_with(*rules):
        settings = Settings(
            data_dir=tmp_path,
            storage=StorageSettings(url="memory:"),
            coercion=tuple(CoercionRuleSettings(**rule) for rule in rules),
        )
        manager = open_archive(settings)
        opened.append(manager)
        return manager.__enter__()

    yield open_with
    for manager in opened:
        manager.__exit__(None, None, None)


def store(parts, data, **origin):
    with parts.archive.ingest.open_spool() as spool:
        spool.write(data)
        return parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, **origin)))


def find(parts, level, *conditions):
    return parts.archive.search.search(LOCAL, Query(level, conditions)).matches


def read(parts, dataset):
    (record,) = parts.archive.retrieve.find_instances(LOCAL, dataset.StudyInstanceUID)
    with parts.archive.retrieve.open_instance(LOCAL, record) as representation:
        left = pydicom.dcmread(io.BytesIO(b"".join(representation.iter_chunks())))
    ((_, header),) = parts.archive.retrieve.iter_metadata(LOCAL, dataset.StudyInstanceUID)
    return left, json.loads(header)


IN = {
    "direction": "in",
    "when": {"CallingAETitle": "OLD_CT"},
    "set": {"InstitutionName": "مستشفى"},
    "fill": {"StudyID": "S1", "AccessionNumber": "NEVER"},
    "remove": ["PatientAge"],
}


def test_what_comes_in_is_coerced_on_every_door_and_recorded_and_its_bytes_stay(coercing):
    parts = coercing(IN)
    dataset = build_ct(StudyID="", SpecificCharacterSet="ISO_IR 192", InstitutionName="Hôpital")
    data = as_part10(dataset)
    assert store(parts, data, calling_ae_title="OLD_CT").disposition is Disposition.STORED
    for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
        (match,) = find(parts, level, Equals("StudyID", "S1"), Equals("InstitutionName", "مستشفى"))
        assert text_of(match.attributes, "AccessionNumber") == "ACC1"
    left, header = read(parts, dataset)
    assert (left.InstitutionName, left.StudyID, left.AccessionNumber) == ("مستشفى", "S1", "ACC1")
    assert not left.get("PatientAge")
    (item,) = left.OriginalAttributesSequence
    assert item.ReasonForTheAttributeModification == "COERCE"
    assert item.SourceOfPreviousValues == "OLD_CT"
    assert item.ModifiedAttributesSequence[0].InstitutionName == "Hôpital"
    assert item.ModifiedAttributesSequence[0].PatientAge == "054Y"
    assert header["00080080"]["Value"] == ["مستشفى"]
    (copy,) = verify_copies(parts.database, parts.store, CLINICAL_PARTITION)
    assert not copy.problem
    assert parts.store.open(copy.copy.location.blob_key).read() == data


def test_duplicates_are_judged_by_what_was_received(coercing):
    parts = coercing(IN)
    data = as_part10(build_ct(StudyID=""))
    assert store(parts, data, calling_ae_title="OLD_CT").disposition is Disposition.STORED
    assert store(parts, data, calling_ae_title="OLD_CT").disposition is Disposition.DUPLICATE
    assert store(parts, data, calling_ae_title="NEW_CT").disposition is Disposition.DUPLICATE


def test_rule_that_does_not_hold_changes_nothing(coercing):
    parts = coercing(IN)
    dataset = build_ct(StudyID="")
    store(parts, as_part10(dataset), calling_ae_title="NEW_CT")
    left, _ = read(parts, dataset)
    assert "OriginalAttributesSequence" not in left
    assert left.PatientAge == "054Y"


def test_coerced_patient_id_and_issuer_make_the_patient(coercing):
    parts = coercing(
        {"direction": "in", "set": {"IssuerOfPatientID": "SITE_B"}},
        {"direction": "in", "when": {"IssuerOfPatientID": "SITE_B"}, "set": {"PatientID": "B-1"}},
    )
    dataset = build_ct()
    store(parts, as_part10(dataset))
    (patient,) = find(parts, Level.PATIENT)
    assert (text_of(patient.attributes, "PatientID"), text_of(patient.attributes, "IssuerOfPatientID")) == (
        "B-1", "SITE_B")  # fmt: skip
    left, _ = read(parts, dataset)
    assert left.PatientID == "B-1"
    assert len(left.OriginalAttributesSequence) == 2


def test_rule_out_changes_what_leaves_for_its_destinations_only():
    rules = build_rules([CoercionRuleSettings(direction="out", to=("WORKSTATION",), set={"InstitutionName": "X"}),
                         CoercionRuleSettings(direction="out", remove=("PatientAge",)),
                         CoercionRuleSettings(direction="in", set={"StudyID": "9"})])  # fmt: skip
    attributes = {"00080080": {"vr": "LO", "Value": ["Y"]}, "00101010": {"vr": "AS", "Value": ["054Y"]}}
    origin = Origin(Door.DIMSE)
    changed = [step.changes for step in coerce_out(rules, "WORKSTATION", attributes, origin)]
    assert changed == [{"00080080": {"vr": "LO", "Value": ["X"]}}, {"00101010": {"vr": "AS"}}]
    (step,) = coerce_out(rules, "OTHER", attributes, origin)
    assert step.changes == {"00101010": {"vr": "AS"}}
    assert coerce_out(rules, "OTHER", {}, origin) == ()


@pytest.mark.parametrize(
    "rule",
    [
        {"set": {"SOPInstanceUID": "1.2.3"}},
        {"fill": {"StudyInstanceUID": "1.2.3"}},
        {"remove": ["SeriesInstanceUID"]},
        {"set": {"SOPClassUID": "1.2.3"}},
        {"set": {"PatientBirthDate": "yesterday"}},
        {"set": {"NoSuchKeyword": "1"}},
        {"when": {"NoSuchKeyword": "1"}, "set": {"StudyID": "1"}},
    ],
)
def test_rule_that_makes_no_sense_is_refused_at_the_start(tmp_path, rule):
    settings = Settings(
        data_dir=tmp_path,
        storage=StorageSettings(url="memory:"),
        coercion=(CoercionRuleSettings(direction="in", set={"StudyID": "1"}),
                  CoercionRuleSettings(**{"direction": "in"} | rule)),
    )  # fmt: skip
    with pytest.raises(InvalidSetting, match=r"coercion\.1"), open_archive(settings):
        pass
