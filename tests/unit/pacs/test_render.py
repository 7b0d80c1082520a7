"""Rendering, against values computed by hand from PS3.3 C.7.6.3, C.7.9, C.9.2, C.11.1 and C.11.2."""

import io

import numpy as np
import pytest
from PIL import Image

from pacs.errors import CorruptPixelData, NotAcceptable
from pacs.imaging.codecs import DecodedFrame
from pacs.imaging.colour import expand_segments
from pacs.imaging.grayscale import Lut, Shape, Window
from pacs.imaging.labels import LABEL_MAP, lab_to_rgb
from pacs.imaging.picture import GIF, JPEG, PNG, Appearance, Viewport, encode, encode_animation, fit, to_image
from pacs.imaging.render import ImageSource, render_frame
from pacs.tags import tag_of, vr_of


def attributes(**keywords):
    """Return a data set in the DICOM JSON model; a bare value stands for a list of one."""
    return {
        tag_of(keyword): {"vr": vr_of(keyword), "Value": value if isinstance(value, list) else [value]}
        for keyword, value in keywords.items()
    }


def image(rows=1, columns=4, bits=16, **keywords):
    described = {
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    return attributes(**{**described, **keywords})


def render(header, pixels, *, window=None, frame_index=0, tag="7FE00010", values=None, colour=""):
    data = pixels if isinstance(pixels, bytes) else np.asarray(pixels).tobytes()
    colour = colour or header[tag_of("PhotometricInterpretation")]["Value"][0]
    source = ImageSource(header, lambda element: (values or {})[element["BulkDataURI"]], tag)
    return render_frame(source, DecodedFrame(data, colour), frame_index, window).tolist()


def u16(*values):
    return np.array(values, "<u2")


# PS3.3 C.11.2.1.2.1: center 2048, width 4096 is y = ((x - 2047.5) / 4095 + 0.5) * 255, nothing beyond 0 and 4095.
def test_linear_window_is_the_standard_s_formula():
    window = Window(2048, 4096)
    values = np.array([-1.0, 0, 1, 2047, 2048, 4094, 4095, 4096])
    expected = [0, 0, 1 / 4095, 2047 / 4095, 2048 / 4095, 4094 / 4095, 1, 1]
    assert window.apply(values) == pytest.approx(expected)


def test_linear_window_of_width_one_is_a_threshold():
    assert Window(2048, 1).apply(np.array([2047.0, 2047.5, 2048])).tolist() == [0, 0, 1]


def test_linear_exact_window_is_the_standard_s_formula():
    window = Window(2048, 4096, Shape.LINEAR_EXACT)
    assert window.apply(np.array([-1.0, 0, 1024, 2048, 4096, 5000])).tolist() == [0, 0, 0.25, 0.5, 1, 1]


def test_sigmoid_window_is_the_standard_s_formula():
    window = Window(100, 40, Shape.SIGMOID)
    assert window.apply(np.array([100.0, 110, 1e9, -1e9])) == pytest.approx([0.5, 1 / (1 + np.exp(-1)), 1, 0])


@pytest.mark.parametrize(
    ("center", "width", "shape"),
    [(0, 0.5, Shape.LINEAR), (0, 0, Shape.LINEAR_EXACT), (0, -1, Shape.SIGMOID), (float("nan"), 5, Shape.LINEAR)],
)
def test_window_that_shows_nothing_is_no_window(center, width, shape):
    with pytest.raises(ValueError, match="window's"):
        Window(center, width, shape)


def test_values_beside_a_lookup_table_get_its_ends():
    lut = Lut(-2, u16(10, 20, 30), 8)
    assert lut.look_up(np.array([-100, -2, -1, 0, 1, 100])).tolist() == [10, 10, 20, 30, 30, 30]


def test_window_of_the_image_applies_to_rescaled_values():
    header = image(RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 1], WindowWidth=[256, 2])
    # HU -88 and below is black; 167 and above is white; 40 is (40 - 39.5) / 255 + 0.5 = 128 of 255.
    assert render(header, u16(0, 532, 468, 596)) == [[0, 128, 0, 255]]


def test_window_that_was_asked_for_goes_before_the_image_s_own():
    header = image(WindowCenter=40, WindowWidth=400)
    assert render(header, u16(0, 5, 9, 10), window=Window(5, 10, Shape.LINEAR_EXACT)) == [[0, 128, 230, 255]]


def test_without_a_window_the_frame_s_own_range_is_shown():
    assert render(image(), u16(100, 150, 200, 300)) == [[0, 64, 128, 255]]


def test_padding_does_not_stretch_the_range():
    header = image(PixelPaddingValue=0, PixelPaddingRangeLimit=10)
    assert render(header, u16(5, 100, 200, 300)) == [[0, 0, 128, 255]]


