"""Imaging without a store and without child processes, and another reader's view of what comes out."""

import io

import numpy as np
import pydicom
from pydicom.multival import MultiValue

from pacs.imaging import codecs, encoders
from pacs.imaging.frames import plan_frames
from pacs.imaging.opened import OpenInstance
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from pacs.imaging.transcode import transcode
from pacs.ingest.header import parse_header

PIXEL_ELEMENTS = (0x7FE00001, 0x7FE00002, 0x7FE00010)


class Memory:
    """A source, and a scratch space, in memory; its chunks are small and odd."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.is_closed = False
        self.largest_read_bytes = 0

    @property
    def size_bytes(self):
        return len(self.data)

    def read_range(self, start, end):
        self.largest_read_bytes = max(self.largest_read_bytes, end - start)
        return bytes(self.data[start:end])

    def iter_range(self, start, end):
        for offset in range(start, end, 65_537):
            yield self.read_range(offset, min(offset + 65_537, end))

    def open_file(self, start, end):
        return None

    def write(self, data):
        self.data += data
        return len(data)

    def close(self):
        self.is_closed = True


class InProcess:
    """Codecs without a sandbox."""

    def decode_frame(self, transfer_syntax_uid, frame, description):
        return codecs.decode(transfer_syntax_uid, frame, description)

    def encode_frame(self, transfer_syntax_uid, pixels, description):
        return encoders.encode(transfer_syntax_uid, pixels, description)


def open_instance(source, steps=()):
    """Return what a source holds, parsed as ingest does."""
    header = parse_header(source, source.size_bytes, inflate_into=Memory())
    opened = OpenInstance(header, plan_frames(header, source), source, steps)
    if header.is_deflated:
        opened.inflate(Memory())
    return opened


def leave(data, transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN, steps=(), source=None):
    """Return a file as it leaves in a transfer syntax; nothing may stay behind."""
    opened = open_instance(source or Memory(data), steps)
    scratches = []

    def open_scratch():
        scratches.append(Memory())
        return scratches[-1]

    transcoded = transcode(opened, transfer_syntax_uid, InProcess(), open_scratch)
    encoded = b"".join(transcoded.iter_chunks())
    assert len(encoded) == transcoded.length_bytes
    transcoded.close()
    assert all(scratch.is_closed for scratch in scratches)
    return encoded


def read(data):
    """Return the data set as pydicom reads it."""
    return pydicom.dcmread(io.BytesIO(data))


def flatten(dataset, is_big_endian=False, prefix=""):
    """Return path -> value of every element but group lengths and pixels, words as little endian has them."""
    values = {}
    for element in dataset:
        if element.tag.element == 0 or element.tag in PIXEL_ELEMENTS:
            continue
        path = f"{prefix}{element.tag}"
        if element.VR == "SQ":
            values[path] = len(element.value)
            for index, item in enumerate(element.value):
                values |= flatten(item, is_big_endian, f"{path}[{index}]")
        elif is_big_endian and element.VR == "OW":
            values[path] = normal(np.frombuffer(element.value, "u2").byteswap().tobytes())
        else:
            values[path] = normal(element.value)
    return values


def normal(value):
    """Return a value without what padding and an undecided NaN make of it."""
    if isinstance(value, (list, MultiValue)):
        return [normal(entry) for entry in value]
    if isinstance(value, bytes):
        return value.rstrip(b"\0 ")
    return "NaN" if isinstance(value, float) and value != value else value
