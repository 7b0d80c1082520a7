"""Grayscale softcopy presentation states (PS3.4 N, PS3.3 A.33.1): beside DCMTK's dcmp2pgm, and by hand."""

import contextlib
import io
import os
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sequence import Sequence

from pacs.errors import NotAcceptable, PacsError
from pacs.imaging.display import present
from pacs.imaging.picture import Viewport, to_image
from pacs.imaging.presentation import Spot, Subject, draw_shutters, inline, lay_over, list_subjects
from pacs.imaging.render import ImageSource, render_frame
from pacs.retrieve.frames import FrameReader
from tests.builders import as_part10, build_ct, build_image, build_multiframe
from tests.conftest import CORPUS
from tests.imaging import InProcess, Memory, leave, open_instance
from tests.presentation import (
    build_area,
    build_graphic,
    build_item,
    build_lut,
    build_reference,
    build_state,
    build_window,
)

ROWS, COLUMNS = 64, 48


def ramp(**keywords):
    """Return a CT of all values from 0 to 3071, whose own window and rescaling a state has to undo."""
    image = build_ct()
    image.update(build_image(ROWS, COLUMNS))
    image.PixelData = np.arange(ROWS * COLUMNS, dtype="<u2").tobytes()
    for keyword, value in keywords.items():
        setattr(image, keyword, value)
    return image


def parse(dataset):
    return open_instance(Memory(as_part10(dataset)))


def state_of(image, **keywords):
    opened = parse(build_state(image, **keywords))
    return inline(opened.header.attributes, opened.read_value)


def pixels_of(image, state, frame_number=1):
    opened = parse(image)
    spot = Spot(str(image.SOPInstanceUID), frame_number)
    (frame,) = FrameReader(InProcess()).iter_decoded(opened, [frame_number - 1])
    attributes = lay_over(opened.header.attributes, state, spot)
    source = ImageSource(attributes, opened.read_value, is_presented=True)
    return draw_shutters(render_frame(source, frame, frame_number - 1), state)


def show(image, viewport=None, **keywords):
    """Return a picture's samples."""
    state = state_of(image, **keywords)
    spot = Spot(str(image.SOPInstanceUID), 1)
    return np.asarray(present(to_image(pixels_of(image, state)), state, spot, viewport))


def plain(image=None):
    """Return the ramp as it looks without anything but its state: every stored value, from dark to bright."""
    return pixels_of(image or ramp(), state_of(image or ramp()))


