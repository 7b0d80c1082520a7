"""Frames as bytes, from the ranges the index keeps: neighbours in one read, words and bits put right on the way."""

from collections.abc import Iterator, Sequence

from pacs.imaging.sources import RangedSource, swap_words
from pacs.model import ByteRange, FrameLayout

BATCH_BYTES = 4 * 1024 * 1024
_GAP_BYTES = 64 * 1024

Ranges = tuple[ByteRange, ...]


def iter_frames(source: RangedSource, frames: Sequence[Ranges]) -> Iterator[bytes]:
    """Yield each frame's fragments joined; frames that lie close together, in order, cost one read of up to 4 MiB."""
    batch: list[Ranges] = []
    for ranges in frames:
        if batch and not _fits(batch, ranges):
            yield from _read_batch(source, batch)
            batch = []
        batch.append(ranges)
    if batch:
        yield from _read_batch(source, batch)


def iter_native_frames(
    source: RangedSource, layout: FrameLayout, frame_indexes: Sequence[int], pixels: ByteRange, word_bytes: int = 1
) -> Iterator[bytes]:
    """Yield native frames as little endian bytes of their own; indexes count from 0.

    ``pixels`` is where the whole value lies: words of ``word_bytes`` that big endian turned around count from there.
    Bit-packed frames begin with the lowest bit of their first byte (PS3.5 8.1.1), bits behind the last pixel are zero.
    """
    frames = [_align(layout.frames[index], pixels, word_bytes) for index in frame_indexes]
    for frame_index, read in zip(frame_indexes, iter_frames(source, frames), strict=True):
        frame = read
        if word_bytes > 1:
            wanted = layout.frames[frame_index][0]
            skip = (wanted.start - pixels.start) % word_bytes
            frame = swap_words(read, word_bytes)[skip : skip + wanted.length_bytes]
        if layout.bit_offset_step:
            frame = _shift(frame, frame_index * layout.bit_offset_step % 8, layout.bit_offset_step)
        yield frame


def _align(ranges: Ranges, pixels: ByteRange, word_bytes: int) -> Ranges:
    """Return one range widened to whole words, so that they can be turned around."""
    if word_bytes == 1:
        return ranges
    start = ranges[0].start - (ranges[0].start - pixels.start) % word_bytes
    end = ranges[-1].end + (pixels.start - ranges[-1].end) % word_bytes
    return (ByteRange(start, min(end, pixels.end)),)


def _shift(frame: bytes, offset_bits: int, length_bits: int) -> bytes:
    packed = int.from_bytes(frame, "little") >> offset_bits
    return (packed & ((1 << length_bits) - 1)).to_bytes((length_bits + 7) // 8, "little")


def _fits(batch: list[Ranges], ranges: Ranges) -> bool:
    if not ranges or not batch[0]:
        return False
    gap = ranges[0].start - (batch[-1] or batch[0])[-1].end
    return 0 <= gap <= _GAP_BYTES and ranges[-1].end - batch[0][0].start <= BATCH_BYTES


def _read_batch(source: RangedSource, batch: list[Ranges]) -> Iterator[bytes]:
    if len(batch) == 1 and not _is_compact(batch[0]):
        yield b"".join(source.read_range(part.start, part.end) for part in batch[0])
        return
    start = batch[0][0].start
    block = source.read_range(start, batch[-1][-1].end)
    for ranges in batch:
        if len(ranges) == 1 and len(batch) == 1:
            yield block
        else:
            yield b"".join(block[part.start - start : part.end - start] for part in ranges)


def _is_compact(ranges: Ranges) -> bool:
    """Whether reading from the first fragment to the end of the last reads little that is not wanted."""
    if not ranges:
        return False
    wanted = sum(part.length_bytes for part in ranges)
    return 0 <= ranges[-1].end - ranges[0].start <= wanted + _GAP_BYTES
