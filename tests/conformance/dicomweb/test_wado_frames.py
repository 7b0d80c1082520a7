"""WADO-RS frames (PS3.18 10.4.1.1.6) of every way that pixels can be kept in: each frame whole, none of another."""

import struct

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.builders import as_part10, build_encapsulated, build_image, build_multiframe, build_segmentation, pixel_bytes
from tests.conformance.dicomweb.service import parse_parts

JPEG = uid.JPEGBaseline8Bit
EXPLICIT = uid.ExplicitVRLittleEndian
CONTENTS = [b"\xff\xd8frame " + number + b"......\xff\xd9" for number in (b"1.", b"2.", b"3.")]
ANY_SYNTAX = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}


def path_of(dataset):
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def wrong_offset_table():
    """Return an image whose Basic Offset Table has every offset but the first two bytes too far."""
    value = bytearray(encapsulate(CONTENTS, has_bot=True))
    for index in (1, 2):
        (offset,) = struct.unpack_from("<L", value, 8 + 4 * index)
        struct.pack_into("<L", value, 8 + 4 * index, offset + 2)
    return build_encapsulated(CONTENTS, PixelData=bytes(value))


ENCAPSULATED = {
    "offset table": build_encapsulated(CONTENTS),
    "empty offset table": build_encapsulated(CONTENTS, has_offset_table=False),
    "wrong offset table": wrong_offset_table(),
    "extended offset table": build_encapsulated(CONTENTS, has_extended_offset_table=True),
    "fragments and a table": build_encapsulated(CONTENTS, fragments_per_frame=3),
    "fragments and no table": build_encapsulated(CONTENTS, fragments_per_frame=2, has_offset_table=False),
}


@pytest.mark.parametrize("dataset", ENCAPSULATED.values(), ids=ENCAPSULATED)
def test_encapsulated_frames_are_their_fragments_joined(http, store, dataset):
    store(as_part10(dataset, JPEG))
    found = parse_parts(http.get(f"{path_of(dataset)}/frames/3,1,2", headers=ANY_SYNTAX))
    assert [body for _, body in found] == [CONTENTS[2], CONTENTS[0], CONTENTS[1]]
    assert {headers["Content-Type"] for headers, _ in found} == {f"application/octet-stream; transfer-syntax={JPEG}"}
    assert http.get(f"{path_of(dataset)}/frames/4", headers=ANY_SYNTAX).status_code == 404


def test_no_number_of_frames_is_one_frame_of_all_fragments(http, store):
    dataset = build_encapsulated(CONTENTS[:1], fragments_per_frame=3, has_offset_table=False, NumberOfFrames=None)
    store(as_part10(dataset, JPEG))
    ((_, body),) = parse_parts(http.get(f"{path_of(dataset)}/frames/1", headers=ANY_SYNTAX))
    assert body == CONTENTS[0]


def test_video_is_one_frame_however_many_there_are(http, store):
    dataset = build_encapsulated([b"a stream of video."], has_offset_table=False, NumberOfFrames=100)
    store(as_part10(dataset, uid.MPEG4HP41))
    for accept in ("video/mp4; transfer-syntax=*", "application/octet-stream; transfer-syntax=*"):
        response = http.get(f"{path_of(dataset)}/frames/1", headers={"Accept": accept})
        assert response.content == b"a stream of video."
        assert response.headers["content-type"].endswith(f"; transfer-syntax={uid.MPEG4HP41}")
    assert http.get(f"{path_of(dataset)}/frames/2").status_code == 404


WORDS = [np.arange(64 * index, 64 * index + 64, dtype="<u2").tobytes() for index in range(3)]
BYTES = [bytes(range(9 * index, 9 * index + 9)) for index in range(4)]


def bits(frames, size):
    unpacked = np.unpackbits(np.frombuffer(pixel_bytes(5, 5, frames, 1), "u1"), bitorder="little")
    parts = unpacked[: frames * size].reshape(frames, size)
    return [np.packbits(part, bitorder="little").tobytes() for part in parts]


def swapped(frames):
    return np.frombuffer(b"".join(frames), "<u2").byteswap().tobytes()


def odd_bytes(pixels):
    dataset = build_multiframe(4)
    dataset.update(build_image(rows=3, columns=3, frames=4, bits=8))
    dataset.PixelData = pixels
    return dataset


NATIVE = {
    "explicit": (build_multiframe(3, PixelData=b"".join(WORDS)), EXPLICIT, WORDS),
    "implicit": (build_multiframe(3, PixelData=b"".join(WORDS)), uid.ImplicitVRLittleEndian, WORDS),
    "big endian": (build_multiframe(3, PixelData=swapped(WORDS)), uid.ExplicitVRBigEndian, WORDS),
    "deflated": (build_multiframe(3, PixelData=b"".join(WORDS)), uid.DeflatedExplicitVRLittleEndian, WORDS),
    "one bit": (build_segmentation(3), EXPLICIT, bits(3, 25)),
    "one bit, deflated": (build_segmentation(3), uid.DeflatedExplicitVRLittleEndian, bits(3, 25)),
    "odd length": (odd_bytes(b"".join(BYTES)), EXPLICIT, BYTES),
}


@pytest.mark.parametrize(("dataset", "syntax", "frames"), NATIVE.values(), ids=NATIVE)
@pytest.mark.parametrize("headers", [ANY_SYNTAX, {}], ids=["any", "default"])
def test_native_frames_are_little_endian_in_every_syntax(http, store, dataset, syntax, frames, headers):
    store(as_part10(dataset, syntax))
    order = [len(frames), *range(1, len(frames))]
    found = parse_parts(http.get(f"{path_of(dataset)}/frames/{','.join(map(str, order))}", headers=headers))
    assert [body for _, body in found] == [frames[number - 1] for number in order]
    assert {part["Content-Type"] for part, _ in found} == {f"application/octet-stream; transfer-syntax={EXPLICIT}"}
