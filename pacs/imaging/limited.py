"""Running a program of somebody else's on what strangers sent: it cannot outgrow its memory, its files or its time."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# The limits are set by the process itself, before it becomes the program: between fork and exec of ours nothing may
# run. Python ignores what outgrowing a file is told by, and an ignored signal would stay ignored.
_LIMITED = (
    "import os, resource, signal, sys\n"
    "for number in (signal.SIGXFSZ, signal.SIGPIPE):\n"
    "    signal.signal(number, signal.SIG_DFL)\n"
    "for name, limit in zip(('CORE', 'AS', 'FSIZE', 'CPU'), map(int, sys.argv[1:5])):\n"
    "    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (limit, limit))\n"
    "os.execv(sys.argv[5], sys.argv[5:])\n"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use: address space, the largest file it may write, and time, of the clock and of a core."""

    memory_bytes: int
    file_bytes: int
    seconds: float


@contextmanager
def running(
    command: Sequence[str],
    limits: Limits,
    *,
    files: Sequence[IO[bytes]] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    folder: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Give a running program that is ended with the block, or when it takes too long.

    ``files`` are those of ours that it may use, ``folder`` is its home and where it runs. Of the environment it gets
    nothing else, and what it says on standard error, which may quote a data set, goes nowhere.
    """
    numbers = ("0", str(limits.memory_bytes), str(limits.file_bytes), str(math.ceil(limits.seconds)))
    environment = {"PATH": os.defpath} | ({} if folder is None else {"HOME": str(folder)})
    process = subprocess.Popen(  # noqa: S603 - no word of it is anybody else's
        [sys.executable, "-I", "-S", "-c", _LIMITED, *numbers, *command],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        pass_fds=[file.fileno() for file in files],
        start_new_session=True,
    )
    timer = threading.Timer(limits.seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        process.wait()
