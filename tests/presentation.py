"""Presentation states for tests, built of the builders' images."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.builders import build_dataset

STATE = "1.2.840.10008.5.1.4.1.1.11.1"


def build_item(**keywords):
    """Return a sequence item."""
    item = Dataset()
    for keyword, value in keywords.items():
        setattr(item, keyword, value)
    return item


def build_reference(image, *frame_numbers):
    """Return an item that names an image, or some of its frames."""
    reference = build_item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    if frame_numbers:
        reference.ReferencedFrameNumber = list(frame_numbers)
    return reference


def build_state(*images, **keywords):
    """Return a grayscale softcopy presentation state of images of one series, which shows them as they are."""
    state = build_dataset(Modality="PR", StudyInstanceUID=images[0].StudyInstanceUID, SOPClassUID=STATE)
    state.PresentationCreationDate, state.PresentationCreationTime = "20240229", "120000"
    state.ContentLabel, state.ContentDescription, state.ContentCreatorName = "TEST", "", ""
    references = Sequence([build_reference(image) for image in images])
    series = build_item(SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedImageSequence=references)
    state.ReferencedSeriesSequence = Sequence([series])
    state.DisplayedAreaSelectionSequence = Sequence([build_area([1, 1], [images[0].Columns, images[0].Rows])])
    state.PresentationLUTShape = "IDENTITY"
    for keyword, value in keywords.items():
        if value is None:
            delattr(state, keyword)
        else:
            setattr(state, keyword, value)
    return state


def build_area(first, last, **keywords):
    """Return a displayed area from one corner to the other, columns first."""
    return build_item(
        DisplayedAreaTopLeftHandCorner=first,
        DisplayedAreaBottomRightHandCorner=last,
        PresentationSizeMode="SCALE TO FIT",
        **{"PresentationPixelAspectRatio": [1, 1], **keywords},
    )


def build_lut(first, entries, bits, **keywords):
    """Return the item of a sequence of lookup tables."""
    lut = build_item(**keywords)
    lut.LUTDescriptor = [len(entries), first, bits]
    lut["LUTDescriptor"].VR = "US"
    lut.LUTData = np.asarray(entries, "<u2").tobytes()
    lut["LUTData"].VR = "OW"
    return lut


def build_window(center, width, **keywords):
    """Return a softcopy VOI LUT item."""
    return build_item(WindowCenter=str(center), WindowWidth=str(width), **keywords)


def build_graphic(kind, data, units="PIXEL", *, is_filled=False):
    """Return a graphic object; points are column and row."""
    return build_item(
        GraphicAnnotationUnits=units,
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(data) // 2,
        GraphicData=data,
        GraphicType=kind,
        GraphicFilled="Y" if is_filled else "N",
    )
