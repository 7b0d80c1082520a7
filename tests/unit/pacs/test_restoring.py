"""Withheld and restored is as if nothing had been: corrections, coercions and how the bytes were read included."""

import random
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import text

from pacs.access import LOCAL
from pacs.app import Parts, build_origin, open_archive
from pacs.cli.commands import import_paths
from pacs.config import CoercionRuleSettings, DatabaseSettings, Settings, StorageSettings
from pacs.correction import PatientKey
from pacs.errors import CannotCorrect, NotFound
from pacs.ingest.incoming import Incoming
from pacs.maintenance.verification import count_copies, verify_copies
from pacs.model import CLINICAL_PARTITION, Door, Level, Origin
from pacs.query import Query
from pacs.tags import text_of
from tests.builders import as_part10, build_ct, build_series, new_uid
from tests.key_objects import QUALITY, build_key_objects

WHY = "A test"
PATIENTS = ["P1", "P2", "P3"]
ISSUERS = ["", "HOSPITAL", "CLINIC"]
NAMES = ["Bénali^Amine", "قباني^نزار", "Gül^Leïla"]

DUMPS = {
    "patient": """SELECT p.identity, p.patient_id, p.issuer_of_patient_id, p.attributes, p.created_at, p.overlay,
        into_.identity AS into_identity FROM patient p LEFT JOIN patient into_ ON into_.id = p.merged_into_row_id""",
    "study": "SELECT identity, study.* FROM study JOIN patient p ON p.id = patient_row_id",
    "series": "SELECT study_instance_uid, series.* FROM series JOIN study ON study.id = study_row_id",
    "instance": "SELECT series_instance_uid, instance.* FROM instance JOIN series ON series.id = series_row_id",
    "header": "SELECT sop_instance_uid, h.* FROM instance_header h JOIN instance ON instance.id = instance_row_id",
    "name": "SELECT study_instance_uid, n.* FROM person_name n JOIN study ON study.id = study_row_id",
    "sound": "SELECT study_instance_uid, s.* FROM person_name_sound s JOIN study ON study.id = study_row_id",
    "corrected": """SELECT study_instance_uid, identity, c.correction_id FROM corrected_study c
        JOIN study ON study.id = study_row_id JOIN patient ON patient.id = received_patient_row_id""",
    "conflict": "SELECT * FROM conflict",
    "withheld": "SELECT * FROM withheld_instance",
}
ROW_NUMBERS = {"id", "patient_row_id", "study_row_id", "series_row_id", "instance_row_id", "revision"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def open_parts(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""

    def open_parts(**settings):
        return open_archive(
            Settings(
                data_dir=tmp_path / "archive",
                storage=StorageSettings(url=f"file://{tmp_path}/objects"),
                database=DatabaseSettings(url=url),
                **settings,
            )
        )

    return open_parts


@pytest.fixture
def parts(open_parts) -> Iterator[Parts]:
    with open_parts() as opened:
        yield opened


def store(parts, dataset, **origin):
    with parts.archive.ingest.open_spool() as spool:
        spool.write(dataset if isinstance(dataset, bytes) else as_part10(dataset))
        outcome = parts.archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, may_reject=True, **origin)))
    assert outcome.is_stored, outcome


def dump(parts):
    """Return what every table says, without the numbers of rows and revisions, which nobody sees."""
    with parts.database.read() as connection:
        return {
            table: sorted(
                repr([value for key, value in row.items() if key not in ROW_NUMBERS])
                for row in connection.execute(text(statement)).mappings()
            )
            for table, statement in DUMPS.items()
        }


def withheld(parts):
    return parts.archive.withhold.find_page(LOCAL, limit=1000)


def restore_all(parts):
    for uid in dict.fromkeys(copy.sop_instance_uid for copy in withheld(parts) if not copy.is_note):
        parts.archive.withhold.restore(LOCAL, uid)
    with parts.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM withheld_instance WHERE blob_key = ''")).scalar() == 0