def test_brightness_of_eight_bits_is_shown_as_it_is():
    assert render(image(bits=8), bytes([10, 20, 30, 255])) == [[10, 20, 30, 255]]


def test_bits_beside_the_stored_ones_do_not_count():
    header = image(BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    assert render(header, u16(0xF000, 0xFFFF, 0x1FFF, 0x0FFF)) == [[0, 255, 255, 255]]


def test_sign_is_that_of_the_stored_bits():
    header = image(BitsStored=12, PixelRepresentation=1, WindowCenter=0, WindowWidth=4096)
    assert render(header, u16(0x0800, 0x07FF, 0x0FFF, 0x0000)) == [[0, 255, 127, 128]]


def test_wide_signed_values_are_shown():
    header = image(bits=32, PixelRepresentation=1)
    assert render(header, np.array([-1_000_000, 0, 1_000_000, 500_000], "<i4")) == [[0, 128, 255, 191]]


def test_float_pixels_are_shown_and_what_is_no_number_is_black():
    header = image(bits=32)
    assert render(header, np.array([0.25, 0.5, np.nan, 0.75], "<f4"), tag="7FE00008") == [[0, 128, 0, 255]]


@pytest.mark.parametrize(
    "inverted",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_low_values_are_bright_once_where_the_image_says_so(inverted):
    assert render(image(bits=8, **inverted), bytes([0, 10, 200, 255])) == [[255, 245, 55, 0]]


def test_modality_table_comes_before_the_window():
    table = attributes(LUTDescriptor=[3, 1, 16], LUTData=[0, 1000, 4095])
    header = image(ModalityLUTSequence=table, WindowCenter=2048, WindowWidth=4096, RescaleSlope=9)
    assert render(header, u16(0, 1, 2, 3)) == [[0, 0, 62, 255]]


def test_voi_table_is_stretched_from_its_own_depth():
    table = attributes(LUTDescriptor=[4, 10, 12], LUTData=[0, 1024, 2048, 4095])
    assert render(image(VOILUTSequence=table), u16(0, 11, 12, 99)) == [[0, 64, 128, 255]]


def test_bulk_table_of_bytes_is_read():
    table = {**attributes(LUTDescriptor=[4, 0, 8]), tag_of("LUTData"): {"vr": "OW", "BulkDataURI": "there"}}
    header = image(VOILUTSequence=table)
    assert render(header, u16(0, 1, 2, 3), values={"there": bytes([9, 7, 5, 3])}) == [[9, 7, 5, 3]]


def test_frame_has_the_window_of_its_functional_group():
    def group(center):
        return attributes(FrameVOILUTSequence=attributes(WindowCenter=center, WindowWidth=10))

    header = image(PerFrameFunctionalGroupsSequence=[group(5), group(105)])
    assert render(header, u16(0, 50, 100, 110), frame_index=0) == [[0, 255, 255, 255]]
    assert render(header, u16(0, 50, 100, 110), frame_index=1) == [[0, 0, 0, 255]]


def test_packed_bits_are_black_and_white_from_the_lowest_bit():
    assert render(image(columns=8, bits=1), bytes([0b00000101])) == [[255, 0, 255, 0, 0, 0, 0, 0]]


def palette(bits, count, first, **data):
    keywords = {f"{name}PaletteColorLookupTableDescriptor": [count, first, bits] for name in ("Red", "Green", "Blue")}
    header = image(bits=8, PhotometricInterpretation="PALETTE COLOR", **keywords)
    return header | {tag_of(keyword): {"vr": "OW", "BulkDataURI": keyword} for keyword in data}


def test_palette_of_sixteen_bits_gives_its_high_ones():
    names = [f"{name}PaletteColorLookupTableData" for name in ("Red", "Green", "Blue")]
    tables = (u16(0, 0xFF00), u16(0x8000, 0), u16(0, 0x10FF))
    data = {name: table.tobytes() for name, table in zip(names, tables, strict=True)}
    assert render(palette(16, 2, 10, **data), bytes([0, 10, 11, 200]), values=data) == [
        [[0, 128, 0], [0, 128, 0], [255, 0, 16], [255, 0, 16]]
    ]


def test_missing_palette_is_said_to_be_missing():
    with pytest.raises(NotAcceptable, match="palette"):
        render(palette(16, 2, 0), bytes(4))


def test_segmented_table_is_expanded():
    discrete, linear = [0, 3, 10, 20, 30], [1, 3, 60]
    assert expand_segments(u16(*discrete, *linear), 6).tolist() == [10, 20, 30, 40, 50, 60]
    indirect = [2, 1, 0, 0]  # one segment again, from byte 0
    assert expand_segments(u16(*discrete, *linear, *indirect), 9).tolist() == [10, 20, 30, 40, 50, 60, 10, 20, 30]


def test_segments_cannot_call_themselves_or_grow_without_end():
    with pytest.raises(ValueError, match="segment"):
        expand_segments(u16(0, 1, 5, 2, 2, 6, 0), 1000)
    assert len(expand_segments(u16(0, 1, 5, *[1, 65535, 9] * 100), 300)) == 300


def test_planes_and_pixels_give_the_same_colours():
    by_pixel = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    header = image(columns=2, bits=8, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert render(header, by_pixel) == by_pixel.tolist()
    planar = header | attributes(PlanarConfiguration=1)
    assert render(planar, by_pixel.transpose(2, 0, 1).copy()) == by_pixel.tolist()


def test_luminance_and_chroma_become_colours():
    header = image(columns=2, bits=8, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL")
    # PS3.3 C.7.6.3.1.2: R = Y + 1.402 (Cr - 128), G = Y - 0.344136 (Cb - 128) - 0.714136 (Cr - 128), ...
    assert render(header, np.array([[100, 128, 128], [100, 138, 148]], np.uint8)) == [[[100] * 3, [128, 82, 118]]]


def test_halved_chroma_serves_two_pixels():
    header = image(columns=4, bits=8, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    rendered = render(header, bytes([10, 20, 128, 128, 30, 40, 128, 128]))
    assert rendered == [[[10] * 3, [20] * 3, [30] * 3, [40] * 3]]


def test_colours_of_sixteen_bits_are_brought_down_to_eight():
    header = image(columns=1, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert render(header, u16(0, 32768, 65535)) == [[[0, 128, 255]]]


def overlay(rows, columns, row, column, **more):
    values = {"0010": rows, "0011": columns, "0050": [row, column], "0100": 1, "0102": 0}
    elements = {f"6002{tag}": {"vr": "US", "Value": value if isinstance(value, list) else [value]}
                for tag, value in values.items()}  # fmt: skip
    return elements | {"60023000": {"vr": "OW", "BulkDataURI": "overlay"}} | more


@pytest.mark.parametrize(
    ("row", "column", "white"),
    [(1, 1, {(0, 0), (1, 1)}), (2, 3, {(1, 2)}), (0, 0, {(0, 0)}), (9, 9, set()), (-9, -9, set())],
)
def test_overlay_is_drawn_in_white_from_its_origin(row, column, white):
    header = image(rows=2, columns=3, bits=8) | overlay(2, 2, row, column)
    drawn = render(header, bytes(6), values={"overlay": bytes([0b1001])})
    assert {(y, x) for y in range(2) for x in range(3) if drawn[y][x] == 255} == white


def test_overlay_that_breaks_off_is_passed_over():
    header = image(rows=2, columns=3, bits=8) | overlay(200, 200, 1, 1)
    assert render(header, bytes(6), values={"overlay": b"\xff"}) == [[0] * 3] * 2


def test_overlay_in_an_unused_bit_is_drawn():
    header = image(columns=2, BitsStored=12, WindowCenter=2048, WindowWidth=4096) | overlay(1, 2, 1, 1)
    header["60020102"]["Value"] = [15]
    del header["60023000"]
    assert render(header, u16(0x8000, 0x0000)) == [[255, 0]]


def test_frame_that_breaks_off_is_corrupt():
    with pytest.raises(CorruptPixelData):
        render(image(), u16(1, 2))


@pytest.mark.parametrize(
    "keywords",
    [
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 0},
        {"SamplesPerPixel": 4, "PhotometricInterpretation": "CMYK"},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "HSV", "BitsAllocated": 8, "BitsStored": 8},
        {"BitsStored": 0},
        {"BitsAllocated": 12},
    ],
)
def test_what_is_not_rendered_is_said_not_to_be(keywords):
    with pytest.raises(NotAcceptable):
        render(image(**keywords), bytes(100))


def checkered():
    return Image.fromarray(np.array([[0, 50], [100, 200]], np.uint8))


def test_picture_fills_the_viewport_as_far_as_its_shape_allows():
    wide = Image.fromarray(np.zeros((10, 20), np.uint8))
    assert fit(wide, Viewport(100, 100)).size == (100, 50)
    assert fit(wide, Viewport(5, 100)).size == (5, 2)


def test_region_is_cut_out_and_negative_sizes_flip_it():
    picture = fit(checkered(), Viewport(1, 1, 1, 1, 1, 1))
    assert np.asarray(picture).tolist() == [[200]]
    flipped = fit(checkered(), Viewport(2, 2, 0, 0, -2, -2))
    assert np.asarray(flipped).tolist() == [[200, 100], [50, 0]]


def test_region_outside_the_image_is_refused():
    with pytest.raises(NotAcceptable):
        fit(checkered(), Viewport(10, 10, 2, 0, 1, 1))


@pytest.mark.parametrize("media_type", [JPEG, PNG, GIF])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_file_is_what_its_media_type_says(media_type, shape):
    with Image.open(io.BytesIO(encode(to_image(np.full(shape, 77, np.uint8)), Appearance(media_type)))) as picture:
        assert (picture.get_format_mimetype(), picture.size) == (media_type, (6, 4))
        assert picture.convert("L").getpixel((3, 2)) == pytest.approx(77, abs=1)


def test_lower_quality_is_fewer_bytes():
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    low, high = (len(encode(to_image(noise), Appearance(quality=quality))) for quality in (10, 95))
    assert low < high / 2


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)], ids=["gray", "colour"])
def test_animation_shows_every_frame_as_it_is(shape):
    frames = [np.full(shape, 40 * number, np.uint8) for number in range(6)]
    with Image.open(io.BytesIO(encode_animation(map(to_image, frames), 33.3))) as picture:
        assert picture.n_frames == 6
        assert picture.info["duration"] == 30
        assert picture.info["loop"] == 0
        for number, frame in enumerate(frames):
            picture.seek(number)
            shown = np.asarray(picture.convert("RGB")).astype(int)
            assert np.abs(shown - (frame if frame.ndim == 3 else frame[..., None])).max() <= 4


def test_frames_of_an_animation_have_palettes_of_their_own():
    colours = np.random.default_rng(1).integers(0, 256, (3, 2, 60, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_animation(map(to_image, colours), 100))) as picture:
        for number, frame in enumerate(colours):
            picture.seek(number)
            assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - frame).max() <= 8


