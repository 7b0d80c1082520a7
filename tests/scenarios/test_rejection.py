"""A technician rejects images (IHE IOCM): what every door shows then, and who is told (RULES: title by door)."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.pdu import P_DATA_TF

from tests.builders import build_ct, new_uid
from tests.conformance.dimse.scu import established
from tests.key_objects import EXPIRED, QUALITY, SAFETY, WORKLIST, build_key_objects
from tests.scenarios.process import ArchiveProcess, free_port, serving

pytestmark = pytest.mark.scenario

CT = "1.2.840.10008.5.1.4.1.1.2"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
NOTIFICATION = "1.2.840.10008.5.1.4.33"
TITLES = [QUALITY, SAFETY, WORKLIST, EXPIRED]
SECONDS = 30

SETTINGS = """
[routing]
quiet_seconds = 0.5
[[routing.rules]]
to = ["WARD"]
[commitment]
wait_seconds = 0
[[dimse.peers]]
ae_title = "CT1"
may_reject = true
[[dimse.peers]]
ae_title = "WARD"
address = "127.0.0.1"
port = {port}
notify_availability = true
request_commitment = true
"""


@dataclass
class Ward:
    """A destination that keeps what it is sent, told and asked."""

    instances: "queue.Queue[str]" = field(default_factory=queue.Queue)
    notices: "queue.Queue[Dataset]" = field(default_factory=queue.Queue)
    requests: "queue.Queue[Dataset]" = field(default_factory=queue.Queue)

    @contextmanager
    def listening(self, port) -> Iterator[None]:
        ae = AE("WARD")
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(NOTIFICATION)
        ae.add_supported_context(COMMITMENT)
        handlers = [
            (evt.EVT_C_STORE, lambda event: self.keep(self.instances, str(event.request.AffectedSOPInstanceUID))),
            (evt.EVT_N_CREATE, lambda event: (self.keep(self.notices, event.attribute_list), None)),
            (evt.EVT_N_ACTION, lambda event: (self.keep(self.requests, event.action_information), None)),
        ]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            server.shutdown()

    def keep(self, kept, value) -> int:
        kept.put(value)
        return 0x0000

    def instance(self, *, skipping=()) -> str:
        """Return the UID that was sent next."""
        while True:
            uid = self.instances.get(timeout=SECONDS)
            if uid not in skipping:
                return uid

    def notice(self, study_instance_uid, wanted) -> None:
        """Wait until the ward was told just this of a study: availability by SOP Instance UID."""
        while True:
            told = self.notices.get(timeout=SECONDS)
            if told.StudyInstanceUID == study_instance_uid and availability_of(told) == wanted:
                return


def availability_of(notice) -> dict[str, str]:
    references = [one for item in notice.ReferencedSeriesSequence for one in item.ReferencedSOPSequence]
    assert {one.RetrieveAETitle for one in references} == {"PACS"}
    return {one.ReferencedSOPInstanceUID: one.InstanceAvailability for one in references}


@dataclass
class Hospital:
    archive: ArchiveProcess
    ward: Ward


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    port = free_port()
    (folder / "pacs.toml").write_text(SETTINGS.format(port=port))
    ward = Ward()
    with ward.listening(port), serving(folder / "data", config=folder / "pacs.toml") as archive:
        yield Hospital(archive, ward)


def associate(archive, *contexts, calling="CT1", handlers=()):
    return established(archive.dicom_port, list(map(build_context, contexts)), calling, handlers=handlers)


def push(archive, *datasets, calling="CT1") -> list[int]:
    with associate(archive, CT, KEY_OBJECTS, calling=calling) as association:
        statuses = []
        for dataset in datasets:
            dataset.file_meta = meta_of()
            statuses.append(association.send_c_store(dataset).Status)
        return statuses


def meta_of() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    return meta


def find(archive, study_instance_uid) -> set[str]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = study_instance_uid
    identifier.SeriesInstanceUID = ""
    identifier.SOPInstanceUID = ""
    found = set()
    identifier.SeriesInstanceUID = SERIES_OF[study_instance_uid]
    with associate(archive, STUDY_FIND) as association:
        for status, answer in association.send_c_find(identifier, STUDY_FIND):
            if status.Status in (0xFF00, 0xFF01):
                found.add(answer.SOPInstanceUID)
    return found


SERIES_OF: dict[str, str] = {}


def build_study(count=2):
    study, series = new_uid(), new_uid()
    SERIES_OF[study] = series
    return [build_ct(StudyInstanceUID=study, SeriesInstanceUID=series) for _ in range(count)]


def qido(archive, study) -> set[str]:
    response = httpx.get(f"{archive.dicomweb}/studies/{study}/instances", timeout=SECONDS)
    return {one["00080018"]["Value"][0] for one in response.json()} if response.content else set()


def commit(archive, *datasets) -> dict[str, int]:
    """Return what storage commitment says, by SOP Instance UID: 0 or a Failure Reason."""
    reports: queue.Queue[Dataset] = queue.Queue()
    answered = threading.Event()

    def take(event):
        reports.put(event.event_information)
        return 0x0000, None

    def note(event):
        if not reports.empty() and isinstance(event.pdu, P_DATA_TF):
            answered.set()

    request = Dataset()
    request.TransactionUID = new_uid()
    request.ReferencedSOPSequence = []
    for dataset in datasets:
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        request.ReferencedSOPSequence.append(item)
    handlers = [(evt.EVT_N_EVENT_REPORT, take), (evt.EVT_PDU_SENT, note)]
    with associate(archive, COMMITMENT, handlers=handlers) as association:
        status, _ = association.send_n_action(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0x0000
        assert answered.wait(SECONDS)  # a release before the answer is sent would break the protocol
    told = reports.get()
    items = [*told.get("ReferencedSOPSequence", []), *told.get("FailedSOPSequence", [])]
    return {item.ReferencedSOPInstanceUID: item.get("FailureReason", 0) for item in items}


@pytest.mark.parametrize("title", TITLES)
def test_rejected_instance_is_gone_from_every_door_and_everybody_is_told(hospital, title):
    archive, ward = hospital.archive, hospital.ward
    bad, good = build_study()
    study = bad.StudyInstanceUID
    assert push(archive, bad, good) == [0, 0]
    assert {ward.instance(), ward.instance()} == {bad.SOPInstanceUID, good.SOPInstanceUID}
    ward.notice(study, {bad.SOPInstanceUID: "ONLINE", good.SOPInstanceUID: "ONLINE"})
    note = build_key_objects(title, [bad])
    assert push(archive, note) == [0]
    assert qido(archive, study) == {good.SOPInstanceUID}
    assert find(archive, study) == {good.SOPInstanceUID}
    address = f"{archive.dicomweb}/studies/{study}/series/{bad.SeriesInstanceUID}/instances"
    assert httpx.get(f"{address}/{bad.SOPInstanceUID}/metadata").status_code == 404
    assert httpx.get(f"{address}/{bad.SOPInstanceUID}/frames/1").status_code == 404
    assert httpx.get(f"{address}/{good.SOPInstanceUID}/metadata").status_code == 200
    assert ward.instance() == note.SOPInstanceUID
    ward.notice(study, {bad.SOPInstanceUID: "UNAVAILABLE", good.SOPInstanceUID: "ONLINE"})


@pytest.mark.parametrize("title", TITLES)
def test_instance_sent_again_shows_and_is_routed_only_after_expiry(hospital, title):
    archive, ward = hospital.archive, hospital.ward
    bad, other = build_study()
    assert push(archive, bad) == [0]
    assert ward.instance() == bad.SOPInstanceUID
    note = build_key_objects(title, [bad])
    assert push(archive, note) == [0]
    assert ward.instance() == note.SOPInstanceUID
    assert push(archive, bad) == [0]
    shown = {bad.SOPInstanceUID} if title == EXPIRED else set()
    assert qido(archive, bad.StudyInstanceUID) == shown
    assert find(archive, bad.StudyInstanceUID) == shown
    assert push(archive, other) == [0]
    assert ward.instance() == (bad if title == EXPIRED else other).SOPInstanceUID
    if title == EXPIRED:
        assert ward.instance() == other.SOPInstanceUID


@pytest.mark.parametrize("title", TITLES)
def test_rejected_instance_is_committed_unless_it_expired_and_the_note_always(hospital, title):
    archive, ward = hospital.archive, hospital.ward
    (bad,) = build_study(1)
    note = build_key_objects(title, [bad])
    assert push(archive, bad, note) == [0, 0]
    failure = 0x0112 if title == EXPIRED else 0
    assert commit(archive, bad, note) == {bad.SOPInstanceUID: failure, note.SOPInstanceUID: 0}
    assert push(archive, bad) == [0]
    assert commit(archive, bad) == {bad.SOPInstanceUID: 0}
    settle(ward)


@pytest.mark.parametrize("title", TITLES)
def test_note_of_another_peer_is_refused(hospital, title):
    archive, ward = hospital.archive, hospital.ward
    (image,) = build_study(1)
    assert push(archive, image, build_key_objects(title, [image]), calling="CT2") == [0, 0x0124]
    assert qido(archive, image.StudyInstanceUID) == {image.SOPInstanceUID}
    assert ward.instance() == image.SOPInstanceUID


def test_destination_is_asked_to_commit_to_what_it_was_sent(hospital):
    archive, ward = hospital.archive, hospital.ward
    (image,) = build_study(1)
    assert push(archive, image) == [0]
    assert ward.instance() == image.SOPInstanceUID
    while True:
        request = ward.requests.get(timeout=SECONDS)
        if image.SOPInstanceUID in {item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence}:
            break


def settle(ward) -> None:
    """Forget what the ward was sent so far, once a marker has come through."""
    while True:
        try:
            ward.instances.get(timeout=2)
        except queue.Empty:
            return
