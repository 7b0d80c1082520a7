"""Moving pictures as MP4 (PS3.18 Table 8.7.4-1), made by ffmpeg: a program of its own, not a library in this process.

Whatever a stored stream does to a demuxer, it does in a process without a name for any file but its own, that cannot
open a connection, outgrow its memory, write without end or run for ever. What it is fed is one of a few known
formats, told by its first bytes: no playlist, no format that refers to other files. Input and output are files without
a name, so that nothing is left of them however the archive ends.
"""

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from PIL import Image

from pacs.errors import CorruptPixelData, NotAcceptable
from pacs.imaging.limited import Limits, running

TIMEOUT_SECONDS = 300.0
STILL_TIMEOUT_SECONDS = 30.0
"""Somebody waits for one picture, and others wait for his turn to end."""

MEMORY_BYTES = 3 * 1024**3
MAX_FILE_BYTES = 4 * 1024**3
MAX_SIDE = 8192
MAX_STILL_BYTES = MAX_SIDE * MAX_SIDE * 3
CHUNK_BYTES = 256 * 1024

_MPEG2, _H264, _HEVC = (("100", "101"), ("102", "103", "104", "105", "106"), ("107", "108"))
_SYNTAX = "1.2.840.10008.1.2.4."
VIDEO_SYNTAXES = frozenset(
    f"{_SYNTAX}{number}{suffix}" for number in (*_MPEG2, *_H264, *_HEVC) for suffix in ("", ".1")
)
"""PS3.5 A.4.5 to A.4.14, also in fragments: one stream, which is no image that a codec for frames decodes."""

_QUIET = ("-nostdin", "-hide_banner", "-loglevel", "quiet", "-y", "-threads", "2")
_PAD = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
_COLOURS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
_ANONYMOUS = ("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact")


def find_ffmpeg() -> str:
    """Return where ffmpeg is; raise NotAcceptable, which says what is missing."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise NotAcceptable("Videos need the program ffmpeg, which is not installed where this archive runs.")
    return program


def encode_video(
    images: Iterable[Image.Image], frames_a_second: float, quality: int, directory: Path | None
) -> BinaryIO:
    """Return pictures as H.264 in MP4 that plays while it is still coming; the caller closes the file.

    They are of one size, which is padded to an even one. Raises NotAcceptable for pictures that make no video.
    """
    program = find_ffmpeg()
    frames = iter(images)
    first = next(frames, None)
    if first is None or max(first.size) > MAX_SIDE:
        raise NotAcceptable("There is nothing to make a video of, or it is too large; ask for a smaller viewport.")
    kind = "gray" if first.mode == "L" else "rgb24"
    source = ("-f", "rawvideo", "-pix_fmt", kind, "-s", f"{first.width}x{first.height}")
    target = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - whoever gets it closes it
    arguments = (*source, "-r", f"{frames_a_second:.4f}", "-protocol_whitelist", "pipe", "-i", "pipe:0")
    try:
        options = (*_h264(quality), *_ANONYMOUS, *_mp4(target))
        with _running(program, (*arguments, *options), (target,), stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as pipe:
                _write(pipe, first, first)
                for frame in frames:
                    _write(pipe, frame, first)
            _finish(process, target)
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def to_mp4(stream: BinaryIO, transfer_syntax_uid: str, frames_a_second: float, directory: Path | None) -> BinaryIO:
    """Return a stored stream as MP4: H.264 and HEVC bit by bit, MPEG-2 encoded anew. The caller closes both files.

    Raises CorruptPixelData for what is no stream of the syntax, NotAcceptable without ffmpeg.
    """
    target = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - whoever gets it closes it
    number = transfer_syntax_uid.removeprefix(_SYNTAX).partition(".")[0]
    codec = _h264(90) if number in _MPEG2 else ("-c:v", "copy", *(("-tag:v", "hvc1") if number in _HEVC else ()))
    try:
        arguments = (
            *_input(stream, number, frames_a_second),
            *("-map", "0:v:0", "-map", "0:a:0?", "-c:a", "aac"),
            *codec,
            *_ANONYMOUS,
            *_mp4(target),
        )
        with _running(find_ffmpeg(), arguments, (stream, target)) as process:
            _finish(process, target)
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def iter_stills(stream: BinaryIO, transfer_syntax_uid: str, indexes: Sequence[int]) -> Iterator[Image.Image]:
    """Yield frames of a stored stream as RGB, by their ascending indexes, which count from 0.

    Raises CorruptPixelData for what is no stream of the syntax, or a frame that it has not.
    """
    number = transfer_syntax_uid.removeprefix(_SYNTAX).partition(".")[0]
    first, last = indexes[0], indexes[-1]
    arguments = (
        *_input(stream, number, 25.0),
        *("-map", "0:v:0", "-vf", rf"select=between(n\,{first}\,{last})", "-vsync", "0"),
        *("-frames:v", str(last - first + 1), "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"),
    )
    limit = STILL_TIMEOUT_SECONDS if first == last else TIMEOUT_SECONDS
    with _running(find_ffmpeg(), arguments, (stream,), stdout=subprocess.PIPE, timeout_seconds=limit) as process:
        assert process.stdout is not None
        for index in range(first, last + 1):
            image = _read_still(process.stdout)
            if index in indexes:
                yield image


def _running(
    program: str,
    arguments: Sequence[str],
    files: Sequence[IO[bytes]],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    timeout_seconds: float = 0.0,
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Give a running ffmpeg that is ended with the block, or when it takes too long."""
    limits = Limits(MEMORY_BYTES, MAX_FILE_BYTES, timeout_seconds or TIMEOUT_SECONDS)
    return running([program, *_QUIET, *arguments], limits, files=files, stdin=stdin, stdout=stdout)


