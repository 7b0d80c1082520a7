"""What is corrected or coerced leaves over DIMSE as it does everywhere, with what was there before."""

from io import BytesIO

import pydicom
import pytest

from pacs.access import LOCAL
from pacs.app import build_destinations, open_archive
from pacs.config import CoercionRuleSettings, DimseSettings, PeerSettings, Settings, StorageSettings
from pacs.correction import PatientKey
from tests.conformance.dimse.holding import build_identifier, build_study, destination, move, serve, store
from tests.conformance.dimse.receivers import run_receiver
from tests.conformance.dimse.scu import IMPLICIT
from tests.conformance.dimse.test_get import Getter

RULES = (
    CoercionRuleSettings(direction="out", to=("DEST", "TESTER"), set={"InstitutionName": "Elsewhere"}),
    CoercionRuleSettings(direction="out", to=("OTHER",), set={"InstitutionName": "Nowhere"}),
)


@pytest.fixture
def coercing(tmp_path):
    """An archive whose rules change what leaves for DEST and TESTER."""
    settings = Settings(data_dir=tmp_path, storage=StorageSettings(url="memory:"), coercion=RULES)
    with open_archive(settings) as parts:
        yield parts.archive


def read(data_set):
    return pydicom.dcmread(BytesIO(data_set), force=True)


def test_corrected_study_is_moved_with_its_new_values_and_the_old_ones_beside(archive):
    study, other = build_study(2, PatientID="P1"), build_study(1, PatientID="P2", PatientName="Right^Name")
    store(archive, *study, *other)
    archive.correct.move_study(LOCAL, study[0].StudyInstanceUID, PatientKey("P2"), reason="Wrong patient")
    with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
        responses = move(server, build_identifier("STUDY", StudyInstanceUID=study[0].StudyInstanceUID))
        assert responses[-1][0].Status == 0
        assert len(receiver.received) == 2
        for one in receiver.received:
            left = read(one.data_set)
            assert (left.PatientID, left.PatientName) == ("P2", "Right^Name")
            (old,) = left.OriginalAttributesSequence[0].ModifiedAttributesSequence
            assert (old.PatientID, old.PatientName) == ("P1", "TEST^BUILT")


def test_rule_out_holds_for_the_move_destination(coercing):
    study = build_study(1)
    store(coercing, *study)
    with run_receiver() as receiver, serve(coercing, destination(receiver.port)) as server:
        move(server, build_identifier("STUDY", StudyInstanceUID=study[0].StudyInstanceUID))
        (one,) = receiver.received
        left = read(one.data_set)
        assert left.InstitutionName == "Elsewhere"
        assert left.OriginalAttributesSequence[0].ReasonForTheAttributeModification == "COERCE"


def test_rule_out_holds_for_who_gets(coercing):
    study = build_study(1)
    store(coercing, *study)
    getter = Getter()
    with serve(coercing) as server:
        getter.get(server, build_identifier("STUDY", StudyInstanceUID=study[0].StudyInstanceUID), syntaxes=(IMPLICIT,))
    (data_set,) = getter.received.values()
    assert read(data_set).InstitutionName == "Elsewhere"


def test_rule_out_holds_for_what_is_forwarded(tmp_path):
    with run_receiver() as receiver:
        peer = PeerSettings(ae_title="DEST", address="127.0.0.1", port=receiver.port)
        settings = Settings(
            data_dir=tmp_path,
            storage=StorageSettings(url="memory:"),
            coercion=RULES,
            dimse=DimseSettings(peers=(peer,)),
        )
        with open_archive(settings) as parts:
            study = build_study(1)
            store(parts.archive, *study)
            records = parts.archive.retrieve.find_instances(LOCAL, study[0].StudyInstanceUID)
            (sent,) = build_destinations(settings, parts.archive)["DEST"].send(records)
        assert sent.is_delivered
        assert read(receiver.received[0].data_set).InstitutionName == "Elsewhere"