class Hospital:
    """People who store and correct at random, each sequence of their own ``seed``."""

    def __init__(self, parts, seed):
        self.parts, self.random = parts, random.Random(seed)
        self.studies, self.done = {}, []

    def act(self):
        acts = (self.arrive, self.arrive, self.arrive_late, self.merge, self.move, self.correct, self.correct_patient,
                self.undo)  # fmt: skip
        with suppress(CannotCorrect, NotFound):
            self.random.choice(acts if self.studies else acts[:1])()

    def arrive(self):
        study, issuer = new_uid(), self.random.choice(ISSUERS)
        self.studies[study] = self.random.choice(PATIENTS), self.random.choice(NAMES), issuer
        self.send(study)

    def arrive_late(self):
        self.send(self.random.choice(list(self.studies)))

    def send(self, study):
        patient_id, name, issuer = self.studies[study]
        for dataset in build_series(
            2,
            StudyInstanceUID=study,
            PatientID=self.random.choice([patient_id] * 5 + PATIENTS),
            PatientName=name,
            PatientBirthDate=self.random.choice([None, "19700131"]),
            AccessionNumber=self.random.choice([None, "A1", "A2"]),
            SpecificCharacterSet="ISO_IR 192",
        ):
            store(self.parts, dataset, issuer_of_patient_id=issuer)

    def key(self):
        return PatientKey(self.random.choice(PATIENTS), self.random.choice(ISSUERS))

    def study(self):
        return self.random.choice(list(self.studies))

    def merge(self):
        self.done.append(self.parts.archive.correct.merge_patients(LOCAL, self.key(), self.key(), reason=WHY))

    def move(self):
        self.done.append(self.parts.archive.correct.move_study(LOCAL, self.study(), self.key(), reason=WHY))

    def correct(self):
        values = self.random.choice(
            [{"AccessionNumber": "A9"}, {"PatientID": "P9"}, {"PatientName": "X^Y"}, {"IssuerOfPatientID": "CLINIC"}]
        )
        self.done.append(self.parts.archive.correct.correct_study(LOCAL, self.study(), values, reason=WHY))

    def correct_patient(self):
        values = self.random.choice([{"PatientName": "New^Name"}, {"PatientID": "P8"}, {"PatientSex": "F"}])
        self.done.append(self.parts.archive.correct.correct_patient(LOCAL, self.key(), values, reason=WHY))

    def undo(self):
        if self.done:
            self.parts.archive.correct.undo(LOCAL, self.random.choice(self.done).id)


@pytest.mark.parametrize("seed", range(4))
def test_withheld_and_restored_is_the_state_before(parts, seed):
    hospital = Hospital(parts, seed)
    for _ in range(20):
        for _ in range(3):
            hospital.act()
        before = dump(parts)
        assert parts.archive.withhold.withhold(LOCAL, hospital.study())
        restore_all(parts)
        assert dump(parts) == before


def test_rejected_and_restored_is_the_state_before(parts):
    wrong = build_series(3, PatientID="P1", PatientName="A^B")
    right = build_series(2, PatientID="P2", PatientName="C^D")
    for dataset in (*wrong, *right):
        store(parts, dataset, issuer_of_patient_id="HOSPITAL", calling_ae_title="CT1")
    correct = parts.archive.correct
    correct.merge_patients(LOCAL, PatientKey("P1", "HOSPITAL"), PatientKey("P2", "HOSPITAL"), reason=WHY)
    correct.correct_study(LOCAL, wrong[0].StudyInstanceUID, {"IssuerOfPatientID": "CLINIC"}, reason=WHY)
    before = dump(parts)
    note = build_key_objects(QUALITY, wrong)
    store(parts, note)
    parts.archive.withhold.restore(LOCAL, note.SOPInstanceUID)
    after = dump(parts)
    assert len(after.pop("withheld")) == 1
    assert before.pop("withheld") == []
    assert after == before


