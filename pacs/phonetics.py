# ruff: noqa: RUF001 - Arabic letters look like others to whoever does not read them
"""Person names made comparable by sound: French and Maghrebi spellings, in Latin and Arabic letters, match each other.

A word is spelled out as a row of sounds, one letter each; where a spelling may be read in two ways there are two rows.
Its consonants, the coarse key, go into an index; its vowels decide whether two words with one key are one name, since
vowels are what the spellings of one name (Mohamed, Muhammad) and of two names (Hassan, Hussein) both differ in. Arabic
writes long vowels only, so a vowel that Latin has and Arabic lacks costs little and the reverse costs much.

Everything is pure, and bounded for any input: ``MAX_WORDS`` words of ``MAX_LETTERS`` letters with ``MAX_ROWS`` rows.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from pacs.names import GROUPS, name_keys

MAX_WORDS = 8
"""Words of one component group that are looked at; the rest of a longer name is ignored."""

MAX_LETTERS = 32
"""Letters of one word that are looked at."""

MAX_ROWS = 8
"""Ways of reading one word."""

MAX_KEYS = len(GROUPS) * (MAX_WORDS + 1) * MAX_ROWS
"""Keys that ``fuzzy_keys`` returns at most."""

_TOLERANCE, _TOLERANCE_PER_SOUND = 0.6, 0.12
"""What two spellings of one word may cost: in all, and by the length of the longer one."""

_OTHERWISE_SPELLED = 0.02
"""What a word costs at least that sounds the same and is not the same."""

_REFUSED = 9.0


class _Row(NamedTuple):
    """One reading of a word: its sounds, its consonants, and what the reading itself costs."""

    sounds: str
    key: str
    cost: float
    is_arabic: bool


# Sounds. Consonants: b p t d j x(sh) K(kh) s z f v k q g G(gh) l m n r h. Vowels of Latin letters: a e i u (o is u).
# Arabic letters that are or may be vowels: A W Y (long), @ (ayn), O (alef first), H and I (heh and yeh last).
_SILENT_IN_KEYS = frozenset("aeiuAWY@OHIh")
_KEY_CLASSES = str.maketrans("zpvqgGK", "sbfkkkc")  # lower case, for any collation

_LATIN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ch(?=ael|ris)", ("k", "x")),
    ("tch|sch|ch", ("x",)),
    ("sh", ("x", "sh")),  # Ishak
    ("kh", ("K",)),
    ("gh", ("G",)),
    ("rh", ("G", "rh")),
    ("dj|tj", ("j",)),
    ("dh", ("d", "z")),
    ("th", ("t", "s")),
    ("ph", ("f",)),
    ("ck|cq|c(?![eiyh])|qu(?=[aeiy])", ("k",)),
    ("bv", ("v",)),  # Lefebvre
    ("aul(?=th?i)", ("au", "aul")),  # Gaultier
    ("aul[dt]$", ("au", "ault")),  # Renault
    ("au[dt]$", ("au", "aut", "aud")),  # Renaud, Thibaut; and Saud
    ("gu(?=[eiy])", ("g",)),
    ("g(?=[eiy])", ("j", "g")),
    ("c", ("s",)),
    ("ee", ("i",)),
    ("eaux?$|ou|oo|[ouw]", ("u",)),
    ("[iy]", ("i",)),
    ("x", ("ks",)),
    ("[a-z]", ()),  # the letter itself
)
_LATIN_SOUND = re.compile("|".join(f"(?P<r{number}>{pattern})" for number, (pattern, _) in enumerate(_LATIN)))

_ARABIC_LETTERS, _ARABIC_SOUNDS = "ابتجحخدرزسشصضطعغفقكلمنهوي", "AbtjhKdrzsxsdt@GfqklmnhWY"
_ARABIC: dict[str, tuple[str, ...]] = {
    **{letter: (sound,) for letter, sound in zip(_ARABIC_LETTERS, _ARABIC_SOUNDS, strict=True)},
    "ة": ("h", "t"), "ث": ("t", "s"), "ذ": ("d", "z"), "ظ": ("d", "z"),
}  # fmt: skip
_ENDS = {"h": "H", "Y": "I"}
_DIGITS = str.maketrans({"2": "", "3": "", "5": "kh", "7": "h", "9": "q"})  # as letters, in messages and on forms

_IS_ARABIC = re.compile("[\u0621-\u064a]")
_NO_LETTER = re.compile("[^a-z\u0621-\u064a]+")

# Particles, as they are joined to the word after them, so that Ben Ali is Benali.
_LEADING = {
    "ben": "ben", "bin": "ben", "ibn": "ben", "bel": "bel", "bent": "bent", "bint": "bent", "bou": "bou", "bu": "bou",
    "abou": "bou",
    "abu": "bou", "ait": "ait", "ould": "ould", "wald": "ould", "abd": "abd", "abdel": "abd",
    "abdul": "abd", "abdal": "abd",
    "بن": "بن", "ابن": "بن", "بل": "بل", "بنت": "بنت", "بو": "بو", "ابو": "بو", "ايت": "ايت",
    "ولد": "ولد", "عبد": "عبد",
}  # fmt: skip
_ARTICLES = frozenset(("el", "al", "il", "ul", "l", "ال"))
_ASSIMILATED = re.compile("[aeiu](?:sh|ch|[szrntdl])")
_TRAILING = re.compile("(?:[aeou]|al|el|ul)?dd?ine?|الدين")
_OF_THE_RELIGION = re.compile("(?<=..)[aeou]*ddine?$")
_ARTICLE_INSIDE = re.compile("[ea]l(?=[^aeiouy]..)|[ea]l(?=[aeiouy].{4})|l(?=[^aeiouyl]..)|l(?=ah.)")
_DOUBLED_START = re.compile(r"[ea](?=([b-df-hj-np-tv-xz])\1.{2})")
_SERVANT = re.compile("abd[aeou]*(?=..[a-z]?)")


def fuzzy_keys(name: dict[str, str] | str) -> tuple[str, ...]:
    """Return the keys to index ``name`` under: at most ``MAX_KEYS`` of at most ``MAX_LETTERS`` ASCII letters.

    ``name`` is what ``pacs.names.name_keys`` takes. Spellings that ``score`` matches have the keys ``fuzzy_pattern``
    asks for; the reverse is not so. A word without a consonant (Aya) has the key ``-``.
    """
    words = [word for group in _groups(name) for word in (*group, *_joined(group))]
    return tuple(dict.fromkeys(key for word in words for key in _keys(word)))


def fuzzy_pattern(query: dict[str, str] | str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Return what a name must be indexed under to match: for any group, for every word of it, any one of its keys.

    That is necessary, not enough: ``score`` decides. Empty if ``query`` has no Latin or Arabic letter; then only an
    equal name matches.
    """
    return tuple(tuple(_keys(word, *_joined(words)) for word in words) for words in _groups(query))


