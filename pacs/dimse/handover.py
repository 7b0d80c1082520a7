"""Accepted connections that other processes of the archive serve, while the one that accepts them counts them all.

Each process has a channel by which it is given connections, and each connection a tether: a pair of sockets of its own,
over which the process that serves it asks whether there may be an association, and says that it is released. When that
process closes its end, or dies, the kernel tells the other one: nothing that is counted outlives who serves it.
"""

import json
import logging
import selectors
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pacs.dimse.admission import Admission

LOGGER = logging.getLogger(__name__)

CONNECTION, QUESTION = b"C", b"Q"
"""What a message of a channel begins with: a connection with its tether, or one end of a stream with a question."""
LEAVING = b"."
"""What a tether says of an association that its peer releases or aborts; anything else asks for admission."""
YES, NO = b"+", b"-"
MESSAGE_BYTES = 4096

_QUESTION_SECONDS = 45.0


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends that keep the bounds of messages."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class HandedOver:
    """A connection that another process serves, as the one that counts it sees it."""

    is_released = False
    is_aborted = False

    def __init__(self, connection: socket.socket, address: str, tether: socket.socket) -> None:
        self.address = address
        self.tether = tether
        self._connection = connection

    def close_connection(self) -> None:
        """End the connection at once; nothing after ``let_go``."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Leave the connection to the process that serves it alone: its end is its own affair."""
        self._connection.close()

    def close(self) -> None:
        """Forget it."""
        self.tether.close()
        self.let_go()


class _Process:
    """One that serves connections: the channel to it, and how many it has."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.count = 0


class Crew:
    """The processes that serve connections beside the one that accepts them; to be made before they are forked.

    Each tells ``entrance`` that it is there, ``kept`` is not for them. All but ``ask`` is for one thread.
    """

    def __init__(self) -> None:
        self.kept, self.entrance = make_pair()
        self.kept.setblocking(False)
        self._processes: dict[_Process, None] = {}
        self._handed: dict[HandedOver, _Process] = {}
        self._gate = threading.Lock()

    def attend(self, selector: selectors.BaseSelector, admission: Admission) -> None:
        """Have ``selector`` call what there is to do, of which ``admission`` counts the connections."""
        self._selector, self._admission = selector, admission
        selector.register(self.kept, selectors.EVENT_READ, self._enlist)

    def hand_over(self, connection: socket.socket, address: Sequence[Any], port_index: int, own: int) -> bool:
        """Give a connection to the process with the fewest; False if that is this one, with ``own``, or none takes it.

        Where there is no difference this process has enough else to do. True closes the connection here in due time.
        """
        for process in sorted(self._processes, key=lambda process: process.count):
            if process.count > own:
                return False
            if self._give(process, connection, address, port_index):
                return True
        return False

    def ask(self, question: bytes) -> bool:
        """Ask one process after another until one says yes; for any thread."""
        with self._gate:
            processes = list(self._processes)
        return any(self._ask(process, question) for process in processes)

    def close(self) -> None:
        """Tell all to end what they serve, and count nothing more; a second time does nothing."""
        with self._gate:
            for process in self._processes:
                process.channel.close()
            self._processes.clear()
        for handed in self._handed:
            handed.close()
            self._admission.end(handed)
        self._handed.clear()
        self.kept.close()
        self.entrance.close()

    def _enlist(self) -> None:
        with suppress(BlockingIOError):
            message, descriptors, _, _ = socket.recv_fds(self.kept, MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            for descriptor in descriptors:
                process = _Process(socket.socket(fileno=descriptor))
                process.channel.setblocking(False)
                with self._gate:
                    self._processes[process] = None
                self._selector.register(process.channel, selectors.EVENT_READ, partial(self._dismiss, process))
                LOGGER.info("Process %s serves associations too", message.decode())

    def _dismiss(self, process: _Process) -> None:
        """Give nothing more to a process whose channel has ended, which is all that it ever says."""
        self._selector.unregister(process.channel)
        with self._gate:
            del self._processes[process]
            process.channel.close()

    def _give(self, process: _Process, connection: socket.socket, address: Sequence[Any], port_index: int) -> bool:
        message = CONNECTION + json.dumps([port_index, *address]).encode()
        tether, other = make_pair()
        tether.setblocking(False)
        with other:
            if not self._send(process, message, connection, other):
                tether.close()
                return False
        handed = HandedOver(connection, str(address[0]), tether)
        self._handed[handed] = process
        process.count += 1
        self._admission.begin(handed)
        self._selector.register(tether, selectors.EVENT_READ, partial(self._hear, handed))
        return True

    def _send(self, process: _Process, message: bytes, *passed: socket.socket) -> bool:
        """Say whether a process takes a message: none that has ended does, or that has not read many others yet."""
        with self._gate, suppress(OSError):
            socket.send_fds(process.channel, [message], [one.fileno() for one in passed])
            return True
        return False

    def _hear(self, handed: HandedOver) -> None:
        """Take what is said over a tether."""
        try:
            message = handed.tether.recv(MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            self._selector.unregister(handed.tether)
            self._handed.pop(handed).count -= 1
            handed.close()
            self._admission.end(handed)
        elif message == LEAVING:
            handed.is_released = True
        else:
            self._consider(handed, message)

    def _consider(self, handed: HandedOver, message: bytes) -> None:
        limit, holder = json.loads(message)
        is_admitted = self._admission.count_in(handed, holder, limit)
        if is_admitted:
            handed.let_go()
        with suppress(OSError):  # who asked is gone, which is what is heard next
            handed.tether.send(YES if is_admitted else NO)

    def _ask(self, process: _Process, question: bytes) -> bool:
        stream, other = socket.socketpair()
        with stream:
            with other:
                if not self._send(process, QUESTION, other):
                    return False
            stream.settimeout(_QUESTION_SECONDS)
            try:
                stream.sendall(question)
                stream.shutdown(socket.SHUT_WR)
                return stream.recv(1) == YES
            except OSError:
                return False
