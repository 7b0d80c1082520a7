"""Reports that complete the work item that waits for them: which report, which item, and what the item says then."""

import pytest
from pydicom import uid as uids

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings, StorageSettings
from pacs.index import changes
from pacs.ingest.incoming import Incoming
from pacs.jobs import queue
from pacs.model import CLINICAL_PARTITION, Cursor, Door, Origin
from pacs.tags import text_of, values_of
from pacs.workitems import State
from pacs.workitems.problems import WorkitemEnded
from pacs.workitems.reports import KIND, LANE, ReportCompleter, find_ended
from tests.builders import as_part10, build_code, build_ct, build_pdf, build_sr, new_uid
from tests.work_items import READING, SEGMENTING, build_performed, build_workitem, code, data_set

KEY = "1.7.7531"
TRANSCRIBING = ("110006", "DCM", "Transcription")
VERIFYING = ("110007", "DCM", "Report Verification")
RADIOLOGY_REPORT = ("18782-3", "LN", "Radiology Report")
MEASUREMENTS = ("126000", "DCM", "Imaging Measurement Report")


@pytest.fixture
def worklist(parts):
    return parts.archive.workitems


@pytest.fixture
def completer(parts, worklist):
    return ReportCompleter(parts.database, worklist, CLINICAL_PARTITION, "PACS")


def build_report(title=RADIOLOGY_REPORT, **overrides):
    values = {"CompletionFlag": "COMPLETE", "VerificationFlag": "VERIFIED", "SOPClassUID": uids.BasicTextSRStorage}
    return build_sr(ConceptNameCodeSequence=[build_code(*title)], **(values | overrides))


def schedule(worklist, study, *codes, **overrides):
    values = {"ReferencedRequestSequence": [data_set(StudyInstanceUID=study)]}
    if codes:
        values["ScheduledWorkitemCodeSequence"] = [code(*one) for one in codes]
    return worklist.create(LOCAL, build_workitem(**(values | overrides)))[0]


def store(parts, *datasets):
    for dataset in datasets:
        with parts.archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            assert parts.archive.ingest.store(Incoming(spool, Origin(Door.STOW))).is_stored


def follow(parts, completer):
    """Do what the change log makes necessary, from its beginning; return the keys of the jobs."""
    with parts.database.read() as connection:
        found = changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 100)
        jobs = completer.plan(connection, found) if found else []
    for job in jobs:
        parts.database.write(lambda connection, job=job: queue.enqueue(connection, [job], found[-1].at))
        with parts.database.read() as connection:
            listed = queue.find_job(connection, KIND, LANE, job.key)
        assert len(list(completer.complete([listed]))) == 1
    return [job.key for job in jobs]


def state_of(worklist, uid):
    return State(text_of(worklist.get(LOCAL, uid), "ProcedureStepState"))


def outputs_of(worklist, uid):
    performed = values_of(worklist.get(LOCAL, uid), "UnifiedProcedureStepPerformedProcedureSequence")
    return [
        text_of(reference, "ReferencedSOPInstanceUID")
        for item in performed
        for output in values_of(item, "OutputInformationSequence")
        for reference in values_of(output, "ReferencedSOPSequence")
    ]


def test_report_completes_the_reading_that_nobody_began(parts, worklist, completer):
    report = build_report()
    uid = schedule(worklist, report.StudyInstanceUID)
    worklist.subscriptions.subscribe(LOCAL, uid, "DESK", has_lock=False)
    store(parts, report)
    assert follow(parts, completer) == [report.SOPInstanceUID]
    assert state_of(worklist, uid) is State.COMPLETED
    (performed,) = values_of(worklist.get(LOCAL, uid), "UnifiedProcedureStepPerformedProcedureSequence")
    assert text_of(values_of(performed, "PerformedWorkitemCodeSequence")[0], "CodeValue") == READING[0]
    assert text_of(performed, "PerformedProcedureStepEndDateTime")
    (output,) = values_of(performed, "OutputInformationSequence")
    assert text_of(output, "StudyInstanceUID") == report.StudyInstanceUID
    assert text_of(output, "SeriesInstanceUID") == report.SeriesInstanceUID
    assert text_of(values_of(output, "DICOMRetrievalSequence")[0], "RetrieveAETitle") == "PACS"
    assert outputs_of(worklist, uid) == [report.SOPInstanceUID]
    told = [event.report for event in worklist.subscriptions.read_events(LOCAL, Cursor(), 10)]
    assert ["SCHEDULED" in told[0], "IN PROGRESS" in told[1], "COMPLETED" in told[2]] == [True] * 3


