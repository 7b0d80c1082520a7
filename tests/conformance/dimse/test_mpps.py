"""Modality Performed Procedure Step as SCP (PS3.4 F.7, F.8), asked by pynetdicom's SCU."""

from contextlib import contextmanager

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pynetdicom import build_context, evt

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.dimse.calling import Caller
from pacs.dimse.mpps import PERFORMED_STEP, PERFORMED_STEP_RETRIEVE, PerformedStepService
from pacs.dimse.mpps_forwarding import PerformedStepCaller
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from pacs.jobs.queue import list_jobs
from pacs.routing.destinations import Unreachable
from pacs.tags import tag_of
from pacs.worklist import PerformedSteps, StepState, parse_query
from pacs.worklist.performed import FORWARD_JOB
from tests.builders import new_uid
from tests.conformance.dimse.scu import EXPLICIT, IMPLICIT, associate
from tests.worklist_entries import build_ending, build_entry, build_performed

SUCCESS = 0x0000
CONTEXTS = [build_context(PERFORMED_STEP, [EXPLICIT, IMPLICIT]), build_context(PERFORMED_STEP_RETRIEVE, IMPLICIT)]


@contextmanager
def connected(archive):
    server = create_server(archive, port=0, services=[PerformedStepService(archive.performed_steps)])
    server.start()
    try:
        with associate(server.port, CONTEXTS, calling="CT1") as association:
            yield association
    finally:
        server.stop(grace_seconds=2)


@pytest.fixture
def modality(archive):
    with connected(archive) as association:
        yield association


@pytest.fixture
def schedule(archive):
    """Keep an entry and return it, with the number of its step."""

    def keep(**overrides):
        entry = build_entry(**overrides)
        (step,) = archive.worklist.add(LOCAL, entry.to_json_dict())
        return entry, step.id

    return keep


def create(modality, performed, uid=None):
    status, _ = modality.send_n_create(performed, PERFORMED_STEP, uid or new_uid())
    return status


def change(modality, uid, changes):
    status, _ = modality.send_n_set(changes, PERFORMED_STEP, uid)
    return status


def state_of(archive, step_id) -> StepState:
    return archive.worklist.get(LOCAL, step_id).state


def test_step_in_progress_is_created_and_moves_its_scheduled_step(archive, modality, schedule):
    entry, step_id = schedule()
    uid = new_uid()
    assert create(modality, build_performed(entry), uid).Status == SUCCESS
    assert archive.performed_steps.get(LOCAL, uid).state == "IN PROGRESS"
    assert state_of(archive, step_id) is StepState.IN_PROGRESS
    (listed,) = archive.worklist.find(LOCAL, parse_query({}))
    assert listed.step["00400020"]["Value"] == ["STARTED"]


@pytest.mark.parametrize("state", ["COMPLETED", "DISCONTINUED"])
def test_create_only_in_progress(archive, modality, schedule, state):
    entry, step_id = schedule()
    answers = []
    modality.bind(evt.EVT_DIMSE_RECV, lambda event: answers.append(event.message.data_set.getvalue()))
    status = create(modality, build_performed(entry, PerformedProcedureStepStatus=state))
    assert status.Status == 0x0106
    assert state.encode() in answers[0]  # with the Attribute List that F.7.2.1.3 asks for
    assert state_of(archive, step_id) is StepState.SCHEDULED


def test_create_under_a_taken_uid_is_a_duplicate(archive, modality):
    uid = new_uid()
    first = build_performed(PerformedProcedureStepID="FIRST")
    assert create(modality, first, uid).Status == SUCCESS
    assert create(modality, build_performed(PerformedProcedureStepID="SECOND"), uid).Status == 0x0111
    kept = archive.performed_steps.get(LOCAL, uid).attributes
    assert kept["00400253"]["Value"] == ["FIRST"]


