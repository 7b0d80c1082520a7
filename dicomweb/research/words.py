"""What the pages of research say. The English sentence is the name of what is said for it in other languages.

A number is never part of a sentence ("Patients: 25"), so that no language has to decline one.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.requests import Request

from dicomweb.pages import LANGUAGES, Texts, language_of

_FOLDER = Path(__file__).parent.parent / "words"
_ENGLISH = next(iter(LANGUAGES))


def _read(code: str) -> Mapping[str, str]:
    sentences: dict[str, str] = tomllib.loads((_FOLDER / f"{code}.toml").read_text(encoding="utf-8"))
    return sentences


_STATES = {"building": "being made", "quarantine": "in review", "pending": "undecided"}
"""What is said in English for words that the archive has for itself."""

_OTHERS = {code: _read(code) for code in LANGUAGES if code != _ENGLISH}

TEXTS: Texts = {_ENGLISH: {sentence: sentence for said in _OTHERS.values() for sentence in said} | _STATES, **_OTHERS}


def word_for(request: Request) -> Callable[[object], str]:
    """Return what says a value in the language of who asks: as it is, if it is no word of ours."""
    sentences = TEXTS[language_of(request)]
    return lambda value: sentences.get(str(value), str(value))
