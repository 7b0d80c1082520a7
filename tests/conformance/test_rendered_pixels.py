"""What is rendered, beside what DCMTK's dcm2pnm makes of the same pixels: to within one gray level."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from pacs.errors import PacsError
from pacs.imaging.render import ImageSource, render_frame
from pacs.retrieve.frames import FrameReader
from tests.conftest import CORPUS
from tests.imaging import InProcess, Memory, leave, open_instance

SAMPLES = Path(__file__).parents[2] / "sample_data"
SAMPLE_FILES = sorted(SAMPLES.rglob("*.dcm"))
CORPUS_FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file()) if CORPUS.exists() else []
EXCEPTIONS = {
    "enhanced/eCT_Supplemental.dcm": "dcm2pnm 3.6.7 shows what its supplemental palette colours in gray",
    "wsm/seg_image_sm_control_labelmap.dcm": "its values are numbers of labels, which dcm2pnm shows as brightness",
    "sc/SC_ybr_full_uncompressed.dcm": "dcm2pnm adds up truncated products; ours are the rounded ones, 2 apart",
}
"""What differs, and why that is right."""

NOT_COMPARED = {
    "us/gdcm-US-ALOKA-16.dcm": "dcm2pnm does not render it",
    "us/gdcm-US-ALOKA-16_big.dcm": "dcm2pnm does not render it",
    "video/mpeg2.dcm": "dcm2pnm decodes no video; test_video.py has other numbers for it",
    "video/mpeg4_h264.dcm": "dcm2pnm decodes no video; test_video.py has other numbers for it",
    "broken/JPEG2000-embedded-sequence-delimiter.dcm": "its pixels do not decode",
    "broken-made/trailing_garbage.dcm": "it cannot be written anew for dcm2pnm",
}
"""Images of which there are no two pictures to compare."""

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.skipif(shutil.which("dcm2pnm") is None and os.environ.get("CI") != "true", reason="DCMTK is not here"),
]


def chosen():
    for path in [*SAMPLE_FILES, *CORPUS_FILES]:
        name = f"{path.parent.name}/{path.name}"
        if name not in NOT_COMPARED and is_image(path):
            yield pytest.param(path, id=name)


def is_image(path):
    try:
        opened = open_instance(Memory(path.read_bytes()))
    except PacsError:
        return False
    return opened.header.pixels is not None and bool(opened.layout.frames)


def render(data):
    """Return the first frame as a picture's samples."""
    opened = open_instance(Memory(data))
    pixels = opened.header.pixels
    (frame,) = FrameReader(InProcess()).iter_decoded(opened, [0])
    source = ImageSource(opened.header.attributes, opened.read_value, pixels.tag)
    return render_frame(source, frame, 0)


def options(dataset):
    """Return how dcm2pnm is told what the image says itself; it does nothing of it unasked."""
    if dataset.get("WindowWidth") and dataset.get("WindowCenter") not in (None, ""):
        return ["+Wi", "1"]
    if dataset.get("VOILUTSequence"):
        return ["+Wl", "1"]
    if dataset.get("SamplesPerPixel", 1) != 1 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        return []
    # dcm2pnm shows one bit as black and middle gray unless its range is stretched.
    is_brightness = 1 < dataset.BitsStored <= 8 and dataset.PixelRepresentation == 0
    if is_brightness and not any(name in dataset for name in ("RescaleSlope", "ModalityLUTSequence")):
        return []
    return ["+Wm"]


def render_with_dcmtk(native, folder):
    (folder / "native.dcm").write_bytes(native)
    dataset = pydicom.dcmread(io.BytesIO(native), stop_before_pixels=True)
    command = ["dcm2pnm", *options(dataset), "+F", "1", folder / "native.dcm", folder / "picture.pnm"]
    subprocess.run(command, capture_output=True, check=True)
    with Image.open(folder / "picture.pnm") as picture:
        return np.asarray(picture)


def difference(ours, theirs):
    """Return the largest difference of any sample; 256 where even the size is another."""
    if ours.ndim == 2 and theirs.ndim == 3:
        ours = np.repeat(ours[:, :, None], 3, axis=2)
    if ours.shape != theirs.shape:
        return 256
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


@pytest.mark.parametrize("path", list(chosen()))
def test_pixels_are_dcmtk_s_to_within_one_gray_level(path, tmp_path):
    data = path.read_bytes()
    ours, theirs = render(data), render_with_dcmtk(leave(data), tmp_path)
    name = f"{path.parent.name}/{path.name}"
    if name in EXCEPTIONS:
        assert difference(ours, theirs) > 1, "no exception any more"
        return
    assert difference(ours, theirs) <= 1