def score(query: dict[str, str] | str, name: dict[str, str] | str) -> float | None:
    """Return how well ``name`` answers ``query``, from above 0.0 to 1.0, or None if it does not.

    Only names that are equal but for case and accents have 1.0. Every word of a component group of ``query`` has to be
    found in one group of ``name``, in any order and component; the name may have more words, which lowers the score.
    Wildcards separate words and mean nothing.
    """
    sought = Sought(query)
    found = [sought.score(key) for key in name_keys(name)[: len(GROUPS)]]
    return max((value for value in found if value is not None), default=None)


class Sought:
    """A name that is looked for, made ready to be compared with many."""

    def __init__(self, query: dict[str, str] | str) -> None:
        self._keys = frozenset(name_keys(query)[: len(GROUPS)])
        self._groups = _groups(query)

    def score(self, key: str) -> float | None:
        """Return what ``score`` does, for one component group of a name as ``pacs.names.name_keys`` folds it."""
        if key in self._keys:
            return 1.0
        words = _split(key)
        found = [_score_words(asked, words) for asked in self._groups] if words else []
        return max((value for value in found if value is not None), default=None)


def _score_words(asked: tuple[str, ...], words: tuple[str, ...]) -> float | None:
    """Return a score below 1.0: of words against words, or of all letters run together where spaces are misplaced."""
    costs = _match_words(asked, words) if len(asked) <= len(words) else None
    if costs is None:
        whole = _compare_words(_run_together(asked), _run_together(words))
        return None if whole is None else 0.9 * (1 - whole / 2)
    coverage = len(asked) / len(words)
    order = 0.99 if asked == words else 0.98
    return order * (0.8 + 0.2 * coverage) * (1 - sum(costs) / len(costs) / 2)


