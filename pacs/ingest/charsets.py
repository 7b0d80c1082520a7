"""Text of a data set as Unicode: what Specific Character Set (0008,0005) declares, and what to do when it lies.

Nothing here raises, warns or logs: text that does not fit its declaration is read as strict UTF-8, then in the sets
the sender's and the site's settings name, and the reader is told that it was. Only encodings from a table are ever
looked up, because Python knows codecs that no hostile header should be able to choose.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from pydicom.charset import CODES_TO_ENCODINGS, STAND_ALONE_ENCODINGS, handled_encodings, python_encoding

_DEFAULT = "iso8859"
_ESCAPE = b"\x1b"
_FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DELIMITERS = re.compile(rb"[\r\n\t\f]")
# Names that are no defined terms but stand in real files or settings; keys are lower case without punctuation.
_OTHER_NAMES = {
    "windows1256": "cp1256",
    "cp1256": "cp1256",
    "windows1252": "cp1252",
    "cp1252": "cp1252",
    "utf8": "UTF8",
    "latin1": "latin_1",
    "iso88591": "latin_1",
    "ascii": _DEFAULT,
    "iso8859": _DEFAULT,
}


class TextDecoder:
    """Decodes the text of one data set; ``is_troubled`` is set when a value did not fit the declared sets."""

    __slots__ = ("_encodings", "_fallbacks", "is_declaration_known", "is_troubled")

    def __init__(self, declared: Sequence[str], fallbacks: Sequence[str]) -> None:
        self._encodings, self.is_declaration_known = _python_encodings(tuple(declared))
        self._fallbacks = fallbacks
        self.is_troubled = False

    def decode(self, value: bytes) -> str:
        """Return the value's text, delimiters and padding included."""
        # Every set DICOM allows has ASCII below 0x80, so nearly all text ends here.
        if value.isascii() and _ESCAPE not in value:
            return value.decode("ascii")
        return self._decode_declared(value)

    def _decode_declared(self, value: bytes) -> str:
        try:
            if not self._encodings:
                return self._decode_undeclared(value)
            if _ESCAPE not in value:
                return value.decode(self._encodings[0])
            return "".join(_decode_fragment(part, self._encodings) for part in _FRAGMENTS.findall(value))
        except UnicodeError:
            return self._decode_undeclared(value)

    def _decode_undeclared(self, value: bytes) -> str:
        self.is_troubled = True
        for encoding in ("utf_8", *self._fallbacks):
            try:
                return value.decode(encoding)
            except UnicodeError:
                continue
        return value.decode(_DEFAULT)


@lru_cache(maxsize=64)
def python_names(character_sets: tuple[str, ...]) -> tuple[str, ...]:
    """Return Python's names of DICOM character sets, or of ``Windows-1256``; names that mean nothing are left out."""
    return tuple(name for name in map(_python_name, character_sets) if name)


@lru_cache(maxsize=256)
def _python_encodings(declared: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Return the encodings that may be used, none if nothing useful is declared, and whether every name was known."""
    if not any(declared) or declared in (("ISO_IR 6",), ("ISO 2022 IR 6",)):
        # Only ASCII is declared then, so 8-bit text is outside of it.
        return (), True
    first, *others = declared
    if first in STAND_ALONE_ENCODINGS:
        return (python_encoding[first],), not others
    names = [_python_name(term) if term else _DEFAULT for term in (first, *others)]
    allowed = [
        name
        for term, name in zip(declared, names, strict=True)
        if name and (term == first or term not in STAND_ALONE_ENCODINGS)
    ]
    if not names[0]:
        return tuple(allowed and (_DEFAULT, *allowed)), False
    return tuple(allowed), all(names)


def _python_name(term: str) -> str:
    """Return Python's name of a defined term, common misspellings included; empty if there is none."""
    if name := python_encoding.get(term.strip()):
        return name
    plain = re.sub(r"[^a-z0-9]", "", term.lower())
    if other := _OTHER_NAMES.get(plain):
        return other
    if match := re.fullmatch(r"iso(2022)?ir(\d+)", plain):
        return python_encoding.get(f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}", "")
    return ""


def _decode_fragment(fragment: bytes, encodings: Sequence[str]) -> str:
    """Decode the part of a value up to the next escape sequence (PS3.5 6.1.2.5); raise UnicodeError if it is none."""
    if not fragment.startswith(_ESCAPE):
        return fragment.decode(encodings[0])
    sequence_length = 4 if fragment.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = CODES_TO_ENCODINGS.get(fragment[:sequence_length], "")
    if encoding not in encodings and encoding != _DEFAULT:
        return fragment.decode(encodings[0], errors="replace")
    if encoding in handled_encodings:
        return fragment.decode(encoding)
    text = fragment[sequence_length:]
    if delimiter := _DELIMITERS.search(text):
        # A line end or tab switches back to the first set (PS3.5 6.1.2.5.3).
        return text[: delimiter.start()].decode(encoding) + text[delimiter.start() :].decode(encodings[0])
    return text.decode(encoding)
