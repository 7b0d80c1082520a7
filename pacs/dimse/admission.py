"""Who may have another connection: limits of the server and of each peer, counted over all of its ports.

A connection waits until its association has been admitted. One sender can hold neither: when too many wait, the oldest
of the address that holds most is cut off, so that a new one always gets its turn; and whoever has an association is
given another only while a part of them is left for those who have none (docs/decisions/0010).
"""

import threading
from collections import Counter
from collections.abc import Hashable

from pacs.dimse.association import Acceptor

MAX_WAITING = 64
"""Connections that may be open at once without being an admitted association."""
_MAX_ENDING = 64
"""Connections beyond those that may be on their way out."""
_ADMISSION_SECONDS = 0.2


class Admission:
    """Counts the connections of one server. Any number of threads may use it at once."""

    def __init__(self, max_associations: int) -> None:
        self.max_associations = max_associations
        # In the order of their arrival.
        self._open: dict[Acceptor, None] = {}
        self._waiting: dict[Acceptor, None] = {}
        self._admitted: dict[Acceptor, Hashable] = {}
        self._changed = threading.Condition()

    @property
    def connections(self) -> list[Acceptor]:
        """Every connection that has not ended, whether or not it has become an association."""
        with self._changed:
            return list(self._open)

    @property
    def has_room(self) -> bool:
        """Whether one more connection can be taken at all."""
        with self._changed:
            return len(self._open) < self.max_associations + MAX_WAITING + _MAX_ENDING

    def begin(self, association: Acceptor) -> None:
        """Count a connection in; if too many wait, another is cut off for it."""
        with self._changed:
            victim = self._find_victim() if len(self._waiting) >= MAX_WAITING else None
            if victim is not None:
                del self._waiting[victim]
            self._open[association] = self._waiting[association] = None
        if victim is not None:
            victim.close_connection()

    def end(self, association: Acceptor) -> None:
        """Count a connection out; it has ended."""
        with self._changed:
            for counted in (self._open, self._waiting, self._admitted):
                counted.pop(association, None)
            self._changed.notify_all()

    def admit(self, association: Acceptor) -> bool:
        """Whether the peer of an association that is asked for may have it; it may take a moment to tell.

        A peer that has just released may be back before we have cleared up after it.
        """
        peer = association.peer
        holder: Hashable = peer if peer.ae_title else association.address
        with self._changed:
            is_admitted = self._changed.wait_for(
                lambda: self._has_room_for(holder, peer.max_associations), _ADMISSION_SECONDS
            )
            if is_admitted:
                self._waiting.pop(association, None)
                self._admitted[association] = holder
            return is_admitted

    def _has_room_for(self, holder: Hashable, limit: int) -> bool:
        holders = [known for other, known in self._admitted.items() if not (other.is_released or other.is_aborted)]
        own = holders.count(holder)
        kept_for_others = self.max_associations // 4 if own else 0
        return own < limit and len(holders) < self.max_associations - kept_for_others

    def _find_victim(self) -> Acceptor:
        most, _ = Counter(waiting.address for waiting in self._waiting).most_common(1)[0]
        return next(waiting for waiting in self._waiting if waiting.address == most)
