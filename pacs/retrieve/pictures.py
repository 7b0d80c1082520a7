"""Where pictures come from: the frames of an image, those of a video, or what a presentation state shows.

Each kind gives its pictures one at a time, as they are asked for, so that no instance is ever in memory.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Protocol

from pydicom import uid

from pacs.access import Principal
from pacs.errors import CorruptPixelData, NotAcceptable, NotFound
from pacs.imaging.annotation import annotate
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.display import present
from pacs.imaging.grayscale import number_of
from pacs.imaging.opened import OpenInstance
from pacs.imaging.picture import Appearance, Bitmap, fit, to_image
from pacs.imaging.presentation import Spot, Subject, draw_shutters, inline, lay_over, list_subjects
from pacs.imaging.profiles import Profile, convert
from pacs.imaging.render import ImageSource, check_size, render_frame
from pacs.imaging.rendition import is_presentation_state
from pacs.imaging.video import VIDEO_SYNTAXES, iter_stills
from pacs.model import Attributes, InstanceRecord
from pacs.overlay import apply
from pacs.retrieve.retriever import DecodeFrames, Retriever
from pacs.tags import tag_of, values_of

MAX_FRAMES = 100_000

_SINGLE_FRAME = frozenset(
    {
        str(uid.ComputedRadiographyImageStorage),
        str(uid.CTImageStorage),
        str(uid.DigitalXRayImageStorageForPresentation),
        str(uid.DigitalMammographyXRayImageStorageForPresentation),
        str(uid.MRImageStorage),
        str(uid.PositronEmissionTomographyImageStorage),
    }
)
"""The SOP classes that states refer to by the thousand, each instance one frame (PS3.3 A.2 to A.27)."""


class Pictures(Protocol):
    """The pictures of one instance. ``attributes`` say at which rate they play, and which of them stands for all."""

    attributes: Attributes
    count: int

    def iter_images(self, indexes: Sequence[int], appearance: Appearance) -> Iterator[Bitmap]:
        """Yield pictures by their indexes, which count from 0 and exist.

        Raises NotAcceptable for what is not rendered, CorruptPixelData.
        """
        ...


@contextmanager
def open_pictures(
    retriever: Retriever, principal: Principal, record: InstanceRecord, directory: Path | None
) -> Iterator[Pictures]:
    """Give the pictures of an instance while the block lasts; ``directory`` is where a video is kept meanwhile.

    Raises NotAcceptable if there are none, CorruptPixelData if nobody knows where they lie.
    """
    with retriever.open_stored(principal, record) as (opened, decode):
        if is_presentation_state(record.sop_class_uid):
            yield _present(retriever, principal, record, inline(opened.header.attributes, opened.read_value))
            return
        if opened.header.pixels is None:
            raise NotAcceptable("The instance has no pixel data, so there is no image of it.")
        if not opened.layout.frames:
            raise CorruptPixelData("Where the frames lie is not known.")
        if record.transfer_syntax_uid in VIDEO_SYNTAXES:
            with open_stream(opened, directory) as stream:
                yield StoredVideo(opened, stream)
        else:
            yield StoredImages(opened, decode)


@contextmanager
def open_stream(opened: OpenInstance, directory: Path | None) -> Iterator[BinaryIO]:
    """Give the stream of a video in a file without a name (PS3.5 A.4.5: it is one frame, in as many fragments)."""
    pixels = opened.header.pixels
    pieces = None if pixels is None or not opened.layout.frames else opened.find_stored(pixels, 0)
    if pieces is None:
        raise CorruptPixelData("Where the video lies is not known.")
    with tempfile.TemporaryFile(dir=directory) as stream:
        for chunk in pieces.iter_chunks():
            stream.write(chunk)
        yield stream


@dataclass
class StoredImages:
    """The frames of an image, maybe as a presentation state shows them."""

    opened: OpenInstance
    decode: DecodeFrames
    sop_instance_uid: str = ""
    state: Attributes | None = None

    def __post_init__(self) -> None:
        """Take what is read again and again."""
        self.attributes = self.opened.header.attributes
        self.count = len(self.opened.layout.frames)

    def iter_images(self, indexes: Sequence[int], appearance: Appearance) -> Iterator[Bitmap]:
        """Yield frames as pictures; see ``Pictures``."""
        check_size(PixelDescription.from_attributes(self.attributes))
        assert self.opened.header.pixels is not None
        tag = self.opened.header.pixels.tag
        for index, frame in zip(indexes, self.decode(indexes), strict=True):
            spot = Spot(self.sop_instance_uid, index + 1)
            attributes = self.attributes if self.state is None else lay_over(self.attributes, self.state, spot)
            source = ImageSource(attributes, self.opened.read_value, tag, is_presented=self.state is not None)
            pixels = render_frame(source, frame, index, appearance.window)
            if appearance.profile is Profile.NO:
                profile = b""
            else:
                pixels, profile = convert(pixels, self._own_profile, appearance.profile)
            if self.state is None:
                image = fit(to_image(pixels), appearance.viewport)
            else:
                shuttered = to_image(draw_shutters(pixels, self.state))
                image = present(shuttered, self.state, spot, appearance.viewport)
            image = annotate(image, self._shown, appearance.annotations)
            image.info["icc_profile"] = profile
            yield image

    @cached_property
    def _shown(self) -> Attributes:
        """The data set as it leaves: names as they were corrected."""
        return apply(self.attributes, self.opened.steps)

    @cached_property
    def _own_profile(self) -> bytes:
        """ICC Profile (0028,2000), which a slide has in its optical path (PS3.3 C.8.12.5)."""
        path = next((item for item in values_of(self.attributes, "OpticalPathSequence") if isinstance(item, dict)), {})
        element = self.attributes.get(tag_of("ICCProfile")) or path.get(tag_of("ICCProfile"))
        return self.opened.read_value(element) if element else b""


@dataclass
class StoredVideo:
    """The frames of a stored MPEG-2, H.264 or HEVC stream."""

    opened: OpenInstance
    stream: BinaryIO

    def __post_init__(self) -> None:
        """Take what is read again and again."""
        self.attributes = self.opened.header.attributes
        self.count = min(max(1, int(number_of(self.attributes, "NumberOfFrames") or 1)), MAX_FRAMES)

    def iter_images(self, indexes: Sequence[int], appearance: Appearance) -> Iterator[Bitmap]:
        """Yield frames as pictures; see ``Pictures``. As long as they go forward, the stream is decoded once."""
        shown = apply(self.attributes, self.opened.steps)
        for run in _ascending(indexes):
            for still in iter_stills(self.stream, self.opened.syntax.uid, run):
                yield annotate(fit(still, appearance.viewport), shown, appearance.annotations)


@dataclass
class PresentedImages:
    """What a presentation state shows: its images one after another, each of its frames a picture."""

    attributes: Attributes
    retriever: Retriever
    principal: Principal
    places: Sequence[tuple[InstanceRecord, int]]

    def __post_init__(self) -> None:
        """Count the pictures."""
        self.count = len(self.places)

    def iter_images(self, indexes: Sequence[int], appearance: Appearance) -> Iterator[Bitmap]:
        """Yield the images as the state shows them; see ``Pictures``."""
        for _, group in groupby((self.places[index] for index in indexes), key=lambda place: place[0].row_id):
            wanted = list(group)
            record = wanted[0][0]
            with self.retriever.open_stored(self.principal, record) as (opened, decode):
                images = StoredImages(opened, decode, record.sop_instance_uid, self.attributes)
                frames = [frame_index for _, frame_index in wanted]
                if opened.header.pixels is None or max(frames) >= images.count or min(frames) < 0:
                    raise NotAcceptable("The presentation state shows a frame that does not exist.")
                yield from images.iter_images(frames, appearance)


def _present(retriever: Retriever, principal: Principal, record: InstanceRecord, state: Attributes) -> PresentedImages:
    """Return what a state shows, in its order; it is in the study of its images (PS3.3 C.11.11)."""
    subjects = list_subjects(state)
    images: dict[tuple[str, str], InstanceRecord] = {}
    for series_instance_uid in {subject.series_instance_uid for subject in subjects}:
        with suppress(NotFound):
            found = retriever.find_instances(principal, record.study_instance_uid, series_instance_uid)
            images |= {(series_instance_uid, image.sop_instance_uid): image for image in found}
    places = [
        (image, index)
        for subject in subjects
        if (image := images.get((subject.series_instance_uid, subject.sop_instance_uid))) is not None
        for index in _indexes_of(retriever, principal, image, subject)
    ]
    if not places:
        raise NotAcceptable("None of the images that the presentation state shows is in this archive.")
    return PresentedImages(state, retriever, principal, places[:MAX_FRAMES])


def _indexes_of(retriever: Retriever, principal: Principal, image: InstanceRecord, subject: Subject) -> Iterable[int]:
    """Return the frames of an image that a state shows; few images have to be opened to know how many they have."""
    if subject.frame_numbers:
        return [number - 1 for number in subject.frame_numbers]
    if image.sop_class_uid in _SINGLE_FRAME:
        return [0]
    with retriever.open_stored(principal, image) as (opened, _):
        return range(len(opened.layout.frames))


def _ascending(indexes: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the longest runs of indexes that go forward."""
    start = 0
    for position in range(1, len(indexes) + 1):
        if position == len(indexes) or indexes[position] <= indexes[position - 1]:
            yield indexes[start:position]
            start = position
