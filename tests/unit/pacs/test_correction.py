"""Corrections are seen at once on every door of the core, never touch stored bytes, and can be taken back."""

import io
import json

import pydicom
import pytest
from sqlalchemy import text

from pacs.access import LOCAL, Permission, Principal
from pacs.correction import CorrectionKind, Keep, PatientKey
from pacs.errors import (
    CannotCorrect,
    ConflictNotFound,
    CorrectionNotFound,
    InvalidValue,
    PatientNotFound,
    StudyNotFound,
)
from pacs.index import changes
from pacs.ingest.incoming import Incoming
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION, ChangeKind, Cursor, Door, DuplicatePolicy, Level, Origin
from pacs.query import Equals, Query
from pacs.tags import text_of
from tests.builders import as_part10, build_ct, build_series, new_uid

WHO = Principal("technician", frozenset({Permission.DELETE}))
WHY = "Wrong patient chosen at the modality"
TABLES = (
    "patient",
    "study",
    "series",
    "instance",
    "instance_header",
    "person_name",
    "person_name_sound",
    "request_attribute",
    "conflict",
)


def store(parts, dataset, **origin):
    data = dataset if isinstance(dataset, bytes) else as_part10(dataset)
    with parts.archive.ingest.open_spool() as spool:
        spool.write(data)
        outcome = parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, **origin)))
    assert outcome.is_stored, outcome
    return outcome


def patient_ct(patient_id, name, **overrides):
    return build_ct(PatientID=patient_id, PatientName=name, SpecificCharacterSet="ISO_IR 192", **overrides)


def find(parts, level, *conditions):
    return parts.archive.search.search(LOCAL, Query(level, conditions)).matches


def shown(parts, level, keyword, *conditions):
    return sorted(text_of(match.attributes, keyword) for match in find(parts, level, *conditions))


def dump(parts, tables=TABLES):
    """Return what the tables say, without the revision of a series, which never goes back."""
    with parts.database.read() as connection:
        return {
            table: sorted(
                (
                    tuple(value for key, value in row.items() if key != "revision")
                    for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()
                ),
                key=repr,
            )
            for table in tables
        }


def read(parts, dataset):
    (record,) = parts.archive.retrieve.find_instances(
        LOCAL, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
    )
    with parts.archive.retrieve.open_instance(LOCAL, record) as representation:
        return pydicom.dcmread(io.BytesIO(b"".join(representation.iter_chunks())))


def metadata(parts, dataset):
    ((_, header),) = parts.archive.retrieve.iter_metadata(
        LOCAL, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
    )
    return json.loads(header)


def kinds(parts):
    with parts.database.read() as connection:
        return [(change.kind, change.study_instance_uid) for change in changes.read_after(
            connection, CLINICAL_PARTITION, Cursor(), 1000)]  # fmt: skip


def open_conflicts(parts):
    return parts.archive.correct.list_conflicts(LOCAL)


def assert_sound(parts):
    assert not [result for result in verify_copies(parts.database, parts.store, CLINICAL_PARTITION) if result.problem]


@pytest.fixture
def two(parts):
    """A wrong and a right patient with a study each."""
    wrong = patient_ct("P1", "Bénali^Amine", PatientBirthDate="19700131", PatientSex="M")
    right = patient_ct("P2", "قباني^نزار", PatientBirthDate="19500203", PatientSex="M")
    store(parts, wrong)
    store(parts, right)
    return wrong, right


def merge(parts, prior="P1", surviving="P2"):
    return parts.archive.correct.merge_patients(WHO, PatientKey(prior), PatientKey(surviving), reason=WHY)


def test_merge_is_seen_on_every_level_and_the_prior_patient_is_gone(parts, two):
    wrong, _ = two
    merge(parts)
    assert shown(parts, Level.PATIENT, "PatientID") == ["P2"]
    assert shown(parts, Level.PATIENT, "PatientID", Equals("PatientID", "P1")) == []
    for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
        assert shown(parts, level, "PatientID") == ["P2", "P2"]
        assert shown(parts, level, "PatientName", Equals("PatientName", "قبانى^نزار")) == ["قباني^نزار"] * 2
        assert find(parts, level, Equals("PatientName", "benali^amine")) == ()
        assert shown(parts, level, "PatientBirthDate", Equals("PatientBirthDate", "19500203")) == ["19500203"] * 2
    assert (ChangeKind.STUDY_CORRECTED, wrong.StudyInstanceUID) in kinds(parts)


