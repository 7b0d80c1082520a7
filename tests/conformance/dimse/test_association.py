"""Associations (PS3.8): what is offered, who is refused, what a peer that breaks the rules gets, and how we stop."""

import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest
from pynetdicom import build_context

from pacs.dimse.association import Timeouts
from pacs.dimse.messages import COMMAND_LIMIT_BYTES, IDENTIFIER_LIMIT_BYTES, MAX_OUTSTANDING_MESSAGES
from pacs.dimse.peers import Peer, Peers
from pacs.ingest.outcome import Disposition, Outcome
from pacs.model import DuplicatePolicy
from tests.conformance.dimse.scu import (
    ABORT,
    ASSOCIATE_ACCEPT,
    ASSOCIATE_REJECT,
    C_FIND_RQ,
    CT,
    DATA_SET,
    P_DATA,
    RELEASE_RESPONSE,
    VERIFICATION,
    BareSocket,
    associate,
    echo_works,
    encode_association_request,
    encode_command,
    encode_data,
    encode_request,
    encode_store_command,
    send_bytes,
)

FROM_PROVIDER = b"\0\0\x02"
RELEASE_REQUEST = b"\x05\0\0\0\0\x04\0\0\0\0"


def store_bare(peer: BareSocket, message_id: int = 7, uid: bytes = b"2.25.77") -> None:
    peer.send_data(1, encode_store_command(sop_instance_uid=uid, message_id=message_id), is_command=True)
    peer.send_data(1, b"data set", is_command=False)


class TestNegotiation:
    def test_maximum_pdu_offered_is_256_kib(self, server):
        with associate(server.port, [build_context(VERIFICATION)]) as association:
            assert association.acceptor.maximum_length == 262144
            assert str(association.acceptor.implementation_class_uid).startswith("2.25.")

    def test_no_limit_is_offered_on_request_only(self, start_server, keeper):
        port = start_server(keeper, peers=Peers(default=Peer("", max_pdu_bytes=0))).port
        with BareSocket(port) as peer:
            peer.associate()
            peer.send_data(1, encode_store_command(), is_command=True)
            peer.send_data(1, b"x" * 1_000_000, is_command=False)
            assert peer.receive_status() == (0x0000, "")
        assert len(keeper.kept[0].data_set) == 1_000_000

    def test_peer_has_its_own_settings(self, start_server, keeper):
        known = Peer(
            "CT_1",
            "127.0.0.1",
            issuer_of_patient_id="HOSPITAL",
            character_set="ISO_IR 127",
            duplicate_policy=DuplicatePolicy.REJECT,
            max_pdu_bytes=32768,
        )
        port = start_server(keeper, peers=Peers((known,), Peer("", issuer_of_patient_id="OTHERS"))).port
        for calling, limit in (("CT_1", 32768), ("CT_2", 262144)):
            with associate(port, [build_context(CT)], calling=calling) as association:
                assert association.acceptor.maximum_length == limit
                send_bytes(association, association.accepted_contexts[0], "2.25.77", b"data")
        first, second = (kept.origin for kept in keeper.kept)
        assert (first.issuer_of_patient_id, first.character_set, first.duplicate_policy) == (
            "HOSPITAL",
            "ISO_IR 127",
            DuplicatePolicy.REJECT,
        )
        assert (second.issuer_of_patient_id, second.character_set) == ("OTHERS", "ISO_IR 100")

    def test_any_called_title_is_accepted_unless_it_must_be_ours(self, start_server, keeper):
        lenient, strict = start_server(keeper), start_server(keeper, require_called_ae_title=True, ae_title="ARCHIVE")
        contexts = [build_context(VERIFICATION)]
        for port, called, is_accepted in (
            (lenient.port, "WHATEVER", True),
            (strict.port, "WHATEVER", False),
            (strict.port, "ARCHIVE", True),
        ):
            with associate(port, contexts, called=called) as association:
                assert association.is_established is is_accepted
                if not is_accepted:
                    assert association.acceptor.primitive.diagnostic == 0x07

    def test_128_contexts_are_negotiated(self, server):
        contexts = [build_context(f"2.25.{number}") for number in range(128)]
        with associate(server.port, contexts) as association:
            assert len(association.accepted_contexts) == 128

    def test_association_beyond_the_limit_is_rejected_for_now(self, start_server, keeper):
        port = start_server(keeper, max_associations=3).port
        contexts = [build_context(VERIFICATION)]
        with ExitStack() as stack:
            first = [stack.enter_context(associate(port, contexts)) for _ in range(3)]
            with BareSocket(port) as silent:
                assert all(association.is_established for association in first)
                assert silent.associate() == (ASSOCIATE_REJECT, b"\0\x02\x03\x02")
            with associate(port, contexts) as rejected:
                assert rejected.is_rejected
            first[0].release()
            deadline = time.monotonic() + 20
            while not echo_works(port) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert echo_works(port)

    def test_connections_without_association_do_not_use_it_up(self, start_server, keeper):
        port = start_server(keeper, max_associations=1).port
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(BareSocket(port))
            assert echo_works(port)

    def test_two_servers_in_one_process_do_not_know_of_each_other(self, start_server, keeper):
        first, second = start_server(keeper, max_associations=1), start_server(keeper, max_associations=1)
        with associate(first.port, [build_context(VERIFICATION)]) as association:
            assert association.is_established
            assert echo_works(second.port)
            second.stop(grace_seconds=1)
            assert association.send_c_echo().Status == 0x0000

    def test_port_in_use_is_an_os_error(self, start_server, keeper, server):
        with pytest.raises(OSError, match="in use"):
            start_server(keeper).__class__(server._ae, ("127.0.0.1", server.port), server._door).start()


