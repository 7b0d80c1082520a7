"""Instances as pictures, videos and documents: which frames stand for what was asked for, rendered one at a time."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from threading import BoundedSemaphore
from typing import BinaryIO, TypeVar

from pacs.access import Principal
from pacs.errors import CorruptPixelData, FrameNotFound, InvalidHeader, NotAcceptable, Unavailable
from pacs.imaging.grayscale import number_of
from pacs.imaging.picture import GIF, Appearance, encode, encode_animation
from pacs.imaging.rendition import MP4, frame_milliseconds, is_presentation_state
from pacs.imaging.report_page import Link
from pacs.imaging.representation import Representation
from pacs.imaging.video import CHUNK_BYTES, VIDEO_SYNTAXES, encode_video, find_ffmpeg, to_mp4
from pacs.model import InstanceRecord
from pacs.retrieve.documents import no_link, open_document
from pacs.retrieve.pictures import Pictures, open_pictures, open_stream
from pacs.retrieve.retriever import Retriever

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ATTEMPTS = 50
"""How many instances of a study are tried before it is said to have no picture."""

AT_ONCE = 4
"""How many frames are in memory: as many as the sandbox decodes at once."""

FILMS_AT_ONCE = 2
FILMS_WAITING = 4
"""Videos and animations take up to minutes: who finds so many waiting is sent away, and holds no thread meanwhile."""

_UNRENDERABLE = (NotAcceptable, CorruptPixelData, InvalidHeader)


class Renderer:
    """Renders what a retriever reads. Any number of threads may call it at once; few render at once, a frame each.

    A presentation state is rendered as the images that it shows, one after another, as if they were its frames.
    """

    def __init__(self, retriever: Retriever, spool_directory: Path | None = None) -> None:
        """Make a renderer; videos are kept in ``spool_directory`` while they are made, in files without a name."""
        self._retriever = retriever
        self._spool_directory = spool_directory
        self._turns = BoundedSemaphore(AT_ONCE)
        self._film_turns = BoundedSemaphore(FILMS_AT_ONCE)
        self._film_room = BoundedSemaphore(FILMS_AT_ONCE + FILMS_WAITING)

    def iter_frames(
        self, principal: Principal, record: InstanceRecord, frame_numbers: Sequence[int], appearance: Appearance
    ) -> Iterator[bytes]:
        """Yield frames by their numbers, which count from 1, each as a picture of its own; none given stands for all.

        The iterator raises FrameNotFound before it yields anything, NotAcceptable for what is not rendered, and
        CorruptPixelData.
        """
        with open_pictures(self._retriever, principal, record, self._spool_directory) as pictures:
            images = pictures.iter_images(_indexes(pictures, frame_numbers), appearance)
            yield from self._in_turns(encode(image, appearance) for image in images)

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
        Raises as ``iter_frames`` does, Unavailable also where too many films are being made.
        """
        with open_pictures(self._retriever, principal, record, self._spool_directory) as pictures:
            indexes = _indexes(pictures, frame_numbers)
            if appearance.media_type == GIF and len(indexes) > 1 and not is_still:
                with self._filming():
                    images = self._in_turns(pictures.iter_images(indexes, appearance))
                    return encode_animation(images, frame_milliseconds(pictures.attributes))
            chosen = indexes[len(indexes) // 2]
            named = number_of(pictures.attributes, "RepresentativeFrameNumber")
            if not frame_numbers and named is not None and named - 1 in indexes:
                chosen = int(named) - 1
            with self._turns:
                return encode(next(pictures.iter_images([chosen], appearance)), appearance)

    def render_presented(
        self,
        principal: Principal,
        state: InstanceRecord,
        image: InstanceRecord,
        appearance: Appearance,
        frame_number: int | None = None,
    ) -> bytes:
        """Return a frame of an image, by default the first, as a presentation state shows it.

        Raises as ``iter_frames`` does, NotAcceptable also where the state does not show it.
        """
        with open_pictures(self._retriever, principal, state, self._spool_directory) as pictures, self._turns:
            indexes = [
                index
                for index, (shown, frame_index) in enumerate(getattr(pictures, "places", ()))
                if shown.row_id == image.row_id and frame_number in (None, frame_index + 1)
            ]
            if not indexes:
                raise NotAcceptable("The presentation state does not show this image.")
            return encode(next(pictures.iter_images(indexes[:1], appearance)), appearance)

    def render_video(
        self,
        principal: Principal,
        record: InstanceRecord,
        appearance: Appearance,
        frame_numbers: Sequence[int] = (),
    ) -> Representation:
        """Return frames as one MP4, all of them if none are given; the caller closes it.

        A stored H.264 or HEVC stream leaves as it is, in another container, unless it has to look otherwise. Raises
        as ``render_instance`` does, NotAcceptable also where there is no ffmpeg or only one frame.
        """
        find_ffmpeg()
        is_as_stored = not (appearance.viewport or appearance.annotations or frame_numbers)
        with self._filming():
            if is_as_stored and record.transfer_syntax_uid in VIDEO_SYNTAXES:
                return _represent(self._remux(principal, record))
            with open_pictures(self._retriever, principal, record, self._spool_directory) as pictures:
                indexes = _indexes(pictures, frame_numbers)
                if len(indexes) < 2:
                    raise NotAcceptable("One frame makes no video.")
                images = self._in_turns(pictures.iter_images(indexes, appearance))
                rate = 1000 / frame_milliseconds(pictures.attributes)
                return _represent(encode_video(images, rate, appearance.quality, self._spool_directory))

    def render_document(
        self, principal: Principal, record: InstanceRecord, media_type: str = "", link: Link = no_link
    ) -> Representation:
        """Return an instance as one document, in its own type if none is given; the caller closes it.

        That is a report as text/html (in UTF-8) or text/plain, or what an instance encapsulates (application/pdf,
        text/xml). ``link`` gives the addresses of what a report refers to. Raises NotAcceptable for what is no
        document, or none of this type; see ``list_rendered_types``.
        """
        with self._retriever.open_stored(principal, record) as (opened, _):
            return open_document(opened, media_type, link)

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

        A presentation state is tried after all images. Raises what the first one raised if none of those that were
        tried can be rendered.
        """
        refusal: Exception = NotAcceptable("There is nothing to make a picture of.")
        candidates = sorted(_from_the_middle(records), key=lambda record: is_presentation_state(record.sop_class_uid))
        for attempt, record in enumerate(islice(candidates, MAX_ATTEMPTS)):
            try:
                return record, self.render_instance(principal, record, appearance, is_still=True)
            except _UNRENDERABLE as error:
                refusal = refusal if attempt else error
        raise refusal

    def _remux(self, principal: Principal, record: InstanceRecord) -> BinaryIO:
        with (
            self._retriever.open_stored(principal, record) as (opened, _),
            open_stream(opened, self._spool_directory) as stream,
        ):
            rate = 1000 / frame_milliseconds(opened.header.attributes)
            return to_mp4(stream, record.transfer_syntax_uid, rate, self._spool_directory)

    @contextmanager
    def _filming(self) -> Iterator[None]:
        """Wait for a turn to make a film; raise Unavailable if too many wait already."""
        if not self._film_room.acquire(blocking=False):
            raise Unavailable("Too many videos and animations are being made; try again later.")
        try:
            with self._film_turns:
                yield
        finally:
            self._film_room.release()

    def _in_turns(self, items: Iterator[T]) -> Iterator[T]:
        """Yield the same items, each made when it is this thread's turn."""
        while True:
            with self._turns:
                made = list(islice(items, 1))
            if not made:
                return
            yield made[0]


def _indexes(pictures: Pictures, frame_numbers: Sequence[int]) -> Sequence[int]:
    """Return the 0-based indexes of frames; raise FrameNotFound for one that does not exist."""
    if not all(1 <= number <= pictures.count for number in frame_numbers):
        raise FrameNotFound
    return [number - 1 for number in frame_numbers] or range(pictures.count)


def _represent(file: BinaryIO) -> Representation:
    """Return a file that was made as what is sent; it is gone once that is closed."""
    length_bytes = file.seek(0, os.SEEK_END)

    def iter_chunks() -> Iterator[bytes]:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

    return Representation("", MP4, length_bytes, iter_chunks, file.close)


def _from_the_middle(records: Sequence[InstanceRecord]) -> Iterator[InstanceRecord]:
    """Yield the middle record, then its neighbours, one from either side in turn."""
    middle = len(records) // 2
    after, before = records[middle:], records[:middle][::-1]
    for index in range(max(len(after), len(before))):
        yield from chain(after[index : index + 1], before[index : index + 1])
