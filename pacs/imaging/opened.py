"""One stored instance while something is read from it."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import replace

from pacs.errors import CorruptPixelData, FrameNotFound
from pacs.imaging.frames import plan_frames
from pacs.imaging.inflation import inflate
from pacs.imaging.rewriting import swapped_word_bytes
from pacs.imaging.sources import Pieces, RangedSource, Scratch, swap_words
from pacs.imaging.syntaxes import lookup
from pacs.model import Attributes, BulkValue, FrameLayout, Header, Location, PixelElement
from pacs.overlay import Step
from pacs.tags import text_of

MAX_VALUE_BYTES = 64 * 1024 * 1024

_PIXEL_DATA = "7FE00010"


class OpenInstance:
    """One instance while something is read from it: header, layout, bytes, and the scratch space it needed.

    ``header`` is as received, for it says how the bytes are to be read; ``steps`` are laid over what leaves.
    ``location`` is where the bytes are kept, which identifies them, if they are.
    """

    def __init__(
        self,
        header: Header,
        layout: FrameLayout,
        source: RangedSource,
        steps: Sequence[Step] = (),
        location: Location | None = None,
    ) -> None:
        self.header = header
        self.steps = steps
        self.location = location
        self.layout = layout
        self.source = source
        self.syntax = lookup(header.transfer_syntax_uid)
        self._scratches: list[Scratch] = []

    def inflate(self, scratch: Scratch) -> None:
        """Inflate the data set and find its frames there: ranges of a deflated instance count from its beginning."""
        self._scratches.append(scratch)
        inflate(self.source, self.header.dataset_offset, self.source.size_bytes, scratch)
        self.source = scratch
        self.layout = plan_frames(replace(self.header, is_deflated=False), scratch)

    def find_bulk(self, path: str) -> BulkValue | None:
        """Return the value outside the header that a BulkDataURI stands for."""
        return next((value for value in self.header.bulk if value.path == path), None)

    def read_value(self, element: Attributes) -> bytes:
        """Return a binary value, little endian; nothing for one longer than any table or overlay."""
        if "InlineBinary" in element:
            try:
                return base64.b64decode(str(element["InlineBinary"]))
            except binascii.Error:
                return b""
        value = self.find_bulk(str(element.get("BulkDataURI", "")))
        if value is None or value.range.length_bytes > MAX_VALUE_BYTES:
            return b""
        data = self.source.read_range(value.range.start, value.range.end)
        word_bytes = self.word_bytes(value)
        return data if word_bytes == 1 else swap_words(data, word_bytes)

    def find_pixels(self, frame_numbers: Sequence[int]) -> PixelElement:
        """Return where the pixels lie; raise FrameNotFound or CorruptPixelData if one of these frames cannot be had."""
        pixels = self.header.pixels
        if pixels is None:
            raise FrameNotFound("The instance has no pixel data.")
        if not self.layout.frames:
            raise CorruptPixelData("Where the frames lie is not known.")
        if not all(1 <= number <= len(self.layout.frames) for number in frame_numbers):
            raise FrameNotFound
        return pixels

    def find_stored(self, pixels: PixelElement, frame_index: int) -> Pieces | None:
        """Return where a frame lies, or None if words or bits of it have to be moved before it can leave."""
        value = BulkValue(pixels.tag, pixels.vr, pixels.range)
        if not pixels.is_encapsulated and (self.layout.bit_offset_step or self.word_bytes(value) > 1):
            return None
        pieces = Pieces()
        for part in self.layout.frames[frame_index]:
            pieces.splice(self.source, part.start, part.end)
        return pieces

    def word_bytes(self, value: BulkValue) -> int:
        """Return the size of the words that have to be turned around in a value; 1 in little endian."""
        if self.syntax.is_little_endian:
            return 1
        bits_allocated = text_of(self.header.attributes, "BitsAllocated") if value.path == _PIXEL_DATA else ""
        return swapped_word_bytes(value.vr, int(bits_allocated) if bits_allocated.isdecimal() else None)

    def release(self) -> list[Scratch]:
        """Return the scratch space, which is the caller's to close from now on."""
        scratches, self._scratches = self._scratches, []
        return scratches


def closer(scratches: Sequence[Scratch]) -> Callable[[], None]:
    """Return what gives all this scratch space back; calling it again does nothing."""

    def close() -> None:
        for scratch in scratches:
            scratch.close()

    return close