def _match_words(asked: tuple[str, ...], words: tuple[str, ...]) -> list[float] | None:
    left = list(words)
    costs: list[float] = []
    for word in asked:
        offers = [(cost, at) for at, other in enumerate(left) if (cost := _compare_words(word, other)) is not None]
        if not offers:
            return None
        cost, at = min(offers)
        del left[at]
        costs.append(cost)
    return costs


def _groups(name: dict[str, str] | str) -> tuple[tuple[str, ...], ...]:
    return tuple(words for key in name_keys(name)[: len(GROUPS)] if (words := _split(key)))


def _joined(words: tuple[str, ...]) -> tuple[str, ...]:
    return (_run_together(words),) if len(words) > 1 else ()


def _run_together(words: tuple[str, ...]) -> str:
    """Return the words of a name as one, as they are typed where Fatima Zahra is one word."""
    return "".join(words)[:MAX_LETTERS]


@lru_cache(maxsize=4096)
def _split(key: str) -> tuple[str, ...]:
    """Return the words of a folded name with their particles joined to them; articles that stand alone are gone."""
    words: list[str] = []
    leading = ""
    parts = [part[:MAX_LETTERS] for part in _NO_LETTER.split(key.translate(_DIGITS)) if part][: 3 * MAX_WORDS]
    for part, following in pairwise((*parts, "")):
        if words and not leading and _TRAILING.fullmatch(part):
            words[-1] += "دين" if _IS_ARABIC.match(part) else "ddin"
            continue
        if words and not leading and part.startswith("ال") and words[-1].endswith("ه"):
            words[-1] = words[-1][:-1] + "ة"  # folded to heh, but a t before an article: Hidayat Errahmane
        if following and _is_article(part, following):
            leading = {"ben": "bel", "بن": "بل"}.get(leading, leading)
        elif following and part in _LEADING:
            leading += _LEADING[part]
        else:
            words.append((leading + _without_article(part, leading))[:MAX_LETTERS])
            leading = ""
    return tuple(words[:MAX_WORDS])


def _is_article(part: str, following: str) -> bool:
    return part in _ARTICLES or (bool(_ASSIMILATED.fullmatch(part)) and following.startswith(part[1:]))


def _without_article(part: str, leading: str) -> str:
    return part[2:] if leading and part.startswith("ال") and len(part) > 3 else part


def _keys(*words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.key for word in words for row in _rows(word)))


@lru_cache(maxsize=16384)
def _rows(word: str) -> tuple[_Row, ...]:
    """Return the readings of one word of ``_split``."""
    is_arabic = _IS_ARABIC.search(word) is not None
    spellings = _arabic_spellings(word) if is_arabic else _latin_spellings(word)
    rows: dict[str, _Row] = {}
    for spelling, cost in spellings.items():
        for read in _read_arabic(spelling) if is_arabic else _read_latin(spelling):
            sounds = read[:MAX_LETTERS]
            key = "".join(sound for sound in sounds if sound not in _SILENT_IN_KEYS).translate(_KEY_CLASSES)
            rows.setdefault(sounds, _Row(sounds, key or "-", cost, is_arabic))
    return tuple(rows.values())[:MAX_ROWS]


