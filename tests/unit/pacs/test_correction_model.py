"""Any sequence of stores, corrections and undos shows what a small model says, on both engines; undone, all is gone.

The model is what the words mean: what was received, and every correction that is not undone, one after the other.
"""

import itertools
import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from pacs.access import LOCAL
from pacs.correction import Corrector, PatientKey
from pacs.database.opener import open_database
from pacs.errors import CannotCorrect, NotFound
from pacs.model import Level
from pacs.query import Query
from pacs.search import Searcher
from pacs.tags import text_of
from tests.contract.database import build_instance, run_in_threads, store

WHY = "A test"
IDS = st.sampled_from(["P1", "P2", "P3", "P4"])
NAMES = st.sampled_from(["Bénali^Amine", "قباني^نزار", "Gül^Leïla"])
NUMBERS = st.integers(0, 9)
_PARTITIONS = itertools.count(1)
_LEFT_BEHIND = (
    "SELECT count(*) FROM study WHERE overlay <> '' AND partition_id = :partition",
    """SELECT count(*) FROM patient WHERE partition_id = :partition AND (overlay <> ''
    OR NOT EXISTS (SELECT 1 FROM study WHERE patient_row_id = patient.id))""",
    "SELECT count(*) FROM corrected_study JOIN study ON study_row_id = study.id WHERE partition_id = :partition",
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'index.sqlite'}" if request.param == "sqlite" else request.getfixturevalue(
        "postgres_url")  # fmt: skip
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


class Corrections(RuleBasedStateMachine):
    """The archive beside its model: ``received`` by study, and ``made`` by correction: (subject, changes, merged)."""

    def __init__(self, database):
        super().__init__()
        self.database = database
        self.partition = next(_PARTITIONS)
        self.corrector = Corrector(database, self.partition, None)
        self.received = {}
        self.made = {}

    def shown(self, study, made=None):
        values = self.received[study]
        for _, (subject, changes, _) in sorted((self.made if made is None else made).items()):
            if subject in (study, values["PatientID"]):
                values = values | changes
        return values

    def patients(self, made=None):
        found = {}
        for study in self.received:
            values = self.shown(study, made)
            found.setdefault(values["PatientID"], values["PatientName"])
        return found

    def merged(self):
        return {subject for subject, _, is_merge in self.made.values() if is_merge}

    def study(self, number):
        studies = list(self.received)
        return studies[number % len(studies)]

    def attempt(self, is_allowed, make, subject, changes, *, is_merge=False):
        """Do it and note it in the model; or see that it is refused, if the model says so."""
        if not is_allowed:
            with pytest.raises((CannotCorrect, NotFound)):
                make()
            return
        after = self.made | {10**9: (subject, changes, is_merge)}
        held = {study for study in self.received if subject in (study, self.shown(study)["PatientID"])}
        arrived = {self.shown(study, after)["PatientID"] for study in held}
        if not is_merge and "PatientID" in changes and arrived & self.merged():
            with pytest.raises(CannotCorrect):
                make()
            return
        self.made[make().id] = (subject, changes, is_merge)

    @initialize(name=NAMES)
    def begin(self, name):
        self.arrive("P1", name)

    @rule(patient_id=IDS, name=NAMES)
    def arrive(self, patient_id, name):
        number = len(self.received) + 1
        self.received[f"1.2.{number}"] = {"PatientID": patient_id, "PatientName": name, "AccessionNumber": str(number)}
        self.send(number, 1)

    @rule(study=NUMBERS, instance=st.integers(2, 3))
    def arrive_late(self, study, instance):
        self.send(study % len(self.received) + 1, instance)

    def send(self, number, instance):
        values = self.received[f"1.2.{number}"]
        store(self.database, build_instance(instance, number, partition_id=self.partition, **values))

    @rule(prior=IDS, surviving=IDS)
    def merge(self, prior, surviving):
        known = self.patients()
        is_allowed = {prior, surviving} <= known.keys() - self.merged() and prior != surviving
        changes = {"PatientID": surviving, "PatientName": known.get(surviving)}
        self.attempt(
            is_allowed,
            lambda: self.corrector.merge_patients(LOCAL, PatientKey(prior), PatientKey(surviving), reason=WHY),
            prior,
            changes,
            is_merge=True,
        )

    @rule(number=NUMBERS, patient_id=IDS)
    def move(self, number, patient_id):
        study, known = self.study(number), self.patients()
        is_allowed = patient_id in known.keys() - self.merged() and self.shown(study)["PatientID"] != patient_id
        changes = {"PatientID": patient_id, "PatientName": known.get(patient_id)}
        self.attempt(
            is_allowed,
            lambda: self.corrector.move_study(LOCAL, study, PatientKey(patient_id), reason=WHY),
            study,
            changes,
        )

    @rule(number=NUMBERS, values=st.one_of(
        st.fixed_dictionaries({"PatientName": NAMES}), st.fixed_dictionaries({"PatientID": IDS}),
        st.fixed_dictionaries({"AccessionNumber": st.sampled_from(["A", "B"])})))  # fmt: skip
    def correct_study(self, number, values):
        study = self.study(number)
        self.attempt(True, lambda: self.corrector.correct_study(LOCAL, study, values, reason=WHY), study, values)

    @rule(patient_id=IDS, values=st.one_of(
        st.fixed_dictionaries({"PatientName": NAMES}), st.fixed_dictionaries({"PatientID": IDS})))  # fmt: skip
    def correct_patient(self, patient_id, values):
        is_allowed = patient_id in self.patients().keys() - self.merged()
        self.attempt(
            is_allowed,
            lambda: self.corrector.correct_patient(LOCAL, PatientKey(patient_id), values, reason=WHY),
            patient_id,
            values,
        )

    @rule(number=NUMBERS)
    def undo(self, number):
        if self.made:
            correction_id = sorted(self.made)[number % len(self.made)]
            self.corrector.undo(LOCAL, correction_id)
            del self.made[correction_id]

    @invariant()
    def shows_what_the_model_says(self):
        searcher = Searcher(self.database, self.partition)
        found = {
            match.study_instance_uid: {keyword: text_of(match.attributes, keyword) for keyword in values}
            for match in searcher.search(LOCAL, Query(Level.STUDY)).matches
            for values in [self.received[match.study_instance_uid]]
        }
        assert found == {study: self.shown(study) for study in self.received}
        patients = searcher.search(LOCAL, Query(Level.PATIENT)).matches
        assert {
            text_of(match.attributes, "PatientID"): text_of(match.attributes, "PatientName") for match in patients
        } == self.patients()
        assert len(patients) == len(self.patients())

    def teardown(self):
        for correction_id in sorted(self.made):
            self.corrector.undo(LOCAL, correction_id)
        self.made = {}
        if self.received:
            self.shows_what_the_model_says()
        with self.database.read() as connection:
            for statement in _LEFT_BEHIND:
                assert connection.execute(text(statement), {"partition": self.partition}).scalar() == 0