def test_report_completes_the_reading_that_somebody_holds_and_keeps_what_he_said(parts, worklist, completer):
    report = build_report()
    uid = schedule(worklist, report.StudyInstanceUID)
    worklist.change_state(LOCAL, uid, State.IN_PROGRESS, KEY)
    own = data_set(TypeOfInstances="DICOM", ReferencedSOPSequence=[data_set(ReferencedSOPInstanceUID="1.2.9")])
    worklist.update(LOCAL, uid, KEY, build_performed(OutputInformationSequence=[own]))
    store(parts, report)
    follow(parts, completer)
    assert state_of(worklist, uid) is State.COMPLETED
    assert outputs_of(worklist, uid) == ["1.2.9", report.SOPInstanceUID]
    (performed,) = values_of(worklist.get(LOCAL, uid), "UnifiedProcedureStepPerformedProcedureSequence")
    assert text_of(values_of(performed, "PerformedStationNameCodeSequence")[0], "CodeValue") == "STATION1"
    assert worklist.change_state(LOCAL, uid, State.COMPLETED, KEY) is False  # as if he had been a moment late
    with pytest.raises(WorkitemEnded):
        worklist.update(LOCAL, uid, KEY, data_set(ProcedureStepLabel="x"))


@pytest.mark.parametrize("codes", [[SEGMENTING], [("110004", "DCM", "Computer Aided Detection")], []], ids=str)
def test_no_other_work_is_completed(parts, worklist, completer, codes):
    report = build_report()
    uid = schedule(worklist, report.StudyInstanceUID, ScheduledWorkitemCodeSequence=[code(*one) for one in codes])
    elsewhere = schedule(worklist, new_uid())
    same_number = schedule(worklist, report.StudyInstanceUID, ("110005", "99OTHER", "Something else"))
    store(parts, report)
    follow(parts, completer)
    assert [state_of(worklist, one) for one in (uid, elsewhere, same_number)] == [State.SCHEDULED] * 3


@pytest.mark.parametrize(
    "naming",
    [
        {"InputInformationSequence": True, "ReferencedRequestSequence": None},
        {"StudyInstanceUID": True, "ReferencedRequestSequence": None},
    ],
    ids=str,
)
def test_item_may_name_its_study_as_input_or_as_its_own(parts, worklist, completer, naming):
    report = build_report()
    study = report.StudyInstanceUID
    if "InputInformationSequence" in naming:
        naming = naming | {"InputInformationSequence": [data_set(TypeOfInstances="DICOM", StudyInstanceUID=study)]}
    else:
        naming = naming | {"StudyInstanceUID": study}
    uid = schedule(worklist, study, **naming)
    store(parts, report)
    follow(parts, completer)
    assert state_of(worklist, uid) is State.COMPLETED


def test_pdf_is_a_report(parts, worklist, completer):
    report = build_pdf()
    uids_of_items = [schedule(worklist, report.StudyInstanceUID, one) for one in (READING, TRANSCRIBING, VERIFYING)]
    store(parts, report)
    follow(parts, completer)
    assert [state_of(worklist, uid) for uid in uids_of_items] == [State.COMPLETED] * 3


def test_report_that_nobody_has_verified_leaves_the_verification_open(parts, worklist, completer):
    report = build_report(VerificationFlag="UNVERIFIED")
    reading, verifying = (schedule(worklist, report.StudyInstanceUID, one) for one in (READING, VERIFYING))
    store(parts, report)
    follow(parts, completer)
    assert [state_of(worklist, uid) for uid in (reading, verifying)] == [State.COMPLETED, State.SCHEDULED]
    final = build_report(StudyInstanceUID=report.StudyInstanceUID)
    store(parts, final)
    follow(parts, completer)
    assert state_of(worklist, verifying) is State.COMPLETED
    assert outputs_of(worklist, reading) == [report.SOPInstanceUID]


def test_second_reader_s_item_waits_for_the_second_report(parts, worklist, completer):
    first = build_report()
    second = build_report(StudyInstanceUID=first.StudyInstanceUID)
    one, another = (schedule(worklist, first.StudyInstanceUID) for _ in range(2))
    worklist.change_state(LOCAL, another, State.IN_PROGRESS, KEY)
    store(parts, first)
    follow(parts, completer)
    assert [state_of(worklist, uid) for uid in (one, another)] == [State.SCHEDULED, State.COMPLETED]
    store(parts, second)
    follow(parts, completer)
    assert outputs_of(worklist, one) == [second.SOPInstanceUID]


