"""Notices commits: one thread a process looks whether there was any, for all in it that wait for what others write.

What it asks is the database's own account of what is visible, which every commit changes and which costs no look at a
table. So a process of which nobody wants anything does next to nothing, however many wait in it for something to do.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic

from pacs.errors import PacsError

LOGGER = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
LONGEST_SILENCE_SECONDS = 30.0
"""After that everybody looks for himself, whatever the database has said."""

_AFTER_FAILURE_SECONDS = 5.0
_LONGEST_LOOK_SECONDS = 5.0

OpenVersions = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Opens what returns a value that is another one after each commit; it is called by one thread, until it raises."""


class Watcher:
    """Wakes those who watch once something was committed, by whichever process. It has a thread while anybody does."""

    def __init__(self, open_versions: OpenVersions) -> None:
        self._open_versions = open_versions
        self._watching: dict[object, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._last_thread: threading.Thread | None = None

    def close(self) -> None:
        """Wait until the thread has given back what it looked through; nobody watches any more."""
        if self._last_thread is not None:
            self._last_thread.join(_LONGEST_LOOK_SECONDS)

    @contextmanager
    def watch(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call ``wake`` now and soon after every commit, once for several that come together, until the block ends.

        It is called by another thread, too, and must neither wait nor raise. It may be called for nothing, and is now
        and then: whoever looks each time has missed nothing.
        """
        key = object()
        wake()
        with self._changed:
            self._watching[key] = wake
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="commit-watcher", daemon=True)
                self._last_thread = self._thread
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                del self._watching[key]
                self._changed.notify()

    def _run(self) -> None:
        while self._is_wanted_after(0.0):
            try:
                with self._open_versions() as read_version:
                    self._look(read_version)
                    return
            except PacsError as error:
                LOGGER.warning("The database cannot be watched now: %s", error)
            except Exception:
                LOGGER.exception("The database cannot be watched")
            self._wake()  # who looks then meets what is wrong, and knows what to do about it
            if not self._is_wanted_after(_AFTER_FAILURE_SECONDS):
                return

    def _look(self, read_version: Callable[[], object]) -> None:
        """Wake everybody at once, after every commit, and after a long silence, until nobody watches any more."""
        version: object = None
        woken_at = 0.0
        while True:
            found = read_version()
            now = monotonic()
            if found != version or now - woken_at > LONGEST_SILENCE_SECONDS:
                version, woken_at = found, now
                self._wake()
            if not self._is_wanted_after(LOOK_SECONDS):
                return

    def _wake(self) -> None:
        with self._changed:
            for wake in self._watching.values():
                wake()

    def _is_wanted_after(self, seconds: float) -> bool:
        """Wait, and return whether anybody watches still; if not, this thread is the watcher's no longer."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._watching, seconds):
                self._thread = None
                return False
            return True
