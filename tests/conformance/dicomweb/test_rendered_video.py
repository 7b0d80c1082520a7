"""Several frames as video/mp4, and videos that are stored (PS3.18 10.4.1.1.3)."""

import io
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pacs.imaging.video import encode_video
from tests.builders import as_part10, build_encapsulated, build_multiframe
from tests.conformance.dicomweb.conftest import store_at
from tests.conformance.dicomweb.service import parse_parts
from tests.conformance.dicomweb.test_rendered import CINE, CT, get, path_of, picture

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None and os.environ.get("CI") != "true", reason="ffmpeg is not here"
)


@pytest.fixture(scope="module")
def http(shared_http):
    store_at(shared_http, CT, CINE)
    return shared_http


def probe(response, tmp_path):
    assert response.headers["content-type"] == "video/mp4"
    assert int(response.headers["content-length"]) == len(response.content)
    path = tmp_path / "video.mp4"
    path.write_bytes(response.content)
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", path]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    return stream


@pytest.mark.parametrize(("frames", "count"), [("", 5), ("/frames/2,4,5", 3)])
def test_frames_play(http, tmp_path, frames, count):
    response = get(http, path_of(CINE) + frames + "/rendered", accept="video/mp4", viewport="64,64")
    stream = probe(response, tmp_path)
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 64, 64)
    assert stream["nb_read_frames"] == str(count)


def test_rate_is_that_of_the_instance(http, tmp_path):
    cine = build_multiframe(4, FrameTime="40")
    store_at(http, cine)
    assert probe(get(http, path_of(cine) + "/rendered", accept="video/*"), tmp_path)["avg_frame_rate"] == "25/1"


@pytest.mark.parametrize("path", [path_of(CT) + "/rendered", path_of(CINE) + "/frames/1/rendered"])
def test_one_frame_makes_none(http, path):
    assert "One frame" in get(http, path, 406, accept="video/mp4").json()["message"]
    assert picture(get(http, path, accept="video/mp4, image/png;q=0.5")).get_format_mimetype() == "image/png"


def test_videos_of_a_series_are_parts(http):
    ((headers, body),) = parse_parts(get(http, path_of(CINE, "series") + "/rendered",
                                         accept='multipart/related; type="video/mp4"'))  # fmt: skip
    assert headers["Content-Type"] == "video/mp4"
    assert body[4:8] == b"ftyp"


def test_nobody_gets_a_video_who_takes_anything(http):
    assert picture(get(http, path_of(CINE) + "/rendered", accept="*/*")).get_format_mimetype() == "image/jpeg"


def test_without_ffmpeg_it_is_said_what_is_missing(http, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "ffmpeg" in get(http, path_of(CINE) + "/rendered", 406, accept="video/mp4").json()["message"]


@pytest.fixture(scope="module")
def stored(http):
    """An endoscopic video of 12 frames whose brightness grows by 20, as its sender would encode it."""
    with encode_video((Image.new("RGB", (64, 48), (level * 20,) * 3) for level in range(12)), 25, 90, None) as made:
        stream = made.read()
    dataset = build_encapsulated(
        [stream + b"\0" * (len(stream) % 2)],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1", Rows=48, Columns=64, NumberOfFrames=12, SamplesPerPixel=3,
        PhotometricInterpretation="YBR_PARTIAL_420", PlanarConfiguration=0,
    )  # fmt: skip
    store_at(http, as_part10(dataset, "1.2.840.10008.1.2.4.102"))
    return dataset, stream


def test_stored_video_leaves_in_a_container_that_browsers_play(http, stored, tmp_path):
    stream = probe(get(http, path_of(stored[0]) + "/rendered", accept="video/mp4"), tmp_path)
    assert (stream["codec_name"], stream["nb_read_frames"]) == ("h264", "12")


@pytest.mark.parametrize("accept", ["*/*", "*/*;q=0.8, video/mp4"])
def test_a_video_element_gets_a_stored_video(http, stored, accept):
    answer = get(http, path_of(stored[0]) + "/rendered", accept=accept)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content[4:8] == b"ftyp"


def test_metadata_says_the_syntax_of_a_stored_video_and_of_no_other_object(http, stored):
    (video,) = get(http, path_of(stored[0]) + "/metadata", accept="application/dicom+json").json()
    assert video["00083002"] == {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.102"]}
    (cine,) = get(http, path_of(CINE) + "/metadata", accept="application/dicom+json").json()
    assert "00083002" not in cine


@pytest.mark.parametrize(("frames", "level"), [("", 120), ("/frames/1", 0), ("/frames/12", 220)])
def test_stored_video_has_stills(http, stored, frames, level):
    still = picture(get(http, path_of(stored[0]) + frames + "/rendered", accept="image/png"))
    assert still.size == (64, 48)
    assert np.asarray(still).mean() == pytest.approx(level, abs=4)
    assert picture(get(http, path_of(stored[0]) + "/thumbnail")).size == (256, 192)


def test_stored_video_has_frames_in_any_order(http, stored):
    parts = parse_parts(get(http, path_of(stored[0]) + "/frames/7,3,9/rendered", accept="image/png"))
    levels = [np.asarray(Image.open(io.BytesIO(body))).mean() for _, body in parts]
    assert levels == pytest.approx([120, 40, 160], abs=4)
    get(http, path_of(stored[0]) + "/frames/13/rendered", 404)


def test_stored_video_is_made_smaller_for_who_asks(http, stored, tmp_path):
    response = get(http, path_of(stored[0]) + "/rendered", accept="video/mp4", viewport="32,32")
    assert probe(response, tmp_path)["width"] == 32
