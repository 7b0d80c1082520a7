"""The data set of one object as it may be seen: every element by its rule, at any depth, and what was done noted.

An element that no rule keeps is never decoded. Text comes out in UTF-8 whatever it was in; the character set of every
item counts on the way in, and goes.
"""

import re
from collections.abc import Callable

from pydicom._uid_dict import UID_dictionary

from pacs.deid import codes
from pacs.deid.charsets import UNDECLARED, decode_text, encodings_of
from pacs.deid.icc import clean_profile
from pacs.deid.keys import ProjectKey, Subject
from pacs.deid.known import MIN_NUMBER, KnownValues
from pacs.deid.moments import cap_age, keep_time, shift_date, shift_date_time
from pacs.deid.reading import Element, Elements
from pacs.deid.report import Action, Deed
from pacs.deid.rules import TEXT_VRS, Act, Rule, RuleBook
from pacs.deid.words import clean_text, is_medical
from pacs.deid.writing import encode_element, encode_sequence

SPECIFIC_CHARACTER_SET = 0x00080005
CONTENT_SEQUENCE, CONCEPT_NAME, NUMERIC_VALUE, MEASURED_VALUE = 0x0040A730, 0x0040A043, 0x0040A30A, 0x0040A300
SUBJECT_BIRTH_DATE, SUBJECT_AGE = "121031", "121033"

REMOVED = "REMOVED"
_DUMMIES = {
    "AE": b"REMOVED", "AS": b"000Y", "CS": b"REMOVED", "DA": b"19000101", "DS": b"0", "DT": b"19000101000000",
    "IS": b"0", "LO": b"REMOVED", "LT": b"REMOVED", "PN": b"REMOVED", "SH": b"REMOVED", "ST": b"REMOVED",
    "TM": b"000000", "UC": b"REMOVED", "UR": b"removed:", "UT": b"REMOVED",
}  # fmt: skip
_GATHERED = TEXT_VRS | {"UI"}
_ONE_VALUE = frozenset({"ST", "LT", "UT", "UR"})
_CODE_STRING = re.compile(r"[A-Z0-9 _]{0,16}")
_WORD = re.compile(r"[^\W_]+")
_CHECKS = {
    vr: re.compile(rb"(?:%b)?(?:\\(?:%b)?)*[ \0]*" % (form, form))
    for vr, form in {
        "CS": rb"[A-Z0-9 _]{0,16}",
        "DS": rb" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})? *",
        "IS": rb" *[+-]?[0-9]{1,11} *",
        "DA": rb"[0-9]{8}|[0-9]{4}\.[0-9]{2}\.[0-9]{2}",
        "TM": rb"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)? *",
        "DT": rb"[0-9]{4,14}(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})? *",
        "SH": rb"[+-][0-9]{4} *",
    }.items()
}
_TELLING = re.compile(r"@|\d(?:[\s./-]?\d){8}|(?<![^\W_])[A-Za-z]{1,4}[\s-]?\d{5,}")
"""An address, a phone, an identity card: in text that names devices there is no place for them."""
_PHONE = re.compile(r"0[5-8]\d{8}|\+?212\d{9}", re.ASCII)
_BODY_PART_EXAMINED = 0x00180015
_LONG_NUMBER = re.compile(r"\d(?:[\s_.-]?\d){6}")

Encodings = tuple[str, ...]


