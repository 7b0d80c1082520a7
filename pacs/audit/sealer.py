"""Seals what is written to the audit log, about a second later, while the archive serves.

It is woken by commits, and looks for an entry then; an archive in which nothing happens is never asked.
"""

import logging
import threading
from typing import Self

from pacs.audit.log import AuditLog
from pacs.database.base import Database
from pacs.errors import PacsError

LOGGER = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
_AFTER_FAILURE_SECONDS = 5.0


class Sealer:
    """Seals between ``with`` and its end, and what is left at the end. Any number of processes may have one."""

    def __init__(self, database: Database, log: AuditLog) -> None:
        self._database = database
        self._log = log
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-sealer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._awake.set()
        self._thread.join()
        self._seal()

    def _run(self) -> None:
        with self._database.watch(self._awake.set):
            while True:
                self._awake.wait()
                self._awake.clear()
                if self._stopping.is_set() or self._stopping.wait(self._seal()):
                    return

    def _seal(self) -> float:
        """Seal what waits; return how many seconds to wait before the next look."""
        try:
            self._log.seal()
        except PacsError as error:
            LOGGER.warning("The audit log cannot be sealed now: %s", error)
        except Exception:
            LOGGER.exception("The audit log cannot be sealed")
        else:
            return PAUSE_SECONDS
        self._awake.set()
        return _AFTER_FAILURE_SECONDS