class TestHostilePeer:
    @pytest.mark.parametrize("announced", [262145, 0xFFFFFFFF])
    def test_too_long_pdu_is_aborted_before_its_body_is_read(self, server, announced):
        with BareSocket(server.port) as peer:
            assert peer.associate()[0] == ASSOCIATE_ACCEPT
            peer.socket.sendall(struct.pack(">BBL", P_DATA, 0, announced))
            kind, body = peer.receive()
            assert (kind, body[:3]) == (ABORT, FROM_PROVIDER)
        assert echo_works(server.port)

    def test_abort_reaches_a_peer_that_goes_on_sending(self, server):
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.socket.sendall(struct.pack(">BBL", P_DATA, 0, 10_000_000) + b"x" * 500_000)
            assert peer.receive()[0] == ABORT
            assert peer.receive() == (0, b"")

    def test_longest_pdu_that_was_offered_is_accepted(self, server, keeper):
        data_set = b"x" * (262144 - 6)
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.send_data(1, encode_store_command(), is_command=True)
            peer.send_data(1, data_set, is_command=False)
            assert peer.receive_status() == (0x0000, "")
        assert keeper.kept[0].data_set == data_set

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            bytes(range(256)),
            struct.pack(">BBL", 0x01, 0, 0xFFFFFFFF),
            struct.pack(">BBL", 0x01, 0, 4) + b"\xff" * 4,
            struct.pack(">BBL", 0x01, 0, 100) + b"\0\x01" + b"\xff" * 98,
            struct.pack(">BBL", 0x04, 0, 4) + b"\0" * 4,
            struct.pack(">BBL", 0x05, 0, 4) + b"\0" * 4,
            encode_association_request([CT], ["1.2.840.10008.1.2"]).replace(b"1.2.840.10008.3.1.1.1", b"\xff" * 21),
        ],
        ids=["http", "tls", "bytes", "endless", "short", "ones", "data", "release", "application context"],
    )
    def test_garbage_ends_its_connection_and_no_other(self, server, garbage):
        with BareSocket(server.port) as peer:
            peer.socket.sendall(garbage)
            peer.socket.shutdown(socket.SHUT_WR)
            kind, _ = peer.receive()
            assert kind in (ABORT, ASSOCIATE_ACCEPT, ASSOCIATE_REJECT, 0)
        assert echo_works(server.port)

    @pytest.mark.parametrize(
        "pdu",
        [
            struct.pack(">BBL", P_DATA, 0, 0),
            struct.pack(">BBL", P_DATA, 0, 4) + b"\0\0\0\0",
            struct.pack(">BBLL", P_DATA, 0, 5, 1) + b"\x01",
            struct.pack(">BBLL", P_DATA, 0, 8, 999) + b"\x01\x03ab",
            struct.pack(">BBLL", P_DATA, 0, 6, 0) + b"\x01\x03",
            encode_data(1, b"data without a command", is_command=False),
            encode_data(1, b"not a command", is_command=True),
            encode_data(1, encode_command([(0x0100, b"\x34\x12")]), is_command=True),
            encode_data(1, encode_command([(0x0110, b"\x01\0")]), is_command=True),
            encode_data(1, encode_store_command(), is_command=True) * 2,
            encode_data(1, encode_store_command(), is_command=True) + encode_data(3, b"x", is_command=False),
            encode_data(1, encode_store_command(message_id=0)[:-30], is_command=True),
            encode_data(1, encode_command([(0x0100, b"\1\0"), (0x0800, b"\1\0")]), is_command=True),
            struct.pack(">BBL", 0x02, 0, 4) + b"\0" * 4,
            struct.pack(">BBL", 0x09, 0, 4) + b"\0" * 4,
            struct.pack(">BBL", 0x05, 0, 1_000_000),
            encode_association_request([CT], ["1.2.840.10008.1.2"]),
        ],
    )
    def test_broken_message_is_aborted(self, server, keeper, pdu):
        with BareSocket(server.port) as peer:
            peer.associate(CT, VERIFICATION)
            peer.socket.sendall(pdu)
            kind, body = peer.receive()
            assert (kind, body[:3]) == (ABORT, FROM_PROVIDER)
        assert echo_works(server.port)
        assert keeper.kept == []

    def test_command_that_does_not_end_is_aborted(self, server):
        with BareSocket(server.port) as peer:
            peer.associate()
            piece = encode_data(1, b"\0" * 10_000, is_command=True, is_last=False)
            peer.socket.sendall(piece * (COMMAND_LIMIT_BYTES // 10_000 + 1))
            assert peer.receive()[0] == ABORT

    def test_identifier_that_does_not_end_is_aborted(self, server):
        command = encode_request(CT, C_FIND_RQ, DATA_SET)
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.send_data(1, command, is_command=True)
            piece = encode_data(1, b"\0" * 250_000, is_command=False, is_last=False)
            for _ in range(IDENTIFIER_LIMIT_BYTES // 250_000 + 1):
                peer.socket.sendall(piece)
            assert peer.receive()[0] == ABORT

    def test_few_requests_without_waiting_are_served_in_order(self, server, keeper):
        with BareSocket(server.port) as peer:
            peer.associate()
            for number in range(3):
                store_bare(peer, number, f"2.25.{number}".encode())
            assert [peer.receive_status() for _ in range(3)] == [(0x0000, "")] * 3
        assert [kept.expected.sop_instance_uid for kept in keeper.kept] == ["2.25.0", "2.25.1", "2.25.2"]

    def test_requests_that_did_not_wait_stay_unread_while_the_archive_works(self, start_server, keeper):
        count = MAX_OUTSTANDING_MESSAGES + 3
        release = threading.Event()

        def answer(_):
            release.wait(20)
            return Outcome(Disposition.STORED)

        keeper.answer = answer
        with BareSocket(start_server(keeper).port) as peer:
            peer.associate()
            for number in range(count):
                store_bare(peer, number, f"2.25.{number}".encode())
            time.sleep(0.2)
            assert len(keeper.spools) == 1
            release.set()
            assert [peer.receive_status() for _ in range(count)] == [(0x0000, "")] * count
        assert [kept.expected.sop_instance_uid for kept in keeper.kept] == [f"2.25.{n}" for n in range(count)]

    def test_connection_without_a_word_is_closed_in_time(self, start_server, keeper):
        port = start_server(keeper, timeouts=Timeouts(association_seconds=0.2)).port
        with BareSocket(port) as silent, BareSocket(port) as slow:
            slow.socket.sendall(b"\x01\0\0")
            assert silent.receive() == (0, b"")
            assert slow.receive() == (0, b"")

    def test_peer_that_falls_silent_in_a_pdu_is_disconnected(self, start_server, keeper):
        server = start_server(keeper, timeouts=Timeouts(silence_seconds=0.2))
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.socket.sendall(encode_data(1, encode_store_command(), is_command=True)[:20])
            assert peer.receive() == (0, b"")

    def test_idle_association_is_aborted(self, start_server, keeper):
        with BareSocket(start_server(keeper, peers=Peers(default=Peer("", idle_seconds=0.2))).port) as peer:
            peer.associate()
            assert peer.receive()[0] == ABORT

    def test_slow_archive_does_not_make_a_peer_idle(self, start_server, keeper):
        def answer(_):
            time.sleep(0.5)
            return Outcome(Disposition.STORED)

        keeper.answer = answer
        with BareSocket(start_server(keeper, peers=Peers(default=Peer("", idle_seconds=0.3))).port) as peer:
            peer.associate()
            for number in range(2):
                store_bare(peer, number)
                assert peer.receive_status() == (0x0000, "")

    def test_peers_that_come_and_go_leave_no_thread(self, server):
        before = threading.active_count()
        for _ in range(20):
            BareSocket(server.port).socket.close()
            with BareSocket(server.port) as peer:
                peer.associate()
        deadline = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before

    @pytest.mark.parametrize("sop_class_uid", [CT, "1.2.840.10008.5.1.4.1.2.2.1", "2.25.1"])
    def test_service_that_we_do_not_offer_ends_the_association(self, server, sop_class_uid):
        command = encode_request(sop_class_uid, C_FIND_RQ, DATA_SET)
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.send_data(1, command, is_command=True)
            peer.send_data(1, b"identifier", is_command=False)
            assert peer.receive()[0] == ABORT
        assert echo_works(server.port)


class TestStop:
    def test_release_is_answered(self, server):
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.socket.sendall(RELEASE_REQUEST)
            assert peer.receive()[0] == RELEASE_RESPONSE

    def test_stop_ends_idle_associations_and_closes_the_port(self, start_server, keeper):
        server = start_server(keeper)
        with BareSocket(server.port) as peer:
            peer.associate()
            stopping = threading.Thread(target=server.stop, args=(20,))
            stopping.start()
            assert peer.receive()[0] == ABORT
            peer.socket.close()
            stopping.join()
        with pytest.raises(ConnectionRefusedError):
            BareSocket(server.port)

    def test_stop_closes_connections_that_are_no_association(self, start_server, keeper):
        server = start_server(keeper)
        with BareSocket(server.port) as silent, BareSocket(server.port) as halfway:
            halfway.socket.sendall(b"\x01\0\0")
            assert echo_works(server.port)
            server.stop(grace_seconds=20)
            assert silent.receive() == (0, b"")
            assert halfway.receive() == (0, b"")

    def test_stop_lets_the_operation_under_way_finish(self, start_server, keeper):
        server = start_server(keeper)
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.send_data(1, encode_store_command(), is_command=True)
            peer.send_data(1, b"first half, ", is_command=False, is_last=False)
            while not keeper.spools or keeper.spools[0].size_bytes < 300:
                time.sleep(0.001)
            stopping = threading.Thread(target=server.stop, args=(20,))
            stopping.start()
            time.sleep(0.2)
            peer.send_data(1, b"second half", is_command=False)
            assert peer.receive_status() == (0x0000, "")
            assert peer.receive()[0] == ABORT
            peer.socket.close()
            stopping.join()
        assert keeper.kept[0].data_set == b"first half, second half"

    def test_stop_cuts_off_what_outlasts_the_grace(self, start_server, keeper):
        server = start_server(keeper)
        with BareSocket(server.port) as peer:
            peer.associate()
            peer.send_data(1, encode_store_command(), is_command=True)
            peer.socket.sendall(struct.pack(">BBL", P_DATA, 0, 1000))
            while not keeper.spools:
                time.sleep(0.001)
            server.stop(grace_seconds=0.2)
            assert peer.receive() == (0, b"")
        assert keeper.kept == []

    def test_stop_under_load_loses_nothing_acknowledged(self, start_server, keeper):
        server = start_server(keeper)
        acknowledged: set[str] = set()

        def push(number: int) -> None:
            try:
                with BareSocket(server.port) as peer:
                    peer.associate()
                    for index in range(100_000):
                        uid = f"2.25.{number}{index:06}"
                        store_bare(peer, index % 60_000, uid.encode())
                        if peer.receive_status() == (0x0000, ""):
                            acknowledged.add(uid)
            except (OSError, AssertionError):
                return

        pushers = [threading.Thread(target=push, args=(number,)) for number in range(1, 5)]
        for pusher in pushers:
            pusher.start()
        while len(acknowledged) < 40:
            time.sleep(0.001)
        server.stop(grace_seconds=20)
        for pusher in pushers:
            pusher.join()
        assert acknowledged <= {kept.expected.sop_instance_uid for kept in keeper.kept}

    def test_server_can_be_started_again_on_its_port(self, start_server, keeper):
        server = start_server(keeper)
        port = server.port
        server.stop(grace_seconds=1)
        server.start()
        assert server.port == port
        assert echo_works(port)
