"""Free text cleaned by keeping what medicine says: a word that no vocabulary knows goes, for it may be a name.

The vocabulary is pydicom's dictionary, the meanings of its concepts, and a French, English and Arabic list beside this
module. Digits never stay, in whichever script and however they are spaced; only what radiology writes with one or two
of them (T1, L5, 3D) does.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from importlib.resources import files

from pydicom._dicom_dict import DicomDictionary

from pacs.deid.codes import CONCEPTS
from pacs.names import fold

_WORD = re.compile(r"[^\W_]+")
_BEFORE_NUMBER = re.compile(r"[^\W\d_]{1,2}[\s.-]?\d{3}")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]{2,}")
_SCHEMES = ("DCM", "SCT", "LN", "UCUM", "RADLEX", "NCIt")
_JOINED = re.compile(r"[A-Z][a-z]+|[a-z]+|[A-Z]+(?![a-z])")
_MIN_JOINED = 3
_JOINTS = frozenset("_-/+&.")
_ARTICLES = ("\u0627\u0644", "\u0648\u0627\u0644", "\u0644\u0644", "\u0628\u0627\u0644")
"""The article of Arabic, also behind and, for and with."""
_WITH_DIGITS = frozenset(
    {f"T{n}" for n in range(1, 13)}
    | {f"{letter}{n}" for letter in "LS" for n in range(1, 6)}
    | {f"C{n}" for n in range(1, 8)}
    | {"T1W", "T2W", "T1WI", "T2WI", "T1RHO", "B0", "2D", "3D", "4D", "2DFT", "3DFT", "H1", "FDG18", "F18", "TC99M"}
)


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that may stay, folded as ``pacs.names.fold`` does."""
    found = set(_dictionary_words())
    found.update(_concept_words())
    never: set[str] = set()
    text = files("pacs.deid").joinpath("vocabulary.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("!"):
            never.update(fold(word) for word in line[1:].split())
        elif not line.startswith("#"):
            found.update(fold(word) for word in line.split())
    return frozenset(found - never)


def _dictionary_words() -> Iterable[str]:
    for _, _, name, _, _ in DicomDictionary.values():
        for word in _LATIN_WORD.findall(name):
            yield fold(word)


def _concept_words() -> Iterable[str]:
    """Return words of meanings; those that are only ever written with a capital are somebody's name."""
    capital = set()
    for scheme in _SCHEMES:
        for codes in CONCEPTS.get(scheme, {}).values():
            for meaning, _ in codes.values():
                words = _LATIN_WORD.findall(meaning)
                for number, word in enumerate(words):
                    if word[0].islower():
                        yield fold(word)
                    elif number == 0:
                        capital.add(word)
    # The first word of a meaning has a capital anyway; such as end like what is common are no names.
    for word in capital:
        if word.lower().endswith(("ation", "itis", "ectomy", "graphy", "oscopy", "osis", "ic", "al", "scan", "oma")):
            yield fold(word)


@lru_cache(maxsize=16384)
def is_medical(word: str) -> bool:
    """Whether a word, without blanks, is one that medicine uses."""
    if word.isascii() and any(char.isdigit() for char in word):
        return word.upper() in _WITH_DIGITS
    folded = fold(word)
    if any(char.isdigit() or char.isnumeric() for char in folded):
        return False
    words = vocabulary()
    if folded in words:
        return True
    return any(folded.startswith(article) and folded[len(article) :] in words for article in _ARTICLES)


def is_all_medical(text: str) -> bool:
    """Whether a text holds nothing but words that medicine uses."""
    return all(is_medical(word) for word in _WORD.findall(_plain(text)))


def clean_text(text: str, known: Collection[str] = ()) -> str:
    """Return the words of a text that may stay, with single blanks; ``known`` are folded words that never do."""
    plain = _plain(text)
    kept: list[str] = []
    end = -1
    for found in _WORD.finditer(plain):
        word = found[0]
        if _BEFORE_NUMBER.match(plain, found.start()):
            # The letters of an identity card, and what else has a number behind it.
            end = -1
        elif _may_stay(word, known):
            between = plain[end : found.start()]
            if kept:
                kept.append(between if end >= 0 and between in _JOINTS else " ")
            kept.append(word)
            end = found.end()
        else:
            end = -1
    return "".join(kept)


def _may_stay(word: str, known: Collection[str]) -> bool:
    """Whether a word of free text stays: it is medical, or joined of such (ThoraxRoutine), and nobody's name."""
    if known and fold(word) in known:
        return False
    if is_medical(word):
        return True
    parts = _JOINED.findall(word)
    return (
        len(parts) > 1
        and "".join(parts) == word
        and all(len(part) >= _MIN_JOINED and is_medical(part) and fold(part) not in known for part in parts)
    )


def _plain(text: str) -> str:
    """Return text without the marks of vowels and in plain letters, so that words are in one piece."""
    if text.isascii():
        return text
    composed = unicodedata.normalize("NFKC", text)
    return "".join(char for char in composed if unicodedata.category(char) not in ("Mn", "Cf", "Lm"))