def _latin_spellings(word: str) -> dict[str, float]:
    """Return ``word`` with and without what may be an article in it or a silent end, and what each guess costs."""
    word = _OF_THE_RELIGION.sub("din", word)
    if servant := _SERVANT.match(word):
        rest = word[servant.end() :]  # kept apart: there is no dj in Abd el-Jalil
        return {"abd'" + rest: 0.0, **({"abd'" + rest[1:]: 0.0} if rest[0] == "l" else {})}
    spellings = {word: 0.0}
    for article in (_ARTICLE_INSIDE, _DOUBLED_START):
        if found := article.match(word):
            spellings[word[found.end() :]] = 0.05
    if len(word) > 4 and re.search("[nr][td]$", word):
        spellings[word[:-1]] = 0.2
    return spellings


def _arabic_spellings(word: str) -> dict[str, float]:
    spellings = {word: 0.0}
    if word.startswith("ال") and len(word) > 4:
        spellings[word[2:]] = 0.05
    elif word.startswith("لح") and len(word) > 3:
        spellings[word[1:]] = 0.05
    if word.endswith("اه") and len(word) > 3:
        spellings[word[:-1] + "ت"] = 0.05  # a folded teh marbuta: Hayat, Najat
    return spellings


def _read_latin(word: str) -> list[str]:
    """Return the rows of sounds of Latin letters; an e at the end is silent."""
    word = word[:-1] if len(word) > 3 and word.endswith("e") else word
    rows = [""]
    for match in _LATIN_SOUND.finditer(word):
        sounds = _LATIN[int((match.lastgroup or "r0")[1:])][1] or (match.group(),)
        rows = [row + sound for row in rows for sound in sounds][:MAX_ROWS]
    return [_undoubled(row) for row in rows]


def _read_arabic(word: str) -> list[str]:
    rows = [""]
    for letter in word:
        rows = [row + sound for row in rows for sound in _ARABIC.get(letter, ("",))][:MAX_ROWS]
    return [_undoubled(_mark_ends(row)) for row in rows]


def _mark_ends(row: str) -> str:
    """Return ``row`` with the letters marked that are read otherwise at its ends: alef; heh (teh marbuta), yeh."""
    row = "O" + row[1:] if row.startswith("A") and len(row) > 1 else row
    return row[:-1] + _ENDS.get(row[-1], row[-1]) if len(row) > 2 else row


def _undoubled(row: str) -> str:
    return re.sub(r"([^WY])\1+", r"\1", row)  # Arabic writes two of these only if two are heard


@lru_cache(maxsize=16384)
def _compare_words(one: str, other: str) -> float | None:
    """Return what it costs to take one word for the other, below the tolerance, or None."""
    if one == other:
        return 0.0
    pairs = [(a, b) for a in _rows(one) for b in _rows(other) if a.key == b.key]
    costs = [_distance(a, b) + a.cost + b.cost - _tolerance(a, b) for a, b in pairs]
    lowest = min(costs, default=_REFUSED)
    return None if lowest > 0 else max(_TOLERANCE + lowest, _OTHERWISE_SPELLED)


def _tolerance(a: _Row, b: _Row) -> float:
    return min(_TOLERANCE, _TOLERANCE_PER_SOUND * max(len(a.sounds), len(b.sounds)))


def _distance(one: _Row, other: _Row) -> float:
    """Return the least cost of turning one row of sounds into the other, by changing and leaving out sounds."""
    one_drops = [_drop_cost(one.sounds, at, other.is_arabic) for at in range(len(one.sounds))]
    other_drops = [_drop_cost(other.sounds, at, one.is_arabic) for at in range(len(other.sounds))]
    above = [0.0]
    for cost in other_drops:
        above.append(above[-1] + cost)
    for start, (sound, dropped) in enumerate(zip(one.sounds, one_drops, strict=True)):
        row = [above[0] + dropped]
        for at, against in enumerate(other.sounds):
            changed = above[at] + _change_cost(sound, against) * (_FIRST_COUNTS if start == at == 0 else 1)
            row.append(min(changed, above[at + 1] + dropped, row[at] + other_drops[at]))
        if min(row) > _TOLERANCE:
            return _REFUSED
        above = row
    return above[-1]


