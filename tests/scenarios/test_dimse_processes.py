"""Several processes serve associations: one accepts and counts all of them, and nothing of one that is killed stays."""

import os
import signal
import ssl
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, build_context

from pacs.dimse.admission import MAX_WAITING
from tests.builders import build_ct
from tests.conformance.dimse.authority import make_authority
from tests.conformance.dimse.holding import STUDY_ROOT_MOVE, build_identifier, counts, request_association
from tests.conformance.dimse.receivers import run_receiver
from tests.conformance.dimse.scu import (
    ASSOCIATE_ACCEPT,
    ASSOCIATE_REJECT,
    VERIFICATION,
    BareSocket,
    associate,
    echo_works,
    encode_echo_command,
    established,
)
from tests.conformance.dimse.test_commitment import PUSH_MODEL, Modality, build_request, send_action
from tests.scenarios.process import free_port, serving
from tests.scenarios.pushing import Pusher
from tests.scenarios.test_processes import beside, find, group_is_gone, stopped, store, wait_until

pytestmark = pytest.mark.scenario

LOCAL_LIMIT_EXCEEDED = bytes([0, 2, 3, 2])
PROMISCUOUS = "[dimse]\npromiscuous = true\n"
CONTEXTS = [build_context(VERIFICATION)]


@contextmanager
def serving_dimse(tmp_path, processes=2, peers="", **environment):
    """Run an archive and yield it with the processes beside it, all of which serve associations."""
    config = tmp_path / "pacs.toml"
    config.write_text(peers)
    environment = {"PACS_DIMSE__PROCESSES": str(processes)} | environment
    with serving(tmp_path / "data", config=config, **environment) as archive:
        wait_until(lambda: all_are_there(archive, processes - 1))
        yield archive, beside(archive)


def all_are_there(archive, count):
    return archive.log.read_text().count("serves associations too") >= count


def served_by(process, port):
    """Return the ports from which come the connections to ``port`` that a process holds."""
    inodes = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            inodes.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        is_established = fields[3] == "01"
        if is_established and int(fields[1].split(":")[1], 16) == port and f"socket:[{fields[9]}]" in inodes:
            found.add(int(fields[2].split(":")[1], 16))
    return found


def port_of(peer):
    return peer.socket.getsockname()[1]


def local_port(association):
    return association.dul.socket.socket.getsockname()[1]


def open_at(stack, archive, process):
    """Return an established association that this process serves; those of others are closed again."""
    for _ in range(20):
        peer = stack.enter_context(BareSocket(archive.dicom_port))
        assert peer.associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
        if port_of(peer) in served_by(process, archive.dicom_port):
            return peer
    raise AssertionError("it serves nothing")


def echoes(peer):
    peer.send_data(1, encode_echo_command(), is_command=True)
    return peer.receive_status() == (0x0000, "")


def test_associations_are_shared_evenly_and_each_has_one_process(tmp_path):
    with serving_dimse(tmp_path, 3) as (archive, others), ExitStack() as stack:
        peers = [stack.enter_context(BareSocket(archive.dicom_port)) for _ in range(9)]
        for peer in peers:
            assert peer.associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
            assert echoes(peer)
        served = [served_by(process, archive.dicom_port) for process in (archive.process.pid, *others)]
        assert [len(ports) for ports in served] == [3, 3, 3]
        assert set().union(*served) == {port_of(peer) for peer in peers}


def test_what_one_process_stores_is_found_by_the_others(tmp_path):
    with serving_dimse(tmp_path) as (archive, (other,)):
        pushers = [Pusher(archive.dicom_port) for _ in range(2)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.wait_for(5)
        assert len(served_by(archive.process.pid, archive.dicom_port)) == 1
        assert len(served_by(other, archive.dicom_port)) == 1
        for pusher in pushers:
            pusher.finish()
        assert find(archive) == set(pushers[0].acknowledged) | set(pushers[1].acknowledged)


def test_the_limit_of_all_counts_over_all_processes(tmp_path):
    environment = {"PACS_DIMSE__MAX_ASSOCIATIONS": "8", "PACS_DIMSE__MAX_ASSOCIATIONS_PER_PEER": "32"}
    with serving_dimse(tmp_path, 3, **environment) as (archive, _), ExitStack() as stack:
        # A quarter is kept for peers that have none yet, and all here are of one address.
        for _ in range(6):
            assert stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
        for _ in range(6):
            answer = stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)
            assert answer == (ASSOCIATE_REJECT, LOCAL_LIMIT_EXCEEDED)