@pytest.mark.parametrize(
    "keyword",
    [
        "ScheduledStepAttributesSequence",
        "PerformedProcedureStepID",
        "PerformedStationAETitle",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "PerformedProcedureStepStatus",
        "Modality",
    ],
)
def test_create_without_a_required_attribute_or_its_value(modality, keyword):
    status = create(modality, build_performed(**{keyword: None}))
    assert status.Status == 0x0120
    assert keyword in status.ErrorComment
    empty = build_performed()
    setattr(empty, keyword, [] if keyword.endswith("Sequence") else "")
    assert create(modality, empty).Status == 0x0121


def test_create_without_the_study_of_a_step(modality):
    performed = build_performed()
    del performed.ScheduledStepAttributesSequence[0].StudyInstanceUID
    assert create(modality, performed).Status == 0x0120


def test_create_without_a_uid_gets_one(archive, modality):
    answers = []
    modality.bind(evt.EVT_DIMSE_RECV, lambda event: answers.append(event.message.command_set))
    status, _ = modality.send_n_create(build_performed(), PERFORMED_STEP, None)
    assert status.Status == SUCCESS
    (uid,) = (answer.AffectedSOPInstanceUID for answer in answers)
    assert archive.performed_steps.get(LOCAL, uid).state == "IN PROGRESS"


@pytest.mark.parametrize("state", ["COMPLETED", "DISCONTINUED"])
def test_set_ends_the_step_and_replaces_top_level_attributes(archive, modality, schedule, state):
    entry, step_id = schedule()
    uid = new_uid()
    create(modality, build_performed(entry), uid)
    first = build_ending("IN PROGRESS", PerformedProcedureStepDescription="Scout")
    assert change(modality, uid, first).Status == SUCCESS
    assert state_of(archive, step_id) is StepState.IN_PROGRESS
    last = build_ending(state)
    assert change(modality, uid, last).Status == SUCCESS
    kept = archive.performed_steps.get(LOCAL, uid)
    assert kept.state == state
    (series,) = kept.attributes["00400340"]["Value"]
    assert series["0020000E"]["Value"] == [str(last.PerformedSeriesSequence[0].SeriesInstanceUID)]
    assert kept.attributes["00400254"]["Value"] == ["Scout"]
    assert state_of(archive, step_id) is StepState(state)
    assert list(archive.worklist.find(LOCAL, parse_query({}))) == []


@pytest.mark.parametrize("state", ["COMPLETED", "DISCONTINUED"])
def test_set_after_a_final_state_fails_with_error_id_a710(archive, modality, state):
    uid = new_uid()
    create(modality, build_performed(), uid)
    change(modality, uid, build_ending(state))
    status = change(modality, uid, build_ending("IN PROGRESS", PerformedProcedureStepDescription="late"))
    assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    assert "00400254" not in archive.performed_steps.get(LOCAL, uid).attributes


def test_set_of_an_unknown_step(modality):
    assert change(modality, new_uid(), build_ending()).Status == 0x0112


def test_set_to_no_state_of_the_standard(modality):
    uid = new_uid()
    create(modality, build_performed(), uid)
    assert change(modality, uid, build_ending("FINISHED")).Status == 0x0106


def test_set_leaves_what_may_not_change_and_names_it(archive, modality):
    uid = new_uid()
    create(modality, build_performed(), uid)
    changes = Dataset()
    changes.PatientID = "ANOTHER"
    changes.Modality = "CT"  # the same as before: nothing to complain about
    changes.PerformedProcedureStepDescription = "Thorax"
    status = change(modality, uid, changes)
    assert status.Status == 0x0107
    kept = archive.performed_steps.get(LOCAL, uid).attributes
    assert kept["00100020"]["Value"] == ["U-1"]
    assert kept["00400254"]["Value"] == ["Thorax"]


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AdmissionID",
        "ServiceEpisodeID", "ServiceEpisodeDescription", "PerformedProcedureStepID", "PerformedStationAETitle",
        "PerformedStationName", "PerformedLocation", "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime", "Modality", "StudyID", "OtherPatientIDsSequence",
        "ReferencedPatientSequence", "IssuerOfPatientIDQualifiersSequence", "IssuerOfAdmissionIDSequence",
        "IssuerOfServiceEpisodeIDSequence", "ScheduledStepAttributesSequence",
    ],
)  # fmt: skip
def test_set_changes_nothing_that_table_f_7_2_1_does_not_allow(archive, modality, keyword):
    uid = new_uid()
    create(modality, build_performed(), uid)
    before = archive.performed_steps.get(LOCAL, uid).attributes
    changes, item = Dataset(), Dataset()
    item.PatientID = "OTHER"
    value = {"DA": "20200101", "TM": "010203", "CS": "O", "SQ": [item]}.get(dictionary_VR(keyword), "OTHER")
    setattr(changes, keyword, value)
    assert change(modality, uid, changes).Status == 0x0107
    assert archive.performed_steps.get(LOCAL, uid).attributes == before


