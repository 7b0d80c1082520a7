"""Peers that mean ill: each is cut off, costs a bounded amount, and the port goes on answering."""

import itertools
import struct
import threading
import time
from collections.abc import Sequence
from io import BytesIO

import pytest
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_FIND

from pacs.dimse.association import Timeouts
from pacs.dimse.messages import MAX_CANCELS, MAX_OUTSTANDING_MESSAGES
from pacs.dimse.transport import MAX_UNSENT_PDUS, SLOWEST_BYTES_PER_SECOND
from tests.conformance.dimse.scu import (
    ABORT,
    ASSOCIATE_ACCEPT,
    C_FIND_RQ,
    CT,
    DATA_SET,
    NO_DATA_SET,
    P_DATA,
    VERIFICATION,
    BareSocket,
    decode_command,
    echo_works,
    encode_command,
    encode_data,
    encode_echo_command,
    encode_request,
    encode_store_command,
)

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
C_CANCEL_RQ = 0x0FFF
PENDING, CANCELLED, SUCCESS = 0xFF00, 0xFE00, 0x0000
ANSWER_BYTES = 60_000
HOLE_BYTES = 32 * 1024 * 1024
"""More than the buffers of a loopback connection hold."""
CUT_OFF = r"reset|Broken pipe"


class Endless:
    """A service with more answers than anybody wants; it stops when it is told to."""

    sop_class_uids = frozenset({STUDY_ROOT_FIND})

    def __init__(self) -> None:
        self.answered = 0
        self.unsent = 0
        self.has_begun = threading.Event()
        self.has_ended = threading.Event()
        self.may_begin = threading.Event()
        self.may_begin.set()

    def serve(self, association, request, context) -> None:
        self.has_begun.set()
        self.may_begin.wait(20)
        for number in itertools.count():
            if association.is_cancelled(request.MessageID) or number * ANSWER_BYTES > HOLE_BYTES:
                break
            self.respond(association, request, context, PENDING)
            self.answered += 1
            self.unsent = max(self.unsent, association.dul.to_provider_queue.qsize())
        was_cancelled = association.is_cancelled(request.MessageID)
        self.respond(association, request, context, CANCELLED if was_cancelled else SUCCESS)
        self.has_ended.set()

    def respond(self, association, request, context, status: int) -> None:
        response = C_FIND()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = UID(STUDY_ROOT_FIND)
        response.Status = status
        if status == PENDING:
            response.Identifier = BytesIO(bytes(ANSWER_BYTES))
        association.respond(response, context.context_id)

    def negotiate(self, *_: object) -> None:
        return None


@pytest.fixture
def service() -> Endless:
    return Endless()


@pytest.fixture
def start(start_server, keeper, service):
    return lambda **arguments: start_server(keeper, services=[service], **arguments).port


def encode_cancel(message_id: int) -> bytes:
    elements = [(0x0100, C_CANCEL_RQ), (0x0120, message_id), (0x0800, NO_DATA_SET)]
    command = encode_command([(element, struct.pack("<H", value)) for element, value in elements])
    return encode_data(1, command, is_command=True)


def encode_find() -> bytes:
    command = encode_data(1, encode_request(STUDY_ROOT_FIND, C_FIND_RQ, DATA_SET), is_command=True)
    return command + encode_data(1, b"\x08\0\x52\0\x06\0\0\0STUDY ", is_command=False)


def send_slowly(peer: BareSocket, pieces: Sequence[bytes], pause_seconds: float) -> None:
    for piece in pieces:
        peer.socket.sendall(piece)
        time.sleep(pause_seconds)


def read_statuses(peer: BareSocket) -> list[int]:
    """Return the statuses up to the final one, or to the end of the association."""
    statuses = []
    while not statuses or statuses[-1] == PENDING:
        kind, body = peer.receive()
        if kind != P_DATA:
            break
        if not body[5] & 1:  # a piece of an identifier
            continue
        statuses.append(int.from_bytes(decode_command(body[6:])[0x0900], "little"))
    return statuses