def test_instance_and_metadata_leave_corrected_with_what_was_there_before(parts, two):
    wrong, _ = two
    merge(parts)
    left = read(parts, wrong)
    assert (left.PatientID, left.PatientName, left.PatientBirthDate) == ("P2", "قباني^نزار", "19500203")
    (item,) = left.OriginalAttributesSequence
    (old,) = item.ModifiedAttributesSequence
    assert (old.PatientID, old.PatientName, old.PatientBirthDate) == ("P1", "Bénali^Amine", "19700131")
    assert item.ReasonForTheAttributeModification == "CORRECT"
    assert left.PixelData == wrong.PixelData
    header = metadata(parts, wrong)
    assert text_of(header, "PatientID") == "P2"
    assert header["04000561"]["Value"][0]["04000550"]["Value"][0]["00100020"]["Value"] == ["P1"]


def test_stored_bytes_stay_as_received_whatever_is_corrected(parts, two):
    data = {key: parts.store.open(key).read() for key in list_keys(parts)}
    merge(parts)
    assert {key: parts.store.open(key).read() for key in list_keys(parts)} == data
    assert_sound(parts)


def list_keys(parts):
    return sorted(stat.key if hasattr(stat, "key") else stat for stat in parts.store.iter_keys())


def test_undo_restores_the_rows_exactly_and_stays_listed(parts, two):
    before = dump(parts)
    done = merge(parts)
    assert dump(parts) != before
    undone = parts.archive.correct.undo(Principal("chief"), done.id)
    assert dump(parts) == before
    assert (undone.undone_by, undone.undone_at is not None) == ("chief", True)
    (listed,) = parts.archive.correct.list_corrections(LOCAL)
    assert listed == undone
    assert (listed.by, listed.reason, listed.kind) == ("technician", WHY, CorrectionKind.MERGE_PATIENTS)


def test_what_arrives_later_for_a_merged_patient_goes_to_the_surviving_one(parts, two):
    done = merge(parts)
    later = patient_ct("P1", "Bénali^Amine", PatientSex="M")
    store(parts, later)
    assert shown(parts, Level.PATIENT, "PatientID") == ["P2"]
    assert shown(parts, Level.STUDY, "PatientName") == ["قباني^نزار"] * 3
    assert read(parts, later).OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == "P1"
    assert open_conflicts(parts) == []
    parts.archive.correct.undo(WHO, done.id)
    assert shown(parts, Level.STUDY, "PatientID") == ["P1", "P1", "P2"]
    assert shown(parts, Level.PATIENT, "PatientID") == ["P1", "P2"]


def test_later_instance_of_a_corrected_study_is_no_conflict_and_fills_in_what_was_missing(parts):
    study = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid()}
    store(parts, patient_ct("P1", "Typo^Name", PatientSex=None, **study))
    store(parts, patient_ct("P2", "Right^Name"))
    parts.archive.correct.move_study(WHO, study["StudyInstanceUID"], PatientKey("P2"), reason=WHY)
    later = patient_ct("P1", "Typo^Name", PatientSex="F", StudyID="9", PatientWeight="70", **study)
    store(parts, later)
    assert open_conflicts(parts) == []
    (match,) = find(parts, Level.STUDY, Equals("StudyInstanceUID", study["StudyInstanceUID"]))
    assert text_of(match.attributes, "PatientID") == "P2"
    assert text_of(match.attributes, "PatientSex") == "O"
    assert text_of(match.attributes, "PatientWeight") == "70.0"
    assert read(parts, later).PatientID == "P2"
    store(parts, patient_ct("P2", "Right^Name", **study))
    assert open_conflicts(parts) == []
    store(parts, patient_ct("P7", "Third^Name", **study))
    assert [conflict.kind for conflict in open_conflicts(parts)] == ["study-patient"]


