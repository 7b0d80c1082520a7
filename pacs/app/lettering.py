"""Text read in pixels by tesseract, where it is installed: an alarm, and never what decides which pixels go.

It finds nearly all print on black, but a part of what lies over an image, and less of Arabic: what it does not find
may still be there. What it reads is looked at for letters and forgotten.
"""

import re
import shutil
import subprocess
from typing import Any

import numpy as np
import numpy.typing as npt

from pacs.deid import Lettering
from pacs.errors import PacsError

_PROGRAM = "tesseract"
_LANGUAGES = ("eng", "fra", "ara")
_TIMEOUT_SECONDS = 30.0
_WORD = re.compile(r"[^\W\d_]{3,}|\d{4,}")
_MIN_CONFIDENCE = 60.0
_MIN_SIDE = 16
_BORDER = 10


def open_lettering() -> Lettering:
    """Return what reads frames; raise PacsError if tesseract is not installed, or knows none of the languages."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise PacsError("Text is read by tesseract, which is not installed.")
    listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    languages = [language for language in _LANGUAGES if language in listed.stdout.split()]
    if not languages:
        raise PacsError("tesseract knows none of the languages eng, fra and ara.")

    def reads_text(picture: npt.NDArray[Any]) -> bool:
        if min(picture.shape) < _MIN_SIDE:
            return False
        return any(_has_words(program, "+".join(languages), seen) for seen in (picture, 255 - picture))

    return reads_text


def _has_words(program: str, languages: str, picture: npt.NDArray[Any]) -> bool:
    padded = np.pad(picture, _BORDER, mode="edge").astype(np.uint8)
    # Twice as large: the letters of devices are smaller than those tesseract was taught on.
    large = padded.repeat(2, axis=0).repeat(2, axis=1)
    image = b"P5\n%d %d\n255\n" % (large.shape[1], large.shape[0]) + large.tobytes()
    try:
        read = subprocess.run(  # noqa: S603 - our own words
            [program, "stdin", "stdout", "-l", languages, "--psm", "11", "tsv"],
            input=image,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        # What takes this long is full of something.
        return True
    if read.returncode:
        return True
    return any(_is_word(line) for line in read.stdout.decode("utf-8", "replace").splitlines()[1:])


def _is_word(line: str) -> bool:
    cells = line.split("\t")
    try:
        confidence = float(cells[10])
    except (IndexError, ValueError):
        return False
    return confidence >= _MIN_CONFIDENCE and _WORD.search(cells[-1]) is not None