class Transformer:
    """De-identifies the elements of one object. ``actions`` is what was done so far."""

    def __init__(
        self,
        book: RuleBook,
        key: ProjectKey,
        subject: Subject,
        known: KnownValues,
        released: frozenset[int] = frozenset(),
    ) -> None:
        """``released`` are attributes that a person has looked at, and that stay as they are."""
        self._released = released
        self._book = book
        self._key = key
        self._shift = subject.shift_days
        self._known = known
        self.actions: list[Action] = []
        self._do: dict[Act, Callable[[Element, Rule, Encodings], bytes | None]] = {
            Act.COPY: self._copy,
            Act.CHECK: self._check,
            Act.TEXT: self._keep_text,
            Act.CLEAN: self._clean,
            Act.SHIFT: self._shift_moment,
            Act.TIME: self._keep_time,
            Act.MAP: self._map,
            Act.AGE: self._cap_age,
            Act.ICC: self._clean_icc,
            Act.KEYED: self._key_value,
            Act.EMPTY: self._empty,
            Act.DUMMY: self._replace,
        }

    def transform(self, elements: Elements, prefix: str = "", encodings: Encodings = UNDECLARED) -> dict[int, bytes]:
        """Return the elements that stay, encoded, by tag. ``prefix`` is the path of the item that they are in."""
        charset = elements.get(SPECIFIC_CHARACTER_SET)
        if charset is not None:
            encodings = encodings_of(charset.value)
        kept: dict[int, bytes] = {}
        creators: dict[int, str] | None = None
        if codes.DESIGNATOR in elements:
            kept = self._transform_code(elements, prefix, encodings)
        for tag, element in elements.items():
            if tag in kept or tag == SPECIFIC_CHARACTER_SET:
                continue
            if tag >> 16 & 1:
                if creators is None:
                    creators = _creators_of(elements, encodings)
                self._transform_private(element, creators, prefix, encodings, kept)
                continue
            rule = self._book.find(tag, element.vr)
            encoded = self._transform_element(element, rule, prefix, encodings)
            if encoded is not None:
                kept[tag] = encoded
        return kept

    def note(self, path: str, deed: Deed, rule: str) -> None:
        """Add a line to the report."""
        self.actions.append(Action(path, deed, rule))

    def map_uid(self, uid: str) -> str:
        """Return the project's UID for another; what the standard itself has registered stays."""
        return uid if not uid or uid in UID_dictionary else self._key.derive_uid(uid)

    def _transform_element(self, element: Element, rule: Rule, prefix: str, encodings: Encodings) -> bytes | None:
        path = f"{prefix}{element.tag:08X}"
        act = rule.act
        if element.tag in self._released:
            self.note(path, Deed.KEPT, "released by a person")
            return encode_element(element.tag, element.vr, element.value)
        if act is Act.REMOVE:
            self.note(path, Deed.REMOVED, rule.name)
            return None
        if element.items is not None:
            return self._transform_sequence(element.tag, element.items, rule, path, encodings)
        encoded = self._do[act](element, rule, encodings)
        if encoded is None:
            self.note(path, Deed.REMOVED, f"{rule.name}, nothing left")
        elif len(encoded) <= 12 and element.value.strip(b" \0") and not encoded[8:]:
            self.note(path, Deed.EMPTIED, rule.name if act is Act.EMPTY else f"{rule.name}, no value of its VR")
        elif rule.is_reported:
            self.note(path, rule.deed, rule.name)
        return encoded

    def _transform_sequence(
        self, tag: int, items: list[Elements], rule: Rule, path: str, encodings: Encodings
    ) -> bytes | None:
        if rule.act is Act.EMPTY:
            self.note(path, Deed.EMPTIED, rule.name)
            return encode_sequence(tag, [])
        if rule.act is Act.DUMMY:
            self.note(path, Deed.REPLACED, rule.name)
            return encode_sequence(tag, [self._dummy_item(item) for item in items[:1]])
        if rule.act is not Act.RECURSE:
            self.note(path, Deed.REMOVED, rule.name)
            return None
        kept = []
        for number, item in enumerate(items):
            place = f"{path}[{number}]"
            if tag == CONTENT_SEQUENCE and _concept_of(item) == SUBJECT_BIRTH_DATE:
                self.note(place, Deed.REMOVED, "birth date in structured content")
                continue
            parts = self.transform(item, f"{place}.", encodings)
            if tag == CONTENT_SEQUENCE and _concept_of(item) == SUBJECT_AGE:
                self._cap_measured_age(item, parts, place)
            kept.append(b"".join([parts[tag] for tag in sorted(parts)]))
        return encode_sequence(tag, kept)

    def _dummy_item(self, item: Elements) -> bytes:
        """Return an item with nothing of the original but which attributes it had."""
        parts = []
        for tag in sorted(item):
            element = item[tag]
            rule = self._book.find(tag, element.vr)
            if tag >> 16 & 1 or rule.act is Act.REMOVE:
                continue
            if element.items is not None:
                items = [] if rule.act is Act.EMPTY else [self._dummy_item(inner) for inner in element.items[:1]]
                parts.append(encode_sequence(tag, items))
            elif rule.act is Act.SHIFT:
                parts.append(self._shift_moment(element, rule, UNDECLARED))
            elif element.vr == "UI":
                parts.append(self._map(element, rule, UNDECLARED))
            elif rule.vr in _DUMMIES:
                parts.append(self._replace(element, rule, UNDECLARED))
        return b"".join(parts)

    def _cap_measured_age(self, item: Elements, parts: dict[int, bytes], path: str) -> None:
        """Take an age over 89 out of a numeric content item."""
        measured = item.get(MEASURED_VALUE)
        for value in (measured.items or []) if measured is not None else []:
            number = value.get(NUMERIC_VALUE)
            try:
                is_old = number is not None and float(number.value.strip(b" \0") or b"0") > 89
            except ValueError:
                is_old = True
            if is_old:
                parts.pop(MEASURED_VALUE, None)
                self.note(f"{path}.{MEASURED_VALUE:08X}", Deed.REMOVED, "age over 89 in structured content")

    def _transform_code(self, elements: Elements, prefix: str, encodings: Encodings) -> dict[int, bytes]:
        """Return the elements of a coded entry that its code decides."""
        text = {
            tag: decode_text(elements[tag].value, encodings).strip(" \0")
            for tag in (codes.CODE_VALUE, codes.LONG_CODE_VALUE, codes.DESIGNATOR, codes.MEANING)
            if tag in elements and elements[tag].items is None
        }
        designator = text.get(codes.DESIGNATOR, "")
        kept: dict[int, bytes] = {}
        if not codes.is_public_scheme(designator) and designator:
            kept[codes.DESIGNATOR] = encode_element(codes.DESIGNATOR, "SH", codes.PRIVATE_DESIGNATOR.encode())
            self.note(f"{prefix}{codes.DESIGNATOR:08X}", Deed.REPLACED, "private coding scheme")
        meaning = ""
        for tag in (codes.CODE_VALUE, codes.LONG_CODE_VALUE):
            value = text.get(tag)
            if not value:
                continue
            meaning = meaning or codes.meaning_of(designator, value)
            if codes.is_public(designator, value):
                kept[tag] = encode_element(tag, "SH" if tag == codes.CODE_VALUE else "UC", value.encode())
            else:
                keyed = codes.key_code(self._key, designator, value)
                kept[tag] = encode_element(tag, "SH" if tag == codes.CODE_VALUE else "UC", keyed.encode())
                self.note(f"{prefix}{tag:08X}", Deed.REPLACED, "code of a private scheme, by the project's key")
        if text.get(codes.MEANING):
            meaning = meaning or clean_text(text[codes.MEANING], self._known.words) or REMOVED
            kept[codes.MEANING] = encode_element(codes.MEANING, "LO", meaning.encode()[:64])
            self.note(f"{prefix}{codes.MEANING:08X}", Deed.CLEANED, "meaning from the code")
        return kept

    def _transform_private(
        self,
        element: Element,
        creators: dict[int, str],
        prefix: str,
        encodings: Encodings,
        kept: dict[int, bytes],
    ) -> None:
        tag = element.tag
        block = tag & 0xFF00
        if not block:
            # A creator; it comes along with the first of its elements that stays.
            return
        creator = creators.get(tag >> 16 << 8 | block >> 8, "")
        rule = self._book.find_private(creator, tag, element.vr) if creator else None
        if rule is None or element.items is not None:
            self.note(f"{prefix}{tag:08X}", Deed.REMOVED, "E.1-1 Private Attributes X")
            return
        encoded = self._transform_element(element, rule, prefix, encodings)
        if encoded is not None:
            kept[tag] = encoded
            place = tag & 0xFFFF0000 | block >> 8
            kept[place] = encode_element(place, "LO", creator.encode())

    def _copy(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        return encode_element(element.tag, rule.vr, element.value)

    def _check(self, element: Element, rule: Rule, encodings: Encodings) -> bytes:
        vr, value = rule.vr, element.value
        form = _CHECKS.get(vr)
        if form is None or form.fullmatch(value) is None:
            if vr != "CS":
                return encode_element(element.tag, vr, b"")
            value = decode_text(value, encodings).encode("ascii", "replace")
        text = value.decode("ascii")
        if vr == "CS":
            parts = [self._check_code_string(element.tag, part.strip(" \0")) for part in text.split("\\")]
            return encode_element(element.tag, vr, "\\".join(parts).encode())
        if len(text) >= MIN_NUMBER and any(self._tells(part.strip(" \0")) for part in text.split("\\")):
            value = b""
        return encode_element(element.tag, vr, value)

    def _check_code_string(self, tag: int, text: str) -> str:
        """Return one value of CS, another if it tells of somebody; what is none is text that somebody typed."""
        if _CODE_STRING.fullmatch(text) is None:
            text = clean_text(text.replace("?", ""), self._known.words).upper()[:16].strip()
        if _LONG_NUMBER.search(text) or _TELLING.search(text) or self._names_someone(tag, text):
            return "" if tag == _BODY_PART_EXAMINED else REMOVED
        return text

    def _names_someone(self, tag: int, text: str) -> bool:
        """Whether a coded string is more than one. A body part is typed by people on many a device."""
        is_typed = tag == _BODY_PART_EXAMINED
        return (is_typed or self._known.holds(text)) and not all(is_medical(word) for word in _WORD.findall(text))

    def _tells(self, number: str) -> bool:
        return self._known.is_value(number) or _PHONE.fullmatch(number) is not None

    def _keep_text(self, element: Element, rule: Rule, encodings: Encodings) -> bytes:
        text = decode_text(element.value, encodings).rstrip(" \0")
        parts = [text] if rule.vr in _ONE_VALUE else text.split("\\")
        kept = [self._known.scrub(_TELLING.sub("", part)) or (REMOVED if part.strip() else "") for part in parts]
        return encode_element(element.tag, rule.vr, "\\".join(kept).encode())

    def _clean(self, element: Element, rule: Rule, encodings: Encodings) -> bytes | None:
        text = decode_text(element.value, encodings).strip(" \0")
        if not text:
            return encode_element(element.tag, rule.vr, b"")
        parts = [text] if rule.vr in _ONE_VALUE else text.split("\\")
        cleaned = "\\".join(clean_text(part, self._known.words) for part in parts)
        if not cleaned.strip("\\"):
            return None if rule.may_vanish else encode_element(element.tag, rule.vr, REMOVED.encode())
        return encode_element(element.tag, rule.vr, cleaned.encode())

    def _shift_moment(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        text = element.value.decode("ascii", "replace")
        shift = shift_date if rule.vr == "DA" else shift_date_time
        return encode_element(element.tag, rule.vr, shift(text, self._shift).encode())

    def _keep_time(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        return encode_element(element.tag, rule.vr, keep_time(element.value.decode("ascii", "replace")).encode())

    def _map(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        uids = element.value.decode("ascii", "replace").split("\\")
        mapped = "\\".join(self.map_uid(uid.strip(" \0")) for uid in uids)
        return encode_element(element.tag, rule.vr, mapped.encode())

    def _cap_age(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        ages = element.value.decode("ascii", "replace").split("\\")
        return encode_element(element.tag, rule.vr, "\\".join(cap_age(age) for age in ages).encode())

    def _clean_icc(self, element: Element, rule: Rule, _: Encodings) -> bytes | None:
        cleaned = clean_profile(element.value)
        return None if cleaned is None else encode_element(element.tag, rule.vr, cleaned)

    def _key_value(self, element: Element, rule: Rule, encodings: Encodings) -> bytes:
        text = decode_text(element.value, encodings).strip(" \0")
        keyed = self._key.derive_code(f"{element.tag:08X}", text, 16) if text else ""
        return encode_element(element.tag, rule.vr, keyed.encode())

    def _empty(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        return encode_element(element.tag, rule.vr, b"")

    def _replace(self, element: Element, rule: Rule, _: Encodings) -> bytes:
        dummy = _DUMMIES.get(rule.vr, b"\0" * min(len(element.value), 8))
        return encode_element(element.tag, rule.vr, dummy if element.value.strip(b" \0") else b"")


def gather(elements: Elements, book: RuleBook, known: KnownValues, encodings: Encodings = UNDECLARED) -> None:
    """Note what identifies the patient, at any depth, before anything is decided."""
    charset = elements.get(SPECIFIC_CHARACTER_SET)
    if charset is not None:
        encodings = encodings_of(charset.value)
    for tag, element in elements.items():
        if tag >> 16 & 1:
            continue
        if element.items is not None:
            for item in element.items:
                gather(item, book, known, encodings)
        elif element.vr in _GATHERED:
            _gather_value(element, book.find(tag, element.vr), known, encodings)


def _gather_value(element: Element, rule: Rule, known: KnownValues, encodings: Encodings) -> None:
    if element.vr == "PN":
        known.add_name(decode_text(element.value, encodings))
    elif element.vr == "UI":
        if rule.act is Act.MAP:
            for uid in element.value.decode("ascii", "replace").split("\\"):
                if uid.strip(" \0") not in UID_dictionary:
                    known.add_uid(uid.strip(" \0"))
    elif rule.identifies:
        for part in decode_text(element.value, encodings).split("\\"):
            known.add_value(part)


def _creators_of(elements: Elements, encodings: Encodings) -> dict[int, str]:
    """Return the private creators of a data set by group and block, as one number."""
    return {
        tag >> 16 << 8 | tag & 0xFF: decode_text(element.value, encodings).strip(" \0")
        for tag, element in elements.items()
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF and element.items is None
    }


def _concept_of(item: Elements) -> str:
    """Return the code of what a content item is about, empty unless it is one of DCM."""
    name = item.get(CONCEPT_NAME)
    for concept in (name.items or [])[:1] if name is not None else []:
        value, designator = concept.get(codes.CODE_VALUE), concept.get(codes.DESIGNATOR)
        if value is not None and designator is not None and designator.value.strip(b" \0") == b"DCM":
            return value.value.strip(b" \0").decode("ascii", "replace")
    return ""