def test_browsers_are_not_asked_to_be_faster_than_they_are():
    frames = [Image.new("L", (2, 2)), Image.new("L", (2, 2), 9)]
    with Image.open(io.BytesIO(encode_animation(frames, 1))) as picture:
        assert picture.info["duration"] == 20


@pytest.mark.parametrize("side", [1, 2048])
def test_animation_without_end_is_refused(side):
    def endless():
        while True:
            yield Image.new("L", (side, side))

    with pytest.raises(NotAcceptable, match="too many"):
        encode_animation(endless(), 100)


def palettes(first, *entries):
    """Return three like tables of 8 bits."""
    tables = {}
    for colour, shift in (("Red", 0), ("Green", 1), ("Blue", 2)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries), first, 8]
        tables[f"{colour}PaletteColorLookupTableData"] = [entry + shift for entry in entries]
    return tables


# PS3.3 C.7.6.23: stored values from the palette's first one on are coloured, those below it are gray.
@pytest.mark.parametrize("presentation", ["COLOR", "MIXED"])
def test_supplemental_palette_colours_the_values_it_has(presentation):
    header = image(bits=8, PixelPresentation=presentation, **palettes(100, 10, 20, 30))
    assert render(header, bytes([50, 99, 100, 102])) == [[[50] * 3, [99] * 3, [10, 11, 12], [30, 31, 32]]]


