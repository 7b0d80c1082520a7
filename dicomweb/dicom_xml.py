"""The Native DICOM Model in XML (PS3.19 A.1) from and to the DICOM JSON model, one data set at a time.

The writer takes what the archive holds; the parser takes what a stranger sends. It knows no document type definition
and no entity, holds no more of the text than one value, and counts depth, elements and values: whatever it is fed, it
raises nothing but InvalidXml, whose sentence names a line and never a value.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from xml.parsers import expat

from dicomweb.errors import InvalidXml
from pacs.model import Attributes
from pacs.names import GROUPS
from pacs.tags import keyword_of, vr_of

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_DEPTH = 64
MAX_VALUES = 2_000_000
MAX_ELEMENTS = 2_000_000

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

# XML 1.0 has no way to write these, not even as references. Something stood there, and the reader may know.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\ufffd"
# A parser turns a lone CR into LF, and line ends in attributes into spaces.
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_QUOTED = _TEXT | str.maketrans({'"': "&quot;", "\t": "&#9;", "\n": "&#10;"})


def encode(attributes: Attributes) -> bytes:
    """Return a data set as a document of its own, in UTF-8.

    Private elements are written as PS3.19 Table A.1.5-2 has it: the block is left out and its creator named. Characters
    that XML has no place for come out as U+FFFD.
    """
    return "".join((_HEAD, *_write_data_set(attributes), "</NativeDicomModel>")).encode()


def _write_data_set(attributes: Attributes) -> Iterator[str]:
    creators = _Creators(attributes)
    for tag, element in attributes.items():
        vr = str(element["vr"])
        number, creator = creators.find(tag)
        keyword = "" if creator else keyword_of(tag)
        yield f'<DicomAttribute tag="{number}" vr="{_quote(vr)}"'
        yield f' keyword="{keyword}">' if keyword else f' privateCreator="{_quote(creator)}">' if creator else ">"
        if "BulkDataURI" in element:
            yield f'<BulkData uri="{_quote(str(element["BulkDataURI"]))}"/>'
        elif "InlineBinary" in element:
            yield f"<InlineBinary>{_escape(str(element['InlineBinary']))}</InlineBinary>"
        else:
            yield from _write_values(vr, element.get("Value") or ())
        yield "</DicomAttribute>"


def _write_values(vr: str, values: Iterable[Any]) -> Iterator[str]:
    for number, value in enumerate(values, 1):
        if vr == "SQ":
            yield f'<Item number="{number}">'
            yield from _write_data_set(value or {})
            yield "</Item>"
        elif vr == "PN":
            yield f'<PersonName number="{number}">'
            yield from _write_name(value if isinstance(value, dict) else {"Alphabetic": _spell(value)})
            yield "</PersonName>"
        else:
            yield f'<Value number="{number}">{_escape(_spell(value))}</Value>'


def _write_name(name: dict[str, Any]) -> Iterator[str]:
    for group in GROUPS:
        text = _spell(name.get(group))
        if not text.strip("^"):
            continue
        yield f"<{group}>"
        # Further components than five do not exist; what stands there all the same stays with the last one.
        for component, part in zip(_COMPONENTS, text.split("^", len(_COMPONENTS) - 1), strict=False):
            if part:
                yield f"<{component}>{_escape(part)}</{component}>"
        yield f"</{group}>"


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return "" if value is None else str(value)


def _escape(text: str) -> str:
    return _FORBIDDEN.sub(_REPLACEMENT, text).translate(_TEXT)


def _quote(text: str) -> str:
    return _FORBIDDEN.sub(_REPLACEMENT, text).translate(_QUOTED)


class _Creators:
    """Whose the private elements of a data set are (PS3.5 7.8.1)."""

    def __init__(self, attributes: Attributes) -> None:
        self._names: dict[str, str] = {}
        self._first: dict[tuple[str, str], str] = {}
        for tag, element in attributes.items():
            values = element.get("Value", ())
            if is_creator(tag) and len(values) == 1 and isinstance(values[0], str):
                self._names[tag] = values[0]
                self._first.setdefault((tag[:4], values[0]), tag[6:])

    def find(self, tag: str) -> tuple[str, str]:
        """Return the tag to write, and the creator, empty if there is none.

        Where one creator has reserved two blocks, elements of the second keep theirs: nothing else tells them apart.
        """
        name = self._names.get(f"{tag[:4]}00{tag[4:6]}", "")
        if not name or tag[4:6] == "00":
            return tag, ""
        is_first = self._first[tag[:4], name] == tag[4:6]
        return (f"{tag[:4]}00{tag[6:]}" if is_first else tag), name


def is_creator(tag: str) -> bool:
    """Whether the tag is one of those that reserve a block of private elements."""
    return int(tag[3], 16) % 2 == 1 and tag[4:6] == "00" and tag[6] != "0"


_CHILDREN: dict[str, frozenset[str]] = {
    "": frozenset({"NativeDicomModel"}),
    "NativeDicomModel": frozenset({"DicomAttribute"}),
    "Item": frozenset({"DicomAttribute"}),
    "DicomAttribute": frozenset({"Value", "Item", "PersonName", "BulkData", "InlineBinary"}),
    "PersonName": frozenset(GROUPS),
    **dict.fromkeys(GROUPS, frozenset(_COMPONENTS)),
}
_WITH_TEXT = frozenset({"Value", "InlineBinary", *_COMPONENTS})
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_VR = re.compile(r"[A-Z]{2}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")
_INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMAL_VRS = frozenset({"DS", "FD", "FL"})
_UNSET = object()


@dataclass(slots=True)
class _DataSet:
    """A data set or item under way; ``private`` waits for all creators to be known: key, creator, element."""

    attributes: Attributes = field(default_factory=dict)
    private: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class _Attribute:
    """An attribute under way, into the data set around it."""

    tag: str
    vr: str
    creator: str
    values: list[Any] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    """An XML element under way: its name, what it makes, and its number, from which on values count from 1."""

    name: str
    made: Any = None
    number: int = 0
    text: list[str] = field(default_factory=list)


class ModelParser:
    """Takes one document in pieces, cut anywhere, and gives its data set in the DICOM JSON model. Used once.

    ``elements_left`` is how many XML elements it may still have.
    """

    def __init__(self, elements_left: int = MAX_ELEMENTS) -> None:
        self._expat = expat.ParserCreate(namespace_separator=" ")
        self._expat.buffer_text = True
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._add_text
        self._open = [_Open("")]
        self._depth = 0
        self.elements_left = elements_left
        self._values_left = MAX_VALUES
        self._model: Attributes = {}

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes; raise InvalidXml once they make no sense."""
        self._parse(bytes(data), is_final=False)

    def finish(self) -> Attributes:
        """Return the data set in the order of its tags; raise InvalidXml if the document is not over."""
        self._parse(b"", is_final=True)
        return self._model

    def _parse(self, data: bytes, *, is_final: bool) -> None:
        try:
            self._expat.Parse(data, is_final)
        except expat.ExpatError as error:
            raise InvalidXml(f"The XML is malformed in line {error.lineno}.") from None
        except (ValueError, LookupError):
            raise InvalidXml("The XML is in an encoding that is not known here.") from None

    def _error(self, what: str) -> InvalidXml:
        return InvalidXml(f"{what} in line {self._expat.CurrentLineNumber} of the XML.")

    def _refuse(self, *_: object) -> None:
        raise self._error("There is a document type definition, which is not taken,")

    def _start(self, expanded: str, fields: dict[str, str]) -> None:
        namespace, _, name = expanded.rpartition(" ")
        around = self._open[-1]
        if name not in _CHILDREN.get(around.name, ()) or namespace not in ("", NAMESPACE):
            raise self._error("There is an element that has no place")
        self.elements_left -= 1
        if self.elements_left < 0:
            raise self._error("There are too many elements")
        opened = _Open(name)
        match name:
            case "NativeDicomModel" | "Item":
                opened.made = _DataSet()
                self._depth += 1
                if self._depth > MAX_DEPTH + 1:
                    raise self._error(f"Sequences nest deeper than {MAX_DEPTH} levels")
            case "DicomAttribute":
                opened.made = self._begin_attribute(fields)
            case "BulkData":
                address = fields.get("uri") or fields.get("uuid") or ""
                self._set_other(around.made, "BulkDataURI", address)
            case "PersonName":
                opened.made = {}
            case "Alphabetic" | "Ideographic" | "Phonetic":
                opened.made = [""] * len(_COMPONENTS)
            case _:
                pass
        if name in ("Value", "Item", "PersonName"):
            opened.number = self._reserve(around.made, name, fields.get("number"))
        self._open.append(opened)

    def _begin_attribute(self, fields: dict[str, str]) -> _Attribute:
        tag, vr, creator = fields.get("tag", ""), fields.get("vr", ""), fields.get("privateCreator", "")
        if not _TAG.fullmatch(tag) or (vr and not _VR.fullmatch(vr)):
            raise self._error("There is an attribute without a proper tag or VR")
        tag = tag.upper()
        keyword = "" if creator else keyword_of(tag)
        return _Attribute(tag, vr or (vr_of(keyword)[:2] if keyword else "UN"), creator)

    def _reserve(self, attribute: _Attribute, name: str, text: str | None) -> int:
        """Return the index of a value, and keep its place: numbers may come in any order, and some not at all."""
        expected = {"SQ": "Item", "PN": "PersonName"}.get(attribute.vr, "Value")
        values = attribute.values
        if name != expected or (text is not None and not _NUMBER.fullmatch(text)) or attribute.others:
            raise self._error("There is a value that does not fit its attribute")
        index = len(values) if text is None else int(text) - 1
        self._values_left -= max(index + 1 - len(values), 0)
        if self._values_left < 0:
            raise self._error("There are too many values")
        values.extend([_UNSET] * (index + 1 - len(values)))
        if index < 0 or values[index] is not _UNSET:
            raise self._error("There is a value whose number is taken")
        values[index] = None
        return index

    def _set_other(self, attribute: _Attribute, key: str, text: str) -> None:
        if attribute.values or attribute.others:
            raise self._error("There is a value that does not fit its attribute")
        attribute.others[key] = text

    def _add_text(self, text: str) -> None:
        around = self._open[-1]
        if around.name in _WITH_TEXT:
            around.text.append(text)
        elif not text.isspace():
            raise self._error("There is text where none may be")

    def _end(self, _: str) -> None:
        closed = self._open.pop()
        around, text = self._open[-1], "".join(closed.text)
        match closed.name:
            case "NativeDicomModel" | "Item":
                self._depth -= 1
                attributes = self._finish_data_set(closed.made)
                if closed.name == "Item":
                    around.made.values[closed.number] = attributes
                else:
                    self._model = attributes
            case "DicomAttribute":
                self._finish_attribute(around.made, closed.made)
            case "Value":
                around.made.values[closed.number] = _convert(around.made.vr, text)
            case "PersonName":
                around.made.values[closed.number] = closed.made or None
            case "InlineBinary":
                self._set_other(around.made, "InlineBinary", "".join(text.split()))
            case "Alphabetic" | "Ideographic" | "Phonetic":
                if joined := "^".join(closed.made).rstrip("^"):
                    around.made[closed.name] = joined
            case component if component in _COMPONENTS:
                around.made[_COMPONENTS.index(component)] = text
            case _:
                pass

    def _finish_attribute(self, data_set: _DataSet, attribute: _Attribute) -> None:
        element: dict[str, Any] = {"vr": attribute.vr, **attribute.others}
        values = [None if value is _UNSET else value for value in attribute.values]
        if values and values != [None]:
            element["Value"] = values
        if attribute.creator and int(attribute.tag[3], 16) % 2:
            data_set.private.append((attribute.tag, attribute.creator, element))
        else:
            self._add(data_set.attributes, attribute.tag, element)

    def _add(self, attributes: Attributes, tag: str, element: dict[str, Any]) -> None:
        if tag in attributes:
            raise self._error("There is an attribute twice in a data set that ends")
        attributes[tag] = element

    def _finish_data_set(self, data_set: _DataSet) -> Attributes:
        """Give private elements their blocks, those of their creators or free ones, and return all in order."""
        attributes = data_set.attributes
        blocks: dict[tuple[str, str], str] = {}
        taken: dict[str, set[str]] = {}
        for tag in sorted(attributes) if data_set.private else ():
            taken.setdefault(tag[:4], set()).add(tag[6:] if tag[4:6] == "00" else tag[4:6])
            if is_creator(tag):
                name = next(iter(attributes[tag].get("Value", ())), None)
                blocks.setdefault((tag[:4], str(name)), tag[6:])
        for tag, _, _ in data_set.private:
            taken.setdefault(tag[:4], set()).add(tag[4:6])
        for tag, creator, element in data_set.private:
            group, block = tag[:4], tag[4:6]
            reserved = attributes.get(f"{group}00{block}", {}).get("Value")
            if block == "00" or (reserved and reserved != [creator]):
                block = blocks.get((group, creator)) or self._take_free_block(taken[group])
            blocks.setdefault((group, creator), block)
            attributes.setdefault(f"{group}00{block}", {"vr": "LO", "Value": [creator]})
            self._add(attributes, f"{group}{block}{tag[6:]}", element)
        return dict(sorted(attributes.items()))

    def _take_free_block(self, taken: set[str]) -> str:
        block = next((name for number in range(0x10, 0x100) if (name := f"{number:02X}") not in taken), "")
        if not block:
            raise self._error("There are too many private creators in a data set that ends")
        taken.add(block)
        return block


def _convert(vr: str, text: str) -> Any:
    """Return the value as the JSON model has it; text that is none of its VR stays text, for who reads it to judge."""
    if vr in _INTEGER_VRS and _INTEGER.fullmatch(text.strip()) and -(1 << 63) <= (number := int(text)) < 1 << 64:
        return number
    if vr in _DECIMAL_VRS and _DECIMAL.fullmatch(text.strip()) and isfinite(decimal := float(text)):
        return decimal
    if vr == "AT":
        return text.strip().upper() or None
    return text or None
