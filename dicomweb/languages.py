"""What pages say, in English, French and Arabic. The English sentence is the key, and stands in the template itself.

A number is never part of a sentence ("Patients: 25"), so that no language has to decline one.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request

COOKIE = "pacs_language"
PARAMETER = "language"

LANGUAGES: Mapping[str, str] = {"en": "English", "fr": "Français", "ar": "العربية"}
"""The code of each language, and what it calls itself; the first one is spoken to who understands none of them."""

_RIGHT_TO_LEFT = frozenset({"ar"})
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,32})?\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*")


class Words:
    """One language: called with an English sentence, it says that sentence."""

    def __init__(self, code: str) -> None:
        self.code = code
        self._sentences = read_sentences(code)

    @property
    def direction(self) -> str:
        """Which way it is written, as HTML has it."""
        return "rtl" if self.code in _RIGHT_TO_LEFT else "ltr"

    def __call__(self, sentence: str, **values: object) -> str:
        """Return the sentence, with values in the places that it names; in English where nobody has translated it."""
        said = self._sentences.get(sentence, sentence)
        return said.format(**values) if values else said


@cache
def read_sentences(code: str) -> Mapping[str, str]:
    """Return the sentences of a language by what they are in English, which has none."""
    if code == next(iter(LANGUAGES)):
        return {}
    sentences: dict[str, str] = tomllib.loads((files("dicomweb") / "words" / f"{code}.toml").read_text("utf-8"))
    return sentences


def choose_language(request: Request) -> Words:
    """Return what to speak: as the address says, as was chosen before, or as the browser is set."""
    for code in (request.query_params.get(PARAMETER), request.cookies.get(COOKIE)):
        if code in LANGUAGES:
            return words_of(code)
    return words_of(_most_wanted(request.headers.get("accept-language", "")))


@cache
def words_of(code: str) -> Words:
    """Return a language of ``LANGUAGES``."""
    return Words(code)


def _most_wanted(field: str) -> str:
    weights: dict[str, float] = {}
    for item in field[:256].split(","):
        match = _RANGE.fullmatch(item)
        if match is not None and match[1].lower() in LANGUAGES:
            weights.setdefault(match[1].lower(), float(match[2] or 1))
    first = next(iter(LANGUAGES))
    wanted = max(weights, key=weights.__getitem__, default=first)
    return wanted if weights.get(wanted, 1) > 0 else first
