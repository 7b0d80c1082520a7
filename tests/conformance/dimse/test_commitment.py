"""Storage Commitment Push Model (PS3.4 Annex J) against pynetdicom and Orthanc, as SCP and as SCU."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, build_context, build_role, evt
from sqlalchemy import select

from pacs.app import open_archive
from pacs.commitment import REPORT, REQUEST, Item
from pacs.config import CommitmentSettings, Settings, StorageSettings
from pacs.database.work_tables import commitment
from pacs.dimse.calling import Caller
from pacs.dimse.commitment import PUSH_MODEL, WELL_KNOWN_INSTANCE, CommitmentCaller, CommitmentService
from pacs.dimse.peers import Peer, Peers
from pacs.dimse.server import create_server
from pacs.index.commitments import Role
from pacs.ingest.incoming import Incoming
from pacs.jobs.turn import Patience
from pacs.jobs.worker import Worker
from pacs.model import Door, Origin
from tests.builders import as_part10, build_ct, new_uid
from tests.conformance.dimse.orthanc import run_orthanc
from tests.conformance.dimse.scu import VERIFICATION, established

SECONDS = 30


@dataclass
class Running:
    parts: Any
    port: int
    peers: list[Peer]


@contextmanager
def serving(tmp_path, peers=(), wait_seconds=0.0) -> Iterator[Running]:
    """Run an archive with its commitment services until the block ends."""
    settings = Settings(
        data_dir=tmp_path / "archive",
        storage=StorageSettings(url="memory:"),
        commitment=CommitmentSettings(wait_seconds=wait_seconds),
    )
    with open_archive(settings) as parts:
        service = CommitmentService(parts.archive.commit)
        known = Peers(tuple(peers), Peer(""))
        caller = CommitmentCaller(Caller("PACS"), known, service, parts.archive.commit)
        tasks = {
            REPORT: lambda jobs: parts.archive.commit.report(jobs, caller.report),
            REQUEST: lambda jobs: parts.archive.commit.ask(jobs, caller.ask),
        }
        server = create_server(parts.archive, port=0, peers=known, services=[service])
        server.start()
        try:
            with Worker(parts.database, tasks, Patience(timedelta(days=1), 0.1)):
                yield Running(parts, server.port, list(peers))
        finally:
            server.stop(grace_seconds=2)


def store(parts, dataset) -> None:
    with parts.archive.ingest.open_spool() as spool:
        spool.write(as_part10(dataset))
        assert parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored


def build_request(*datasets, transaction_uid="") -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid or new_uid()
    items = []
    for dataset in datasets:
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        items.append(item)
    request.ReferencedSOPSequence = Sequence(items)
    return request


@dataclass
class Modality:
    """A pynetdicom peer that keeps the reports it gets, with the port they came over: 0 for its own association."""

    reports: "queue.Queue[tuple[int, Dataset, bool]]" = field(default_factory=queue.Queue)

    def take(self, event) -> tuple[int, None]:
        self.reports.put((event.event_type, event.event_information, event.assoc.is_acceptor))
        return 0x0000, None

    def report(self) -> tuple[int, Dataset, bool]:
        return self.reports.get(timeout=SECONDS)

    def associate(self, port, calling="CT1"):
        contexts = [build_context(PUSH_MODEL), build_context(VERIFICATION)]
        return established(port, contexts, calling, handlers=[(evt.EVT_N_EVENT_REPORT, self.take)])

    def ask(self, port, request, calling="CT1") -> int:
        """Ask on an association of its own that is released at once, and return the status."""
        with self.associate(port, calling) as association:
            return send_action(association, request)

    @contextmanager
    def listening(self, port=0) -> Iterator[int]:
        ae = AE("CT1")
        ae.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)])
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def send_action(association, request, action=1, instance=WELL_KNOWN_INSTANCE) -> int:
    status, _ = association.send_n_action(request, action, PUSH_MODEL, instance)
    return status.Status


def uids_of(information, keyword):
    return [item.ReferencedSOPInstanceUID for item in information.get(keyword, [])]


@pytest.fixture
def modality() -> Modality:
    return Modality()


def test_report_comes_over_the_same_association_while_it_is_open(tmp_path, modality):
    image = build_ct()
    with serving(tmp_path) as running, modality.associate(running.port) as association:
        store(running.parts, image)
        request = build_request(image)
        assert send_action(association, request) == 0x0000
        event_type, information, is_new = modality.report()
        assert (event_type, is_new) == (1, False)
        assert information.TransactionUID == request.TransactionUID
        assert uids_of(information, "ReferencedSOPSequence") == [image.SOPInstanceUID]
        assert information.RetrieveAETitle == "PACS"
        assert association.send_c_echo().Status == 0x0000


def test_report_after_a_release_comes_over_a_new_association_to_the_configured_address(tmp_path, modality):
    image = build_ct()
    with modality.listening() as port, serving(tmp_path, [Peer("CT1", "127.0.0.1", port)]) as running:
        store(running.parts, image)
        missing = build_ct()
        assert modality.ask(running.port, build_request(image, missing)) == 0x0000
        event_type, information, is_new = modality.report()
        assert (event_type, is_new) == (2, True)
        assert uids_of(information, "ReferencedSOPSequence") == [image.SOPInstanceUID]
        (failed,) = information.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (missing.SOPInstanceUID, 0x0112)


def test_report_is_retried_until_the_peer_listens(tmp_path, modality):
    image = build_ct()
    with modality.listening() as port:
        pass
    with serving(tmp_path, [Peer("CT1", "127.0.0.1", port)]) as running:
        store(running.parts, image)
        assert modality.ask(running.port, build_request(image)) == 0x0000
        time.sleep(1.5)
        with modality.listening(port):
            assert modality.report()[0] == 1


def test_requests_of_a_peer_without_an_address_are_reported_once_it_is_configured(tmp_path, modality):
    image = build_ct()
    settings = Settings(data_dir=tmp_path / "archive", commitment=CommitmentSettings(wait_seconds=0))
    with ExitStack() as stack:
        parts = stack.enter_context(open_archive(settings))
        store(parts, image)
        service = CommitmentService(parts.archive.commit)
        server = create_server(parts.archive, port=0, services=[service], peers=Peers((), Peer("")))
        server.start()
        stack.callback(server.stop, 2)
        assert modality.ask(server.port, build_request(image)) == 0x0000
        port = stack.enter_context(modality.listening())
        caller = CommitmentCaller(
            Caller("PACS"), Peers((Peer("CT1", "127.0.0.1", port),)), service, parts.archive.commit
        )
        tasks = {REPORT: lambda jobs: parts.archive.commit.report(jobs, caller.report)}
        stack.enter_context(Worker(parts.database, tasks, Patience(timedelta(days=1), 0.1)))
        assert modality.report()[0] == 1


def test_instances_that_come_after_the_request_are_waited_for(tmp_path, modality):
    image = build_ct()
    with serving(tmp_path, wait_seconds=60) as running, modality.associate(running.port) as association:
        assert send_action(association, build_request(image)) == 0x0000
        time.sleep(1)
        store(running.parts, image)
        assert modality.report()[0] == 1


def test_duplicate_transaction_uid_is_refused(tmp_path, modality):
    image = build_ct()
    with serving(tmp_path) as running, modality.associate(running.port) as association:
        store(running.parts, image)
        request = build_request(image)
        assert send_action(association, request) == 0x0000
        modality.report()
        assert send_action(association, request) == 0x0131


@pytest.mark.parametrize(
    ("action", "instance", "status"), [(2, WELL_KNOWN_INSTANCE, 0x0123), (1, "1.2.840.10008.1.20.1.2", 0x0112)]
)
def test_other_actions_and_instances_are_refused(tmp_path, modality, action, instance, status):
    with serving(tmp_path) as running, modality.associate(running.port) as association:
        assert send_action(association, build_request(build_ct()), action, instance) == status


@pytest.mark.parametrize("missing", ["TransactionUID", "ReferencedSOPSequence"])
def test_request_without_what_it_must_have_is_refused(tmp_path, modality, missing):
    request = build_request(build_ct())
    delattr(request, missing)
    with serving(tmp_path) as running, modality.associate(running.port) as association:
        assert send_action(association, request) == 0x0115


def test_peer_goes_on_sending_while_its_report_is_under_way(tmp_path, modality):
    images = [build_ct() for _ in range(5)]
    with serving(tmp_path) as running, modality.associate(running.port) as association:
        for image in images:
            store(running.parts, image)
        for image in images:
            assert send_action(association, build_request(image)) == 0x0000
            time.sleep(0.3)
        told = [modality.report()[1] for _ in images]
    assert sorted(uids_of(information, "ReferencedSOPSequence")[0] for information in told) == sorted(
        image.SOPInstanceUID for image in images
    )


def take_action(reports):
    """Return a handler that agrees to an N-ACTION and keeps its information."""

    def handle(event) -> tuple[int, None]:
        reports.put((event.action_type, event.action_information, event.assoc))
        return 0x0000, None

    return handle


def test_peer_is_asked_for_what_it_was_sent_and_its_report_is_noted(tmp_path):
    image = build_ct()
    asked: queue.Queue[Any] = queue.Queue()
    ae = AE("B")
    ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, take_action(asked))])
    try:
        with serving(tmp_path, [Peer("B", "127.0.0.1", server.server_address[1])]) as running:
            running.parts.archive.commit.request("B", [Item(str(image.SOPClassUID), image.SOPInstanceUID)])
            action, information, _ = asked.get(timeout=SECONDS)
            assert action == 1
            assert uids_of(information, "ReferencedSOPSequence") == [image.SOPInstanceUID]
            assert send_report(running.port, information) == 0x0000
            found = running.parts.archive.commit.find(Role.SCU, "B", information.TransactionUID)
            assert [item.failure for item in found.items] == [0]
            information.TransactionUID = new_uid()
            assert send_report(running.port, information) == 0x0115
    finally:
        server.shutdown()


def test_report_over_the_association_of_our_request_is_noted(tmp_path):
    image = build_ct()
    answers: queue.Queue[int] = queue.Queue()

    def agree(event) -> tuple[int, None]:
        arguments = event.action_information, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE
        report = threading.Timer(0.3, lambda: answers.put(event.assoc.send_n_event_report(*arguments)[0].Status))
        report.start()
        return 0x0000, None

    ae = AE("B")
    ae.add_supported_context(PUSH_MODEL)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, agree)])
    try:
        with serving(tmp_path, [Peer("B", "127.0.0.1", server.server_address[1])]) as running:
            running.parts.archive.commit.request("B", [Item(str(image.SOPClassUID), image.SOPInstanceUID)])
            assert answers.get(timeout=SECONDS) == 0x0000
            found = find_commitment(running.parts, "B")
            assert [item.failure for item in found.items] == [0]
    finally:
        server.shutdown()


def send_report(port, information) -> int:
    """Report everything as committed over a new association, as SCP."""
    roles = [build_role(PUSH_MODEL, scu_role=False, scp_role=True)]
    with established(port, [build_context(PUSH_MODEL)], "B", negotiation=roles) as association:
        status, _ = association.send_n_event_report(information, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    return status.Status


def test_connection_that_breaks_after_a_request_loses_no_report(tmp_path, modality):
    image = build_ct()
    with modality.listening() as port, serving(tmp_path, [Peer("CT1", "127.0.0.1", port)]) as running:
        store(running.parts, image)
        with modality.associate(running.port) as association:
            assert send_action(association, build_request(image)) == 0x0000
            association.abort()
        assert modality.report()[0] == 1


def test_orthanc_is_given_commitment(tmp_path):
    image = build_ct()
    with ExitStack() as stack:
        orthanc = stack.enter_context(run_orthanc(tmp_path))
        running = stack.enter_context(serving(tmp_path, [Peer("ORTHANC", "127.0.0.1", orthanc.dicom_port)]))
        orthanc.http.put("/modalities/pacs", json=["PACS", "127.0.0.1", running.port]).raise_for_status()
        store(running.parts, image)
        missing = build_ct()
        answer = orthanc.post(
            "/modalities/pacs/storage-commitment",
            {"DicomInstances": [[str(one.SOPClassUID), one.SOPInstanceUID] for one in (image, missing)]},
        )
        outcome = wait_for_orthanc(orthanc, answer["ID"])
    assert [item["SOPInstanceUID"] for item in outcome["Success"]] == [image.SOPInstanceUID]
    assert [item["FailureReason"] for item in outcome["Failures"]] == [0x0112]


def test_orthanc_commits_to_what_it_was_sent(tmp_path):
    image, missing = build_ct(), build_ct()
    with ExitStack() as stack:
        orthanc = stack.enter_context(run_orthanc(tmp_path))
        orthanc.upload(as_part10(image))
        running = stack.enter_context(serving(tmp_path, [Peer("ORTHANC", "127.0.0.1", orthanc.dicom_port)]))
        orthanc.http.put("/modalities/pacs", json=["PACS", "127.0.0.1", running.port]).raise_for_status()
        items = [Item(str(one.SOPClassUID), one.SOPInstanceUID) for one in (image, missing)]
        commit = running.parts.archive.commit
        commit.request("ORTHANC", items)
        deadline = time.monotonic() + SECONDS
        found = None
        while found is None or found.reported_at is None:
            assert time.monotonic() < deadline, orthanc.log.read_text()[-3000:]
            time.sleep(0.2)
            found = find_commitment(running.parts)
    assert {item.sop_instance_uid: item.failure for item in found.items} == {
        image.SOPInstanceUID: 0,
        missing.SOPInstanceUID: 0x0112,
    }


def find_commitment(parts, peer="ORTHANC"):
    """Return the one request of ours, if it was made."""
    with parts.database.read() as connection:
        uid = connection.execute(select(commitment.c.transaction_uid)).scalar()
    return parts.archive.commit.find(Role.SCU, peer, uid) if uid else None


def wait_for_orthanc(orthanc, identifier) -> Any:
    deadline = time.monotonic() + SECONDS
    while True:
        outcome = orthanc.http.get(f"/storage-commitment/{identifier}").json()
        if outcome["Status"] != "Pending":
            return outcome
        assert time.monotonic() < deadline, orthanc.log.read_text()[-3000:]
        time.sleep(0.2)