TRANSFORMATIONS = {
    "nothing": {},
    "inverse": {"PresentationLUTShape": "INVERSE"},
    "window": {"SoftcopyVOILUTSequence": Sequence([build_window(2000, 1000)])},
    "narrow window": {"SoftcopyVOILUTSequence": Sequence([build_window(300, 1)])},
    "rescaled window": {
        "RescaleSlope": "2", "RescaleIntercept": "-1024", "RescaleType": "HU",
        "SoftcopyVOILUTSequence": Sequence([build_window(40, 400)]),
    },
    "rescaled": {"RescaleSlope": "2", "RescaleIntercept": "-1024", "RescaleType": "HU"},
    "VOI table": {
        "SoftcopyVOILUTSequence": Sequence([
            build_item(VOILUTSequence=Sequence([build_lut(100, np.linspace(0, 4095, 1000), 12)]))])
    },
    "modality table": {
        "ModalityLUTSequence": Sequence([build_lut(0, np.arange(4096) ** 2 // 4096, 12, ModalityLUTType="US")])
    },
    "presentation table": {
        "PresentationLUTShape": None,
        "PresentationLUTSequence": Sequence([build_lut(0, 255 - np.arange(256), 8)]),
    },
    "presentation table after a window": {
        "PresentationLUTShape": None,
        "PresentationLUTSequence": Sequence([build_lut(0, np.sqrt(np.arange(4096) / 4095) * 4095, 12)]),
        "SoftcopyVOILUTSequence": Sequence([build_window(2000, 1000)]),
    },
    "turned": {"ImageRotation": 90, "ImageHorizontalFlip": "N"},
    "turned half": {"ImageRotation": 180, "ImageHorizontalFlip": "N"},
    "turned back": {"ImageRotation": 270, "ImageHorizontalFlip": "N"},
    "flipped": {"ImageRotation": 0, "ImageHorizontalFlip": "Y"},
    "turned and flipped": {"ImageRotation": 90, "ImageHorizontalFlip": "Y"},
}  # fmt: skip


needs_dcmtk = pytest.mark.skipif(
    shutil.which("dcmp2pgm") is None and os.environ.get("CI") != "true", reason="DCMTK is not here"
)


def render_with_dcmtk(image, state, folder):
    (folder / "image.dcm").write_bytes(image)
    (folder / "state.dcm").write_bytes(state)
    command = ["dcmp2pgm", "-p", folder / "state.dcm", folder / "image.dcm", folder / "picture.pgm"]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(folder / "picture.pgm") as picture:
        return np.asarray(picture).astype(int)


@needs_dcmtk
@pytest.mark.parametrize("interpretation", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_pixels_are_dcmtk_s_to_within_one_gray_level(tmp_path, name, interpretation):
    image = ramp(PhotometricInterpretation=interpretation)
    state = build_state(image, **TRANSFORMATIONS[name])
    expected = render_with_dcmtk(as_part10(image), as_part10(state), tmp_path)
    shown = show(image, **TRANSFORMATIONS[name])
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 1


@needs_dcmtk
@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
def test_state_that_others_made_is_shown_as_by_dcmtk(tmp_path):
    data = (CORPUS / "ko-pr" / "presentation_state.dcm").read_bytes()
    opened = open_instance(Memory(data))
    state = inline(opened.header.attributes, opened.read_value)
    (subject,) = list_subjects(state)
    uid = subject.sop_instance_uid.encode()
    image = next(content for path in (CORPUS / "ct-series").iterdir() if uid in (content := path.read_bytes()))
    image = pydicom.dcmread(io.BytesIO(leave(image)))
    expected = render_with_dcmtk(as_part10(image), data, tmp_path)
    assert np.abs(pixels_of(image, state) - expected).max() <= 1


def test_what_the_state_lacks_is_not_taken_from_the_image():
    image = ramp(WindowCenter="100", WindowWidth="10", RescaleSlope="5", PresentationLUTShape="INVERSE")
    assert np.array_equal(plain(image), np.rint(np.arange(ROWS * COLUMNS) / 4095 * 255).reshape(ROWS, COLUMNS))


def test_voi_is_that_of_the_frame():
    image = build_multiframe(3)
    mine, all_others = build_window(100, 2), build_window(5000, 2)
    mine.ReferencedImageSequence = Sequence([build_reference(image, 2)])
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([mine, all_others]))
    assert [pixels_of(image, state, number).max() for number in (1, 2, 3)] == [0, 255, 0]


def test_subjects_are_what_the_state_names():
    first, second = ramp(), ramp()
    second.StudyInstanceUID, second.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    state = build_state(first, second)
    state.ReferencedSeriesSequence[0].ReferencedImageSequence[1].ReferencedFrameNumber = [1, 3]
    assert list_subjects(parse(state).header.attributes) == [
        Subject(first.SeriesInstanceUID, first.SOPInstanceUID),
        Subject(first.SeriesInstanceUID, second.SOPInstanceUID, (1, 3)),
    ]


SHUTTERS = {
    "RECTANGULAR": {
        "ShutterLeftVerticalEdge": 5, "ShutterRightVerticalEdge": 40,
        "ShutterUpperHorizontalEdge": 10, "ShutterLowerHorizontalEdge": 50,
    },
    "CIRCULAR": {"CenterOfCircularShutter": [30, 20], "RadiusOfCircularShutter": 15},
    "POLYGONAL": {"VerticesOfThePolygonalShutter": [5, 5, 50, 5, 50, 40, 5, 40]},
}  # fmt: skip


def is_open(shape, row, column):
    """Whether a pixel is seen, its row and column counted from 1 (PS3.3 C.7.6.11)."""
    if shape == "RECTANGULAR":
        return 5 <= column <= 40 and 10 <= row <= 50
    if shape == "CIRCULAR":
        return (row - 30) ** 2 + (column - 20) ** 2 <= 15**2
    return 5 <= row <= 50 and 5 <= column <= 40


@pytest.mark.parametrize("shapes", [["RECTANGULAR"], ["CIRCULAR"], ["POLYGONAL"], ["RECTANGULAR", "CIRCULAR"]])
def test_shutters_cover_what_lies_outside_of_any(shapes):
    given = {keyword: value for shape in shapes for keyword, value in SHUTTERS[shape].items()}
    shown = show(ramp(), ShutterShape=shapes, ShutterPresentationValue=0x8000, **given)
    expected = plain().copy()
    for row in range(ROWS):
        for column in range(COLUMNS):
            if not all(is_open(shape, row + 1, column + 1) for shape in shapes):
                expected[row, column] = 0x80
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize(
    "keywords",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [30]},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 2]},
        {"ShutterShape": "HEXAGONAL"},
        {"ImageRotation": 45, "ImageHorizontalFlip": "N"},
        {"DisplayedAreaSelectionSequence": Sequence([build_area([1, 1], [2**31 - 1, 2**31 - 1])])},
        {"GraphicAnnotationSequence": Sequence([build_item(GraphicObjectSequence=Sequence([build_item()]))])},
    ],
    ids=lambda keywords: next(iter(keywords.values())) if isinstance(next(iter(keywords.values())), str) else "",
)
def test_what_makes_no_sense_is_passed_over(keywords):
    assert np.array_equal(show(ramp(), **keywords), plain())


