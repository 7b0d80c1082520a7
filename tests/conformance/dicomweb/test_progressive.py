"""Transcoded frames: kept, so that a range of one is a lower resolution of it; faithful, unless loss was asked for."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames

from pacs.imaging import codecs
from pacs.imaging.codecs import PixelDescription
from tests.builders import as_part10, build_ct, build_encapsulated, build_image, build_multiframe, build_segmentation
from tests.codestream import ct_slice, parse
from tests.conformance.dicomweb.service import parse_parts
from tests.conformance.dicomweb.test_wado import path_of

RPCL = uid.HTJ2KLosslessRPCL
JPEG = uid.JPEGBaseline8Bit
LOSSLESS = uid.JPEGLosslessSV1


@pytest.fixture
def slice_of_ct(store):
    """Return the address of a stored frame, and its pixels."""
    array, _ = ct_slice((512, 512))
    dataset = build_ct()
    dataset.update(build_image(rows=512, columns=512, bits=16))
    dataset.BitsStored, dataset.HighBit, dataset.PixelData = 12, 11, array.tobytes()
    store(as_part10(dataset))
    return f"{path_of(dataset)}/frames/1", array


@pytest.mark.parametrize(
    "accept", [f"image/jphc; transfer-syntax={RPCL}", f"application/octet-stream; transfer-syntax={RPCL}"]
)
def test_a_range_of_a_frame_is_a_lower_resolution_of_it(http, slice_of_ct, accept):
    """Issue 4: HTJ2K progressive; RULES.md: Range, single-part frame answers (Accept: image/jphc) too."""
    path, array = slice_of_ct
    headers = {"Accept": accept}
    first = http.get(path, headers={**headers, "Range": "bytes=0-299"})
    assert first.status_code == 206
    stream = parse(first.content)  # the header of the codestream says how much each resolution takes
    start = first.content.index(b"\xff\x90")
    wanted = start + sum(stream.lengths[:-2])
    tag = first.headers["etag"]
    assert not tag.startswith("W/")
    prefix = http.get(path, headers={**headers, "Range": f"bytes=0-{wanted - 1}", "If-Range": tag})
    assert (prefix.status_code, len(prefix.content)) == (206, wanted)
    assert prefix.headers["content-type"] == accept
    small = imagecodecs.htj2k_decode(prefix.content, skipres=2, resilient=True)
    rest = http.get(path, headers={**headers, "Range": f"bytes={wanted}-", "If-Range": tag})
    whole = http.get(path, headers=headers)
    assert (whole.status_code, whole.headers["etag"]) == (200, tag)
    assert prefix.content + rest.content == whole.content
    assert np.array_equal(imagecodecs.htj2k_decode(whole.content), array)
    assert np.array_equal(small, imagecodecs.htj2k_decode(whole.content, skipres=2))
    assert wanted < len(whole.content) / 5 < array.nbytes / 10
    assert http.get(path, headers={**headers, "If-None-Match": tag}).status_code == 304


def test_a_frame_is_made_once(http, slice_of_ct, parts, monkeypatch):
    path, _ = slice_of_ct
    made = []
    sandbox = parts.archive.retrieve._codec
    honest = sandbox.encode_frame
    monkeypatch.setattr(sandbox, "encode_frame", lambda *given: made.append(given[0]) or honest(*given))
    for syntax, media_type in ((RPCL, "image/jphc"), (uid.JPEGLSLossless, "image/jls")):
        for _ in range(3):
            accept = f"{media_type}; transfer-syntax={syntax}"
            assert http.get(path, headers={"Accept": accept, "Range": "bytes=5-9"}).status_code == 206
        several = f'multipart/related; type="{media_type}"; transfer-syntax={syntax}'
        assert http.get(path, headers={"Accept": several}).status_code == 200
        assert made.count(syntax) == 1


def test_a_damaged_kept_frame_is_made_anew_with_the_same_tag(http, slice_of_ct, tmp_path):
    path, _ = slice_of_ct
    headers = {"Accept": "image/jls"}
    before = http.get(path, headers=headers)
    (kept,) = [file for file in (tmp_path / "archive" / "cache").rglob("*") if file.is_file()]
    kept.write_bytes(kept.read_bytes()[:-7])
    after = http.get(path, headers={**headers, "Range": "bytes=10-", "If-Range": before.headers["etag"]})
    assert (after.status_code, after.content) == (206, before.content[10:])


def jpeg_2000(array):
    """Return an eight bit image in JPEG 2000 without loss."""
    frame = bytes(imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True))
    return as_part10(build_encapsulated([frame]), uid.JPEG2000Lossless)


def test_ranges_of_a_decoded_frame_are_of_its_pixels(http, store, stored_path):
    array = np.arange(64, dtype="u1").reshape(8, 8)
    path = stored_path(jpeg_2000(array))
    response = http.get(path, headers={"Accept": "application/octet-stream", "Range": "bytes=8-23"})
    assert (response.status_code, response.content) == (206, array.tobytes()[8:24])


@pytest.fixture
def stored_path(store):
    """Store a file and return the address of its first frame."""

    def put(data):
        store(data)
        return f"{path_of(pydicom.dcmread(io.BytesIO(data)))}/frames/1"

    return put


def baseline(quality=50):
    """Return an image that is lossy already, and its frame."""
    slope = np.add.outer(np.arange(8), np.arange(8)).astype("u1")
    frame = bytes(imagecodecs.jpeg8_encode(slope, level=quality))
    return as_part10(build_encapsulated([frame]), JPEG), frame


def test_what_is_lossy_already_goes_as_it_is_to_whoever_takes_it_as_well(http, stored_path):
    """Decoded and encoded anew it would be larger and no better."""
    data, frame = baseline()
    path = stored_path(data)
    multipart = 'multipart/related; type="{}"; transfer-syntax={}'
    rpcl, stored = multipart.format("image/jphc", RPCL), multipart.format("application/octet-stream", "*")
    ((headers, body),) = parse_parts(http.get(path, headers={"Accept": f"{rpcl}, {stored}"}))
    assert (headers["Content-Type"], body.rstrip(b"\0")) == (f"application/octet-stream; transfer-syntax={JPEG}", frame)
    ((headers, body),) = parse_parts(http.get(path, headers={"Accept": f"{rpcl}, {stored};q=0.5"}))
    assert headers["Content-Type"] == f"image/jphc; transfer-syntax={RPCL}"
    assert np.array_equal(imagecodecs.htj2k_decode(body), imagecodecs.jpeg8_decode(frame))


def test_loss_is_only_for_frames_of_those_who_asked_for_nothing_else(http, stored_path):
    """RULES.md: lossy only for rendered and for frames, never for instances."""
    array = np.add.outer(np.arange(8), np.arange(8)).astype("u1")
    path = stored_path(jpeg_2000(array))
    jpeg = f"image/jpeg; transfer-syntax={JPEG}"
    asked = http.get(path, headers={"Accept": jpeg})
    assert (asked.status_code, asked.headers["content-type"]) == (200, jpeg)
    assert np.abs(imagecodecs.jpeg8_decode(asked.content).astype(int) - array).max() <= 6
    assert http.get(path, headers={"Accept": jpeg, "Range": "bytes=0-1"}).content == asked.content[:2]
    for accept in (f"{jpeg}, application/octet-stream", "*/*"):
        faithful = http.get(path, headers={"Accept": accept})
        assert array.tobytes() in faithful.content
    instance = path.partition("/frames/")[0]
    for accept in (
        f"application/dicom; transfer-syntax={JPEG}",
        f'multipart/related; type="application/dicom"; transfer-syntax={JPEG}',
    ):
        assert http.get(instance, headers={"Accept": accept}).status_code == 406


def test_jpeg_without_a_transfer_syntax_is_without_loss(http, slice_of_ct):
    """PS3.18 Table 8.7.3-5: the default of image/jpeg is process 14 with selection value 1."""
    path, array = slice_of_ct
    for accept in ("image/jpeg", "image/jpeg, */*;q=0.9", f"image/jpeg; transfer-syntax={LOSSLESS}"):
        response = http.get(path, headers={"Accept": accept})
        assert response.headers["content-type"] == f"image/jpeg; transfer-syntax={LOSSLESS}"
        assert np.array_equal(imagecodecs.ljpeg_decode(response.content), array)
    instance = path.partition("/frames/")[0]
    whole = http.get(instance, headers={"Accept": f"application/dicom; transfer-syntax={LOSSLESS}"})
    (frame,) = generate_frames(pydicom.dcmread(io.BytesIO(whole.content)).PixelData)
    assert np.array_equal(imagecodecs.ljpeg_decode(frame), array)


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/jphc", "image/jls", "image/jp2", "image/dicom-rle"])
def test_what_a_codec_cannot_hold_is_not_acceptable_and_says_so(http, store, media_type):
    dataset = build_segmentation()
    store(as_part10(dataset))
    syntax = {"image/jpeg": f"; transfer-syntax={JPEG}"}.get(media_type, "")
    response = http.get(f"{path_of(dataset)}/frames/1", headers={"Accept": media_type + syntax})
    assert response.status_code == 406
    assert "cannot be given in a transfer syntax" in response.text


def test_colours_stored_in_planes_do_not_leave_by_pixel_to_who_reads_their_metadata(http, store):
    dataset = build_ct()
    dataset.update(build_image(rows=4, columns=4, bits=8, samples=3))
    dataset.PlanarConfiguration = 1
    store(as_part10(dataset))
    path = f"{path_of(dataset)}/frames/1"
    assert http.get(path, headers={"Accept": f"image/jphc; transfer-syntax={RPCL}"}).status_code == 406
    ranges = {"image/jphc": RPCL, "application/octet-stream": "*"}
    either = ", ".join(f'multipart/related; type="{kind}"; transfer-syntax={uid}' for kind, uid in ranges.items())
    ((_, frame),) = parse_parts(http.get(path, headers={"Accept": either}))
    assert frame == dataset.PixelData


def test_several_frames_are_kept_one_by_one(http, store, parts, monkeypatch):
    dataset = build_multiframe(5)
    store(as_part10(dataset))
    made = []
    sandbox = parts.archive.retrieve._codec
    honest = sandbox.encode_frame
    monkeypatch.setattr(sandbox, "encode_frame", lambda *given: made.append(given[1]) or honest(*given))
    accept = {"Accept": 'multipart/related; type="image/jls"'}
    path = f"{path_of(dataset)}/frames/"
    three = [body for _, body in parse_parts(http.get(path + "2,3,4", headers=accept))]
    assert len(made) == 3
    all_of_them = [body for _, body in parse_parts(http.get(path + "1,2,3,4,5", headers=accept))]
    assert all_of_them[1:4] == three
    assert len(made) == 5
    length = len(dataset.PixelData) // 5
    description = PixelDescription(8, 8, 1, 16, 12, 0, "MONOCHROME2")
    decoded = [codecs.decode(uid.JPEGLSLossless, frame, description).pixels for frame in all_of_them]
    assert decoded == [dataset.PixelData[index * length : (index + 1) * length] for index in range(5)]
