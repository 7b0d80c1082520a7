"""Videos made by ffmpeg, and what it reads of those that are stored; nothing of it may reach further than its files."""

import io
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pacs.errors import CorruptPixelData, NotAcceptable
from pacs.imaging import video
from pacs.imaging.video import encode_video, find_ffmpeg, iter_stills, to_mp4
from tests.conftest import CORPUS
from tests.imaging import Memory, open_instance

MPEG2, H264 = "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102"
STORED = [CORPUS / "video" / name for name in ("mpeg2.dcm", "mpeg4_h264.dcm")]

pytestmark = pytest.mark.usefixtures("ffmpeg")


@pytest.fixture(scope="module")
def ffmpeg():
    if shutil.which("ffmpeg") is None and os.environ.get("CI") != "true":
        pytest.skip("ffmpeg is not here")


@pytest.fixture
def stream():
    with tempfile.TemporaryFile() as file:
        yield file


def levels(count=10, size=(65, 33), mode="L"):
    for number in range(count):
        yield Image.new(mode, size, number * 20 if mode == "L" else (number * 20, 40, 200 - number * 20))


def probe(data, tmp_path):
    """Return what ffprobe says of the one stream of a file."""
    path = tmp_path / "video.mp4"
    path.write_bytes(data)
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", path]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    return found


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_frames_become_a_video_that_browsers_play(tmp_path, mode):
    with encode_video(levels(mode=mode), 12.5, 90, tmp_path) as made:
        data = made.read()
    found = probe(data, tmp_path)
    assert (found["codec_name"], found["pix_fmt"], found["avg_frame_rate"]) == ("h264", "yuv420p", "25/2")
    assert (found["width"], found["height"], found["nb_read_frames"]) == (66, 34, "10")  # padded to even sizes
    assert data.index(b"moov") < data.index(b"mdat")  # it plays while it is still coming


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_frames_of_a_video_look_like_those_it_was_made_of(mode):
    with encode_video(levels(mode=mode), 10, 90, None) as made:
        for still, frame in zip(iter_stills(made, H264, range(10)), levels(mode=mode), strict=True):
            expected = np.asarray(frame.convert("RGB")).astype(int)
            assert np.abs(np.asarray(still)[:33, :65].astype(int) - expected)[4:-4, 4:-4].max() <= 4


def test_lower_quality_is_a_shorter_video():
    noise = [Image.effect_noise((256, 256), 80) for _ in range(5)]
    lengths = []
    for quality in (10, 90):
        with encode_video(noise, 10, quality, None) as made:
            lengths.append(len(made.read()))
    assert lengths[0] < lengths[1] / 2


@pytest.mark.parametrize(
    "frames",
    [[], [Image.new("L", (4, 4)), Image.new("L", (6, 4))], [Image.new("L", (9000, 2))]],
    ids=["none", "two sizes", "too wide"],
)
def test_what_makes_no_video_is_refused(frames):
    with pytest.raises(NotAcceptable):
        encode_video(frames, 10, 90, None)


def test_error_of_a_frame_is_the_error_of_the_video():
    def frames():
        yield Image.new("L", (4, 4))
        raise CorruptPixelData

    with pytest.raises(CorruptPixelData):
        encode_video(frames(), 10, 90, None)


def test_without_ffmpeg_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotAcceptable, match="ffmpeg"):
        find_ffmpeg()


def test_nothing_is_left_of_what_was_made(tmp_path):
    with encode_video(levels(), 10, 90, tmp_path):
        assert not list(tmp_path.iterdir())


def test_video_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(video, "TIMEOUT_SECONDS", 0.5)

    def endless():
        while True:
            yield Image.new("L", (64, 64))

    with pytest.raises(CorruptPixelData):
        encode_video(endless(), 10, 90, None)


def test_video_that_outgrows_its_memory_is_given_up(monkeypatch):
    monkeypatch.setattr(video, "MEMORY_BYTES", 64 * 1024 * 1024)
    with pytest.raises(CorruptPixelData):
        encode_video(levels(), 10, 90, None)