@pytest.mark.parametrize(
    "keyword",
    [
        "PerformedProcedureStepDescription", "PerformedProcedureTypeDescription", "ProcedureCodeSequence",
        "ReasonForPerformedProcedureCodeSequence", "PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime",
        "CommentsOnThePerformedProcedureStep", "PerformedProcedureStepDiscontinuationReasonCodeSequence",
        "PerformedProtocolCodeSequence", "PerformedSeriesSequence",
    ],
)  # fmt: skip
def test_set_changes_what_table_f_7_2_1_allows(archive, modality, keyword):
    uid = new_uid()
    create(modality, build_performed(), uid)
    changes, item = Dataset(), Dataset()
    item.CodeValue = "X1"
    value = {"DA": "20200101", "TM": "010203", "SQ": [item]}.get(dictionary_VR(keyword), "NEW")
    setattr(changes, keyword, value)
    assert change(modality, uid, changes).Status == SUCCESS
    kept = archive.performed_steps.get(LOCAL, uid).attributes
    assert kept[tag_of(keyword)] == changes.to_json_dict()[tag_of(keyword)]


def test_unscheduled_step_is_accepted(archive, modality, schedule):
    _, step_id = schedule()
    uid = new_uid()
    assert create(modality, build_performed(), uid).Status == SUCCESS
    assert change(modality, uid, build_ending()).Status == SUCCESS
    assert state_of(archive, step_id) is StepState.SCHEDULED


def test_grouped_steps_move_together(archive, modality, schedule):
    thorax, first = schedule(RequestedProcedureID="R1", AccessionNumber="A1")
    abdomen, second = schedule(RequestedProcedureID="R2", AccessionNumber="A2")
    _, other = schedule(RequestedProcedureID="R3", AccessionNumber="A3")
    uid = new_uid()
    assert create(modality, build_performed(thorax, abdomen), uid).Status == SUCCESS
    assert change(modality, uid, build_ending()).Status == SUCCESS
    states = [state_of(archive, step_id) for step_id in (first, second, other)]
    assert states == [StepState.COMPLETED, StepState.COMPLETED, StepState.SCHEDULED]


def test_appended_step_is_accepted_and_leaves_what_is_completed(archive, modality, schedule):
    entry, step_id = schedule()
    uid, appended = new_uid(), new_uid()
    create(modality, build_performed(entry), uid)
    change(modality, uid, build_ending())
    assert create(modality, build_performed(entry, PerformedProcedureStepID="P2"), appended).Status == SUCCESS
    assert state_of(archive, step_id) is StepState.COMPLETED
    assert change(modality, appended, build_ending("DISCONTINUED")).Status == SUCCESS
    assert state_of(archive, step_id) is StepState.COMPLETED


def test_several_performed_steps_of_one_scheduled_step(archive, modality, schedule):
    entry, step_id = schedule()
    first, second = new_uid(), new_uid()
    create(modality, build_performed(entry), first)
    change(modality, first, build_ending("DISCONTINUED"))
    assert state_of(archive, step_id) is StepState.DISCONTINUED
    create(modality, build_performed(entry), second)
    assert state_of(archive, step_id) is StepState.IN_PROGRESS
    change(modality, second, build_ending())
    assert state_of(archive, step_id) is StepState.COMPLETED