def test_displayed_area_is_cut_out_and_black_beyond_the_image():
    area = Sequence([build_area([-1, 11], [20, 30])])
    shown = show(ramp(), DisplayedAreaSelectionSequence=area, SoftcopyVOILUTSequence=Sequence([build_window(0, 1)]))
    assert shown.shape == (20, 22)
    assert not shown[:, :2].any()
    assert shown[:, 2:].all()


def test_corners_of_a_turned_area_are_those_of_the_screen():
    turned = show(ramp(), ImageRotation=180, ImageHorizontalFlip="N",
                  DisplayedAreaSelectionSequence=Sequence([build_area([48, 20], [11, 1])]))  # fmt: skip
    assert np.array_equal(turned, plain()[:20, 10:][::-1, ::-1])


@pytest.mark.parametrize(("rotation", "size"), [(0, (48, 128)), (90, (128, 48))])
def test_pixels_that_are_not_square_are_stretched(rotation, size):
    area = Sequence([build_area([1, 1], [48, 64], PresentationPixelAspectRatio=[2, 1])])
    shown = show(ramp(), ImageRotation=rotation, ImageHorizontalFlip="N", DisplayedAreaSelectionSequence=area)
    assert shown.shape[::-1] == size


def dark(*graphics, texts=(), viewport=None, ink=None, **keywords):
    """Return a black image with graphics on it."""
    annotation = build_item(GraphicLayer="MINE")
    if graphics:
        annotation.GraphicObjectSequence = Sequence(graphics)
    if texts:
        annotation.TextObjectSequence = Sequence(texts)
    layer = build_item(GraphicLayer="MINE", GraphicLayerOrder=1)
    if ink is not None:
        layer.GraphicLayerRecommendedDisplayGrayscaleValue = ink
    return show(
        ramp(),
        viewport,
        SoftcopyVOILUTSequence=Sequence([build_window(5000, 1)]),
        GraphicAnnotationSequence=Sequence([annotation]),
        GraphicLayerSequence=Sequence([layer]),
        **keywords,
    )


def extent(picture):
    """Return left, top, right and bottom of what is drawn, the last ones exclusive."""
    return Image.fromarray(picture).getbbox()


@pytest.mark.parametrize(
    ("graphic", "box"),
    [
        (build_graphic("POLYLINE", [10, 20, 30, 20, 30, 40, 10, 40, 10, 20]), (10, 20, 30, 40)),
        (build_graphic("CIRCLE", [20, 30, 30, 30]), (10, 20, 30, 40)),
        (build_graphic("ELLIPSE", [5, 30, 35, 30, 20, 20, 20, 40]), (5, 20, 35, 40)),
        (build_graphic("INTERPOLATED", [10, 30, 20, 20, 30, 30, 20, 40, 10, 30]), (10, 20, 30, 40)),
        (build_graphic("POLYLINE", [0.25, 0.25, 0.75, 0.25, 0.75, 0.75], "DISPLAY"), (12, 16, 36, 48)),
        (build_graphic("POINT", [20, 30]), (17, 27, 23, 33)),
    ],
    ids=["polyline", "circle", "ellipse", "interpolated", "display", "point"],
)
def test_graphics_lie_where_their_points_are(graphic, box):
    assert extent(dark(graphic)) == pytest.approx(box, abs=2)