def test_video_that_outgrows_its_file_is_given_up(monkeypatch):
    monkeypatch.setattr(video, "MAX_FILE_BYTES", 1000)
    with pytest.raises(CorruptPixelData):
        encode_video(levels(40), 10, 90, None)


@pytest.mark.skipif(not STORED[0].exists(), reason="the corpus is not here")
@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_videos_play_and_have_stills(path, stream, tmp_path):
    opened = open_instance(Memory(path.read_bytes()))
    for chunk in opened.find_stored(opened.header.pixels, 0).iter_chunks():
        stream.write(chunk)
    with to_mp4(stream, opened.syntax.uid, 25, None) as made:
        found = probe(made.read(), tmp_path)
        assert (found["codec_name"], found["width"], found["height"]) == ("h264", 320, 240)
        assert found["nb_read_frames"] == "50"
        (of_made,) = iter_stills(made, H264, [30])
    (of_stored,) = iter_stills(stream, opened.syntax.uid, [30])
    difference = np.abs(np.asarray(of_stored).astype(int) - np.asarray(of_made)).mean()
    # H.264 leaves as it is, MPEG-2 is encoded anew.
    assert difference == 0 if opened.syntax.uid == H264 else difference < 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of a video" * 100,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\0\0\1\xba" + bytes(1000),
        b"\0\0\0 ftypisom" + b"\xff" * 1000,
        b"\0\0\0\1" + b"\x67" * 1000,
        b"\x47" + bytes(187) + b"\x47" + b"\xff" * 1000,
    ],
    ids=["empty", "text", "playlist", "list of files", "program", "mp4", "elementary", "transport"],
)
def test_stream_that_is_none_is_corrupt(content, stream):
    stream.write(content)
    with pytest.raises(CorruptPixelData):
        to_mp4(stream, H264, 25, None)
    with pytest.raises(CorruptPixelData):
        list(iter_stills(stream, H264, [0]))


def test_frame_beyond_the_end_is_corrupt():
    with encode_video(levels(3), 10, 90, None) as made, pytest.raises(CorruptPixelData):
        list(iter_stills(made, H264, [7]))


def test_movie_does_not_take_its_samples_from_another_file(tmp_path):
    """An MP4 whose data reference names another file (dref) is not followed there."""
    with encode_video(levels(), 10, 90, None) as made:
        whole = made.read()
    (tmp_path / "other.mp4").write_bytes(whole)
    address = f"file://{tmp_path}/other.mp4".encode() + b"\0"
    start = whole.index(b"url \0\0\0\1") - 4
    own = whole[start : start + 12]
    other = (12 + len(address)).to_bytes(4, "big") + b"url \0\0\0\0" + address
    grown = len(other) - len(own)
    forged = bytearray(whole[:start] + other + whole[start + 12 :])
    for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = forged.index(name) - 4
        forged[at : at + 4] = (int.from_bytes(forged[at : at + 4], "big") + grown).to_bytes(4, "big")
    forged = forged[: forged.index(b"mdat") - 4] + b"\0\0\0\x08mdat"  # without samples of its own
    with io.BytesIO(bytes(forged)), tempfile.TemporaryFile() as stream:
        stream.write(forged)
        with pytest.raises(CorruptPixelData):
            list(iter_stills(stream, H264, [0]))


def test_ffmpeg_may_open_its_own_files_only(monkeypatch, stream):
    """What is handed to ffmpeg names no file of the system and no protocol but those of its pipes and files."""
    seen = []
    real = subprocess.Popen

    def remember(command, **keywords):
        seen.append((command, keywords))
        return real(command, **keywords)

    monkeypatch.setattr(subprocess, "Popen", remember)
    with encode_video(levels(2), 10, 90, None) as made:
        list(iter_stills(made, H264, [0]))
    for command, keywords in seen:
        assert keywords["env"].keys() == {"PATH"}
        assert "-nostdin" in command
        whitelists = [command[at + 1] for at, word in enumerate(command) if word == "-protocol_whitelist"]
        assert whitelists
        assert set(whitelists) <= {"file", "pipe"}
        files = [word for word in command if word.startswith("/") and Path(word).name not in ("python", "ffmpeg")]
        assert all(word.startswith("/proc/self/fd/") or "python" in word for word in files)
