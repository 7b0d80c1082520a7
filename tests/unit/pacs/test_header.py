"""The header parser: the same values as pydicom, whatever the encoding; hostile bytes end in InvalidHeader."""

import base64
import io
import logging
import struct
import warnings
import zlib
from pathlib import Path

import orjson
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.errors import HeaderTooLarge, InvalidHeader, TruncatedDataSet
from pacs.imaging.inflation import MemorySink, inflate
from pacs.ingest.header import parse_header
from pacs.ingest.limits import Limits
from pacs.model import BulkValue, ByteRange
from storage.spool import Spool
from tests import builders

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
SERIES = {"ct-series", "mr-series", "many-studies", "mr-fmri"}
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
# What pydicom cannot read or give as JSON, and what it gives against PS3.18; everything else must be equal.
PYDICOM_IS_WRONG = {
    "OBXXXX1A_expb.dcm": "OW of a big endian file is not swapped to little endian (PS3.18 F.2.7)",
    "OBXXXX1A_expb_2frame.dcm": "OW of a big endian file is not swapped to little endian (PS3.18 F.2.7)",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "gives up where the sequence delimiter is missing",
    "trailing_garbage.dcm": "gives up at bytes that are no element",
}


class Source:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read_bytes = 0

    def read_range(self, start: int, end: int) -> bytes:
        self.read_bytes += max(0, min(end, len(self.content)) - start)
        return self.content[start:end]


def parse(content: bytes, *args, **kwargs):
    return parse_header(Source(content), len(content), *args, **kwargs)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"):
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content) if length is None else length) + content


ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
UNDEFINED = 0xFFFFFFFF


def file_of(*elements: bytes, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    return builders.as_part10(Dataset(), syntax) + b"".join(elements)


def attributes_of(*elements: bytes, syntax: str = uid.ExplicitVRLittleEndian, **kwargs) -> dict:
    return parse(file_of(*elements, syntax=syntax), **kwargs).attributes


def differences(
    dataset: Dataset, attributes: dict, bulk: dict[str, BulkValue], raw: bytes, path: str = ""
) -> list[str]:
    """Return the paths where our attributes are not what pydicom gives, and not better either."""
    found = [path + key for key in attributes if int(key, 16) not in dataset]
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset yields elements and fails on the first bad one
        key = f"{tag:08X}"
        if tag.element == 0:
            continue
        ours = attributes.get(key)
        if ours is None:
            found.append(path + key)
        elif dataset[tag].VR == "SQ":
            items = ours.get("Value", [])
            if len(items) != len(dataset[tag].value):
                found.append(path + key)
            for index, (theirs, own) in enumerate(zip(dataset[tag].value, items, strict=False)):
                found += differences(theirs, own, bulk, raw, f"{path}{key}/{index}/")
        elif not is_same(dataset[tag], ours, bulk, raw, path + key):
            found.append(path + key)
    return found


def is_same(theirs, ours: dict, bulk: dict[str, BulkValue], raw: bytes, path: str) -> bool:
    try:
        expected = theirs.to_json_dict(None, 1024)
    except ValueError:
        return ours["vr"] == theirs.VR  # such as "heavy" for a weight: pydicom has no answer
    if "BulkDataURI" not in ours:
        return ours == expected
    value = bulk[ours["BulkDataURI"]]
    is_value = base64.b64decode(expected.get("InlineBinary", "")) == raw[value.range.start : value.range.end]
    return ours["BulkDataURI"] == value.path == path and ours["vr"] == value.vr == expected["vr"] and is_value


def assert_equals_pydicom(content: bytes) -> None:
    header = parse(content)
    raw = content if not header.is_deflated else zlib.decompress(content[header.dataset_offset :], -15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        assert differences(dataset, header.attributes, {bulk.path: bulk for bulk in header.bulk}, raw) == []


def corpus_files() -> list[Path]:
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.suffix not in (".md", ".csv")]
    return [path for index, path in enumerate(files) if path.parent.name not in SERIES or index % 20 == 0]


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="pydicom")


