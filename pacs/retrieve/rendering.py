"""Instances as pictures: which frames stand for what was asked for, and those rendered, one at a time."""

import base64
import binascii
import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from threading import BoundedSemaphore

from pacs.access import Principal
from pacs.errors import CorruptPixelData, FrameNotFound, InvalidHeader, NotAcceptable
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.grayscale import number_of
from pacs.imaging.opened import OpenInstance
from pacs.imaging.picture import GIF, Appearance, Pixels, encode, encode_animation
from pacs.imaging.render import ImageSource, check_size, render_frame
from pacs.imaging.sources import swap_words
from pacs.model import Attributes, InstanceRecord
from pacs.retrieve.retriever import DecodeFrames, Retriever

LOGGER = logging.getLogger(__name__)

MAX_VALUE_BYTES = 64 * 1024 * 1024
MAX_ATTEMPTS = 50
"""How many instances of a study are tried before it is said to have no picture."""

AT_ONCE = 4
"""How many frames are in memory: as many as the sandbox decodes at once."""

_UNRENDERABLE = (NotAcceptable, CorruptPixelData, InvalidHeader)


class Renderer:
    """Renders what a retriever reads. Any number of threads may call it at once; few render at once, a frame each."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._turns = BoundedSemaphore(AT_ONCE)

    def iter_frames(
        self, principal: Principal, record: InstanceRecord, frame_numbers: Sequence[int], appearance: Appearance
    ) -> Iterator[bytes]:
        """Yield frames by their numbers, which count from 1, each as a picture of its own; none given stands for all.

        The iterator raises FrameNotFound before it yields anything, NotAcceptable for what is not rendered, and
        CorruptPixelData.
        """
        with self._retriever.open_images(principal, record) as (opened, decode):
            rendered = _iter_pixels(opened, decode, _indexes(opened, frame_numbers), appearance)
            while True:
                with self._turns:
                    pixels = next(rendered, None)
                    picture = b"" if pixels is None else encode(pixels, appearance)
                if pixels is None:
                    return
                yield picture

    def render_instance(
        self,
        principal: Principal,
        record: InstanceRecord,
        appearance: Appearance,
        frame_numbers: Sequence[int] = (),
        *,
        is_still: bool = False,
    ) -> bytes:
        """Return one picture of an instance, or of some of its frames: of several a GIF moves, unless ``is_still``.

        A still picture shows the frame that the instance says stands for all of them (0028,6010), else the middle one.
        Raises as ``iter_frames`` does.
        """
        with self._retriever.open_images(principal, record) as (opened, decode), self._turns:
            indexes = _indexes(opened, frame_numbers)
            if appearance.media_type == GIF and len(indexes) > 1 and not is_still:
                frames = _iter_pixels(opened, decode, indexes, appearance)
                return encode_animation(frames, appearance, number_of(opened.header.attributes, "FrameTime"))
            chosen = indexes[len(indexes) // 2]
            named = number_of(opened.header.attributes, "RepresentativeFrameNumber")
            if not frame_numbers and named is not None and named - 1 in indexes:
                chosen = int(named) - 1
            return encode(next(_iter_pixels(opened, decode, [chosen], appearance)), appearance)

    def iter_instances(
        self, principal: Principal, records: Sequence[InstanceRecord], appearance: Appearance
    ) -> Iterator[tuple[InstanceRecord, bytes]]:
        """Yield each instance that can be rendered with its picture; the others are passed over."""
        for record in records:
            try:
                yield record, self.render_instance(principal, record, appearance)
            except _UNRENDERABLE as error:
                LOGGER.info("Instance %s is not rendered: %s", record.sop_instance_uid, type(error).__name__)

    def render_thumbnail(
        self, principal: Principal, records: Sequence[InstanceRecord], appearance: Appearance
    ) -> tuple[InstanceRecord, bytes]:
        """Return the instance that stands for these with its still picture: the middle one, else one next to it.

        Raises what the first one raised if none of those that were tried can be rendered.
        """
        refusal: Exception = NotAcceptable("There is nothing to make a picture of.")
        for attempt, record in enumerate(islice(_from_the_middle(records), MAX_ATTEMPTS)):
            try:
                return record, self.render_instance(principal, record, appearance, is_still=True)
            except _UNRENDERABLE as error:
                refusal = refusal if attempt else error
        raise refusal


def _indexes(opened: OpenInstance, frame_numbers: Sequence[int]) -> Sequence[int]:
    """Return the 0-based indexes of frames; raise FrameNotFound for one that does not exist."""
    count = len(opened.layout.frames)
    if not all(1 <= number <= count for number in frame_numbers):
        raise FrameNotFound
    return [number - 1 for number in frame_numbers] or range(count)


def _iter_pixels(
    opened: OpenInstance, decode: DecodeFrames, indexes: Sequence[int], appearance: Appearance
) -> Iterator[Pixels]:
    check_size(PixelDescription.from_attributes(opened.header.attributes))
    assert opened.header.pixels is not None
    source = ImageSource(
        opened.header.attributes, lambda element: _read_value(opened, element), opened.header.pixels.tag
    )
    for index, frame in zip(indexes, decode(indexes), strict=True):
        yield render_frame(source, frame, index, appearance.window)


def _read_value(opened: OpenInstance, element: Attributes) -> bytes:
    """Return a binary value, little endian; nothing for one that is longer than any table or overlay."""
    if "InlineBinary" in element:
        try:
            return base64.b64decode(str(element["InlineBinary"]))
        except binascii.Error:
            return b""
    value = opened.find_bulk(str(element.get("BulkDataURI", "")))
    if value is None or value.range.length_bytes > MAX_VALUE_BYTES:
        return b""
    data = opened.source.read_range(value.range.start, value.range.end)
    word_bytes = opened.word_bytes(value)
    return data if word_bytes == 1 else swap_words(data, word_bytes)


def _from_the_middle(records: Sequence[InstanceRecord]) -> Iterator[InstanceRecord]:
    """Yield the middle record, then its neighbours, one from either side in turn."""
    middle = len(records) // 2
    after, before = records[middle:], records[:middle][::-1]
    for index in range(max(len(after), len(before))):
        yield from chain(after[index : index + 1], before[index : index + 1])