def test_palette_that_supplements_nothing_is_passed_over():
    header = image(bits=8, PixelPresentation="MONOCHROME", **palettes(100, 10, 20, 30))
    assert render(header, bytes([50, 99, 100, 102])) == [[50, 99, 100, 102]]


def test_labels_are_shown_in_their_recommended_colours():
    segment = attributes(SegmentNumber=2, RecommendedDisplayCIELabValue=[35579, 53664, 50858])
    header = image(bits=8, SOPClassUID=LABEL_MAP, SegmentSequence=[segment])
    background, other, recommended, another = render(header, bytes([0, 1, 2, 3]))[0]
    assert background == [0, 0, 0]
    assert recommended == pytest.approx([255, 0, 0], abs=3)  # L* 54.29, a* 80.81, b* 69.89 under D50
    assert len({tuple(colour) for colour in (other, recommended, another)}) == 3
    assert min(max(other), max(another)) == 255


def test_label_that_pads_is_black():
    header = image(bits=8, SOPClassUID=LABEL_MAP, PixelPaddingValue=255)
    assert render(header, bytes([0, 255, 1, 255]))[0][1] == [0, 0, 0]


@pytest.mark.parametrize(("lab", "rgb"), [([65535, 32896, 32896], 255), ([0, 32896, 32896], 0), ([-1, 2, "x"], 0)])
def test_cielab_becomes_srgb(lab, rgb):
    assert lab_to_rgb(lab) == pytest.approx((rgb, rgb, rgb), abs=1)