def test_doing_it_again_changes_nothing(parts, worklist, completer):
    report = build_report()
    one, another = (schedule(worklist, report.StudyInstanceUID) for _ in range(2))
    store(parts, report)
    follow(parts, completer)
    before = [worklist.get(LOCAL, uid) for uid in (one, another)]
    follow(parts, completer)  # as after a kill between the work and its receipt
    assert [worklist.get(LOCAL, uid) for uid in (one, another)] == before
    assert state_of(worklist, another) is State.SCHEDULED


def test_work_that_was_scheduled_after_the_report_waits_for_another(parts, worklist, completer):
    report = build_report()
    store(parts, report)
    uid = schedule(worklist, report.StudyInstanceUID)
    follow(parts, completer)
    assert state_of(worklist, uid) is State.SCHEDULED


def test_images_and_studies_that_nobody_waits_for_make_no_job(parts, worklist, completer):
    image, report = build_ct(), build_report()
    schedule(worklist, image.StudyInstanceUID)
    store(parts, image, report)
    assert follow(parts, completer) == []
    assert list(completer.complete([])) == []


@pytest.mark.postgres
def test_reports_complete_work_on_postgres_too(tmp_path, postgres_url):
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        database=DatabaseSettings(url=postgres_url),
    )
    with open_archive(settings) as parts:
        worklist = parts.archive.workitems
        completer = ReportCompleter(parts.database, worklist, CLINICAL_PARTITION, "PACS")
        test_report_that_nobody_has_verified_leaves_the_verification_open(parts, worklist, completer)
        test_second_reader_s_item_waits_for_the_second_report(parts, worklist, completer)


def header(title=None, **values):
    titles = {"ConceptNameCodeSequence": [code(*title)]} if title else {}
    return data_set(**titles, **values)


BASIC, ENHANCED, COMPREHENSIVE, COMPREHENSIVE_3D, PDF, CDA = (
    str(one)
    for one in (
        uids.BasicTextSRStorage,
        uids.EnhancedSRStorage,
        uids.ComprehensiveSRStorage,
        uids.Comprehensive3DSRStorage,
        uids.EncapsulatedPDFStorage,
        uids.EncapsulatedCDAStorage,
    )
)


@pytest.mark.parametrize(
    ("sop_class_uid", "attributes", "ended"),
    [
        (BASIC, header(RADIOLOGY_REPORT, CompletionFlag="COMPLETE", VerificationFlag="VERIFIED"), "567"),
        (BASIC, header(MEASUREMENTS, CompletionFlag="COMPLETE", VerificationFlag="VERIFIED"), "567"),
        (BASIC, header(RADIOLOGY_REPORT, CompletionFlag="PARTIAL", VerificationFlag="UNVERIFIED"), ""),
        (BASIC, header(RADIOLOGY_REPORT, CompletionFlag="COMPLETE", VerificationFlag="UNVERIFIED"), "56"),
        (ENHANCED, header(RADIOLOGY_REPORT, CompletionFlag="COMPLETE", VerificationFlag="VERIFIED"), "567"),
        (COMPREHENSIVE, header(MEASUREMENTS, CompletionFlag="COMPLETE", VerificationFlag="VERIFIED"), ""),
        (COMPREHENSIVE_3D, header(("125200", "DCM", "Adult Echocardiography Procedure Report")), ""),
        (COMPREHENSIVE, header(("111400", "DCM", "Breast Imaging Report")), "567"),
        (COMPREHENSIVE, header(("X1", "99LOCAL", "Compte rendu")), "567"),
        (COMPREHENSIVE, header(), "567"),
        (PDF, header(), "567"),
        (PDF, header(VerificationFlag="UNVERIFIED"), "56"),
        (CDA, header(), "567"),
        (str(uids.KeyObjectSelectionDocumentStorage), header(), ""),
        (str(uids.XRayRadiationDoseSRStorage), header(), ""),
        (str(uids.ChestCADSRStorage), header(), ""),
        (str(uids.CTImageStorage), header(), ""),
    ],
)
def test_what_is_a_report_is_said_by_class_title_and_flags(sop_class_uid, attributes, ended):
    assert find_ended(sop_class_uid, attributes) == {f"11000{digit}" for digit in ended}
