"""What is known to identify the patient of one object, searched for in what was written about them.

Parts of names, numbers, addresses and original UIDs are looked for in every encoding that text is in; whoever finds
one holds the object back. Short words count as whole words only: ``ali`` is no part of ``calibration``.
"""

import re
import unicodedata
from collections.abc import Iterable

from pacs.deid.words import is_all_medical, is_medical
from pacs.names import fold

MIN_WORD = 3
MIN_NUMBER = 5
_MIN_VALUE = 5
_MIN_ANYWHERE = 6
"""What is this long is no accident within other bytes either."""
_HIGH_BYTES = (b"", b"\0", b"\x7f")
_ENCODINGS = ("utf-8", "latin-1", "iso8859_6", "cp1256", "utf-16-le", "utf-16-be")
_WORD = re.compile(r"[^\W_]+")
_COMPONENTS = re.compile(r"[\^=\\]")
_DIGITS = re.compile(r"\d")
_NUMBER = re.compile(r"\d(?:[\s./-]?\d)+")


class KnownValues:
    """What identifies one patient: gathered from the original, then asked about what is to leave."""

    def __init__(self) -> None:
        self.words: set[str] = set()
        """Folded words of names: those of two letters too, which never stay in free text."""
        self._values: set[str] = set()
        self._names: set[str] = set()
        self._numbers: set[str] = set()
        self._uids: set[str] = set()

    def add_name(self, text: str) -> None:
        """Note the parts of a person name, all groups and components of it; and El Amrani as ELAMRANI too."""
        for component in _COMPONENTS.split(text):
            words = _WORD.findall(component)
            for word in (*words, "".join(words)) if len(words) > 1 else words:
                folded = fold(word)
                if len(folded) >= 2:
                    self.words.add(folded)
                if len(word) >= (MIN_NUMBER if word.isdigit() else MIN_WORD):
                    self._names.add(word)

    def add_value(self, text: str) -> None:
        """Note a number, an address or whatever else is the patient's as a whole."""
        text = text.strip(" \0")
        if len(text) < _MIN_VALUE or len(text) > 64 or is_all_medical(text):
            return
        self._values.add(text)
        digits = "".join(str(unicodedata.digit(digit)) for digit in _DIGITS.findall(text))
        if len(digits) >= _MIN_ANYWHERE:
            self._numbers.add(digits)

    def add_uid(self, uid: str) -> None:
        """Note a UID that was mapped."""
        if len(uid) >= _MIN_ANYWHERE:
            self._uids.add(uid)

    def holds(self, text: str) -> bool:
        """Whether a text holds a known value, or a known word as a whole word."""
        if any(fold(word) in self.words for word in _WORD.findall(text)):
            return True
        folded = text.casefold()
        return any(value.casefold() in folded for value in self._values) or self._holds_number(text)

    def is_value(self, number: str) -> bool:
        """Whether a number is one of the patient's, as a whole."""
        return number in self._values or number in self._numbers or number in self._names

    def scrub(self, text: str) -> str:
        """Return a text without known words; empty if another known value is in it."""
        if not self.holds(text):
            return text
        without = _WORD.sub(lambda found: "" if fold(found[0]) in self.words else found[0], text)
        without = " ".join(without.split())
        return "" if self.holds(without) else without

    def _holds_number(self, text: str) -> bool:
        for found in _NUMBER.findall(text):
            digits = "".join(str(unicodedata.digit(digit)) for digit in _DIGITS.findall(found))
            if any(number in digits for number in self._numbers):
                return True
        return False

    def needles(self) -> "Needles":
        """Return what to search written bytes for."""
        words = {word for word in self._names if not is_medical(word)}
        anywhere = {text for text in self._values | words if len(text) >= _MIN_ANYWHERE and not text.isdigit()}
        numbers = {text for text in self._values | words if text.isdigit()} | self._uids
        return Needles(_forms(anywhere), _forms((self._values | words) - anywhere - numbers), _forms(numbers))


class Needles:
    """Byte strings to search for: anywhere, as whole words, or as whole numbers.

    A number is searched for as a whole, for the digits of derived UIDs hold every short one by chance.
    """

    def __init__(self, anywhere: Iterable[bytes], as_words: Iterable[bytes], as_numbers: Iterable[bytes] = ()) -> None:
        self._anywhere = tuple(anywhere)
        self._as_words = tuple(as_words)
        self._as_numbers = tuple(as_numbers)

    def is_in(self, data: bytes) -> bool:
        """Whether one of them is in some bytes, whatever the case of their ASCII letters."""
        lowered = data.lower()
        return (
            any(needle in lowered for needle in self._anywhere)
            or any(_is_word_in(needle, lowered) for needle in self._as_words)
            or any(_is_word_in(needle, lowered, b".") for needle in self._as_numbers)
        )


def _is_word_in(needle: bytes, lowered: bytes, also: bytes = b"") -> bool:
    """Whether bytes hold a word as a whole; ``also`` is a character that is part of words."""
    # In UTF-16 a letter of ASCII is a byte and a zero.
    width = 2 if b"\0" in needle else 1
    start = lowered.find(needle)
    while start >= 0:
        end = start + len(needle)
        # A tag may begin with a letter, but then with the high byte of its group: no text goes on like that.
        is_over = not _is_letter(lowered[end : end + width], also) or (
            width == 1 and lowered[end + 1 : end + 2] in _HIGH_BYTES
        )
        if is_over and not _is_letter(lowered[max(start - width, 0) : start], also):
            return True
        start = lowered.find(needle, start + 1)
    return False


def _is_letter(char: bytes, also: bytes) -> bool:
    plain = char.strip(b"\0")
    return plain.isalnum() or plain >= b"\x80" or (plain == also != b"")


def _forms(texts: Iterable[str]) -> set[bytes]:
    """Return texts as bytes, folded and not, in upper and lower case, in every encoding that holds them."""
    found: set[bytes] = set()
    for text in texts:
        forms = {text.lower()}
        if not text.isascii():
            forms |= {text, text.upper(), text.title(), unicodedata.normalize("NFD", text).lower(), fold(text)}
        for form in forms:
            for encoding in _ENCODINGS:
                try:
                    found.add(form.encode(encoding).lower())
                except UnicodeEncodeError:
                    continue
    return {form for form in found if len(form) >= MIN_WORD}
