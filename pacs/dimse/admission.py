"""Who may have another connection: limits of the server and of each peer, counted over all of its ports.

A connection waits until its association has been admitted. One sender can hold neither: when too many wait, the oldest
of the address that holds most is cut off, so that a new one always gets its turn; and whoever has an association is
given another only while a part of them is left for those who have none (docs/decisions/0010).
"""

import threading
from collections import Counter
from typing import Protocol

from pacs.dimse.association import Acceptor

MAX_WAITING = 64
"""Connections that may be open at once without being an admitted association."""
_MAX_ENDING = 64
"""Connections beyond those that may be on their way out."""
ADMISSION_SECONDS = 0.2
"""How long is waited for room: a peer that has just released may be back before we have cleared up after it."""


class Connection(Protocol):
    """What is counted: an association of this process, or a connection that another one serves."""

    address: str
    is_released: bool
    is_aborted: bool

    def close_connection(self) -> None:
        """End it at once."""


class Admission:
    """Counts the connections of one server. Any number of threads may use it at once."""

    def __init__(self, max_associations: int) -> None:
        self.max_associations = max_associations
        # In the order of their arrival.
        self._open: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}
        self._admitted: dict[Connection, str] = {}
        self._changed = threading.Condition()

    @property
    def connections(self) -> list[Connection]:
        """Every connection that has not ended, whether or not it has become an association."""
        with self._changed:
            return list(self._open)

    @property
    def has_room(self) -> bool:
        """Whether one more connection can be taken at all."""
        with self._changed:
            return len(self._open) < self.max_associations + MAX_WAITING + _MAX_ENDING

    def begin(self, connection: Connection) -> None:
        """Count a connection in; if too many wait, another is cut off for it."""
        with self._changed:
            victim = self._find_victim() if len(self._waiting) >= MAX_WAITING else None
            if victim is not None:
                del self._waiting[victim]
            self._open[connection] = self._waiting[connection] = None
        if victim is not None:
            victim.close_connection()

    def end(self, connection: Connection) -> None:
        """Count a connection out; it has ended."""
        with self._changed:
            for counted in (self._open, self._waiting, self._admitted):
                counted.pop(connection, None)
            self._changed.notify_all()

    def admit(self, association: Acceptor) -> bool:
        """Whether the peer of an association that is asked for may have it; it may take a moment to tell."""
        holder = association.peer.name_holder(association.address)
        return self.count_in(association, holder, association.peer.max_associations, ADMISSION_SECONDS)

    def count_in(self, connection: Connection, holder: str, limit: int, patience_seconds: float = 0.0) -> bool:
        """Whether ``holder``, who may have ``limit`` associations, may have one over this connection."""
        with self._changed:
            is_admitted = self._changed.wait_for(lambda: self._has_room_for(holder, limit), patience_seconds)
            if is_admitted:
                self._waiting.pop(connection, None)
                self._admitted[connection] = holder
            return is_admitted

    def _has_room_for(self, holder: str, limit: int) -> bool:
        holders = [known for other, known in self._admitted.items() if not (other.is_released or other.is_aborted)]
        own = holders.count(holder)
        kept_for_others = self.max_associations // 4 if own else 0
        return own < limit and len(holders) < self.max_associations - kept_for_others

    def _find_victim(self) -> Connection:
        most, _ = Counter(waiting.address for waiting in self._waiting).most_common(1)[0]
        return next(waiting for waiting in self._waiting if waiting.address == most)
