"""Text in plain Latin letters, for devices that can show no others: the sound of a letter, roughly, one way only.

What is written here is shown and never searched for. Short vowels are not written in Arabic, so a name comes out as its
consonants and long vowels; a reader who knows the patient recognises it, which is all that is promised.
"""

import unicodedata

UNKNOWN = "_"
"""Stands for a letter without a counterpart here; never a question mark, which is a wildcard in the next query."""

_LETTERS = {
    # Latin letters that no normalisation form takes apart.
    "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o", "Đ": "D", "đ": "d", "Ð": "D", "ð": "d",
    "Ħ": "H", "ħ": "h", "\u0131": "i", "Ł": "L", "ł": "l", "ß": "ss", "Þ": "Th", "þ": "th", "Ŧ": "T", "ŧ": "t",
    "\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u2011": "-",
    "\u2013": "-", "\u2014": "-", "\u00ab": '"', "\u00bb": '"', "\u00a0": " ", "\u00b0": "o", "\u20ac": "EUR",
    # Arabic, with the letters that Moroccan and Persian keyboards add.
    "\u0621": "'", "\u0622": "a", "\u0623": "a", "\u0624": "'", "\u0625": "i", "\u0626": "'", "\u0627": "a",
    "\u0628": "b", "\u0629": "a", "\u062a": "t", "\u062b": "th", "\u062c": "j", "\u062d": "h", "\u062e": "kh",
    "\u062f": "d", "\u0630": "dh", "\u0631": "r", "\u0632": "z", "\u0633": "s", "\u0634": "sh", "\u0635": "s",
    "\u0636": "d", "\u0637": "t", "\u0638": "z", "\u0639": "'", "\u063a": "gh", "\u0640": "", "\u0641": "f",
    "\u0642": "q", "\u0643": "k", "\u0644": "l", "\u0645": "m", "\u0646": "n", "\u0647": "h", "\u0648": "ou",
    "\u0649": "a", "\u064a": "i", "\u0671": "a", "\u067e": "p", "\u0686": "tch", "\u0698": "j", "\u06a4": "v",
    "\u06a9": "k", "\u06ad": "g", "\u06af": "g", "\u06c1": "h", "\u06cc": "i", "\u06d5": "h",
    "\u060c": ",", "\u061b": ";", "\u061f": ".", "\u066a": "%", "\u066b": ".", "\u066c": ",",
    # Short vowels, where somebody wrote them.
    "\u064b": "an", "\u064c": "on", "\u064d": "in", "\u064e": "a", "\u064f": "o", "\u0650": "i", "\u0651": "",
    "\u0652": "",
}  # fmt: skip


def transliterate(text: str) -> str:
    """Return ``text`` in ASCII: accents dropped, Arabic letters by their sound, any other letter as ``UNKNOWN``."""
    return "".join(map(_transliterate_character, unicodedata.normalize("NFC", text)))


def _transliterate_character(character: str) -> str:
    known = character if character.isascii() else _LETTERS.get(character)
    if known is not None:
        return known
    parts = unicodedata.normalize("NFKD", character)
    if parts != character:
        return "".join(map(_transliterate_character, parts))
    match unicodedata.category(character):
        case "Mn" | "Me" | "Cf":  # accents, direction marks, joiners
            return ""
        case "Nd":
            return str(unicodedata.decimal(character))
        case "Zs":
            return " "
    return UNKNOWN