def test_wrong_worklist_entry_puts_the_step_back(archive, modality, schedule):
    entry, step_id = schedule()
    uid = new_uid()
    create(modality, build_performed(entry), uid)
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator = "110514", "DCM"
    reason.CodeMeaning = "Incorrect worklist entry selected"
    ending = build_ending("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason])
    assert change(modality, uid, ending).Status == SUCCESS
    assert state_of(archive, step_id) is StepState.SCHEDULED


@pytest.mark.parametrize("known", ["study", "procedure and accession", "procedure"])
def test_step_is_found_by_its_id_with_study_procedure_or_accession(archive, modality, schedule, known):
    entry, step_id = schedule()
    # Many systems number the steps of every order from 1: another patient's must not move.
    _, other = schedule(PatientID="OTHER", AccessionNumber="OTHER", RequestedProcedureID="R1")
    performed = build_performed(entry)
    (item,) = performed.ScheduledStepAttributesSequence
    if known == "study":
        item.RequestedProcedureID = item.AccessionNumber = ""
    else:
        item.StudyInstanceUID = new_uid()  # a device that makes its own
        if known == "procedure":
            item.AccessionNumber = ""
    create(modality, performed)
    assert state_of(archive, step_id) is StepState.IN_PROGRESS
    assert state_of(archive, other) is StepState.SCHEDULED


def test_names_in_french_and_arabic_are_kept(archive, modality):
    for term, name in (("ISO_IR 100", "Bénali^Fâtima"), ("ISO_IR 127", "الفاسي^فاطمة")):
        uid = new_uid()
        assert create(modality, build_performed(PatientName=name, SpecificCharacterSet=term), uid).Status == SUCCESS
        # What N-SET declares is for what it carries, not for what is there already (PS3.4 F.7.2.2.3).
        later = build_ending(PerformedProcedureStepDescription="Ā", SpecificCharacterSet="ISO_IR 192")
        assert change(modality, uid, later).Status == SUCCESS
        kept = archive.performed_steps.get(LOCAL, uid).attributes
        assert kept["00100010"]["Value"] == [{"Alphabetic": name}]
        assert kept["00400254"]["Value"] == ["Ā"]


def test_retrieve_gives_the_attributes_that_are_asked_for(modality):
    uid = new_uid()
    create(modality, build_performed(PatientName="الفاسي^فاطمة"), uid)
    status, step = modality.send_n_get([0x00100010, 0x00400252], PERFORMED_STEP_RETRIEVE, uid)
    assert status.Status == SUCCESS
    assert (step.PatientName, step.PerformedProcedureStepStatus) == ("الفاسي^فاطمة", "IN PROGRESS")
    assert "Modality" not in step
    status, step = modality.send_n_get([], PERFORMED_STEP_RETRIEVE, uid)
    assert step.Modality == "CT"
    status, _ = modality.send_n_get([], PERFORMED_STEP_RETRIEVE, new_uid())
    assert status.Status == 0x0112


def test_operation_of_another_class_is_not_recognized(modality):
    uid = new_uid()
    create(modality, build_performed(), uid)
    assert modality.send_n_get([], PERFORMED_STEP, uid)[0].Status == 0x0211
    assert modality.send_n_set(build_ending(), PERFORMED_STEP_RETRIEVE, uid)[0].Status == 0x0211
    assert modality.send_n_delete(PERFORMED_STEP, uid).Status == 0x0211
    assert change(modality, uid, build_ending()).Status == SUCCESS


def test_hostile_data_set_is_refused_and_the_association_lives(modality):
    deep = Dataset()
    for _ in range(40):
        outer = Dataset()
        outer.ScheduledStepAttributesSequence = [deep]
        deep = outer
    series = [Dataset() for _ in range(10)]
    for item in series:
        item.SeriesDescription = "x" * 50_000
    huge = build_performed(PerformedSeriesSequence=series)
    for performed in (deep, huge):
        assert create(modality, performed).Status == 0x0106
    assert create(modality, build_performed()).Status == SUCCESS


def test_uid_that_is_none_is_refused(modality):
    assert create(modality, build_performed(), "1.2.x").Status == 0x0117


def test_restart_keeps_everything(tmp_path):
    settings = Settings(data_dir=tmp_path / "archive", storage=StorageSettings(url="memory:"))
    check_restart(settings)


@pytest.mark.postgres
def test_restart_keeps_everything_on_postgresql(tmp_path, postgres_url):
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=postgres_url),
    )
    check_restart(settings)


