"""What a codestream does to its decoder is one frame's failure, and nobody else's."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from pacs.errors import CorruptPixelData, Unavailable, UnsupportedTransferSyntax
from pacs.imaging import sandbox
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.encoders import ENCODABLE, encode
from pacs.imaging.sandbox import Sandbox

IMAGE = np.random.default_rng(1).integers(0, 4096, (64, 64), dtype="u2")
FRAME = bytes(imagecodecs.jpegls_encode(IMAGE))
DESCRIPTION = PixelDescription(64, 64, 1, 16, 12, 0, "MONOCHROME2")


@pytest.fixture(scope="module")
def pool():
    with closing(Sandbox(workers=2)) as opened:
        yield opened


def decode(pool, frame=FRAME, syntax=uid.JPEGLSLossless, description=DESCRIPTION):
    return pool.decode_frame(syntax, frame, description).pixels


def only_child(pool):
    child = pool._places.get()
    pool._places.put(child)
    return child


def test_frame_is_decoded_in_another_process(pool):
    assert decode(pool) == IMAGE.tobytes()
    assert only_child(pool)._process.pid != os.getpid()


def test_frame_is_encoded_in_another_process(pool):
    encoded = pool.encode_frame(uid.RLELossless, IMAGE.tobytes(), DESCRIPTION)
    assert encoded == encode(uid.RLELossless, IMAGE.tobytes(), DESCRIPTION)
    assert only_child(pool)._process.pid != os.getpid()


def test_frame_that_cannot_be_encoded_leaves_the_child_at_work(pool):
    child = only_child(pool)
    with pytest.raises(UnsupportedTransferSyntax):
        pool.encode_frame(uid.JPEG2000Lossless, b"\xff" * len(IMAGE.tobytes()), DESCRIPTION)
    with pytest.raises(CorruptPixelData):
        pool.encode_frame(uid.JPEG2000Lossless, b"short", DESCRIPTION)
    assert only_child(pool) is child


def test_noise_is_encoded_whatever_it_grows_to(pool):
    noise = np.random.default_rng(2).integers(0, 256, (300, 300), dtype="u1")
    description = PixelDescription(300, 300, 1, 8, 8, 0, "MONOCHROME2")
    for syntax in ENCODABLE:
        assert decode(pool, pool.encode_frame(syntax, noise.tobytes(), description).data, syntax, description)


def test_any_number_of_threads_may_decode_at_once(pool):
    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(lambda _: decode(pool), range(24))) == {IMAGE.tobytes()}


def test_corrupt_frame_leaves_the_child_at_work(pool):
    decode(pool)
    child = only_child(pool)
    with pytest.raises(CorruptPixelData):
        decode(pool, b"nothing")
    with pytest.raises(UnsupportedTransferSyntax):
        decode(pool, syntax=uid.MPEG2MPML)
    assert only_child(pool) is child
    assert decode(pool) == IMAGE.tobytes()


def test_child_that_was_ended_while_idle_costs_no_frame(pool):
    decode(pool)
    child = only_child(pool)
    child._process.kill()
    child._process.wait()
    assert decode(pool) == IMAGE.tobytes()


@pytest.mark.parametrize("ending", [signal.SIGSEGV, signal.SIGKILL])
def test_crash_is_one_corrupt_frame(pool, ending):
    decode(pool)
    child = only_child(pool)
    # Stopped, so that the frame is under way when the crash comes.
    child._process.send_signal(signal.SIGSTOP)
    threading.Timer(
        0.2, lambda: (child._process.send_signal(ending), child._process.send_signal(signal.SIGCONT))
    ).start()
    with pytest.raises(CorruptPixelData):
        decode(pool)
    assert decode(pool) == IMAGE.tobytes()


def test_frame_that_takes_too_long_is_corrupt():
    with closing(Sandbox(workers=1, timeout_seconds=1)) as pool:
        decode(pool)
        child = only_child(pool)
        child._process.send_signal(signal.SIGSTOP)
        with pytest.raises(CorruptPixelData):
            decode(pool)
        assert child._process.returncode == -signal.SIGKILL
        assert decode(pool) == IMAGE.tobytes()


def test_frame_that_takes_too_much_memory_is_corrupt():
    huge = imagecodecs.jpegls_encode(np.zeros((20_000, 20_000), "u1"))
    description = PixelDescription(20_000, 20_000, 1, 8, 8, 0, "MONOCHROME2")
    with closing(Sandbox(workers=1, memory_bytes=600 * 1024 * 1024)) as pool:
        with pytest.raises(CorruptPixelData):
            decode(pool, bytes(huge), description=description)
        assert decode(pool) == IMAGE.tobytes()


def test_frame_of_absurd_size_never_reaches_a_child():
    with closing(Sandbox(workers=1)) as pool:
        with pytest.raises(CorruptPixelData):
            decode(pool, description=PixelDescription(65_535, 65_535, 3, 32, 32, 0, "RGB"))
        assert only_child(pool) is None


def test_child_that_speaks_nonsense_is_replaced(pool):
    decode(pool)
    child = only_child(pool)
    ours, theirs = socket.socketpair()
    child._socket.close()
    child._socket = ours
    with theirs:
        theirs.sendall(b"[" * sandbox._HEADER_BYTES)
        with pytest.raises(CorruptPixelData):
            decode(pool)
    assert decode(pool) == IMAGE.tobytes()


def test_closed_sandbox_leaves_no_child_and_takes_no_frame():
    pool = Sandbox(workers=2)
    decode(pool)
    child = only_child(pool)
    pool.close()
    assert child._process.returncode is not None
    with pytest.raises(Unavailable):
        decode(pool)
    pool.close()


def test_child_ends_with_its_parent():
    pool = Sandbox(workers=1)
    decode(pool)
    child = only_child(pool)
    child._socket.close()
    assert child._process.wait(timeout=20) == 0
    pool.close()