def test_correction_undone_while_its_study_was_withheld_does_not_come_back(parts):
    image = build_ct(PatientID="P1", PatientName="A^B")
    store(parts, image)
    before = dump(parts)
    done = parts.archive.correct.correct_study(LOCAL, image.StudyInstanceUID, {"PatientID": "P2"}, reason=WHY)
    parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
    parts.archive.correct.undo(LOCAL, done.id)
    restore_all(parts)
    assert dump(parts) == before


def test_restored_text_is_read_with_the_character_set_of_its_sender(parts):
    image = build_ct(PatientName="name", SpecificCharacterSet=None)
    data = as_part10(image).replace(b"name", "نزار".encode("iso8859_6"))
    store(parts, data, character_set="ISO_IR 127")
    before = dump(parts)
    (patient,) = parts.archive.search.search(LOCAL, Query(Level.PATIENT)).matches
    assert text_of(patient.attributes, "PatientName") == "نزار"
    parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
    restore_all(parts)
    assert dump(parts) == before


def test_withheld_instance_keeps_where_it_came_from(parts):
    image = build_ct()
    origin = {"calling_ae_title": "CT1", "called_ae_title": "PACS", "address": "192.0.2.1", "character_set": "ISO_IR 6"}
    store(parts, image, **origin)
    parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
    (copy,) = withheld(parts)
    assert copy.origin == Origin(Door.DIMSE, may_reject=True, **origin)


def test_restored_instance_keeps_the_coercion_that_was_laid_over_it(open_parts):
    image = build_ct(InstitutionName="Old")
    rule = CoercionRuleSettings(direction="in", set={"InstitutionName": "New"})
    with open_parts(coercion=(rule,)) as parts:
        store(parts, image)
        before = dump(parts)
    with open_parts() as parts:  # the rule is no longer in force
        parts.archive.withhold.withhold(LOCAL, image.StudyInstanceUID)
        restore_all(parts)
        assert dump(parts) == before


def test_verify_reads_answering_conflicting_and_withheld_copies(parts, tmp_path):
    shown, hidden, twice = build_ct(), build_ct(), build_ct()
    store(parts, shown)
    store(parts, hidden)
    store(parts, twice)
    twice.StudyDescription = "Another"
    store(parts, twice)
    store(parts, build_key_objects(QUALITY, [hidden, build_ct()]))  # and what has not arrived has no copy
    assert count_copies(parts.database, CLINICAL_PARTITION) == 5
    checked = list(verify_copies(parts.database, parts.store, CLINICAL_PARTITION))
    assert {one.copy.location.blob_key for one in checked} == set(parts.store.iter_keys())
    assert len(checked) == 5
    copy = next(copy for copy in withheld(parts) if copy.sop_instance_uid == hidden.SOPInstanceUID)
    (tmp_path / "objects" / copy.location.blob_key).unlink()
    problems = [one for one in verify_copies(parts.database, parts.store, CLINICAL_PARTITION) if one.problem]
    assert [(one.copy.sop_instance_uid, one.problem) for one in problems] == [(hidden.SOPInstanceUID, "missing")]


def test_note_that_the_administrator_imports_is_obeyed_and_one_by_stow_is_not(tmp_path, capsys):
    image = build_ct()
    note = build_key_objects(QUALITY, [image])
    paths = [tmp_path / "image.dcm", tmp_path / "note.dcm"]
    for path, dataset in zip(paths, (image, note), strict=True):
        path.write_bytes(as_part10(dataset))
    settings = Settings(data_dir=tmp_path / "archive")
    assert not build_origin(settings, Door.STOW).may_reject
    assert import_paths(settings, Namespace(paths=paths, if_empty=False)) == 0
    assert "1 withheld: rejection notes, and what they reject." in capsys.readouterr().out
    with open_archive(settings) as parts:
        assert {copy.sop_instance_uid for copy in withheld(parts)} == {image.SOPInstanceUID, note.SOPInstanceUID}
