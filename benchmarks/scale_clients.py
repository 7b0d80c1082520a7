"""Clients that put the same questions to one archive after another, and count the milliseconds until the last byte."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as FindByPatient
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindByStudy

from benchmarks.generated_index import UID_ROOT
from benchmarks.selective_queries import PAGE, QUESTIONS, Question, Sample
from pacs.model import Level
from tests.builders import build_ct

STORE = "C-STORE"
METADATA = "metadata of a series"
INSTANCES_PER_SERIES = 10
READINGS, WARM_READINGS = 40, 5
_JSON = {"Accept": "application/dicom+json"}
_PATHS = {Level.STUDY: "studies", Level.SERIES: "series"}
_RETURNED = {
    Level.PATIENT: ("PatientName", "PatientID", "PatientBirthDate"),
    Level.STUDY: ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "AccessionNumber", "ModalitiesInStudy"),
    Level.SERIES: ("SeriesInstanceUID", "Modality", "SeriesNumber"),
}


@dataclass
class Served:
    """An archive that answers, what is asked of it, and what that took, by the kind of work.

    ``steps`` are those of SQLite's virtual machine for each sample, without HTTP and DIMSE; none on PostgreSQL.
    """

    dicomweb: str
    dicom_port: int
    samples: Sequence[Sample]
    series_path: str
    steps: dict[str, list[int]]
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def measure(archives: Sequence[Served], *, rounds: int, stores: int) -> None:
    """Ask every archive everything, in turns, so that whatever else the machine does slows all of them alike.

    The first round warms the caches and is not counted.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(_connected(archive)) for archive in archives]
        for number in range(rounds + 1):
            for at in range(len(archives[0].samples)):
                for question in QUESTIONS:
                    for client in _in_turn(clients, at):
                        client.ask(question, at, is_counted=number > 0)
        for number in range(stores + INSTANCES_PER_SERIES):
            for client in _in_turn(clients, number):
                client.store(number, is_counted=number >= INSTANCES_PER_SERIES)
        for number in range(READINGS + WARM_READINGS):
            for client in _in_turn(clients, number):
                client.read_metadata(is_counted=number >= WARM_READINGS)


def _in_turn(clients: Sequence["_Client"], number: int) -> Sequence["_Client"]:
    """Return the clients, each first every other time: who comes second may find the processor warm, or taken."""
    return clients if number % 2 else clients[::-1]


class _Client:
    def __init__(self, archive: Served, http: httpx.Client, association: Association) -> None:
        self._archive = archive
        self._http = http
        self._association = association
        self._chance = random.Random()
        self._place: tuple[str, str] = ("", "")

    def ask(self, question: Question, at: int, *, is_counted: bool) -> None:
        keys = question.keys(self._archive.samples[at])
        if question.level in _PATHS:
            fields = keys | {"limit": str(PAGE)} | ({"fuzzymatching": "true"} if question.is_fuzzy else {})
            with self._timed(f"QIDO {question.name}", is_counted=is_counted):
                answer = self._http.get(f"/{_PATHS[question.level]}", params=fields)
            assert answer.status_code == httpx.codes.OK, answer.text
        if question.is_selective:
            identifier = _identifier(question.level, keys)
            model = FindByPatient if question.level is Level.PATIENT else FindByStudy
            with self._timed(f"C-FIND {question.name}", is_counted=is_counted):
                statuses = [status.Status for status, _ in self._association.send_c_find(identifier, model)]
            assert statuses[0] != 0, "the study that was asked for is there"
            assert statuses[-1] == 0, statuses

    def store(self, number: int, *, is_counted: bool) -> None:
        """Store one small slice; every tenth begins a study."""
        if number % INSTANCES_PER_SERIES == 0:
            self._place = self._uid(), self._uid()
        study, series = self._place
        dataset = build_ct(
            SOPInstanceUID=self._uid(),
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            InstanceNumber=number,
            PatientID=study[-12:],
            StudyDate="20260102",
        )
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with self._timed(STORE, is_counted=is_counted):
            status = self._association.send_c_store(dataset)
        assert status.Status == 0, status

    def read_metadata(self, *, is_counted: bool) -> None:
        with self._timed(METADATA, is_counted=is_counted):
            answer = self._http.get(f"{self._archive.series_path}/metadata")
        assert answer.status_code == httpx.codes.OK, answer.text

    def _uid(self) -> str:
        return f"{UID_ROOT}{self._chance.getrandbits(120)}"

    @contextmanager
    def _timed(self, work: str, *, is_counted: bool) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if is_counted:
            self._archive.milliseconds[work].append((time.perf_counter() - started) * 1000)


@contextmanager
def _connected(archive: Served) -> Iterator[_Client]:
    entity = AE(ae_title="SCALE")
    for sop_class in (FindByPatient, FindByStudy):
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", archive.dicom_port, ae_title="PACS")
    assert association.is_established
    try:
        with httpx.Client(base_url=archive.dicomweb, headers=_JSON, timeout=120) as http:
            yield _Client(archive, http, association)
    finally:
        association.release()


def _identifier(level: Level, keys: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level.value
    identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _RETURNED[level]:
        setattr(identifier, keyword, "")
    for keyword, text in keys.items():
        setattr(identifier, keyword, text)
    return identifier
