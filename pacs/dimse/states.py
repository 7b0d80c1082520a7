"""The state machine of PS3.8 9.2, its timer, what it has for the association: pynetdicom's, and they wake who waits."""

import logging
import math
import queue
from collections.abc import Callable
from typing import Any, cast

from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

LOGGER = logging.getLogger(__name__)

AWAITING_ASSOCIATE, AWAITING_CLOSE, IDLE, ESTABLISHED = "Sta2", "Sta13", "Sta1", "Sta6"
CLOSED, INVALID_PDU, DATA_RECEIVED = "Evt17", "Evt19", "Evt10"

_LOCAL_REQUESTS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
_PROVIDER_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00"
"""A-ABORT with the service provider as its source and no reason (PS3.8 9.3.8)."""


class ArtimTimer(Timer):
    """The ARTIM timer (PS3.8 9.1.5), which also says when to look at it again."""

    @property
    def wait_seconds(self) -> float:
        """How long it can still take to expire: for ever, while it does not run."""
        is_running = self._start_time is not None and self._end_time is None
        return max(0.0, self.remaining) if is_running and self.timeout is not None else math.inf


class UserQueue(queue.Queue[Any]):
    """What the upper layer has for the association, which is told of it."""

    def __init__(self, on_put: Callable[[], None]) -> None:
        super().__init__()
        self._on_put = on_put

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item and tell of it, unless it is about a requested association: that is waited for here."""
        super().put(item, block, timeout)
        if not isinstance(item, A_ASSOCIATE):
            self._on_put()


class GuardedStateMachine(StateMachine):
    """The state machine of PS3.8 9.2, for which an action that fails is an abort."""

    def do_action(self, event: str) -> None:
        """Do the action of an event; a peer whose PDU cannot be acted on is aborted."""
        if self.current_state == AWAITING_CLOSE and event in _LOCAL_REQUESTS:
            # What the association's thread still had to say when the association ended has nobody to hear it.
            self.dul.to_provider_queue.get(block=False)
            return
        try:
            super().do_action(event)
        except Exception:
            LOGGER.info("%s ended: its PDU cannot be acted on", self.dul.assoc.name, exc_info=True)
            connection = cast("AssociationSocket", self.dul.socket)
            if connection.socket is not None:
                connection.send(_PROVIDER_ABORT)
            connection.close()
            self.current_state = IDLE
            self.dul.kill_dul()