@pytest.mark.parametrize("path", corpus_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_corpus_values_equal_pydicoms(path):
    content = path.read_bytes()
    try:
        header = parse(content)
    except InvalidHeader:
        if path.parent.name.startswith("broken"):
            return
        raise
    orjson.dumps(header.attributes)
    if path.name not in PYDICOM_IS_WRONG:
        assert_equals_pydicom(content)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    "build",
    [
        builders.build_ct,
        builders.build_mr,
        builders.build_multiframe,
        builders.build_segmentation,
        builders.build_sr,
        builders.build_pdf,
        builders.build_unicode,
    ],
)
def test_built_values_equal_pydicoms_in_every_encoding(build, syntax):
    assert_equals_pydicom(builders.as_part10(build(), syntax))


@pytest.mark.parametrize("syntax", NATIVE)
def test_attributes_do_not_depend_on_the_encoding(syntax):
    dataset = builders.build_mr(SmallestImagePixelValue=None)
    attributes = parse(builders.as_part10(dataset, syntax)).attributes
    expected = parse(builders.as_part10(dataset)).attributes
    # Only the VR of native pixels may differ: it is OW in implicit VR.
    assert attributes == expected


def test_pixels_are_bulk_and_where_they_are_said_to_be():
    dataset = builders.build_ct()
    content = builders.as_part10(dataset)
    header = parse(content)
    assert header.pixels is not None
    assert content[header.pixels.range.start : header.pixels.range.end] == dataset.PixelData
    assert (header.pixels.tag, header.pixels.vr, header.pixels.is_encapsulated) == ("7FE00010", "OW", False)
    assert header.bulk == (BulkValue("7FE00010", "OW", header.pixels.range),)
    assert header.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}


def test_encapsulated_pixels_range_covers_the_items_without_the_delimiter():
    dataset = builders.build_encapsulated([b"\xff\xd8a\xff\xd9", b"\xff\xd8bc\xff\xd9"])
    dataset.add_new(0xFFFCFFFC, "OB", b"\0\0")
    content = builders.as_part10(dataset, uid.JPEGBaseline8Bit)
    header = parse(content)
    assert header.pixels is not None
    assert header.pixels.is_encapsulated
    value = content[header.pixels.range.start : header.pixels.range.end]
    assert value == dataset.PixelData.removesuffix(SEQUENCE_END)
    assert header.attributes["FFFCFFFC"] == {"vr": "OB", "InlineBinary": "AAA="}


def test_sequence_delimiter_inside_a_fragment_ends_nothing():
    frame = b"\xff\xd8" + SEQUENCE_END + b"\xff\xd9"
    header = parse(builders.as_part10(builders.build_encapsulated([frame]), uid.JPEG2000Lossless))
    assert header.pixels is not None
    assert header.warnings == ()


def test_icon_pixels_are_bulk_and_not_the_pixels():
    icon = builders.build_image(rows=2, columns=2, bits=8)
    header = parse(builders.as_part10(builders.build_ct(IconImageSequence=Sequence([icon]))))
    assert header.pixels is not None
    assert header.pixels.tag == "7FE00010"
    assert [bulk.path for bulk in header.bulk] == ["00880200/0/7FE00010", "7FE00010"]
    assert header.attributes["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"] == "00880200/0/7FE00010"


def test_long_values_are_bulk_and_short_ones_inline():
    short, long = bytes(1024), bytes(1026)
    content = file_of(element(0x00420011, b"OB", long), element(0x00430010, b"OB", short))
    header = parse(content)
    assert [bulk.path for bulk in header.bulk] == ["00420011"]
    assert base64.b64decode(header.attributes["00430010"]["InlineBinary"]) == short
    text = parse(file_of(element(0x0040A160, b"UT", b"x" * 65536), element(0x0040A168, b"UT", b"y" * 65538)))
    assert text.attributes["0040A160"]["Value"] == ["x" * 65536]
    assert text.attributes["0040A168"] == {"vr": "UT", "BulkDataURI": "0040A168"}


