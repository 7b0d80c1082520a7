"""The text of one data set or item, in the character sets that it names (PS3.5 6.1.2.3); written again it is UTF-8.

What cannot be decoded comes out as something that no vocabulary knows: it is dropped, and never copied.
"""

import warnings
from functools import lru_cache

from pydicom.charset import decode_bytes, python_encoding

_ESCAPE = b"\x1b"
_DELIMITERS = {ord(char) for char in "\\\n\r\t\f^="}
UNDECLARED = ("utf_8", "latin_1")
"""Without a declaration: UTF-8 if all of it is, else what the Latin world types."""


@lru_cache(maxsize=256)
def encodings_of(declared: bytes) -> tuple[str, ...]:
    """Return the Python encodings of a Specific Character Set (0008,0005); those nobody knows are as undeclared."""
    terms = [term.strip(" \0") for term in declared.decode("latin-1").split("\\")]
    found = []
    for term in terms:
        encoding = python_encoding.get(term)
        if encoding:
            found.append("latin_1" if encoding == "iso8859" and term else encoding)
    if not found or (len(found) == 1 and not any(terms)):
        return UNDECLARED
    return tuple(found)


def decode_text(value: bytes, encodings: tuple[str, ...]) -> str:
    """Return a value as text, padding and all; it never raises."""
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii")
    if _ESCAPE in value:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return str(decode_bytes(value, list(encodings), _DELIMITERS))
            except (LookupError, ValueError):
                return value.decode("latin-1")
    for encoding in (encodings[0], *UNDECLARED):
        try:
            return value.decode(encoding)
        except (LookupError, ValueError):
            continue
    return value.decode("latin-1")
