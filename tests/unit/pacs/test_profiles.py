"""ICC profiles: colours converted as LittleCMS does, and nothing believed of a profile that comes with an image."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pacs.imaging.profiles import Profile, build_profile, convert, parse_profile

COLOURS = np.random.default_rng(7).integers(0, 256, (40, 30, 3), dtype=np.uint8)
WANTED = [Profile.SRGB, Profile.ADOBERGB, Profile.ROMMRGB]


def open_profile(data):
    return ImageCms.ImageCmsProfile(io.BytesIO(data))


def convert_with_lcms(pixels, source, target):
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels), open_profile(source), open_profile(target), ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    return np.asarray(image)


@pytest.mark.parametrize("profile", WANTED)
def test_profile_is_one_that_others_understand(profile):
    opened = open_profile(build_profile(profile))
    assert opened.profile.xcolor_space.strip() == "RGB"
    assert opened.profile.connection_space.strip() == "XYZ"
    assert opened.profile.is_matrix_shaper


def test_srgb_is_srgb():
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(convert_with_lcms(COLOURS, build_profile(Profile.SRGB), theirs).astype(int) - COLOURS).max() <= 1


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("own", WANTED)
def test_colours_are_converted_as_lcms_does(own, wanted):
    source = build_profile(own)
    converted, profile = convert(COLOURS, source, wanted)
    assert profile == build_profile(wanted)
    theirs = convert_with_lcms(COLOURS, source, profile)
    difference = np.abs(converted.astype(int) - theirs)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 2


def test_table_curves_are_understood():
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    space = parse_profile(theirs)
    assert space is not None
    assert space.curves[0][[0, 128, 255]] == pytest.approx([0, 0.2158, 1], abs=1e-3)


def test_own_profile_is_passed_on():
    converted, profile = convert(COLOURS, b"whatever it is", Profile.YES)
    assert converted is COLOURS
    assert profile == b"whatever it is"


def test_image_without_a_profile_is_taken_for_srgb():
    converted, profile = convert(COLOURS, b"", Profile.SRGB)
    assert np.array_equal(converted, COLOURS)
    assert profile == build_profile(Profile.SRGB)
    assert convert(COLOURS, b"", Profile.YES)[1] == build_profile(Profile.SRGB)


def test_without_being_asked_nothing_is_converted():
    assert convert(COLOURS, build_profile(Profile.ROMMRGB), Profile.NO) == (COLOURS, b"")


def test_gray_has_no_colours_to_convert():
    gray = COLOURS[..., 0]
    assert convert(gray, build_profile(Profile.SRGB), Profile.ADOBERGB) == (gray, b"")


def damage(data, at, content):
    return data[:at] + content + data[at + len(content) :]


SRGB = build_profile(Profile.SRGB)


@pytest.mark.parametrize(
    "data",
    [
        SRGB[:100],
        SRGB[:200],
        damage(SRGB, 16, b"CMYK"),
        damage(SRGB, 20, b"Lab "),
        damage(SRGB, 128, b"\xff\xff\xff\xff")[:140],
        SRGB.replace(b"para\0\0\0\0\0\3", b"para\0\0\0\0\0\x09"),
        SRGB.replace(b"para\0\0\0\0", b"mft2\0\0\0\0"),
        SRGB.replace(b"para\0\0\0\0\0\3", b"curv\0\0\0\0\xff\xff"),
        SRGB[: SRGB.rindex(b"para")] + b"curv\0\0\0\0\0\0\0\1",
        SRGB.replace(b"rXYZ", b"xxxx"),
        damage(SRGB, len(SRGB) - 200, bytes(200)),
        bytes(5 * 1024 * 1024),
    ],
)
def test_profile_that_is_not_understood_is_passed_on_as_it_is(data):
    assert parse_profile(data) is None
    assert convert(COLOURS, data, Profile.ADOBERGB) == (COLOURS, data)