def test_graphics_turn_and_grow_with_their_image():
    line = build_graphic("POLYLINE", [10, 20, 30, 20, 30, 25, 10, 25, 10, 20])
    turned = dark(line, ImageRotation=90, ImageHorizontalFlip="N", viewport=Viewport(256, 192))
    # Turned clockwise, (x, y) lies at (rows - y, x); 64 by 48 grows to four times its size.
    assert extent(turned) == pytest.approx((4 * (64 - 25), 40, 4 * (64 - 20), 120), abs=3)
    flipped = dark(line, viewport=Viewport(96, 128, 0, 0, -48, 64))
    assert extent(flipped) == pytest.approx((2 * (48 - 30), 40, 2 * (48 - 10), 50), abs=3)


def test_filled_graphics_are_filled_with_the_ink_of_their_layer():
    shown = dark(build_graphic("CIRCLE", [20, 30, 30, 30], is_filled=True), ink=0x8000)
    assert shown[30, 20] == 0x80
    assert not shown[30, 5]


def test_graphics_are_seen_on_white():
    shown = show(
        ramp(),
        SoftcopyVOILUTSequence=Sequence([build_window(-5, 1)]),
        GraphicAnnotationSequence=Sequence([
            build_item(GraphicObjectSequence=Sequence([build_graphic("POLYLINE", [10, 20, 30, 20])]))]),
    )  # fmt: skip
    assert shown.min() == 0


def test_long_line_is_drawn_though_it_is_kept_apart():
    points = [value for step in range(300) for value in (5 + step / 10, 20)]
    assert extent(dark(build_graphic("POLYLINE", points))) == pytest.approx((5, 20, 35, 20), abs=2)


def test_text_stands_in_its_box_and_leads_to_its_anchor():
    text = build_item(
        UnformattedTextValue="X",
        BoundingBoxTopLeftHandCorner=[25, 10],
        BoundingBoxBottomRightHandCorner=[40, 20],
        BoundingBoxAnnotationUnits="PIXEL",
        AnchorPoint=[5, 50],
        AnchorPointAnnotationUnits="PIXEL",
        AnchorPointVisibility="N",
    )
    left, top, right, bottom = extent(dark(texts=[text]))
    assert (left, top) == pytest.approx((25, 12), abs=3)
    assert right <= 40
    assert bottom <= 25
    text.AnchorPointVisibility = "Y"
    assert extent(dark(texts=[text]))[::3] == pytest.approx((5, 50), abs=2)


def test_graphics_of_another_image_are_not_drawn():
    annotation = build_item(GraphicObjectSequence=Sequence([build_graphic("CIRCLE", [20, 30, 30, 30])]))
    annotation.ReferencedImageSequence = Sequence([build_reference(ramp())])
    image = ramp()
    assert np.array_equal(show(image, GraphicAnnotationSequence=Sequence([annotation])), plain(image))


def add_overlay(dataset, group=0x6000):
    dataset.add_new((group, 0x0010), "US", ROWS)
    dataset.add_new((group, 0x0011), "US", COLUMNS)
    dataset.add_new((group, 0x0040), "CS", "G")
    dataset.add_new((group, 0x0050), "SS", [1, 1])
    dataset.add_new((group, 0x0100), "US", 1)
    dataset.add_new((group, 0x0102), "US", 0)
    bits = np.zeros((ROWS, COLUMNS), np.uint8)
    bits[10:20, 10:20] = 1
    dataset.add_new((group, 0x3000), "OW", np.packbits(bits.ravel(), bitorder="little").tobytes())
    return dataset


