"""What was done a short while ago, so that a download that is read in a hundred ranges is one download."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from time import monotonic

SECONDS = 600.0
_MAX_KEPT = 4096


class Recently:
    """Remembers what happened in the last ten minutes, in this process; of too much, what is newest."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._until: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, key: Hashable) -> bool:
        """Return whether it happened."""
        with self._lock:
            return self._until.get(key, 0.0) > monotonic()

    def add(self, key: Hashable) -> None:
        """Say that it happens now."""
        with self._lock:
            self._until[key] = monotonic() + self._seconds
            self._until.move_to_end(key)
            if len(self._until) > _MAX_KEPT:
                self._until.popitem(last=False)