def test_any_sequence_of_corrections_and_undos_shows_what_the_model_says(database):
    examples = 25 if database.__class__.__name__ == "SqliteDatabase" else 8
    run_state_machine_as_test(
        lambda: Corrections(database),
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def test_merge_that_races_with_ingest_of_the_prior_patient_misses_no_study(database):
    corrector = Corrector(database, 0, None)
    store(database, build_instance(1, 1, PatientID="P1"), build_instance(1, 2, PatientID="P2"))
    begun = threading.Event()

    def work(thread):
        if thread == 0:
            begun.wait(30)
            return corrector.merge_patients(LOCAL, PatientKey("P1"), PatientKey("P2"), reason=WHY)
        for number in range(3, 15):
            store(database, build_instance(thread, 10 * number + thread, PatientID="P1"))
            store(database, build_instance(thread, number, PatientID="P1", PatientSex="F" if thread == 1 else None))
            begun.set()
        return None

    done, *others = run_in_threads(4, work)
    assert others == [None] * 3
    studies = Searcher(database, 0).search(LOCAL, Query(Level.STUDY)).matches
    assert len(studies) == 2 + 12 * 3 + 12
    assert {text_of(match.attributes, "PatientID") for match in studies} == {"P2"}
    assert len(Searcher(database, 0).search(LOCAL, Query(Level.PATIENT)).matches) == 1
    corrector.undo(LOCAL, done.id)
    studies = Searcher(database, 0).search(LOCAL, Query(Level.STUDY)).matches
    assert sum(text_of(match.attributes, "PatientID") == "P2" for match in studies) == 1