def test_only_a_window_is_read_of_a_large_object():
    source = Source(builders.as_part10(builders.build_ct(PixelData=bytes(4_000_000))))
    parse_header(source, len(source.content))
    assert source.read_bytes < 100_000


def test_files_without_preamble_prefix_or_meta_are_read():
    dataset = builders.build_ct()
    part10 = builders.as_part10(dataset)
    expected = parse(part10)
    for content in (part10[128:], part10[132:]):
        assert parse(content).attributes == expected.attributes
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        header = parse(builders.as_dataset_bytes(dataset, syntax))
        assert header.transfer_syntax_uid == syntax
        assert header.dataset_offset == 0
        assert header.attributes.keys() == expected.attributes.keys()


def test_meta_is_reported_and_a_wrong_group_length_does_not_matter():
    dataset = builders.build_ct()
    content = bytearray(builders.as_part10(dataset))
    content[140:144] = struct.pack("<L", 999_999)
    header = parse(bytes(content))
    assert header.media_storage_sop_class_uid == dataset.SOPClassUID
    assert header.media_storage_sop_instance_uid == dataset.SOPInstanceUID
    assert bytes(content[header.dataset_offset :]) == builders.as_dataset_bytes(dataset)


def test_data_set_without_meta_needs_sop_uids():
    with pytest.raises(InvalidHeader, match="SOP"):
        parse(element(0x00080060, b"CS", b"CT"))


@pytest.mark.parametrize("content", [b"", b"DICM", b"hello, this is text and no data set at all" * 10, bytes(500)])
def test_what_is_no_dicom_is_refused(content):
    with pytest.raises(InvalidHeader):
        parse(content)


def test_command_set_before_the_data_set_is_passed_over():
    command = implicit(0x00000000, b"\x0c\0\0\0") + implicit(0x00000100, b"\1\0") + implicit(0x00000110, b"\1\0")
    content = command + builders.as_dataset_bytes(builders.build_ct())
    assert "00000100" not in parse(builders.as_part10(Dataset()) + content).attributes


@pytest.mark.parametrize("length", [1, 2, 100, 500])
def test_truncation_is_named(length):
    content = builders.as_part10(builders.build_ct())
    with pytest.raises(TruncatedDataSet, match="truncated"):
        parse(content[: len(content) - length])


def test_messages_carry_no_values():
    content = file_of(element(0x00100010, b"PN", b"CANARY^PHI", length=60000))
    with pytest.raises(TruncatedDataSet) as raised:
        parse(content)
    assert "(0010,0010)" in str(raised.value)
    assert "CANARY" not in str(raised.value)


def test_trailing_nul_bytes_and_garbage_after_pixels_are_ignored():
    content = builders.as_part10(builders.build_ct())
    expected = parse(content).attributes
    for trailer in (b"\0", bytes(7), bytes(9), bytes(100_000), b"\xff" * 999, b"GARBAGE!" * 50):
        assert parse(content + trailer).attributes == expected


def test_group_lengths_are_left_out():
    assert attributes_of(element(0x00080000, b"UL", b"\4\0\0\0"), element(0x00080060, b"CS", b"CT")) == {
        "00080060": {"vr": "CS", "Value": ["CT"]}
    }


def test_undefined_length_sequences_nest():
    inner = element(0x00080100, b"SH", b"CODE")
    sequence = element(0x0040A168, b"SQ", item(inner + ITEM_END, UNDEFINED) + item(inner) + SEQUENCE_END, UNDEFINED)
    outer = element(0x0040A730, b"SQ", item(sequence + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED)
    code = {"00080100": {"vr": "SH", "Value": ["CODE"]}}
    assert attributes_of(outer) == {
        "0040A730": {"vr": "SQ", "Value": [{"0040A168": {"vr": "SQ", "Value": [code, code]}}]}
    }


def test_un_of_undefined_length_is_an_implicit_vr_sequence():
    content = item(implicit(0x00080100, b"CODE") + ITEM_END, UNDEFINED) + SEQUENCE_END
    for tag in (0x0040A168, 0x00091010):
        attributes = attributes_of(element(tag, b"UN", content, UNDEFINED))
        assert attributes[f"{tag:08X}"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["CODE"]}}]}


