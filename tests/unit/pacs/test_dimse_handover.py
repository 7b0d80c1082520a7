"""Connections that are handed to other processes: who gets one, what is counted, and what is left of one that ended.

The other process is this one: what it is given are descriptors, and a channel does not ask whose they are.
"""

import json
import os
import selectors
import socket
import threading
from contextlib import ExitStack

import pytest

from pacs.commitment import Item, Report
from pacs.dimse.admission import Admission
from pacs.dimse.commitment import pack_report, unpack_report
from pacs.dimse.handover import CONNECTION, LEAVING, MESSAGE_BYTES, NO, QUESTION, YES, Crew, make_pair

ADDRESS = ("192.0.2.1", 104)


class Stage:
    """A crew whose selector is served when a test says so, and the other ends of its channels."""

    def __init__(self, stack):
        self.stack = stack
        self.crew = Crew()
        self.admission = Admission(4)
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.crew.attend(self.selector, self.admission)
        stack.callback(self.crew.close)

    def enlist(self):
        channel, other = make_pair()
        with other:
            socket.send_fds(self.crew.entrance, [str(os.getpid()).encode()], [other.fileno()])
        self.stack.callback(channel.close)
        self.turn()
        return channel

    def turn(self):
        """Have everything done that there is to do."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()

    def connect(self):
        """Return a peer's end and the accepted one."""
        return [self.stack.enter_context(one) for one in socket.socketpair()]

    def hand_over(self, own=9):
        peer, accepted = self.connect()
        return peer if self.crew.hand_over(accepted, ADDRESS, 1, own) else None

    def take(self, channel):
        """Return what a channel has: the connection and its tether."""
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 2)
        assert (message[:1], json.loads(message[1:])) == (CONNECTION, [1, *ADDRESS])
        return [self.stack.enter_context(socket.socket(fileno=one)) for one in descriptors]

    def ask(self, tether, limit=9, holder="A"):
        tether.send(json.dumps([limit, holder]).encode())
        self.turn()
        return tether.recv(1)


@pytest.fixture
def stage():
    with ExitStack() as stack:
        yield Stage(stack)


def has_any(channel):
    channel.setblocking(False)
    try:
        return bool(channel.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_without_other_processes_nothing_is_handed_over(stage):
    assert stage.hand_over() is None
    assert stage.admission.connections == []


def test_the_connection_itself_is_handed_over(stage):
    channel = stage.enlist()
    peer = stage.hand_over()
    connection, _ = stage.take(channel)
    connection.send(b"to the peer")
    assert peer.recv(20) == b"to the peer"


def test_the_one_with_fewest_gets_it_and_this_process_none_that_has_more(stage):
    first, second = stage.enlist(), stage.enlist()
    assert stage.hand_over(own=0)
    assert stage.hand_over(own=0)
    assert has_any(first)
    assert has_any(second)
    assert stage.hand_over(own=0) is None
    assert stage.hand_over(own=1)


def test_a_process_that_has_ended_gets_nothing_more(stage):
    stage.enlist().close()
    assert stage.hand_over() is None  # not even before its end was noticed
    stage.turn()
    assert stage.hand_over() is None


def test_one_that_takes_nothing_keeps_no_more_than_its_channel_holds(stage):
    stage.enlist()
    for _ in range(5000):
        if not stage.hand_over():
            return
        for handed in stage.admission.connections:
            handed.let_go()
    raise AssertionError


def test_limits_of_all_and_of_one_holder_are_counted_here(stage):
    channel = stage.enlist()
    tethers = []
    for _ in range(6):
        stage.hand_over()
        tethers.append(stage.take(channel)[1])
    asked = [(1, "A"), (1, "A"), (9, "B"), (9, "B"), (9, "B"), (9, "C")]
    answers = [stage.ask(tether, *question) for tether, question in zip(tethers, asked, strict=True)]
    assert answers == [YES, NO, YES, YES, NO, YES]


def test_what_ends_or_is_released_can_be_had_again(stage):
    channel = stage.enlist()
    tethers = []
    for _ in range(3):
        stage.hand_over()
        tethers.append(stage.take(channel)[1])
    assert [stage.ask(tether, 1) for tether in tethers] == [YES, NO, NO]
    tethers[0].close()
    stage.turn()
    assert len(stage.admission.connections) == 2
    assert stage.ask(tethers[1], 1) == YES
    tethers[1].send(LEAVING)
    assert stage.ask(tethers[2], 1) == YES


def test_the_connections_of_a_process_that_died_are_ended_and_counted_out(stage):
    channel = stage.enlist()
    peers = [stage.hand_over() for _ in range(3)]
    taken = stage.take(channel)
    assert stage.ask(taken[1]) == YES
    for one in (*taken, channel):  # as the kernel does it, with what was never taken too
        one.close()
    stage.turn()
    assert stage.admission.connections == []
    assert [peer.recv(1) for peer in peers] == [b""] * 3


def test_a_question_is_answered_by_the_one_that_can(stage):
    channels = [stage.enlist(), stage.enlist(), stage.enlist()]

    def reply(channel, answer):
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
        with socket.socket(fileno=descriptors[0]) as stream, stream.makefile("rb") as reader:
            asked.append((message, reader.read()))
            stream.send(answer)

    asked = []
    threads = [
        threading.Thread(target=reply, args=(channel, answer))
        for channel, answer in zip(channels[:2], (NO, YES), strict=True)
    ]
    for thread in threads:
        thread.start()
    question = b"?" * 1_000_000
    assert stage.crew.ask(question)
    for thread in threads:
        thread.join(30)
    assert asked == [(QUESTION, question)] * 2
    assert not has_any(channels[2])


def test_nobody_answers_for_one_that_has_ended(stage):
    stage.enlist().close()
    assert not stage.crew.ask(b"question")


def test_the_end_of_all_is_told_after_what_was_handed_over(stage):
    channel = stage.enlist()
    stage.hand_over()
    stage.crew.close()
    _, tether = stage.take(channel)
    assert channel.recv(1) == b""
    assert tether.recv(1) == b""
    assert stage.admission.connections == []


def test_a_report_is_read_as_it_was_packed():
    report = Report("2.25.1", (Item("1.2", "2.25.2"), Item("1.3", "2.25.3", 0x0112)))
    assert unpack_report(pack_report("CT1", report)) == ("CT1", report)