# What it costs to change one sound into another, either way; what is not here cannot be changed.
_CHANGES = {
    "sz": 0.3, "pb": 0.15, "vf": 0.1, "qk": 0.0, "qg": 0.1, "kg": 0.25, "gG": 0.1,
    "ae": 0.05, "ei": 0.15, "ai": 0.65, "au": 0.5, "eu": 0.35, "iu": 0.65,
    "Aa": 0.0, "Ae": 0.0, "Ai": 0.5, "Au": 0.6, "Wu": 0.0, "We": 0.5, "Wa": 0.6, "Wi": 0.6,
    "Yi": 0.0, "Ye": 0.15, "Ii": 0.0, "Ie": 0.15, "Ia": 0.25, "IA": 0.1, "IY": 0.0, "Ha": 0.0, "Hh": 0.0, "He": 0.1,
    "@a": 0.0, "@e": 0.0, "@i": 0.0, "@u": 0.0, "Oa": 0.0, "Oe": 0.0, "Oi": 0.0, "Ou": 0.0, "HA": 0.1, "OA": 0.0,
}  # fmt: skip
_CHANGE_COSTS = {(a, b): cost for pair, cost in _CHANGES.items() for a, b in (tuple(pair), tuple(pair[::-1]))}

_VOWELS = frozenset("aeiuAWY@OHI")

# What it costs that the other word lacks a sound: at the end, a letter of Arabic, at the start, and between two others;
# less if the other word is Arabic, where short vowels are not written, or if another vowel is beside it.
_LAST_DROPS = {"h": 0.1, "@": 0.05}
_WRITTEN_DROPS = {"A": 0.35, "W": 0.7, "Y": 0.7, "@": 0.05, "O": 0.1, "h": 0.65}
_TWICE_DROP = 0.1  # of two letters for one long vowel
_FIRST_DROPS = {"a": 0.45, "e": 0.3, "i": 0.3, "u": 0.6}
_INNER_DROPS = {"a": 0.3, "e": 0.1, "i": 0.65, "u": 0.3}
_UNWRITTEN_DROPS = {"a": 0.05, "e": 0.02, "i": 0.25, "u": 0.15}
_GLIDE_DROPS = {"a": 0.1, "e": 0.1, "i": 0.15, "u": 0.65}
_UNWRITTEN_GLIDE_DROPS = {"a": 0.05, "e": 0.02, "i": 0.5, "u": 0.25}  # Arabic writes what is heard as y or w

_FIRST_COUNTS = 1.3
"""How much more the first sounds of two words count than others."""


def _change_cost(a: str, b: str) -> float:
    return 0.0 if a == b else _CHANGE_COSTS.get((a, b), _REFUSED)


def _drop_cost(row: str, at: int, is_arabic: bool) -> float:
    """Return what it costs that the other row, perhaps an Arabic one, lacks the sound ``row[at]``."""
    sound, is_first, is_last = row[at], at == 0, at == len(row) - 1
    if sound not in _VOWELS and sound != "h":
        return _REFUSED
    if is_last:
        return _LAST_DROPS.get(sound, 1.0)
    if is_first and sound in _FIRST_DROPS:
        return _FIRST_DROPS[sound]
    if sound in "WY" and sound in row[max(at - 1, 0) : at] + row[at + 1]:
        return _TWICE_DROP
    if sound in _WRITTEN_DROPS:
        return _WRITTEN_DROPS[sound]
    drops = (_UNWRITTEN_DROPS, _UNWRITTEN_GLIDE_DROPS) if is_arabic else (_INNER_DROPS, _GLIDE_DROPS)
    return drops[row[at - 1] in _VOWELS or row[at + 1] in _VOWELS][sound]