def test_moved_study_keeps_nothing_that_identifies_the_first_person(parts):
    moved = patient_ct("P1", "Wrong^Person", PatientBirthDate="19700131", PatientAddress="1 Street",
                       OtherPatientNames="Also^Wrong")  # fmt: skip
    store(parts, moved)
    store(parts, patient_ct("P2", "Right^Person", PatientBirthDate=None))
    done = parts.archive.correct.move_study(WHO, moved.StudyInstanceUID, PatientKey("P2"), reason=WHY)
    left = read(parts, moved)
    assert left.PatientName == "Right^Person"
    assert not left.get("PatientBirthDate")
    assert not left.get("PatientAddress")
    assert not left.get("OtherPatientNames")
    assert left.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientAddress == "1 Street"
    assert shown(parts, Level.PATIENT, "PatientID") == ["P2"]
    assert find(parts, Level.STUDY, Equals("PatientBirthDate", "19700131")) == ()
    parts.archive.correct.undo(WHO, done.id)
    assert read(parts, moved).PatientAddress == "1 Street"
    assert shown(parts, Level.PATIENT, "PatientID") == ["P1", "P2"]


def test_patient_shows_what_its_remaining_studies_show_once_one_is_moved_away(parts):
    moved = patient_ct("P1", "Somebody^Else", PatientBirthDate="19000101")
    store(parts, moved)
    store(parts, patient_ct("P1", "Real^Owner", PatientBirthDate="19600606"))
    store(parts, patient_ct("P2", "Somebody^Else"))
    parts.archive.correct.move_study(WHO, moved.StudyInstanceUID, PatientKey("P2"), reason=WHY)
    (match,) = find(parts, Level.PATIENT, Equals("PatientID", "P1"))
    assert text_of(match.attributes, "PatientName") == "Real^Owner"
    assert text_of(match.attributes, "PatientBirthDate") == "19600606"


def test_corrected_attributes_of_a_study_are_found_and_shown(parts, two):
    wrong, _ = two
    before = dump(parts)
    values = {"AccessionNumber": "ACC9", "StudyDescription": "Étude سينية", "StudyDate": "20230102", "PatientSex": "F"}
    done = parts.archive.correct.correct_study(WHO, wrong.StudyInstanceUID, values, reason=WHY)
    for keyword, text_ in values.items():
        (match,) = find(parts, Level.STUDY, Equals(keyword, text_), Equals("PatientID", "P1"))
        assert text_of(match.attributes, keyword) == text_
    left = read(parts, wrong)
    assert {keyword: left[keyword].value for keyword in values} == values
    assert shown(parts, Level.PATIENT, "PatientSex", Equals("PatientID", "P1")) == ["F"]
    parts.archive.correct.undo(WHO, done.id)
    assert dump(parts) == before


def test_another_patient_id_makes_the_study_that_patients(parts, two):
    wrong, _ = two
    before = dump(parts)
    done = parts.archive.correct.correct_study(WHO, wrong.StudyInstanceUID, {"PatientID": "NEW"}, reason=WHY)
    assert shown(parts, Level.PATIENT, "PatientID") == ["NEW", "P2"]
    assert shown(parts, Level.PATIENT, "PatientName", Equals("PatientID", "NEW")) == ["Bénali^Amine"]
    parts.archive.correct.undo(WHO, done.id)
    assert dump(parts) == before


def test_corrected_patient_holds_for_studies_that_arrive_later(parts, two):
    done = parts.archive.correct.correct_patient(WHO, PatientKey("P1"), {"PatientName": "Ben Ali^Amine"}, reason=WHY)
    store(parts, patient_ct("P1", "Bénali^Amine"))
    assert shown(parts, Level.STUDY, "PatientName", Equals("PatientID", "P1")) == ["Ben Ali^Amine"] * 2
    assert shown(parts, Level.PATIENT, "PatientName", Equals("PatientID", "P1")) == ["Ben Ali^Amine"]
    assert open_conflicts(parts) == []
    parts.archive.correct.undo(WHO, done.id)
    assert shown(parts, Level.STUDY, "PatientName", Equals("PatientID", "P1")) == ["Bénali^Amine"] * 2
    assert shown(parts, Level.PATIENT, "PatientName", Equals("PatientID", "P1")) == ["Bénali^Amine"]


