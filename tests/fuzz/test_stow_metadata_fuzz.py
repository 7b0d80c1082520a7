"""Hostile metadata and bulk data: a body ends in files that parse, in refusals, or in the documented errors."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from dicomweb import dicom_xml
from dicomweb.errors import ContentTooLarge, InvalidMetadata, MultipartError
from dicomweb.multipart import MultipartParser
from dicomweb.stow_metadata import MetadataSink
from dicomweb.stow_sinks import Receiver
from pacs.imaging.frames import plan_frames
from pacs.ingest.header import parse_header
from pacs.ingest.incoming import Expected, IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome
from pacs.model import Door, Origin
from tests import builders
from tests.conformance.dicomweb.apart import JSON, XML, apart_body
from tests.conformance.dicomweb.service import BOUNDARY
from tests.fuzz.amount import FACTOR

LOCATIONS = ("pixels", "pixels/frames/1", "pixels/frames/2", "", "http://[", "../x", "\x7f")
DATASETS = [builders.build_ct(), builders.build_multiframe(2), builders.build_mr(), builders.build_sr()]
METADATA = [one.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: "pixels") for one in DATASETS]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**65), 2**63)
    | st.text(max_size=3) | st.sampled_from(["pixels", "AAAA", "1.2", "ISO_IR 100", "\ud83d\ude00"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["vr", "Value", "BulkDataURI", "00081115", "7FE00010", "Alphabetic"]), inner),
    max_leaves=6,
)  # fmt: skip
TAGS = st.sampled_from(["00080005", "00280008", "00280010", "00280100", "7FE00010", "00081115", "00290010", "x"])
VRS = st.sampled_from(["LO", "PN", "SQ", "OB", "OW", "US", "FD", "DS", "AT", "UN", "UT", "LT", "XX"])
ELEMENTS = ANYTHING | st.builds(
    lambda vr, key, value: {"vr": vr, key: value},
    VRS,
    st.sampled_from(["Value", "BulkDataURI", "InlineBinary"]),
    ANYTHING | st.just("pixels"),
)
CONTENT_TYPES = st.sampled_from(
    [
        "application/octet-stream",
        f"application/octet-stream; transfer-syntax={uid.JPEGLSLossless}",
        "image/jpeg",
        f"image/jp2; transfer-syntax={uid.JPEG2000}",
        "image/dicom-rle",
        "video/mp4",
        "x",
        JSON,
        XML,
    ]
)
PIXELS = st.binary(max_size=40) | st.sampled_from(
    [b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01", b"\xff\x4f\xff\x51\x00\x29", DATASETS[0].PixelData]
)


class Store:
    """The door's stand-in: what reaches it must be what a parser takes."""

    def __init__(self, folder):
        self._folder = folder

    def open_spool(self):
        return IncomingSpool(self._folder)

    def store(self, incoming):
        spool = incoming.spool
        # What this archive itself makes is whole, whatever came: nothing here raises InvalidHeader.
        header = parse_header(spool, spool.size_bytes)
        plan_frames(header, spool)
        assert header.attributes["00080005"]["Value"] == ["ISO_IR 192"]
        return Outcome(Disposition.STORED)


def swallow(folder, body, step=1000):
    receiver = Receiver(Store(folder), Origin(Door.STOW), Expected())
    sink = MetadataSink(receiver, MultipartParser(BOUNDARY), "http://host/studies/")
    try:
        for position in range(0, len(body), step):
            sink.feed(body[position : position + step])
        sink.finish()
    except (MultipartError, InvalidMetadata, ContentTooLarge):
        return []
    finally:
        receiver.close()
        sink.close()
    return [outcome.disposition for outcome in receiver.outcomes]


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.data(), st.lists(st.tuples(CONTENT_TYPES, st.sampled_from(LOCATIONS[:-1]), PIXELS), max_size=4))
def test_any_change_of_an_instance_is_stored_or_refused(data, parts):
    item = dict(data.draw(st.sampled_from(METADATA)))
    item.update(data.draw(st.dictionaries(TAGS, ELEMENTS, max_size=3)))
    try:
        document = orjson.dumps([item])
    except TypeError:
        return
    assert len(swallow(None, apart_body((JSON, "", document), *parts))) <= 2 * (1 + len(parts))


@settings(deadline=None, max_examples=100 * FACTOR)
@given(ANYTHING)
def test_any_json_is_stored_or_refused(item):
    try:
        document = orjson.dumps(item)
    except TypeError:
        return
    swallow(None, apart_body((JSON, "", document)))


BODIES = [
    apart_body((JSON, "", orjson.dumps(METADATA[:1])), ("application/octet-stream", "pixels", DATASETS[0].PixelData)),
    apart_body((XML, "", dicom_xml.encode(METADATA[3]))),
]


@settings(deadline=None, max_examples=100 * FACTOR)
@given(st.data(), st.sampled_from((1, 64, 100_000)))
def test_bytes_changed_anywhere(data, step):
    content = bytearray(data.draw(st.sampled_from(BODIES)))
    changes = st.tuples(st.integers(0, len(content)), st.integers(0, 20), st.binary(max_size=4))
    for start, length, change in data.draw(st.lists(changes, min_size=1, max_size=5)):
        content[start : start + length] = change
    swallow(None, bytes(content), step)


def test_bodies_are_stored_before_anything_is_done_to_them():
    for body in BODIES:
        assert swallow(None, body) == [Disposition.STORED]