def test_the_limit_of_a_peer_counts_over_all_processes_and_holds_for_no_other(tmp_path):
    peers = PROMISCUOUS + '[[dimse.peers]]\nae_title = "BARE"\nmax_associations = 2\n'
    with serving_dimse(tmp_path, 3, peers) as (archive, _), ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
        for _ in range(6):
            answer = stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)
            assert answer == (ASSOCIATE_REJECT, LOCAL_LIMIT_EXCEEDED)
        for _ in range(3):
            stack.enter_context(established(archive.dicom_port, CONTEXTS, "TESTER"))


def test_what_is_released_can_be_had_again_at_once_whoever_served_it(tmp_path):
    peers = PROMISCUOUS + '[[dimse.peers]]\nae_title = "TESTER"\nmax_associations = 1\n'
    with serving_dimse(tmp_path, 3, peers) as (archive, _):
        for _ in range(12):
            with associate(archive.dicom_port, CONTEXTS) as association:
                assert association.is_established
        for _ in range(6):
            with established(archive.dicom_port, CONTEXTS) as association:
                association.abort()


def test_silent_connections_keep_nobody_out_and_the_oldest_are_cut_off(tmp_path):
    with serving_dimse(tmp_path, 3) as (archive, _), ExitStack() as stack:
        silent = [stack.enter_context(BareSocket(archive.dicom_port)) for _ in range(MAX_WAITING + 6)]
        assert echo_works(archive.dicom_port)
        for peer in silent[:6]:
            assert peer.receive() == (0, b"")
        silent[-1].socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[-1].socket.recv(1)


def test_a_process_that_is_killed_loses_nothing_acknowledged_and_what_it_held_can_be_had_again(tmp_path):
    peers = PROMISCUOUS + '[[dimse.peers]]\nae_title = "BARE"\nmax_associations = 6\n'
    with serving_dimse(tmp_path, 3, peers) as (archive, (victim, _)):
        pushers = [Pusher(archive.dicom_port) for _ in range(6)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.wait_for(5)
        with BareSocket(archive.dicom_port) as peer:
            assert peer.associate(VERIFICATION)[1] == LOCAL_LIMIT_EXCEEDED
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: sum(not pusher._thread.is_alive() for pusher in pushers) == 2)
        with ExitStack() as stack:
            wait_until(
                lambda: (
                    stack.enter_context(BareSocket(archive.dicom_port)).associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
                )
            )
        for pusher in pushers:
            pusher.finish()
        acknowledged = {uid for pusher in pushers for uid in pusher.acknowledged}
        assert len(acknowledged) >= 30
        assert find(archive) >= acknowledged
        assert archive.stop() == 0


def test_another_takes_the_place_of_one_that_was_killed(tmp_path):
    with serving_dimse(tmp_path) as (archive, (victim,)), ExitStack() as stack:
        kept = stack.enter_context(BareSocket(archive.dicom_port))
        kept.associate(VERIFICATION)
        lost = kept if port_of(kept) in served_by(victim, archive.dicom_port) else open_at(stack, archive, victim)
        os.kill(victim, signal.SIGKILL)
        assert lost.receive() == (0, b"")
        assert echo_works(archive.dicom_port)  # by the archive's own process, until there is another
        wait_until(lambda: all_are_there(archive, 2))
        (successor,) = beside(archive)
        assert successor != victim
        assert echoes(open_at(stack, archive, successor))


def test_a_process_that_hangs_keeps_others_from_nothing(tmp_path):
    with serving_dimse(tmp_path) as (archive, (other,)), stopped(other):
        reached = 0
        with ExitStack() as stack:
            for _ in range(6):
                peer = stack.enter_context(BareSocket(archive.dicom_port))
                peer.socket.settimeout(2)
                try:
                    reached += peer.associate(VERIFICATION)[0] == ASSOCIATE_ACCEPT
                except TimeoutError:
                    continue
        assert reached == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_for_all", [False, True])
def test_stop_during_a_push_is_clean_and_loses_nothing_acknowledged(tmp_path, number, is_for_all):
    with serving_dimse(tmp_path, PACS_HTTP__PROCESSES="3", PACS_DIMSE__GRACE_SECONDS="2") as (archive, _):
        pushers = [Pusher(archive.dicom_port) for _ in range(4)]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.wait_for(5)
        if is_for_all:
            os.killpg(archive.process.pid, number)
            assert archive.process.wait(60) == 0
        else:
            assert archive.stop(number) == 0
        for pusher in pushers:
            pusher.finish()
        log = archive.log.read_text()
        assert group_is_gone(archive)
        assert [word for word in ("Traceback", "before its time", "still busy") if word in log] == []
    with serving(tmp_path / "data") as archive:
        assert find(archive) >= {uid for pusher in pushers for uid in pusher.acknowledged}