def test_known_tag_stored_as_un_is_decoded():
    assert attributes_of(element(0x00100010, b"UN", b"A^B ")) == {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}
    }
    assert (
        attributes_of(element(0x0040A168, b"UN", item(element(0x00080100, b"SH", b"CODE"))))["0040A168"]["vr"] == "SQ"
    )


def test_private_elements_have_the_vr_of_their_creators_dictionary():
    creator = implicit(0x00290010, b"SIEMENS CSA HEADER")
    attributes = attributes_of(
        creator,
        implicit(0x00291008, b"IMAGE NUM 4 "),
        implicit(0x00291077, b"\1\2"),
        syntax=uid.ImplicitVRLittleEndian,
    )
    assert attributes["00290010"] == {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]}
    assert attributes["00291008"] == {"vr": "CS", "Value": ["IMAGE NUM 4"]}
    assert attributes["00291077"] == {"vr": "UN", "InlineBinary": "AQI="}


def test_sequence_that_is_none_is_kept_as_bytes():
    header = parse(file_of(element(0x0040A168, b"SQ", b"not a sequence at all!"), element(0x0040A170, b"UT", b"text")))
    assert base64.b64decode(header.attributes["0040A168"]["InlineBinary"]) == b"not a sequence at all!"
    assert header.attributes["0040A170"]["Value"] == ["text"]
    assert header.warnings == ("(0040,A168): not a readable sequence, kept as bytes",)


def test_item_longer_than_its_sequence_is_still_read():
    code = element(0x00080100, b"SH", b"CODE")
    attributes = attributes_of(element(0x0040A168, b"SQ", item(code, len(code) + 24)))
    assert attributes["0040A168"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["CODE"]}}]


def test_stray_and_missing_delimiters_are_survived():
    code = element(0x00080100, b"SH", b"CODE")
    after = element(0x0040A170, b"SQ", b"")
    for sequence in (
        element(0x0040A168, b"SQ", item(code) + ITEM_END + SEQUENCE_END, UNDEFINED),
        element(0x0040A168, b"SQ", item(code, UNDEFINED) + SEQUENCE_END, UNDEFINED),
        element(0x0040A168, b"SQ", item(code), UNDEFINED),
        element(0x0040A168, b"SQ", item(code)) + SEQUENCE_END + ITEM_END,
    ):
        header = parse(file_of(sequence, after))
        assert header.attributes["0040A168"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["CODE"]}}]
        assert header.attributes["0040A170"] == {"vr": "SQ", "Value": []}
        assert header.warnings


