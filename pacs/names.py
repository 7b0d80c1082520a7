"""Person names made comparable: accents, case, Arabic letter forms and punctuation folded, alike for keys and queries.

What is folded is only ever compared, never shown. A name (PS3.5 6.2.1.1) has up to three component groups; every group
is a key of its own, because devices put Arabic into whichever group they like.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MAX_KEY_LENGTH = 256
"""Longer keys are cut: a group has at most 64 characters a component (PS3.5 6.2), the rest is damage."""

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
"""The component groups of a person name, as the DICOM JSON model calls them (PS3.18 F.2.2), in the order of PS3.5."""

_ALEF, _YEH, _HEH, _WAW, _KAF, _FEH, _BEH = "\u0627", "\u064a", "\u0647", "\u0648", "\u0643", "\u0641", "\u0628"

_LETTERS = str.maketrans(
    {
        # Latin letters that no normalisation form takes apart.
        "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ł": "l", "ŧ": "t", "þ": "th", "\u0131": "i",
        # Arabic. Alef and yeh with hamza fall apart under NFKD; what is left are letters of their own.
        "\u0671": _ALEF,  # alef wasla
        "\u0621": None,  # hamza on the line: written or not as the typist likes
        "\u0629": _HEH,  # teh marbuta
        "\u0649": _YEH,  # alef maksura
        "\u06cc": _YEH,  # Farsi yeh, from Persian keyboards
        "\u06a9": _KAF,  # keheh, likewise
        "\u06ad": _KAF,  # ng, the Moroccan g; also written kaf
        "\u06af": _KAF,  # gaf, likewise
        "\u06a4": _FEH,  # veh, the v of French names
        "\u067e": _BEH,  # peh, their p
        "\u06c1": _HEH,  # heh goal
        "\u06d5": _HEH,  # ae
        "\u0640": None,  # tatweel
        # Apostrophes vanish (O'Brien, d'Amico, Ma'arouf); hyphens and dots are spaces (El-Amrani, St. Clair).
        **dict.fromkeys("'`\u00b4\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02be\u02bf\u2032\uff07"),
        **dict.fromkeys("-.,_\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u060c", " "),
    }
)  # fmt: skip

_SPACES = re.compile(r"\s+")
_COMPONENT_SPACES = re.compile(r" ?\^ ?")


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Return ``text`` as it is compared; ``^`` stays. Folding twice changes nothing."""
    if not text.isascii():
        text = _fold_letters(text)
    text = _SPACES.sub(" ", text.casefold().translate(_LETTERS).replace("\0", ""))
    return _COMPONENT_SPACES.sub("^", text).strip(" ")


def _fold_letters(text: str) -> str:
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = (_fold_character(character) for character in text)
    return unicodedata.normalize("NFC", "".join(kept))


def _fold_character(character: str) -> str:
    if character < "\x80":
        return character
    match unicodedata.category(character):
        # Beyond U+0900 a mark may be a vowel or a voiced consonant, which is no accent.
        case "Mn" if character < "\u0900" or "\u1ab0" <= character <= "\u20ff" or character >= "\ufe20":
            return ""
        case "Cf" | "Cs" | "Co":  # direction marks, joiners, halves of characters
            return ""
        case "Nd":
            return str(unicodedata.decimal(character))
    return character


def join_groups(name: Mapping[str, Any]) -> str:
    """Return a person name of the DICOM JSON model as PS3.5 6.2.1.1 writes it, ``=`` between its component groups."""
    return "=".join(str(name.get(group) or "") for group in GROUPS).rstrip("=")


def name_keys(value: dict[str, str] | str) -> tuple[str, ...]:
    """Return the folded key of every component group of one name, without repetitions.

    ``value`` is a person name of the DICOM JSON model (PS3.18 F.2.2), or text with ``=`` between groups.
    """
    groups = value.split("=") if isinstance(value, str) else [str(value.get(group) or "") for group in GROUPS]
    folded = (fold(group).rstrip("^ ")[:MAX_KEY_LENGTH] for group in groups)
    return tuple(dict.fromkeys(key for key in folded if key))


def fold_pattern(pattern: str) -> tuple[str, ...]:
    """Return the folded patterns, one for every component group given, all of which a name has to match.

    ``*`` and ``?`` keep their meaning (PS3.4 C.2.2.2.4). Trailing empty components are dropped as they are from keys.
    """
    folded = (fold(group).rstrip("^ ") for group in pattern.split("="))
    return tuple(dict.fromkeys(key for key in folded if key))
