"""Random and mutated bodies: the parser ends in parts or in a MultipartError, and holds next to nothing."""

import random

from dicomweb.errors import MultipartError
from dicomweb.multipart import MAX_HEADER_BYTES, MultipartParser
from tests.fuzz.amount import FACTOR

ROUNDS = 1500 * FACTOR
SEED = 20260101
VALID = b"x\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + bytes(range(256)) + b"\r\n--b\r\n\r\ny\r\n--b--\r\n"
CRUMBS = [b"\r\n--b", b"--b", b"--", b"\r\n", b"\r", b"\n", b":", b" ", b"\r\n\r\n", b"\0", b"\xff" * 9, b"--b--"]


def swallow(data, chooser):
    parser = MultipartParser("b")
    position = 0
    try:
        while position < len(data):
            step = chooser.choice((1, 2, 7, 64, 1000, len(data)))
            for _ in parser.feed(data[position : position + step]):
                pass
            assert len(parser._held) <= MAX_HEADER_BYTES
            position += step
        parser.finish()
    except MultipartError:
        return False
    return True


def test_random_bytes_raise_nothing_but_multipart_errors():
    chooser = random.Random(SEED)
    for _ in range(ROUNDS):
        swallow(chooser.randbytes(chooser.randrange(300)), chooser)
        swallow(b"".join(chooser.choices(CRUMBS, k=chooser.randrange(40))), chooser)


def test_mutated_bodies_raise_nothing_but_multipart_errors():
    chooser = random.Random(SEED)
    assert swallow(VALID, chooser)
    for _ in range(ROUNDS):
        data = bytearray(VALID)
        for _ in range(chooser.randrange(1, 6)):
            start = chooser.randrange(len(data) + 1)
            end = min(len(data), start + chooser.choice((0, 1, 5, 40)))
            data[start:end] = chooser.choice([*CRUMBS, chooser.randbytes(3), b""])
        swallow(bytes(data), chooser)