def test_elements_out_of_order_are_sorted_and_of_duplicates_the_last_counts():
    header = parse(
        file_of(
            element(0x00100020, b"LO", b"1 "),
            element(0x00080060, b"CS", b"CT"),
            element(0x00100020, b"LO", b"2 "),
            element(0x00420011, b"OB", bytes(2000)),
            element(0x00420011, b"OB", b"\1\2"),
        )
    )
    assert list(header.attributes) == ["00080060", "00100020", "00420011"]
    assert header.attributes["00100020"]["Value"] == ["2"]
    assert header.bulk == ()
    assert "(0010,0020): present more than once, the last one counts" in header.warnings


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        (b"DS", b"1.5\\ \\-2 ", {"vr": "DS", "Value": [1.5, None, -2.0]}),
        (b"DS", b"heavy ", {"vr": "DS", "Value": ["heavy"]}),
        (b"DS", b"1\\NaN\\1e999 ", {"vr": "DS", "Value": [1.0, "NaN", "1e999"]}),
        (b"IS", b"12\\1.7\\x", {"vr": "IS", "Value": [12, 1, "x"]}),
        (b"IS", b"99999999999999999999", {"vr": "IS", "Value": ["99999999999999999999"]}),
        (b"FD", struct.pack("<3d", 1.5, float("nan"), float("inf")), {"vr": "FD", "Value": [1.5, None, None]}),
        (b"US", b"\1\0\2\0", {"vr": "US", "Value": [1, 2]}),
        (b"US", b"\1", {"vr": "UN", "InlineBinary": "AQ=="}),
        (b"AT", b"\x28\0\x10\0\xe0\x7f\x10\0", {"vr": "AT", "Value": ["00280010", "7FE00010"]}),
        (b"UI", b"1.2 \0", {"vr": "UI", "Value": ["1.2"]}),
        (b"AE", b" A \\ B ", {"vr": "AE", "Value": ["A", "B"]}),
        (b"CS", b"  ", {"vr": "CS"}),
        (b"CS", b"", {"vr": "CS"}),
        (b"LO", b" a \\b ", {"vr": "LO", "Value": [" a", "b"]}),
        (b"ST", b" a\\b ", {"vr": "ST", "Value": [" a\\b"]}),
        (b"PN", b"A^B==C", {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "", "Phonetic": "C"}]}),
        (b"PN", b"A\\\\B", {"vr": "PN", "Value": [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]}),
        (b"ZZ", b"ab", {"vr": "UN", "InlineBinary": "YWI="}),
    ],
)
def test_values(vr, value, expected):
    attributes = attributes_of(element(0x0009FF01, vr, value))
    assert attributes == {"0009FF01": expected}
    orjson.dumps(attributes)


@pytest.mark.parametrize(("representation", "expected"), [(0, [65535]), (1, [-1])])
def test_us_or_ss_follows_pixel_representation_also_of_a_later_or_outer_level(representation, expected):
    smallest = implicit(0x00280106, b"\xff\xff")
    zero_velocity = implicit(0x00189810, b"\xff\xff")
    sequence = implicit(0x00189321, item(zero_velocity))
    sign = implicit(0x00280103, bytes([representation, 0]))
    attributes = attributes_of(sequence, zero_velocity, sign, smallest, syntax=uid.ImplicitVRLittleEndian)
    vr = "SS" if representation else "US"
    assert attributes["00280106"] == attributes["00189810"] == {"vr": vr, "Value": expected}
    assert attributes["00189321"]["Value"][0]["00189810"] == {"vr": vr, "Value": expected}


def test_lookup_tables_entry_count_is_unsigned():
    value = struct.pack("<HhH", 40000, -5, 16)
    expected = {"vr": "SS", "Value": [40000, -5, 16]}
    assert attributes_of(element(0x00281101, b"SS", value))["00281101"] == expected
    signed = implicit(0x00280103, b"\1\0") + implicit(0x00281101, value)
    assert attributes_of(signed, syntax=uid.ImplicitVRLittleEndian)["00281101"] == expected


def test_ambiguous_bulk_gets_its_vr_too():
    table = implicit(0x00283002, struct.pack("<HHH", 1000, 0, 16)) + implicit(0x00283006, bytes(2000))
    header = parse(file_of(implicit(0x00283000, item(table)), syntax=uid.ImplicitVRLittleEndian))
    assert header.bulk[0].vr == "OW"
    assert header.attributes["00283000"]["Value"][0]["00283006"] == {"vr": "OW", "BulkDataURI": "00283000/0/00283006"}


def test_binary_values_of_big_endian_files_are_given_in_little_endian():
    dataset = builders.build_ct(PixelData=None)
    dataset.add_new(0x00281201, "OW", b"\0\1\0\2")
    attributes = parse(builders.as_part10(dataset, uid.ExplicitVRBigEndian)).attributes
    assert base64.b64decode(attributes["00281201"]["InlineBinary"]) == b"\1\0\2\0"