def test_an_idle_association_of_another_process_is_aborted_by_a_stop(tmp_path):
    with serving_dimse(tmp_path, PACS_DIMSE__GRACE_SECONDS="30") as (archive, (other,)), ExitStack() as stack:
        peer = open_at(stack, archive, other)
        begun_at = time.monotonic()
        assert archive.stop() == 0
        assert time.monotonic() - begun_at < 30  # nobody waited for the end of the grace
        assert peer.receive()[0] == 0x07


def test_all_end_when_the_archive_is_killed(tmp_path):
    with serving_dimse(tmp_path, PACS_DIMSE__GRACE_SECONDS="1") as (archive, (other,)), ExitStack() as stack:
        peer = open_at(stack, archive, other)
        os.kill(archive.process.pid, signal.SIGKILL)
        archive.process.wait()
        wait_until(lambda: group_is_gone(archive))
        assert peer.receive()[0] in (0, 0x07)


def test_tls_is_spoken_by_each_process(tmp_path):
    folder = make_authority(tmp_path / "authority", "DEVICE")
    port = free_port()
    files = {"CERTIFICATE": "server.crt", "KEY": "server.key", "AUTHORITY": "authority.crt"}
    environment = {f"PACS_DIMSE__TLS__{name}_FILE": str(folder / file) for name, file in files.items()}
    context = ssl.create_default_context(cafile=str(folder / "authority.crt"))
    context.load_cert_chain(folder / "DEVICE.crt", folder / "DEVICE.key")
    with serving_dimse(tmp_path, PACS_DIMSE__TLS__PORT=str(port), **environment) as (archive, (other,)):
        ae = AE("TESTER")
        associations = [ae.associate("127.0.0.1", port, CONTEXTS, tls_args=(context, "localhost")) for _ in range(4)]
        assert [association.send_c_echo().Status for association in associations] == [0x0000] * 4
        assert [len(served_by(process, port)) for process in (archive.process.pid, other)] == [2, 2]
        for association in associations:
            association.release()


def test_a_retrieval_is_sent_by_the_process_that_is_asked_and_the_others_know_the_destination(tmp_path):
    study = [build_ct()]
    study.append(build_ct(StudyInstanceUID=study[0].StudyInstanceUID))
    with run_receiver() as receiver:
        peer = f'[[dimse.peers]]\nae_title = "DEST"\naddress = "127.0.0.1"\nport = {receiver.port}\n'
        with serving_dimse(tmp_path, peers=PROMISCUOUS + peer) as (archive, processes), ExitStack() as stack:
            stored = store(archive, *study)
            identifier = build_identifier("STUDY", StudyInstanceUID=study[0].StudyInstanceUID)
            for process in (*processes, archive.process.pid):
                association = stack.enter_context(request_association(archive.dicom_port, STUDY_ROOT_MOVE))
                assert local_port(association) in served_by(process, archive.dicom_port)
                *_, (status, _) = association.send_c_move(identifier, "DEST", STUDY_ROOT_MOVE)
                assert counts(status)[1:] == (2, 0, 0)
            assert set(receiver.data_sets) == stored
            assert len(receiver.received) == 4


def test_commitment_is_reported_over_the_association_of_the_request_whichever_process_serves_it(tmp_path):
    """These peers have no address: they can be told in no other way."""
    environment = {"PACS_COMMITMENT__WAIT_SECONDS": "0"}
    with serving_dimse(tmp_path, 3, **environment) as (archive, others), ExitStack() as stack:
        processes = {archive.process.pid, *others}
        for number in range(3):
            image = build_ct()
            store(archive, image)
            modality = Modality()
            association = stack.enter_context(modality.associate(archive.dicom_port, f"CT{number}"))
            port = local_port(association)
            processes -= {process for process in processes if port in served_by(process, archive.dicom_port)}
            request = build_request(image)
            assert send_action(association, request) == 0x0000
            event_type, information, is_new = modality.report()
            assert (event_type, is_new) == (1, False)
            assert information.TransactionUID == request.TransactionUID
        assert processes == set()


def test_commitment_is_reported_over_a_new_association_when_the_process_of_the_request_was_killed(tmp_path):
    modality = Modality()
    with modality.listening() as port:
        peer = f'[[dimse.peers]]\nae_title = "CT1"\naddress = "127.0.0.1"\nport = {port}\n'
        environment = {"PACS_COMMITMENT__WAIT_SECONDS": "4"}
        with serving_dimse(tmp_path, peers=PROMISCUOUS + peer, **environment) as (archive, (other,)):
            association = AE("CT1").associate("127.0.0.1", archive.dicom_port, [build_context(PUSH_MODEL)])
            assert local_port(association) in served_by(other, archive.dicom_port)
            assert send_action(association, build_request(build_ct())) == 0x0000
            os.kill(other, signal.SIGKILL)
            event_type, _, is_new = modality.report()
            assert (event_type, is_new) == (2, True)
