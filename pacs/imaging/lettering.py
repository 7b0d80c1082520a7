"""Text on pictures, in whatever script the system has letters for: outlined, so that it is legible on any ground.

Pillow's own font has Latin letters only. Arabic needs a font that is installed, and shaping, which Pillow does with
libraqm; where either is missing, the caller is told that the text cannot be drawn, and none is drawn wrongly.
"""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont, features

_LETTERS_A_PICTURE = 32
_MIN_HEIGHT, _MAX_HEIGHT = 10, 64
_MARGIN = 0.4
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansArabic-Regular.ttf", "LiberationSans-Regular.ttf")
_JOINING = range(0x0590, 0x0900)  # Hebrew, Arabic, Syriac: written from the right, or with letters that join

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def letter_height(size: tuple[int, int]) -> int:
    """Return how tall the letters on a picture of this size are, in pixels."""
    return min(max(min(size) // _LETTERS_A_PICTURE, _MIN_HEIGHT), _MAX_HEIGHT)


def can_draw(text: str) -> bool:
    """Whether every letter of a text is drawn as it should be."""
    needs_shaping = any(ord(letter) in _JOINING for letter in text)
    return _find_font(text, _MIN_HEIGHT) is not None and (not needs_shaping or bool(features.check("raqm")))


def draw_text(image: Image.Image, text: str, start: tuple[float, float], ink: int = 255, anchor: str = "la") -> None:
    """Draw lines of text, ``start`` being where ``anchor`` (Pillow's: ``la`` is the upper left corner) says.

    What would run over the edge is moved in as far as it goes. Letters that no font has are drawn as boxes.
    """
    height = letter_height(image.size)
    font = _find_font(text, height) or ImageFont.load_default(height)
    rim = 0 if ink > 127 else 255
    is_gray = image.mode == "L"
    pen = ImageDraw.Draw(image)
    anchor_of = None if "\n" in text else anchor
    left, top, right, bottom = pen.textbbox(start, text, font, anchor_of, stroke_width=height // 12)
    x = start[0] - max(0, min(right - image.width, left)) + max(0, -left)
    y = start[1] - max(0, min(bottom - image.height, top)) + max(0, -top)
    pen.text(
        (x, y),
        text,
        fill=ink if is_gray else (ink,) * 3,
        font=font,
        anchor=anchor_of,
        stroke_width=max(1, height // 12),
        stroke_fill=rim if is_gray else (rim,) * 3,
    )


def draw_corner(image: Image.Image, lines: list[str], *, is_right: bool) -> None:
    """Draw lines below each other in the upper left or right corner."""
    height = letter_height(image.size)
    margin = height * _MARGIN
    for number, line in enumerate(lines):
        x = image.width - margin if is_right else margin
        draw_text(image, line, (x, margin + number * height * 1.3), anchor="ra" if is_right else "la")


def _find_font(text: str, height: int) -> Font | None:
    """Return the first font that has all letters of a text, None if there is none."""
    letters = frozenset(letter for letter in text if not letter.isspace())
    for name in _FONTS:
        font = _load(name, height)
        if font is not None and all(_has(name, letter) for letter in letters):
            return font
    return ImageFont.load_default(height) if text.isascii() else None


@lru_cache(maxsize=64)
def _load(name: str, height: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of the system by its file's name (Pillow looks where fonts are), or None."""
    try:
        return ImageFont.truetype(name, height)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str, letter: str) -> bool:
    """Whether a font has a letter: what it has not is drawn like a code point that no font has."""
    font = _load(name, _MAX_HEIGHT)
    if font is None:
        return False
    shown, missing = (font.getmask(text) for text in (letter, "\U0010fffe"))
    return shown.size != missing.size or bytes(shown) != bytes(missing)