@pytest.mark.parametrize(
    ("declared", "value", "fallbacks", "expected"),
    [
        (None, "Müller".encode("latin-1"), ("ISO_IR 100",), "Müller"),
        (None, "Müller".encode(), ("ISO_IR 100",), "Müller"),
        (None, "محمد".encode("cp1256"), ("Windows-1256",), "محمد"),
        (None, "محمد".encode("iso8859-6"), ("ISO_IR 127", "ISO_IR 100"), "محمد"),
        (b"ISO_IR 192", "Müller".encode("latin-1"), ("ISO_IR 100",), "Müller"),
        (b"nonsense", "Müller".encode("latin-1"), ("ISO_IR 100",), "Müller"),
        (b"rot13 ", b"M\xfcller", (), "Müller"),
        (b"unicode_escape", b"\\ud800", (), ["", "ud800"]),
        (b"ISO-IR 127", "محمد".encode("iso8859-6"), (), "محمد"),
        (b"ISO_IR 127", "محمد".encode("iso8859-6"), (), "محمد"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", (), "山田"),
        (b"ISO_IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde", (), "ﾔﾏﾀﾞ"),
        (b"GB18030 ", "王小东".encode("gb18030"), (), "王小东"),
    ],
)
def test_text_is_read_as_declared_or_else_by_the_fallbacks(declared, value, fallbacks, expected):
    elements = [element(0x00081030, b"LO", value)]
    if declared is not None:
        elements.insert(0, element(0x00080005, b"CS", declared))
    header = parse(file_of(*elements), fallbacks)
    assert header.attributes["00081030"]["Value"] == ([expected] if isinstance(expected, str) else expected)
    if declared:
        assert header.attributes["00080005"]["Value"] == declared.decode().rstrip().split("\\")
    orjson.dumps(header.attributes)


def test_items_inherit_the_character_set_and_may_have_their_own():
    text = element(0x00080104, b"LO", "é".encode())
    own = element(0x00080005, b"CS", b"ISO_IR 100") + element(0x00080104, b"LO", "é".encode("latin-1"))
    attributes = attributes_of(
        element(0x00080005, b"CS", b"ISO_IR 192"), element(0x0040A168, b"SQ", item(text) + item(own) + item(text))
    )
    values = [entry["00080104"]["Value"] for entry in attributes["0040A168"]["Value"]]
    assert values == [["é"], ["é"], ["é"]]


def test_text_outside_its_set_is_a_warning_that_names_the_tag_only():
    header = parse(file_of(element(0x00100010, b"PN", b"M\xfcller")))
    assert header.warnings == ("(0010,0010): text outside the declared character set",)


def test_deep_nesting_is_refused_and_raises_no_recursion_error():
    def nest(levels: int) -> bytes:
        content = b""
        for _ in range(levels):
            content = element(0x0040A730, b"SQ", item(content))
        return content

    assert parse(file_of(nest(64)))
    with pytest.raises(HeaderTooLarge):
        parse(file_of(nest(65)))
    opening = element(0x0040A730, b"SQ", item(b"", UNDEFINED), UNDEFINED)
    with pytest.raises(HeaderTooLarge):
        parse(file_of(opening * 20_000))


def test_too_many_elements_and_items_are_refused():
    limits = Limits(elements=1000)
    with pytest.raises(HeaderTooLarge):
        parse(file_of(element(0x0040A730, b"SQ", item(b"") * 2000)), limits=limits)
    with pytest.raises(HeaderTooLarge):
        parse(file_of(*(element(0x00091000 + index, b"CS", b"") for index in range(2000))), limits=limits)


def test_too_large_a_header_is_refused():
    elements = [element(0x00091000 + index, b"UT", bytes(60_000)) for index in range(100)]
    with pytest.raises(HeaderTooLarge):
        parse(file_of(*elements), limits=Limits(header_bytes=1_000_000))


def test_deflated_data_set_is_inflated_into_the_given_spool(tmp_path):
    dataset = builders.build_ct()
    content = builders.as_part10(dataset, uid.DeflatedExplicitVRLittleEndian)
    with Spool(tmp_path) as spool:
        header = parse(content, inflate_into=spool)
        assert header.pixels is not None
        assert header.is_deflated
        assert spool.read_range(header.pixels.range.start, header.pixels.range.end) == dataset.PixelData


def test_inflation_is_bounded_and_truncation_is_found():
    compressor = zlib.compressobj(wbits=-15)
    bomb = compressor.compress(bytes(100_000_000)) + compressor.flush()
    with pytest.raises(HeaderTooLarge):
        inflate(Source(bomb), 0, len(bomb), MemorySink())
    with pytest.raises(HeaderTooLarge):
        inflate(Source(bomb), 0, len(bomb), MemorySink(), max_bytes=1_000_000)
    with pytest.raises(TruncatedDataSet):
        inflate(Source(bomb), 0, 1000, MemorySink())
    with pytest.raises(InvalidHeader):
        inflate(Source(b"\xff" * 100), 0, 100, MemorySink())


def test_unknown_transfer_syntax_is_read_as_encapsulated_explicit_little_endian():
    header = parse(builders.as_part10(builders.build_encapsulated(), "1.2.3.4"))
    assert header.transfer_syntax_uid == "1.2.3.4"
    assert header.pixels is not None
    assert header.pixels.is_encapsulated


def test_data_set_encoded_otherwise_than_its_syntax_says_is_read():
    dataset = builders.build_ct()
    meta = builders.as_part10(Dataset(), uid.ExplicitVRLittleEndian)
    header = parse(meta + builders.as_dataset_bytes(dataset, uid.ImplicitVRLittleEndian))
    assert header.attributes["00100020"]["Value"] == ["BUILT-1"]
    assert header.warnings == ("The data set is not encoded as its transfer syntax says.",)


def test_empty_data_set_has_no_attributes():
    header = parse(builders.as_part10(Dataset()))
    assert header.attributes == {}
    assert header.pixels is None


def test_empty_pixels_are_none():
    header = parse(file_of(element(0x7FE00010, b"OW", b"")))
    assert header.pixels is None
    assert header.attributes == {"7FE00010": {"vr": "OW"}}
    assert header.bulk == ()


def test_range_of_bulk_counts_from_the_start_of_the_file():
    content = file_of(element(0x00420011, b"OB", b"\7" * 2000))
    header = parse(content)
    assert header.bulk[0].range == ByteRange(len(content) - 2000, len(content))


def test_a_transfer_syntax_that_is_no_uid_is_none():
    data = builders.as_part10(builders.build_ct()).replace(b"1.2.840.10008.1.2.1\0", b"1.2\r\nX: <s>abcde\r\n\r\n"[:20])
    header = parse_header(*_held(data))
    assert header.transfer_syntax_uid == uid.ExplicitVRLittleEndian
    assert "No transfer syntax; guessed." in header.warnings


def test_past_many_values_longer_lists_stay_where_they_are_and_far_past_them_the_data_set_is_refused():
    dataset = builders.build_ct(ImagePositionPatient=["1"] * 3)
    dataset.WindowCenter = ["1"] * 600
    dataset.WindowWidth = ["1"] * 600
    held = _held(builders.as_part10(dataset))
    attributes = parse_header(*held, limits=Limits(inline_values=500)).attributes
    assert len(attributes["00281050"]["Value"]) == 600
    assert attributes["00281051"] == {"vr": "DS", "BulkDataURI": "00281051"}
    with pytest.raises(HeaderTooLarge):
        parse_header(*held, limits=Limits(values=1000))


def test_a_large_header_is_announced_once():
    dataset = builders.build_ct()
    block = dataset.private_block(0x0071, "TEST", create=True)
    for number in range(60):
        block.add_new(number, "UT", "a" * 60_000)
    calls = []
    parse_header(*_held(builders.as_part10(dataset)), on_large=lambda: calls.append(1))
    parse_header(*_held(builders.as_part10(builders.build_ct())), on_large=lambda: calls.append(2))
    assert calls == [1]


def _held(data):
    sink = MemorySink()
    sink.write(data)
    return sink, len(data)