def test_undoing_an_earlier_correction_leaves_the_later_one(parts, two):
    wrong, _ = two
    store(parts, patient_ct("P3", "Third^Patient"))
    before = dump(parts)
    first = merge(parts, "P1", "P2")
    second = merge(parts, "P2", "P3")
    assert shown(parts, Level.STUDY, "PatientID") == ["P3"] * 3
    parts.archive.correct.undo(WHO, first.id)
    assert shown(parts, Level.STUDY, "PatientID") == ["P1", "P3", "P3"]
    assert read(parts, wrong).PatientName == "Bénali^Amine"
    parts.archive.correct.undo(WHO, second.id)
    assert dump(parts) == before


def test_patients_are_told_apart_by_issuer(parts):
    for issuer in ("A", "B"):
        store(parts, patient_ct("1", f"Of^{issuer}"), issuer_of_patient_id=issuer)
    with pytest.raises(PatientNotFound):
        parts.archive.correct.merge_patients(WHO, PatientKey("1"), PatientKey("1", "B"), reason=WHY)
    parts.archive.correct.merge_patients(WHO, PatientKey("1", "A"), PatientKey("1", "B"), reason=WHY)
    assert shown(parts, Level.STUDY, "IssuerOfPatientID") == ["", "B"]
    assert len(find(parts, Level.PATIENT)) == 1
    store(parts, patient_ct("1", "Of^A"), issuer_of_patient_id="A")
    assert len(find(parts, Level.PATIENT)) == 1


def test_what_cannot_be_corrected_is_refused_in_one_sentence_and_changes_nothing(parts, two):
    wrong, _ = two
    correct = parts.archive.correct
    merge(parts)
    before = dump(parts, (*TABLES, "correction"))
    study = wrong.StudyInstanceUID
    for expected, attempt in (
        (CannotCorrect, lambda: merge(parts, "P2", "P2")),
        (CannotCorrect, lambda: merge(parts, "P2", "P1")),
        (CannotCorrect, lambda: merge(parts, "P1", "P2")),
        (PatientNotFound, lambda: merge(parts, "P2", "P404")),
        (PatientNotFound, lambda: merge(parts, "", "P2")),
        (CannotCorrect, lambda: correct.move_study(WHO, study, PatientKey("P2"), reason=WHY)),
        (CannotCorrect, lambda: correct.move_study(WHO, study, PatientKey("P1"), reason=WHY)),
        (StudyNotFound, lambda: correct.move_study(WHO, "1.2.3", PatientKey("P2"), reason=WHY)),
        (CannotCorrect, lambda: correct.correct_study(WHO, study, {"PatientID": "P1"}, reason=WHY)),
        (CannotCorrect, lambda: correct.correct_patient(WHO, PatientKey("P2"), {"PatientID": "P1"}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {"PatientID": ""}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {"StudyInstanceUID": "1.2"}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {"PatientBirthDate": "1970"}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {"Modality": "CT"}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {}, reason=WHY)),
        (InvalidValue, lambda: correct.correct_study(WHO, study, {"StudyID": "1"}, reason=" ")),
        (InvalidValue, lambda: correct.correct_patient(WHO, PatientKey("P2"), {"StudyID": "1"}, reason=WHY)),
        (CorrectionNotFound, lambda: correct.undo(WHO, 404)),
        (ConflictNotFound, lambda: correct.resolve_conflict(WHO, 404, Keep.ANSWERING, reason=WHY)),
    ):
        with pytest.raises(expected) as refused:
            attempt()
        assert str(refused.value).count(".") <= 1
    assert dump(parts, (*TABLES, "correction")) == before


def test_correction_is_undone_once(parts, two):
    done = merge(parts)
    parts.archive.correct.undo(WHO, done.id)
    with pytest.raises(CannotCorrect):
        parts.archive.correct.undo(WHO, done.id)


