"""More processes of one archive: forked, watched over, started again, and ended with it.

They come from a process that is forked before the archive has a thread or a connection, with all of its code loaded:
they share that memory, and another can be forked safely at any time. A pipe is what holds them together. The archive
has its only writing end, so that its end, however it came about, is read by all as the word to stop.
"""

import gc
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import NoReturn, Self

LOGGER = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""Between the end of a process and its successor's start: twice as long each time, until one has lived for this."""

_GRACE_MARGIN_SECONDS = 5.0

Run = Callable[[int, int], None]
"""What a process does, given its place from 0 and the reading end of the pipe, until that says that it has ended."""


class Companions:
    """``count`` processes that ``run``, from ``start`` until ``stop`` or the end of ``with``, or of this process.

    To be entered while this process has one thread and no connection. What has not stopped ``grace_seconds`` after it
    was told to is killed. ``kept`` are sockets that only this process shall have.
    """

    def __init__(self, count: int, run: Run, grace_seconds: float, kept: Sequence[socket.socket] = ()) -> None:
        self._count = count
        self._run = run
        self._grace_seconds = grace_seconds
        self._kept = kept
        self._supervisor = 0
        self._pipe: int | None = None

    def __enter__(self) -> Self:
        if self._count:
            reader, self._pipe = os.pipe()
            gc.collect()
            gc.freeze()  # what is loaded stays where it is, and shared: the collector writes to what it looks at
            self._supervisor = os.fork()
            if not self._supervisor:
                os.close(self._pipe)
                for one in self._kept:
                    one.close()
                _run_and_exit(lambda: _Supervisor(self._count, self._run, self._grace_seconds, reader).supervise())
            os.close(reader)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._supervisor:
            os.waitpid(self._supervisor, 0)

    def start(self) -> None:
        """Let them begin."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # somebody has ended them already
                os.write(self._pipe, b"\n")

    def stop(self) -> None:
        """Tell them to stop, and wait for nothing."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


class _Supervisor:
    """Keeps a number of processes alive. It has no thread, and sleeps while nothing happens to any of them."""

    def __init__(self, count: int, run: Run, grace_seconds: float, pipe: int) -> None:
        self._run = run
        self._grace_seconds = grace_seconds
        self._pipe = pipe
        self._selector = selectors.DefaultSelector()
        self._pauses = [FIRST_PAUSE_SECONDS] * count
        self._due = dict.fromkeys(range(count), 0.0)

    def supervise(self) -> None:
        """Wait for the word to begin; return once the pipe has ended, and every process has."""
        for number in (signal.SIGINT, signal.SIGTERM):  # those are for the archive, whose end is what counts here
            signal.signal(number, signal.SIG_IGN)
        if not os.read(self._pipe, 1):
            return
        self._selector.register(self._pipe, selectors.EVENT_READ)
        while True:
            now = monotonic()
            for place in [place for place, due in self._due.items() if due <= now]:
                del self._due[place]
                self._start(place)
            pause = max(0.0, min(self._due.values()) - monotonic()) if self._due else None
            ready = [key for key, _ in self._selector.select(pause)]
            if any(key.fd == self._pipe for key in ready):
                self._selector.unregister(self._pipe)
                self._end()
                return
            for key in ready:
                self._replace(key)

    def _start(self, place: int) -> None:
        process = os.fork()
        if not process:
            for number in (signal.SIGINT, signal.SIGTERM):  # not ignored, for what it starts would inherit that
                signal.signal(number, lambda *_: None)
            for key in tuple(self._selector.get_map().values()):
                if key.fd != self._pipe:
                    os.close(key.fd)
            self._selector.close()
            _run_and_exit(lambda: self._run(place, self._pipe))
        self._selector.register(os.pidfd_open(process), selectors.EVENT_READ, (place, process, monotonic()))

    def _replace(self, key: selectors.SelectorKey) -> None:
        """Reap a process that has ended, and put another in its place after a pause."""
        place, process, started_at = key.data
        self._forget(key)
        lived_seconds = monotonic() - started_at
        pause = FIRST_PAUSE_SECONDS if lived_seconds >= LONGEST_PAUSE_SECONDS else self._pauses[place]
        LOGGER.error("Process %d has ended before its time; another takes its place in %g s", process, pause)
        self._due[place] = monotonic() + pause
        self._pauses[place] = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _end(self) -> None:
        """Wait for those that are left, which have been told by the pipe."""
        deadline = monotonic() + self._grace_seconds + _GRACE_MARGIN_SECONDS
        while self._selector.get_map():
            ready = self._selector.select(max(0.0, deadline - monotonic()))
            for key, _ in ready:
                self._forget(key)
            if not ready:
                for key in tuple(self._selector.get_map().values()):
                    LOGGER.warning("Process %d is still busy, and is ended", key.data[1])
                    os.kill(key.data[1], signal.SIGKILL)
                deadline += self._grace_seconds + _GRACE_MARGIN_SECONDS

    def _forget(self, key: selectors.SelectorKey) -> None:
        os.waitpid(key.data[1], 0)
        self._selector.unregister(key.fd)
        os.close(key.fd)


def _run_and_exit(run: Callable[[], None]) -> NoReturn:
    """Run, and leave at once: what the forked process would come back to is its parent's."""
    status = 1
    try:
        run()
        status = 0
    except BaseException:
        LOGGER.exception("A process broke off")
    finally:
        os._exit(status)
