"""Finding values that must not be there: in any encoding that bytes can have, and inside what is packed into them."""

import base64
import gzip
import html
import io
import json
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

MIN_LENGTH = 5
"""Shorter values are everywhere by chance."""

_CODECS = ("utf-8", "latin-1", "cp1252", "iso8859-6", "cp1256", "utf-16-le", "utf-16-be", "utf-32-le")
_UID = b"0123456789."
_MAX_DEPTH = 3
_PACKED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Leak:
    """A value that was found, and where: never printed with more of its surroundings than that."""

    place: str
    value: str
    how: str


class Scanner:
    """Knows the spellings of every value that must not be found."""

    def __init__(self, values: Iterable[str]) -> None:
        self._spellings: dict[bytes, tuple[str, str]] = {}
        for value in values:
            assert len(value) >= MIN_LENGTH, f"{value!r} is too short to be looked for"
            for how, spelling in _spell(value):
                self._spellings.setdefault(spelling, (value, how))

    @property
    def count(self) -> int:
        """How many spellings are looked for."""
        return len(self._spellings)

    def scan(self, place: str, content: bytes | str, depth: int = 0) -> list[Leak]:
        """Return what is found in the bytes, in their lower case, and in whatever is packed into them."""
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else bytes(content)
        found = []
        for text in {data, data.lower()}:
            for spelling, (value, how) in self._spellings.items():
                if _occurs(spelling, text, in_uids=not value.isdecimal()):
                    found.append(Leak(place, value, how))
        if depth < _MAX_DEPTH:
            for name, inner in unpack(data):
                found += self.scan(f"{place} > {name}", inner, depth + 1)
        return found


def _occurs(spelling: bytes, text: bytes, *, in_uids: bool) -> bool:
    """Whether bytes hold a spelling; without ``in_uids`` not only among the digits of UIDs that were derived.

    Those are random, and hold every short number by chance: once in a few thousand runs, a date.
    """
    start = text.find(spelling)
    while start >= 0 and not in_uids:
        begin = start
        while begin > 0 and text[begin - 1] in _UID:
            begin -= 1
        if not text[begin : start + len(spelling)].startswith(b"2.25."):
            break
        start = text.find(spelling, start + 1)
    return start >= 0


def unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what is packed into bytes: members of a ZIP file with their names, a gzip or zlib stream, a table."""
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            for entry in opened.infolist():
                yield "name", entry.filename.encode() + entry.comment + entry.extra
                yield entry.filename, opened.read(entry)
    elif data.startswith(b"\x1f\x8b"):
        yield "gzip", gzip.decompress(data)
    elif data[:1] == b"\x78" and len(data) > 2 and int.from_bytes(data[:2], "big") % 31 == 0:
        try:
            yield "zlib", zlib.decompressobj().decompress(data, _PACKED_BYTES)
        except zlib.error:
            return
    elif data.startswith(b"PAR1"):
        yield "parquet", _read_parquet(data)


def _read_parquet(data: bytes) -> bytes:
    import pyarrow.parquet  # noqa: PLC0415 - most scans have no need of it

    table = pyarrow.parquet.read_table(io.BytesIO(data))
    said = {str(key): str(value) for key, value in (table.schema.metadata or {}).items()}
    return json.dumps([said, table.column_names, table.to_pylist()], ensure_ascii=False, default=str).encode()


def _spell(value: str) -> Iterator[tuple[str, bytes]]:
    forms = {
        value,
        value.lower(),
        value.upper(),
        unicodedata.normalize("NFD", value),
        unicodedata.normalize("NFC", value),
    }
    for form in forms:
        for codec in _CODECS:
            try:
                yield codec, form.encode(codec)
            except UnicodeEncodeError:
                continue
        yield "JSON", json.dumps(form)[1:-1].encode()
        yield "a URL", quote(form, safe="").encode()
        yield "a form", quote_plus(form).encode()
        yield "HTML", html.escape(form).encode()
        yield "HTML", form.encode("ascii", "xmlcharrefreplace")
        yield "hex", form.encode().hex().encode()
        for shift in range(3):  # what base64 makes of it depends on where it begins
            text = base64.b64encode(b"\0" * shift + form.encode())
            yield "base64", text[(shift * 8 + 5) // 6 : -4]
    if value.isdecimal():
        for zero in ("\u0660", "\u06f0"):
            digits = "".join(chr(ord(zero) + int(digit)) for digit in value)
            yield "Arabic digits", digits.encode()
    if len(value) == 8 and value.isdecimal():
        dashed = f"{value[:4]}-{value[4:6]}-{value[6:]}"
        yield "ISO date", dashed.encode()
        yield "local date", f"{value[6:]}/{value[4:6]}/{value[:4]}".encode()
