"""The other end of ``pacs.dimse.handover``: a process that is given connections, and serves them as the archive's does.

It ends when its channel does, which is how it hears of a stop: what was given to it before that is taken first.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from pynetdicom import evt

from pacs.dimse.admission import ADMISSION_SECONDS, Admission, Connection
from pacs.dimse.association import Acceptor
from pacs.dimse.handover import CONNECTION, LEAVING, MESSAGE_BYTES, NO, YES, make_pair
from pacs.dimse.server import DimseServer

LOGGER = logging.getLogger(__name__)

_ANSWER_SECONDS = 30.0
_LOOK_SECONDS = 0.02


class AskingAdmission(Admission):
    """Knows the connections of this process, and asks the one that counts those of all who may have an association."""

    def __init__(self) -> None:
        super().__init__(sys.maxsize)
        self._tethers: dict[Connection, socket.socket] = {}

    def tie(self, association: Acceptor, tether: socket.socket) -> None:
        """Have the tether of an association that is about to begin; it is closed when that has ended."""
        self._tethers[association] = tether
        tether.settimeout(_ANSWER_SECONDS)
        association.bind(evt.EVT_RELEASED, self._announce)
        association.bind(evt.EVT_ABORTED, self._announce)

    def admit(self, association: Acceptor) -> bool:
        """Whether the peer of an association that is asked for may have it; nobody may once a stop has begun."""
        holder = association.peer.name_holder(association.address)
        question = json.dumps([association.peer.max_associations, holder]).encode()
        deadline = time.monotonic() + ADMISSION_SECONDS
        while not self._ask(self._tethers[association], question):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return self.count_in(association, holder, sys.maxsize)

    def end(self, connection: Connection) -> None:
        """Count a connection out, here and where all are counted; it has ended."""
        super().end(connection)
        tether = self._tethers.pop(connection, None)
        if tether is not None:
            tether.close()

    def _ask(self, tether: socket.socket, question: bytes) -> bool:
        with suppress(OSError):
            tether.send(question)
            return tether.recv(1) == YES
        return False

    def _announce(self, event: evt.Event) -> None:
        tether = self._tethers.get(cast("Acceptor", event.assoc))
        if tether is not None:
            with suppress(OSError):
                tether.send(LEAVING)


class Companion:
    """Serves the connections that this process is given, as ``server`` does, which need not listen.

    ``answer`` is asked what the process that gives them asks of all, from threads of its own.
    """

    def __init__(
        self, server: DimseServer, admission: AskingAdmission, entrance: socket.socket, answer: Callable[[bytes], bool]
    ) -> None:
        self._server = server
        self._admission = admission
        self._entrance = entrance
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, name="dimse", daemon=True)

    def start(self) -> None:
        """Say that this process is there, and serve from threads of its own."""
        self._channel, other = make_pair()
        with other, suppress(OSError):  # a stop has begun already, of which the end of the channel tells
            socket.send_fds(self._entrance, [str(os.getpid()).encode()], [other.fileno()])
        self._thread.start()

    def finish(self, grace_seconds: float) -> None:
        """Serve until the channel ends, then end what is open within the grace, as ``DimseServer.end`` does."""
        self._thread.join()
        self._server.end(grace_seconds)

    def _serve(self) -> None:
        with self._channel:
            while True:
                message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
                if not message:
                    return
                passed = [socket.socket(fileno=descriptor) for descriptor in descriptors]
                try:
                    self._take(message, passed)
                except Exception:
                    LOGGER.exception("A connection could not be served")
                    for one in passed:
                        one.close()

    def _take(self, message: bytes, passed: list[socket.socket]) -> None:
        if message[:1] != CONNECTION:
            (stream,) = passed
            threading.Thread(target=self._reply, args=(stream,), name="reply", daemon=True).start()
            return
        connection, tether = passed
        port_index, *address = json.loads(message[1:])
        association = self._server.create_association(connection, tuple(address), port_index)
        self._admission.tie(association, tether)
        self._server.begin(association)

    def _reply(self, stream: socket.socket) -> None:
        with stream, suppress(OSError), stream.makefile("rb") as reader:
            stream.send(YES if self._answer(reader.read()) else NO)