def test_overlay_of_the_image_is_shown_where_the_state_activates_it():
    image = add_overlay(ramp())
    assert np.array_equal(pixels_of(image, state_of(image)), plain())
    active = build_state(image)
    active.add_new((0x6000, 0x1001), "CS", "MINE")
    shown = pixels_of(image, parse(active).header.attributes)
    assert (shown[10:20, 10:20] == 255).all()
    assert (shown[30:] == plain()[30:]).all()


def test_overlay_of_the_state_is_drawn_on_the_image():
    image = ramp()
    state = add_overlay(build_state(image))
    state.add_new((0x6000, 0x1001), "CS", "MINE")
    opened = parse(state)
    shown = pixels_of(image, inline(opened.header.attributes, opened.read_value))
    assert (shown[10:20, 10:20] == 255).all()


def test_colour_image_is_turned_and_its_shutter_has_its_colour():
    image = ramp()
    image.update(build_image(ROWS, COLUMNS, samples=3, bits=8))
    red = [35579, 53664, 50858]
    shown = show(image, ImageRotation=180, ImageHorizontalFlip="N", ShutterShape="RECTANGULAR",
                 ShutterPresentationColorCIELabValue=red, **SHUTTERS["RECTANGULAR"])  # fmt: skip
    pixels = np.frombuffer(image.PixelData, np.uint8).reshape(ROWS, COLUMNS, 3)[::-1, ::-1]
    assert shown[0, 0] == pytest.approx([255, 0, 0], abs=2)
    assert np.array_equal(shown[20:50, 10:40], pixels[20:50, 10:40])


def test_region_outside_of_the_picture_is_refused():
    with pytest.raises(NotAcceptable):
        show(ramp(), Viewport(10, 10, 100, 100, 5, 5))


JSON_VALUES = [
    None,
    -1,
    0,
    1,
    7,
    1e300,
    float("nan"),
    "",
    "x",
    "1\\2",
    {},
    {"00280010": {"vr": "US", "Value": [1]}},
    [],
]


@pytest.mark.parametrize("seed", range(10))
def test_nothing_in_a_state_breaks_its_reader(seed):
    """Whatever the values of a state are, it shows something or says that it cannot."""
    random = np.random.default_rng(seed)
    image = ramp()
    annotation = build_item(
        GraphicLayer="L",
        GraphicObjectSequence=Sequence([build_graphic(kind, list(range(8))) for kind in ("CIRCLE", "ELLIPSE")]),
        TextObjectSequence=Sequence([build_item(UnformattedTextValue="X", AnchorPoint=[1, 2])]),
    )
    whole = state_of(
        image,
        ImageRotation=90,
        ImageHorizontalFlip="Y",
        ShutterShape=["RECTANGULAR", "CIRCULAR", "POLYGONAL"],
        **{keyword: value for shape in SHUTTERS.values() for keyword, value in shape.items()},
        **TRANSFORMATIONS["VOI table"],
        **TRANSFORMATIONS["modality table"],
        GraphicAnnotationSequence=Sequence([annotation]),
        GraphicLayerSequence=Sequence([build_item(GraphicLayer="L", GraphicLayerOrder=1)]),
    )

    def damage(level):
        damaged = {}
        for tag, element in level.items():
            if random.random() < 0.15:
                count = random.integers(0, 4)
                values = [JSON_VALUES[index] for index in random.integers(0, len(JSON_VALUES), count)]
                damaged[tag] = {"vr": element["vr"], "Value": values}
            elif element["vr"] == "SQ":
                damaged[tag] = {"vr": "SQ", "Value": [damage(item) for item in element["Value"]]}
            else:
                damaged[tag] = element
        return damaged

    opened = parse(image)
    (frame,) = FrameReader(InProcess()).iter_decoded(opened, [0])
    spot = Spot(str(image.SOPInstanceUID), 1)
    for _ in range(20):
        state = inline(damage(whole), opened.read_value)
        list_subjects(state)
        with contextlib.suppress(PacsError):
            source = ImageSource(lay_over(opened.header.attributes, state, spot), opened.read_value, is_presented=True)
            pixels = draw_shutters(render_frame(source, frame, 0), state)
            present(to_image(pixels), state, spot, Viewport(100, 100))
