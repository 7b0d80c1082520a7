"""C-STORE on its short way (docs/decisions/0025): answered by the thread that reads it, whatever comes around it."""

import struct
import threading
import time

import pytest

from pacs.dimse.transport import UpperLayer
from pacs.ingest.outcome import Disposition, Outcome
from tests.conformance.dimse.scu import (
    ABORT,
    C_STORE_RQ,
    CT,
    P_DATA,
    VERIFICATION,
    BareSocket,
    decode_command,
    echo_works,
    encode_data,
    encode_echo_command,
    encode_store_command,
)

STORED = (0x0000, "")
C_STORE_RSP, C_ECHO_RSP = 0x8001, 0x8030


def encode_value(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment


def encode_pdu(*values: bytes) -> bytes:
    body = b"".join(values)
    return struct.pack(">BBL", P_DATA, 0, len(body)) + body


def encode_store(uid: str, data_set: bytes = b"data set", context_id: int = 1) -> bytes:
    command = encode_data(context_id, encode_store_command(sop_instance_uid=uid.encode()), is_command=True)
    return command + encode_data(context_id, data_set, is_command=False)


def receive_command(peer: BareSocket) -> dict[int, int]:
    """Return the numbers of the next response."""
    kind, body = peer.receive()
    assert kind == P_DATA
    return {element: int.from_bytes(value, "little") for element, value in decode_command(body[6:]).items()}


@pytest.fixture
def threads(keeper) -> list[threading.Thread]:
    """Return the threads that store, in the order of what they stored."""
    used: list[threading.Thread] = []

    def answer(_) -> Outcome:
        used.append(threading.current_thread())
        return Outcome(Disposition.STORED)

    keeper.answer = answer
    return used


def test_the_thread_that_reads_a_store_answers_it(server, threads):
    with BareSocket(server.port) as peer:
        peer.associate()
        for number in range(3):
            peer.socket.sendall(encode_store(f"2.25.{number}"))
            assert peer.receive_status() == STORED
    assert len({id(thread) for thread in threads}) == 1
    assert isinstance(threads[0], UpperLayer)


def test_other_requests_in_between_are_answered_in_their_order(server, keeper):
    echo = encode_data(3, encode_echo_command(), is_command=True)
    with BareSocket(server.port) as peer:
        peer.associate(CT, VERIFICATION)
        peer.socket.sendall(encode_store("2.25.1") + echo + encode_store("2.25.2") + echo)
        fields = [receive_command(peer)[0x0100] for _ in range(4)]
        assert fields == [C_STORE_RSP, C_ECHO_RSP, C_STORE_RSP, C_ECHO_RSP]
        peer.socket.sendall(encode_store("2.25.3"))
        assert peer.receive_status() == STORED
    assert [kept.expected.sop_instance_uid for kept in keeper.kept] == ["2.25.1", "2.25.2", "2.25.3"]


def test_each_context_keeps_its_own_syntax_and_is_answered_in_it(server, keeper):
    with BareSocket(server.port) as peer:
        peer.associate(CT, "1.2.840.10008.5.1.4.1.1.4")
        for context_id in (1, 3, 1):
            peer.socket.sendall(encode_store("2.25.1", context_id=context_id))
            kind, body = peer.receive()
            assert (kind, body[4]) == (P_DATA, context_id)
    assert len(keeper.kept) == 3


def test_values_of_no_bytes_and_of_odd_lengths_are_joined(server, keeper):
    command = encode_store_command()
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.socket.sendall(
            encode_pdu(encode_value(1, 1, command[:13]), encode_value(1, 1, b""), encode_value(1, 3, command[13:]))
            + encode_pdu(encode_value(1, 0, b""), encode_value(1, 0, b"abc"), encode_value(1, 0, b"d"))
            + encode_pdu(encode_value(1, 0, b"ef" * 40_001))
            + encode_pdu(encode_value(1, 2, b""))
        )
        assert peer.receive_status() == STORED
    assert keeper.kept[0].data_set == b"abcd" + b"ef" * 40_001


def test_bytes_may_come_cut_anywhere(server, keeper):
    message = encode_store("2.25.1", b"0123456789" * 20)
    with BareSocket(server.port) as peer:
        peer.associate()
        for size in (1, 2, 7, 100):
            for start in range(0, len(message), size):
                peer.socket.sendall(message[start : start + size])
            assert peer.receive_status() == STORED
    assert [kept.data_set for kept in keeper.kept] == [b"0123456789" * 20] * 4


def test_broken_pdu_behind_a_data_set_ends_the_association_and_what_was_whole_stays_answered(server, keeper):
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.socket.sendall(encode_store("2.25.1") + encode_pdu(encode_value(1, 1, b"x"), b"\0\0\0\xff\1\1"))
        assert peer.receive_status() == STORED
        assert peer.receive()[0] == ABORT
    assert echo_works(server.port)


def test_values_that_lie_about_their_length_are_aborted_before_any_is_taken(server, keeper):
    good = encode_value(1, 3, encode_store_command()) + encode_value(1, 2, b"data set")
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.socket.sendall(encode_pdu(good, b"\0\0\0\xff\1\1"))
        assert peer.receive()[0] == ABORT
    assert keeper.kept == []
    assert keeper.spools == []


@pytest.mark.parametrize("max_pdu_bytes", [8, 50, 0])
def test_answer_comes_in_pieces_that_the_peer_takes(server, max_pdu_bytes):
    with BareSocket(server.port) as peer:
        peer.associate(max_pdu_bytes=max_pdu_bytes)
        peer.socket.sendall(encode_store("2.25.1"))
        command, control = b"", 0
        while not control & 2:
            kind, body = peer.receive()
            assert kind == P_DATA
            assert not max_pdu_bytes or len(body) <= max_pdu_bytes
            command, control = command + body[6:], body[5]
            assert control & 1
    assert int.from_bytes(decode_command(command)[0x0900], "little") == 0x0000


def test_peer_that_aborts_while_the_archive_works_leaves_nothing(start_server, keeper):
    entered, release = threading.Event(), threading.Event()

    def answer(_) -> Outcome:
        entered.set()
        release.wait(20)
        return Outcome(Disposition.STORED)

    keeper.answer = answer
    server = start_server(keeper)
    before = threading.active_count()
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.socket.sendall(encode_store("2.25.1"))
        assert entered.wait(20)
        peer.socket.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")
    assert echo_works(server.port)
    release.set()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert not keeper.spools[0].read_range(0, 1)


def test_stop_waits_for_the_store_under_way(start_server, keeper):
    entered, release = threading.Event(), threading.Event()

    def answer(_) -> Outcome:
        entered.set()
        release.wait(20)
        return Outcome(Disposition.STORED)

    keeper.answer = answer
    server = start_server(keeper)
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.socket.sendall(encode_store("2.25.1"))
        assert entered.wait(20)
        stopping = threading.Thread(target=server.stop, args=(20,))
        stopping.start()
        time.sleep(0.1)
        release.set()
        assert peer.receive_status() == STORED
        assert peer.receive()[0] == ABORT
        peer.socket.close()
        stopping.join()


def test_command_that_only_claims_to_be_a_store_is_aborted(server, keeper):
    cut = encode_store_command()[:-3]
    assert C_STORE_RQ.to_bytes(2, "little") in cut
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.send_data(1, cut, is_command=True)
        assert peer.receive()[0] == ABORT
    assert keeper.spools == []
