"""Follows the change log: what a change makes necessary is listed in the transaction that moves the cursor past it.

So nothing is missed and nothing is listed twice, wherever a process is killed. Processes that follow under one name
share one cursor: whoever moves it has listed the jobs.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.index import changes
from pacs.jobs import queue
from pacs.jobs.queue import NewJob
from pacs.model import Change, Cursor

LOGGER = logging.getLogger(__name__)

PAGE = 100
PAUSE_SECONDS = 0.5
"""Between two looks at the end of the log: each that finds something moves the cursor, which costs a commit."""
_AFTER_FAILURE_SECONDS = 5.0

Plan = Callable[[Connection, Sequence[Change]], Sequence[NewJob]]
"""Reads what it needs and returns the jobs that some changes make necessary; it writes nothing."""


class Follower:
    """Turns changes into jobs, between ``with`` and its end; it begins with what is stored after its first ``with``.

    ``on_listed`` is called when jobs were listed.
    """

    def __init__(
        self,
        database: Database,
        partition_id: int,
        name: str,
        plan: Plan,
        on_listed: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._partition_id = partition_id
        self._name = name
        self._plan = plan
        self._on_listed = on_listed
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follower-{name}", daemon=True)

    def __enter__(self) -> Self:
        self.begin()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._awake.set()
        self._thread.join()

    def begin(self) -> None:
        """Begin at the end of the log, unless it began before: what is stored already concerns no new follower."""
        with self._database.read() as connection:
            if changes.find_cursor(connection, self._name) is not None:
                return
            end = changes.read_end(connection, self._partition_id)
        self._database.write(lambda connection: changes.begin(connection, self._name, end))

    def follow(self) -> int:
        """Go through the next page of the log; return how many changes it held, 0 when there is nothing new."""
        with self._database.read() as connection:
            cursor = changes.find_cursor(connection, self._name) or Cursor()
            page = changes.read_after(connection, self._partition_id, cursor, PAGE)
            jobs = self._plan(connection, page) if page else ()
        if not page:
            return 0

        def write(connection: Connection) -> bool:
            if not changes.advance(connection, self._name, cursor, page[-1].cursor):
                return False
            queue.enqueue(connection, jobs, datetime.now(UTC))
            return True

        if self._database.write(write) and jobs:
            self._on_listed()
        return len(page)

    def _run(self) -> None:
        with self._database.watch(self._awake.set):
            while True:
                self._awake.wait()
                self._awake.clear()
                if self._stopping.wait(self._follow_to_the_end()):
                    return

    def _follow_to_the_end(self) -> float:
        """Return how many seconds to wait before the next look, once there is something to look at."""
        try:
            while not self._stopping.is_set() and self.follow() == PAGE:
                pass
        except PacsError as error:
            LOGGER.warning("The change log cannot be followed now: %s", error)
        except Exception:
            LOGGER.exception("The change log cannot be followed")
        else:
            return PAUSE_SECONDS
        self._awake.set()
        return _AFTER_FAILURE_SECONDS
