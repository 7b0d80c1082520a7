"""Objects full of values that identify somebody, every one of them known: built byte by byte, of nobody who lives.

Names are made of syllables, Latin and Arabic. Every value is planted once, so that one that is found again says where
it came from.
"""

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom._dicom_dict import DicomDictionary

from pacs.deid.rules import ALLOWED_TEXT, STRUCTURAL
from pacs.deid.writing import encode_element, encode_sequence

CT = "1.2.840.10008.5.1.4.1.1.2"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
PIXELS = struct.pack("<64H", *range(64))
SKIPPED = {
    0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00100010, 0x00100020, 0x00100021,
    0x00080100, 0x00080102, 0x00080104, 0x00420011,
}  # fmt: skip

_LATIN = [
    "zor",
    "bak",
    "quel",
    "fan",
    "dri",
    "mok",
    "tavi",
    "lushe",
    "ghir",
    "wend",
    "yaz",
    "opri",
    "kest",
    "bel",
    "vum",
]
_ARABIC = ["زور", "باك", "فان", "دري", "موق", "تافي", "لوش", "غير", "وند", "ياظ", "كست", "بلف", "ضوم", "ثيق", "خوش"]
_INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

Part = dict[int, bytes]


@dataclass
class Planted:
    """The values that were planted so far; ``kind`` tells what each of them is."""

    seed: int
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._random = random.Random(self.seed)

    def latin_word(self) -> str:
        return self._new("name", lambda: "".join(self._random.choice(_LATIN) for _ in range(3)).capitalize())

    def accented_word(self) -> str:
        def make():
            word = "".join(self._random.choice(_LATIN) for _ in range(3)).capitalize()
            return word.replace("e", "é", 1).replace("u", "ü", 1).replace("a", "à", 1)

        return self._new("accented name", make)

    def arabic_word(self) -> str:
        return self._new("arabic name", lambda: "".join(self._random.choice(_ARABIC) for _ in range(3)))

    def cin(self) -> str:
        letters = "".join(self._random.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=self._random.choice((1, 2))))
        return self._new("CIN", lambda: f"{letters}{self._random.randrange(100_000, 999_999)}")

    def phone(self) -> str:
        def make():
            digits = f"{self._random.choice('567')}{self._random.randrange(10**8):08d}"
            pairs = " ".join(("0" + digits)[place : place + 2] for place in range(0, 10, 2))
            form = self._random.randrange(4)
            return (f"0{digits}", pairs, f"+212{digits}", f"0{digits}".translate(_INDIC))[form]

        return self._new("phone", make)

    def phone_in(self, encoding: str) -> str:
        while True:
            value = self.phone()
            try:
                value.encode(encoding)
            except UnicodeEncodeError:
                del self.values[value]
                continue
            return value

    def ascii_phone(self) -> str:
        return self._new("phone", lambda: f"0{self._random.choice('567')}{self._random.randrange(10**8):08d}")

    def number(self) -> str:
        return self._new("MRN", lambda: f"IPP{self._random.randrange(10**8):08d}")

    def date(self) -> str:
        at = f"{self._random.randrange(1, 29):02d}", f"{self._random.randrange(1, 13):02d}"
        return self._new("date", lambda: f"{at[0]}/{at[1]}/{self._random.randrange(1900, 2020)}")

    def address(self) -> str:
        return self._new("address", lambda: f"{self._random.randrange(10, 999)} rue {self.latin_word()}")

    def uid(self) -> str:
        return self._new("UID", lambda: f"1.2.826.0.1.9999.{self._random.randrange(10**14)}")

    def any_value(self, limit: int = 64) -> str:
        makers = (self.latin_word, self.cin, self.ascii_phone, self.number, self.date, self.address)
        while True:
            before = dict(self.values)
            value = self._random.choice(makers)()
            if len(value) <= limit:
                return value
            self.values = before

    def _new(self, kind, make) -> str:
        while (value := make()) in self.values:
            pass
        self.values[value] = kind
        return value


def join(parts: Part) -> bytes:
    return b"".join(parts[tag] for tag in sorted(parts))


def text(tag: int, vr: str, value: str, encoding: str = "utf-8") -> Part:
    return {tag: encode_element(tag, vr, value.encode(encoding))}