class TestWhoDoesNotRead:
    def test_answers_wait_for_the_peer_and_then_it_is_cut_off(self, start, service):
        port = start(timeouts=Timeouts(silence_seconds=0.5))
        with BareSocket(port) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_find())
            assert service.has_ended.wait(20)
            assert service.unsent <= MAX_UNSENT_PDUS
            assert 0 < service.answered * ANSWER_BYTES < HOLE_BYTES
            assert echo_works(port)

    def test_echoes_without_end_are_cut_off(self, start):
        port = start(timeouts=Timeouts(silence_seconds=0.5))
        with BareSocket(port) as peer:
            peer.associate(VERIFICATION, max_pdu_bytes=16384)
            with pytest.raises(OSError, match=CUT_OFF):
                send_slowly(peer, [encode_data(1, encode_echo_command(), is_command=True) * 3] * 1_000_000, 0)
        assert echo_works(port)

    def test_many_requests_behind_another_are_aborted_and_their_spools_closed(self, start, keeper, service):
        service.may_begin.clear()
        with BareSocket(start()) as peer:
            peer.associate(STUDY_ROOT_FIND, CT)
            peer.socket.sendall(encode_find())
            assert service.has_begun.wait(20)  # what is not begun when the association ends never is
            store = encode_data(3, encode_store_command(), is_command=True) + encode_data(3, b"x", is_command=False)
            peer.socket.sendall(store * MAX_OUTSTANDING_MESSAGES)
            assert peer.receive()[0] == ABORT
            service.may_begin.set()
            assert service.has_ended.wait(20)
        deadline = time.monotonic() + 20
        while any(spool.read_range(0, 1) for spool in keeper.spools) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert keeper.kept == []
        assert len(keeper.spools) == MAX_OUTSTANDING_MESSAGES
        assert not any(spool.read_range(0, 1) for spool in keeper.spools)

    def test_stop_does_not_wait_for_it_longer_than_the_grace(self, start_server, keeper, service):
        server = start_server(keeper, services=[service])
        with BareSocket(server.port) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_find())
            while service.unsent < MAX_UNSENT_PDUS:
                time.sleep(0.01)
            server.stop(grace_seconds=0.2)
            assert service.has_ended.wait(20)


class TestCancel:
    def test_a_cancel_is_heard_while_answers_go_out(self, start, service):
        with BareSocket(start()) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_find())
            assert peer.receive_status()[0] == PENDING
            peer.socket.sendall(encode_cancel(1))
            assert read_statuses(peer)[-1] == CANCELLED

    def test_a_cancel_on_the_heels_of_its_request_counts(self, start, service):
        service.may_begin.clear()
        with BareSocket(start()) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_find() + encode_cancel(1))
            time.sleep(0.1)
            service.may_begin.set()
            assert read_statuses(peer) == [CANCELLED]

    def test_a_cancel_that_comes_too_late_does_not_cancel_the_next_request(self, start, service):
        with BareSocket(start()) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_cancel(1) + encode_find())
            assert peer.receive_status()[0] == PENDING

    def test_cancels_without_end_are_aborted(self, start):
        port = start()
        with BareSocket(port) as peer:
            peer.associate(STUDY_ROOT_FIND)
            peer.socket.sendall(encode_cancel(1) * (MAX_CANCELS + 1))
            assert peer.receive()[0] == ABORT
        assert echo_works(port)


class TestWhoIsSlow:
    @pytest.mark.parametrize("is_associated", [True, False])
    def test_one_byte_now_and_then_holds_no_connection(self, start, is_associated):
        port = start(timeouts=Timeouts(association_seconds=0.4, silence_seconds=0.3))
        pdu = encode_data(1, encode_store_command(), is_command=True)
        assert len(pdu) < SLOWEST_BYTES_PER_SECOND
        with BareSocket(port) as peer:
            if is_associated:
                assert peer.associate()[0] == ASSOCIATE_ACCEPT
            with pytest.raises(OSError, match=CUT_OFF):
                send_slowly(peer, [bytes([byte]) for byte in pdu * 10], 0.05)
        assert echo_works(port)

    def test_a_slow_line_that_is_fast_enough_is_served(self, start, keeper):
        with BareSocket(start(timeouts=Timeouts(silence_seconds=0.3))) as peer:
            peer.associate()
            peer.send_data(1, encode_store_command(), is_command=True)
            pdu = encode_data(1, b"x" * 3000, is_command=False)
            send_slowly(peer, [pdu[at : at + 100] for at in range(0, len(pdu), 100)], 0.03)
            assert peer.receive_status() == (SUCCESS, "")
