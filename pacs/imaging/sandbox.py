"""Untrusted pixels are decoded and encoded in child processes: what a codestream breaks is one job, not the archive.

A child is this module run as a program, spoken to over a socket: a line of JSON, then the bytes it announces, both
ways. Nothing that a child says is trusted further than the length it was asked for, nothing is unpickled. A child that
crashes, takes too long or outgrows its memory is replaced when the next frame comes.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pacs.errors import CorruptPixelData, Unavailable, UnsupportedTransferSyntax
from pacs.imaging.codecs import DecodedFrame, PixelDescription, decode
from pacs.imaging.encoders import EncodedFrame, encode

TIMEOUT_SECONDS = 30.0
START_TIMEOUT_SECONDS = 60.0
MEMORY_BYTES = 4 * 1024**3
MAX_FRAME_BYTES = 1024**3
_HEADER_BYTES = 4096
_ENCODING_OVERHEAD_BYTES = 64 * 1024

_CHILD_LOST = (OSError, ValueError, KeyError, TypeError, RecursionError)
"""What talking to a child raises that died, took too long or spoke nonsense."""


class Sandbox:
    """A pool of decoding processes, started when first needed. Any number of threads may call it at once."""

    def __init__(
        self,
        workers: int | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._is_closed = threading.Event()
        # Last in, first out, so that a quiet archive keeps one warm child; None is a place whose child must be started.
        self._places: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        self._count = workers or min(4, os.cpu_count() or 1)
        for _ in range(self._count):
            self._places.put(None)

    def decode_frame(self, transfer_syntax_uid: str, frame: bytes, description: PixelDescription) -> DecodedFrame:
        """Return one encapsulated frame as native; blocks until a child is free.

        Raises CorruptPixelData for a frame that does not decode, whatever it did to the child, and
        UnsupportedTransferSyntax if there is no decoder; Unavailable once closed.
        """
        answer, pixels = self._run({"syntax": transfer_syntax_uid}, frame, description, description.frame_bytes)
        if len(pixels) != description.frame_bytes:
            raise CorruptPixelData(CorruptPixelData.__doc__)
        return DecodedFrame(pixels, str(answer["photometric_interpretation"]))

    def encode_frame(self, transfer_syntax_uid: str, pixels: bytes, description: PixelDescription) -> EncodedFrame:
        """Return one native frame as ``encoders.encode`` does, verified by decoding; blocks until a child is free.

        Raises UnsupportedTransferSyntax if the syntax cannot hold it, CorruptPixelData for whatever else went wrong,
        Unavailable once closed.
        """
        job = {"syntax": transfer_syntax_uid, "encode": True}
        # No lossless codec here makes noise twice as long; more than that is no frame.
        answer, data = self._run(job, pixels, description, 2 * description.frame_bytes + _ENCODING_OVERHEAD_BYTES)
        return EncodedFrame(
            data, str(answer["photometric_interpretation"]), int(bool(answer.get("planar_configuration")))
        )

    def _run(
        self, job: dict[str, Any], data: bytes, description: PixelDescription, max_bytes: int
    ) -> tuple[dict[str, Any], bytes]:
        if description.frame_bytes > MAX_FRAME_BYTES:
            raise CorruptPixelData("The frame is larger than this archive decodes.")
        place = self._places.get()
        try:
            if place is None or not place.is_alive:
                _kill(place)
                place = self._start_child()
            return place.run(job | {"description": asdict(description)}, data, max_bytes)
        except (CorruptPixelData, UnsupportedTransferSyntax):
            raise
        except BaseException as error:
            _kill(place)
            place = None
            if isinstance(error, _CHILD_LOST):
                raise CorruptPixelData(CorruptPixelData.__doc__) from error
            raise
        finally:
            self._places.put(place)

    def _start_child(self) -> "_Child":
        if self._is_closed.is_set():
            raise Unavailable("The archive is stopping.")
        return _Child(self._memory_bytes, self._timeout_seconds)

    def close(self) -> None:
        """Stop the children once their frames are done; at most one time-out later nothing is left of them."""
        self._is_closed.set()
        for _ in range(self._count):
            _kill(self._places.get())
        for _ in range(self._count):
            self._places.put(None)


class _Child:
    """One decoding process, used by one thread at a time."""

    def __init__(self, memory_bytes: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own keeps a terminal's Ctrl-C from it; -P and PYTHONPATH take the code from where this
            # module came from, not from the current folder.
            root = str(Path(__file__).resolve().parents[2])
            environment = {"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, no user's words
                    [sys.executable, "-P", "-m", __name__, str(memory_bytes), str(timeout_seconds)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise Unavailable("No decoding process could be started.") from error
        self._socket = ours
        self._deadline = time.monotonic() + START_TIMEOUT_SECONDS
        try:
            if self._receive_header() != {"ready": True}:
                raise Unavailable("No decoding process could be started.")
        except (OSError, ValueError) as error:
            self.kill()
            raise Unavailable("No decoding process could be started.") from error

    def run(self, job: dict[str, Any], data: bytes, max_bytes: int) -> tuple[dict[str, Any], bytes]:
        """Return the child's answer and the frame that came with it, at most ``max_bytes`` long.

        CorruptPixelData and UnsupportedTransferSyntax are its answers; after any other exception it is of no more use.
        """
        self._deadline = time.monotonic() + self._timeout_seconds
        self._socket.settimeout(self._timeout_seconds)
        self._socket.sendall(_encode_header(job | {"length": len(data)}))
        self._socket.sendall(data)
        answer = self._receive_header()
        if "error" in answer:
            kind = UnsupportedTransferSyntax if answer["error"] == "unsupported" else CorruptPixelData
            raise kind(kind.__doc__)
        length_bytes = int(answer["length"])
        if not 0 <= length_bytes <= max_bytes or "photometric_interpretation" not in answer:
            raise ValueError("not an answer")
        return answer, self._receive(length_bytes)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; somebody may have ended it while it had nothing to do."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process now and reap it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _receive_header(self) -> dict[str, Any]:
        answer = json.loads(self._receive(_HEADER_BYTES))
        if not isinstance(answer, dict):
            raise TypeError("not an answer")
        return answer

    def _receive(self, length_bytes: int) -> bytes:
        buffer = bytearray(length_bytes)
        view = memoryview(buffer)
        while view:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            received = self._socket.recv_into(view)
            if not received:
                raise ConnectionError("the decoding process ended")
            view = view[received:]
        return bytes(buffer)


def _kill(child: _Child | None) -> None:
    if child is not None:
        child.kill()


def _encode_header(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode().ljust(_HEADER_BYTES)


def serve(connection: socket.socket, timeout_seconds: float) -> None:
    """Decode or encode the frames that come over ``connection`` until it is closed; runs in the child."""
    connection.sendall(_encode_header({"ready": True}))
    stream = connection.makefile("rb")
    while header := stream.read(_HEADER_BYTES):
        job = json.loads(header)
        frame = stream.read(job["length"])
        # Should the archive be killed while a codec loops for ever, nobody else would end this process.
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds * 2)
        try:
            answer, result = _do(job, frame)
        except UnsupportedTransferSyntax:
            answer, result = {"error": "unsupported"}, b""
        except (CorruptPixelData, MemoryError):
            answer, result = {"error": "corrupt"}, b""
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.sendall(_encode_header(answer | {"length": len(result)}))
        connection.sendall(result)


def _do(job: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes]:
    description = PixelDescription(**job["description"])
    if job.get("encode"):
        encoded = encode(job["syntax"], frame, description)
        facts = {
            "photometric_interpretation": encoded.photometric_interpretation,
            "planar_configuration": encoded.planar_configuration,
        }
        return facts, encoded.data
    decoded = decode(job["syntax"], frame, description)
    return {"photometric_interpretation": decoded.photometric_interpretation}, decoded.pixels


def _main(memory_bytes: int, timeout_seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        serve(socket.socket(fileno=0), timeout_seconds)


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