@pytest.fixture
def conflict(parts):
    """Two copies of an instance, of which the first answers."""
    first = build_ct(StudyDescription="First", PatientName="Name^First")
    second = build_ct(**{keyword: first[keyword].value for keyword in
                         ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")},
                      StudyDescription="Second", PatientName="Name^First")  # fmt: skip
    store(parts, first)
    store(parts, second)
    (listed,) = open_conflicts(parts)
    return first, second, listed


def test_other_copy_answers_everywhere_once_it_is_chosen_and_both_stay(parts, conflict):
    first, second, listed = conflict
    done = parts.archive.correct.resolve_conflict(WHO, listed.id, Keep.OTHER, reason=WHY)
    assert shown(parts, Level.STUDY, "StudyDescription") == ["Second"]
    assert read(parts, first).StudyDescription == "Second"
    assert text_of(metadata(parts, first), "StudyDescription") == "Second"
    assert open_conflicts(parts) == []
    assert len(list(verify_copies(parts.database, parts.store, CLINICAL_PARTITION))) == 2
    assert_sound(parts)
    store(parts, first)
    store(parts, second)
    assert open_conflicts(parts) == []
    parts.archive.correct.undo(WHO, done.id)
    assert shown(parts, Level.STUDY, "StudyDescription") == ["First"]
    assert read(parts, first).StudyDescription == "First"
    assert [conflict.id for conflict in open_conflicts(parts)] == [listed.id]
    assert len(list(verify_copies(parts.database, parts.store, CLINICAL_PARTITION))) == 2


def test_conflict_is_settled_for_the_answering_copy_and_undone(parts, conflict):
    _, second, listed = conflict
    before = dump(parts)
    done = parts.archive.correct.resolve_conflict(WHO, listed.id, Keep.ANSWERING, reason=WHY)
    assert open_conflicts(parts) == []
    store(parts, second)
    assert open_conflicts(parts) == []
    with pytest.raises(CannotCorrect):
        parts.archive.correct.resolve_conflict(WHO, listed.id, Keep.OTHER, reason=WHY)
    parts.archive.correct.undo(WHO, done.id)
    assert dump(parts) == before


def test_settled_conflict_opens_again_when_replacing_puts_other_data_back(parts, conflict):
    first, second, listed = conflict
    correct = parts.archive.correct
    done = correct.resolve_conflict(WHO, listed.id, Keep.OTHER, reason=WHY)
    store(parts, first, duplicate_policy=DuplicatePolicy.REPLACE)
    (newer,) = open_conflicts(parts)
    assert newer.id != listed.id
    assert newer.dataset_digest == listed.dataset_digest
    correct.resolve_conflict(WHO, newer.id, Keep.ANSWERING, reason=WHY)
    assert open_conflicts(parts) == []
    store(parts, second, duplicate_policy=DuplicatePolicy.REPLACE)
    assert [conflict.id for conflict in open_conflicts(parts)] == [listed.id]
    store(parts, first, duplicate_policy=DuplicatePolicy.REPLACE)
    assert [conflict.id for conflict in open_conflicts(parts)] == [listed.id, newer.id]
    with pytest.raises(CannotCorrect):
        correct.undo(WHO, done.id)


def test_resolution_of_a_copy_in_a_corrected_study_keeps_the_correction(parts, conflict):
    first, _, listed = conflict
    correct = parts.archive.correct
    corrected = correct.correct_study(WHO, first.StudyInstanceUID, {"AccessionNumber": "NEW"}, reason=WHY)
    done = correct.resolve_conflict(WHO, listed.id, Keep.OTHER, reason=WHY)
    assert shown(parts, Level.STUDY, "AccessionNumber") == ["NEW"]
    assert read(parts, first).AccessionNumber == "NEW"
    correct.undo(WHO, corrected.id)
    assert shown(parts, Level.STUDY, "AccessionNumber") == ["ACC1"]
    assert shown(parts, Level.STUDY, "StudyDescription") == ["Second"]
    correct.undo(WHO, done.id)
    assert shown(parts, Level.STUDY, "StudyDescription") == ["First"]


def test_flag_without_copies_can_only_be_let_stay(parts):
    store(parts, patient_ct("P1", "One^Name"))
    store(parts, patient_ct("P1", "Quite^Another"))
    (flagged,) = open_conflicts(parts)
    with pytest.raises(CannotCorrect):
        parts.archive.correct.resolve_conflict(WHO, flagged.id, Keep.OTHER, reason=WHY)
    parts.archive.correct.resolve_conflict(WHO, flagged.id, Keep.ANSWERING, reason=WHY)
    assert open_conflicts(parts) == []
    assert [conflict.id for conflict in parts.archive.correct.list_conflicts(LOCAL, is_resolved=True)] == [flagged.id]


def test_many_slices_are_corrected_by_one_row_each_of_study_and_patient(parts):
    series = build_series(5, PatientID="P1")
    for dataset in series:
        store(parts, dataset)
    headers = dump(parts, ("instance", "instance_header", "series"))
    parts.archive.correct.correct_study(WHO, series[0].StudyInstanceUID, {"StudyID": "77"}, reason=WHY)
    assert dump(parts, ("instance", "instance_header", "series")) == headers
    assert all(read(parts, dataset).StudyID == "77" for dataset in series)


def test_corrected_study_that_was_hidden_is_corrected_when_it_is_shown_again(parts, two):
    wrong, _ = two
    correct, withhold = parts.archive.correct, parts.archive.withhold
    corrected = correct.correct_study(WHO, wrong.StudyInstanceUID, {"AccessionNumber": "NEW"}, reason=WHY)
    merged = merge(parts)
    assert withhold.withhold(WHO, wrong.StudyInstanceUID) == 1
    assert shown(parts, Level.PATIENT, "PatientID") == ["P2"]
    assert withhold.restore(WHO, wrong.SOPInstanceUID) == 1
    assert shown(parts, Level.STUDY, "PatientID") == ["P2", "P2"]
    assert read(parts, wrong).AccessionNumber == "NEW"
    correct.undo(WHO, corrected.id)
    correct.undo(WHO, merged.id)
    assert shown(parts, Level.PATIENT, "PatientID") == ["P1", "P2"]
    assert "OriginalAttributesSequence" not in read(parts, wrong)


def test_correction_of_what_is_gone_can_be_undone(parts, two):
    wrong, _ = two
    done = parts.archive.correct.correct_study(WHO, wrong.StudyInstanceUID, {"PatientID": "NEW"}, reason=WHY)
    parts.archive.withhold.withhold(WHO, wrong.StudyInstanceUID)
    assert shown(parts, Level.PATIENT, "PatientID") == ["P2"]
    parts.archive.correct.undo(WHO, done.id)
    parts.archive.withhold.restore(WHO, wrong.SOPInstanceUID)
    assert shown(parts, Level.PATIENT, "PatientID") == ["P1", "P2"]


def test_nothing_of_a_patient_is_logged(parts, two, caplog):
    wrong, _ = two
    caplog.set_level("DEBUG")
    parts.archive.correct.correct_study(WHO, wrong.StudyInstanceUID, {"PatientName": "CANARY^PHI"}, reason="CANARY")
    with pytest.raises(InvalidValue) as refused:
        parts.archive.correct.correct_study(WHO, wrong.StudyInstanceUID, {"PatientSex": "CANARY^PHI"}, reason=WHY)
    assert "CANARY" not in caplog.text + str(refused.value)
    with parts.database.read() as connection:
        facts = [change.facts for change in changes.read_after(connection, CLINICAL_PARTITION, Cursor(), 1000)]
    assert "CANARY" not in str(facts)


@pytest.mark.parametrize("filling", ["x", "^", "a\\", "1", "=", " "])
def test_values_and_reasons_of_megabytes_are_refused_and_change_nothing(parts, two, filling):
    before, long = dump(parts), filling * (2 * 1024 * 1024)
    study = two[0].StudyInstanceUID
    for keyword in ("StudyDescription", "PatientName", "PatientComments", "OtherPatientIDs"):
        with pytest.raises(InvalidValue):
            parts.archive.correct.correct_study(WHO, study, {keyword: long}, reason=WHY)
    with pytest.raises(InvalidValue):
        parts.archive.correct.correct_study(WHO, study, {"AccessionNumber": "1"}, reason=long)
    assert dump(parts) == before