def check_restart(settings):
    entry = build_entry(PatientName="Bénali^Fâtima")
    uid = new_uid()
    with open_archive(settings) as parts:
        (step,) = parts.archive.worklist.add(LOCAL, entry.to_json_dict())
        with connected(parts.archive) as modality:
            assert create(modality, build_performed(entry), uid).Status == SUCCESS
    with open_archive(settings) as parts, connected(parts.archive) as modality:
        assert state_of(parts.archive, step.id) is StepState.IN_PROGRESS
        assert create(modality, build_performed(entry), uid).Status == 0x0111
        assert change(modality, uid, build_ending()).Status == SUCCESS
    with open_archive(settings) as parts, connected(parts.archive) as modality:
        kept = parts.archive.worklist.get(LOCAL, step.id)
        assert kept.state is StepState.COMPLETED
        assert kept.attributes["00100010"]["Value"] == [{"Alphabetic": "Bénali^Fâtima"}]
        assert change(modality, uid, build_ending()).Status == 0x0110


@contextmanager
def receiving(tmp_path):
    """Run another archive as a RIS; yield it and what calls it."""
    settings = Settings(data_dir=tmp_path / "ris", storage=StorageSettings(url="memory:"))
    with open_archive(settings) as ris:
        service = PerformedStepService(ris.archive.performed_steps)
        server = create_server(ris.archive, port=0, services=[service])
        server.start()
        peer = Peer("RIS", address="127.0.0.1", port=server.port, answer_character_set="ISO_IR 127")
        yield ris.archive.performed_steps, PerformedStepCaller(Caller("PACS"), Peers((peer,)))
        server.stop(grace_seconds=2)


@pytest.mark.parametrize("told", [("begun", "ended"), ("ended",), ("begun", "begun", "ended", "ended")], ids=str)
def test_performed_step_is_forwarded_whatever_the_peer_was_told_before(archive, tmp_path, told):
    steps = archive.performed_steps
    uid = steps.create(LOCAL, "", build_performed(PatientName="الفاسي^فاطمة").to_json_dict())
    states = {"begun": steps.get(LOCAL, uid)}
    steps.update(LOCAL, uid, build_ending().to_json_dict())
    states["ended"] = steps.get(LOCAL, uid)
    with receiving(tmp_path) as (theirs, caller):
        for state in told:
            assert caller.tell("RIS", states[state]) == ""
        kept = theirs.get(LOCAL, uid)
    assert kept.state == "COMPLETED"
    assert kept.attributes == states["ended"].attributes


def test_peer_that_cannot_be_called_blocks_its_lane(archive):
    uid = archive.performed_steps.create(LOCAL, "", build_performed().to_json_dict())
    step = archive.performed_steps.get(LOCAL, uid)
    with pytest.raises(Unreachable):
        PerformedStepCaller(Caller("PACS"), Peers()).tell("RIS", step)


def test_what_is_to_be_forwarded_is_queued_once_for_each_peer_without_patient_values(parts):
    steps = PerformedSteps(parts.database, 0, forward_to=["RIS", "DOSE"])
    uid = steps.create(LOCAL, "", build_performed().to_json_dict())
    steps.update(LOCAL, uid, build_ending().to_json_dict())
    with parts.database.read() as connection:
        jobs = [job for job in list_jobs(connection) if job.kind == FORWARD_JOB]
    assert sorted(job.lane for job in jobs) == ["DOSE", "RIS"]
    assert {job.key for job in jobs} == {uid}
    assert all(job.payload == {} for job in jobs)