def _finish(process: "subprocess.Popen[bytes]", target: BinaryIO) -> None:
    if process.wait() or not target.seek(0, os.SEEK_END):
        raise CorruptPixelData("The video could not be made.")


def _write(pipe: IO[bytes], frame: Image.Image, first: Image.Image) -> None:
    if (frame.size, frame.mode) != (first.size, first.mode):
        raise NotAcceptable("The images are of different sizes, which makes no video.")
    pipe.write(frame.tobytes())


def _h264(quality: int) -> tuple[str, ...]:
    """Return how H.264 is made that every browser plays; a quality of 90 looks like the picture it was made of."""
    rate = round(51 - quality * 0.37)
    scaled = f"scale=out_color_matrix=bt709:out_range=tv,{_PAD},format=yuv420p"
    return "-vf", scaled, "-c:v", "libx264", "-preset", "veryfast", "-crf", str(rate), *_COLOURS


def _mp4(target: BinaryIO) -> tuple[str, ...]:
    return "-movflags", "+faststart", "-protocol_whitelist", "file", "-f", "mp4", f"/proc/self/fd/{target.fileno()}"


def _input(stream: BinaryIO, number: str, frames_a_second: float) -> tuple[str, ...]:
    """Return how a stored stream is read; raise CorruptPixelData if it begins like none that may be stored so."""
    stream.seek(0)
    start = stream.read(4096)
    form = _form(start, number)
    rate = ("-framerate", f"{frames_a_second:.4f}") if form in ("h264", "hevc", "mpegvideo") else ()
    path = f"/proc/self/fd/{stream.fileno()}"
    return *rate, "-protocol_whitelist", "file", "-format_whitelist", form, "-f", form, "-i", path


def _form(start: bytes, number: str) -> str:
    """Return ffmpeg's name of the container or elementary stream that begins like this (PS3.5 8.2.5 to 8.2.11)."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "mov,mp4,m4a,3gp,3g2,mj2"
    if start[:1] == b"\x47" and start[188:189] == b"\x47":
        return "mpegts"
    if start.startswith(b"\0\0\1\xba"):
        return "mpeg"
    if start.lstrip(b"\0").startswith(b"\1") and start.startswith(b"\0\0"):
        return "mpegvideo" if number in _MPEG2 else "hevc" if number in _HEVC else "h264"
    raise CorruptPixelData("The video is in no container that its transfer syntax allows.")


def _read_still(pipe: IO[bytes]) -> Image.Image:
    """Return the next picture that ffmpeg writes: a PPM, whose header says how long it is."""
    magic, size, depth = (pipe.readline(64) for _ in range(3))
    sides = [int(side) for side in size.split() if side.isdigit()]
    if (magic, depth) == (b"P6\n", b"255\n") and len(sides) == 2 and 0 < math.prod(sides) * 3 <= MAX_STILL_BYTES:
        data = pipe.read(math.prod(sides) * 3)
        if len(data) == math.prod(sides) * 3:
            return Image.frombytes("RGB", (sides[0], sides[1]), data)
    raise CorruptPixelData("The video could not be decoded, or has no such frame.")