def identified(planted: Planted, sop_class: str, charset: str, encoding: str, word) -> Part:
    """The root that everything has, with the patient in it."""
    parts: Part = {}
    family, given = word(), word()
    name = f"{family}^{given}^^{planted.latin_word()}"
    if encoding != "latin-1":
        name += f"={word()}^{word()}={word()}^{word()}"
    if charset:
        parts |= text(0x00080005, "CS", charset)
    parts |= text(0x00080016, "UI", sop_class)
    parts |= text(0x00080018, "UI", planted.uid())
    parts |= text(0x0020000D, "UI", planted.uid())
    parts |= text(0x0020000E, "UI", planted.uid())
    parts |= text(0x00080060, "CS", "CT")
    parts |= text(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
    parts |= text(0x00100010, "PN", name, encoding)
    parts |= text(0x00100020, "LO", planted.number())
    parts |= text(0x00100021, "LO", f"CHU {planted.latin_word()}")
    # What the header knows of people shows up wherever somebody types it.
    sentence = f"SCANNER THORAX {family.upper()} {given} sans injection {family} tel {planted.phone_in(encoding)}"
    parts |= text(0x00081030, "LO", sentence[:64], encoding)
    parts |= text(0x0008103E, "LO", f"Thorax {planted.cin()} {given.lower()}", encoding)
    parts |= text(0x00180015, "CS", "CHEST")
    parts |= text(0x00204000, "LT", f"Abdomen normal, Dr {word()}, le {planted.date()} {family.title()}", encoding)
    return parts


def image(parts: Part) -> Part:
    for tag, number in ((0x00280002, 1), (0x00280010, 8), (0x00280011, 8), (0x00280100, 16), (0x00280101, 12),
                        (0x00280102, 11), (0x00280103, 0)):  # fmt: skip
        parts[tag] = encode_element(tag, "US", struct.pack("<H", number))
    parts |= text(0x00280004, "CS", "MONOCHROME2")
    parts[0x7FE00010] = encode_element(0x7FE00010, "OW", PIXELS)
    return parts


def dictionary_texts() -> Iterable[tuple[int, str]]:
    """Every attribute of the dictionary that takes text or a UID that is somebody's."""
    for tag, (vr, _, _, _, _) in sorted(DicomDictionary.items()):
        if tag >> 16 in (0, 2, 4, 6, 0xFFFE) or tag in SKIPPED or tag in STRUCTURAL or tag in ALLOWED_TEXT:
            continue
        if vr in ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE", "UI"):
            yield tag, vr


def plant_everywhere(planted: Planted, *, depth: int = 0) -> Part:
    """Every text attribute of the dictionary, with a value of its own."""
    parts: Part = {}
    limits = {"SH": 16, "AE": 16}
    for tag, vr in dictionary_texts():
        value = planted.uid() if vr == "UI" else planted.any_value(limits.get(vr, 64))
        if vr == "PN":
            value = f"{planted.latin_word()}^{planted.latin_word()}"
        parts |= text(tag, vr, value)
    if depth:
        for tag in (0x00400275, 0x00081115, 0x00189346, 0x0040A730, 0x00081111, 0x52009229):
            parts[tag] = encode_sequence(tag, [join(plant_some(planted, depth - 1))])
    return parts


def plant_some(planted: Planted, depth: int) -> Part:
    parts: Part = {}
    for tag, vr in random.Random(planted.seed + depth).sample(list(dictionary_texts()), 12):
        value = planted.uid() if vr == "UI" else planted.any_value(16)
        parts |= text(tag, vr, value)
    if depth:
        parts[0x00400275] = encode_sequence(0x00400275, [join(plant_some(planted, depth - 1)) for _ in range(2)])
    return parts


def private_parts(planted: Planted) -> Part:
    """Blocks of creators known and unknown, with text, octets, numbers as text, and a sequence."""
    parts: Part = {}
    creators = {
        (0x0029, 0x10): "SIEMENS CSA HEADER",
        (0x0019, 0x10): "SIEMENS MR HEADER",
        (0x2001, 0x10): "Philips Imaging DD 001",
        (0x0099, 0x11): planted.latin_word(),
    }
    for (group, block), creator in creators.items():
        base = group << 16
        parts |= text(base | block, "LO", creator)
        for number, vr in enumerate(("LO", "SH", "LT", "PN", "CS", "UN", "OB", "DA")):
            value = planted.latin_word() if vr != "DA" else "19510203"
            parts |= text(base | block << 8 | 0x60 + number, vr, value)
        item = join(text(0x00100010, "PN", f"{planted.latin_word()}^X") | text(0x00081030, "LO", planted.latin_word()))
        parts[base | block << 8 | 0x70] = encode_sequence(base | block << 8 | 0x70, [item])
    # A safe one that holds what it should not, and one that is as it should be.
    parts |= text(0x200110C1, "LO", planted.latin_word())
    parts |= text(0x0019100C, "IS", "1000")
    parts |= text(0x0019100D, "CS", planted.cin())
    return parts


def overlays(planted: Planted) -> Part:
    parts: Part = {}
    for group in (0x6000, 0x6002):
        parts[group << 16 | 0x10] = encode_element(group << 16 | 0x10, "US", struct.pack("<H", 8))
        parts |= text(group << 16 | 0x22, "LO", planted.latin_word())
        parts[group << 16 | 0x3000] = encode_element(group << 16 | 0x3000, "OW", planted.latin_word().encode())
        parts |= text(group << 16 | 0x4000, "LT", planted.latin_word())
    parts |= text(0x50000022, "LO", planted.latin_word())
    parts[0x50003000] = encode_element(0x50003000, "OW", planted.latin_word().encode())
    return parts


def code(value: str, scheme: str, meaning: str) -> bytes:
    return join(text(0x00080100, "SH", value) | text(0x00080102, "SH", scheme) | text(0x00080104, "LO", meaning))


def content_item(value_type: str, concept: bytes, more: Part) -> bytes:
    parts = text(0x0040A040, "CS", value_type) | text(0x0040A010, "CS", "CONTAINS") | more
    parts[0x0040A043] = encode_sequence(0x0040A043, [concept])
    return join(parts)


def report_content(planted: Planted, depth: int = 3) -> Part:
    """A content tree with an item of every value type, and the patient in all of them."""
    finding = code("121071", "DCM", f"Finding of {planted.latin_word()}")
    items = [
        content_item("TEXT", finding, text(0x0040A160, "UT", f"Nodule {planted.latin_word()} {planted.cin()}")),
        content_item("PNAME", code("121008", "DCM", "Person Observer Name"),
                     text(0x0040A123, "PN", f"{planted.latin_word()}^{planted.latin_word()}")),
        content_item("UIDREF", finding, text(0x0040A124, "UI", planted.uid())),
        content_item("DATE", code("121031", "DCM", "Subject Birth Date"), text(0x0040A121, "DA", "19510203")),
        content_item("DATETIME", finding, text(0x0040A120, "DT", "20240115120000+0100")),
        content_item("CODE", finding, {0x0040A168: encode_sequence(
            0x0040A168, [code("39607008", "SCT", planted.latin_word()), code(planted.cin(), "L", planted.latin_word())]
        )}),
        content_item("IMAGE", finding, {0x00081199: encode_sequence(0x00081199, [join(
            text(0x00081150, "UI", CT) | text(0x00081155, "UI", planted.uid()))])}),
        content_item("NUM", code("121206", "DCM", "Distance"), {0x0040A300: encode_sequence(0x0040A300, [join(
            text(0x0040A30A, "DS", "12.5")
            | {0x004008EA: encode_sequence(0x004008EA, [code("mm", "UCUM", f"mm {planted.latin_word()}")])})])}),
    ]  # fmt: skip
    if depth:
        items.append(content_item("CONTAINER", finding, report_content(planted, depth - 1)))
    return {0x0040A730: encode_sequence(0x0040A730, items)}


def file_of(parts: Part, planted: Planted, syntax: str = EXPLICIT_LITTLE) -> bytes:
    """A file whose preamble and file meta name people too."""
    meta = join(
        text(0x00020002, "UI", CT)
        | text(0x00020003, "UI", planted.uid())
        | text(0x00020010, "UI", syntax)
        | text(0x00020012, "UI", planted.uid())
        | text(0x00020013, "SH", planted.cin())
        | text(0x00020016, "AE", planted.latin_word()[:16])
        | text(0x00020100, "UI", planted.uid())
        | {0x00020102: encode_element(0x00020102, "OB", planted.latin_word().encode())}
    )
    preamble = planted.latin_word().encode().ljust(128, b" ")
    length = encode_element(0x00020000, "UL", struct.pack("<L", len(meta)))
    return preamble + b"DICM" + length + meta + join(parts)
