"""Answers encoded in the character set of whoever asked; pydicom reads them back."""

from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from pacs.app import open_archive
from pacs.config import DimseSettings, PeerSettings, Settings, StorageSettings
from pacs.dimse.answers import UNICODE, choose_character_sets, encode_answer, is_character_set
from pacs.dimse.peers import Peer
from pacs.dimse.transliteration import transliterate
from pacs.errors import InvalidSetting

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
FRENCH, ARABIC, JAPANESE = "Bénali^Éléonore", "قباني^نزار", "Yamada^Tarou=山田^太郎=やまだ^たろう"


def build_name(text: str) -> dict:
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False))
    return {"00100010": {"vr": "PN", "Value": [groups]}}


def decode(encoded: bytes, syntax: str = EXPLICIT) -> Dataset:
    dataset = read_dataset(BytesIO(encoded), syntax == IMPLICIT, syntax != BIG_ENDIAN)
    dataset.decode()
    return dataset


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        (("ISO_IR 192",), f"{FRENCH}={ARABIC}"),
        (("ISO_IR 100",), FRENCH),
        (("ISO_IR 127",), ARABIC),
        (("ISO_IR 6",), "Plain^Name"),
        (("", "ISO 2022 IR 100"), FRENCH),
        (("", "ISO 2022 IR 127"), f"Kabbani^Nizar={ARABIC}"),
        (("ISO 2022 IR 100", "ISO 2022 IR 127"), f"{FRENCH}={ARABIC}"),
        (("ISO 2022 IR 127", "ISO 2022 IR 100"), f"{ARABIC}={FRENCH}"),
        (("", "ISO 2022 IR 87"), JAPANESE),
        (("ISO 2022 IR 100", "ISO 2022 IR 87"), f"{FRENCH}=山田^太郎"),
        (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞=홍^길동"),
        (("GB18030",), "Wang^XiaoDong=王^小东"),
        (("GBK",), "Wang^XiaoDong=王^小东"),
    ],
)
def test_text_comes_back_from_every_set_that_holds_it(sets, name) -> None:
    dataset = decode(encode_answer(build_name(name), EXPLICIT, sets))
    assert dataset.PatientName == name
    declared = dataset.SpecificCharacterSet
    assert ((declared,) if isinstance(declared, str) else tuple(declared)) == sets


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        (("ISO_IR 100",), ARABIC),
        (("ISO_IR 127",), FRENCH),
        (("ISO_IR 127",), "پروین^چ"),
        (("ISO_IR 6",), FRENCH),
        (("", "ISO 2022 IR 100"), ARABIC),
        (("ISO 2022 IR 100", "ISO 2022 IR 127"), "éقباني^نزار"),
        (("ISO_IR 13",), FRENCH),
    ],
)
def test_what_the_set_cannot_hold_goes_out_whole_in_unicode(sets, name) -> None:
    description = {"00081030": {"vr": "LO", "Value": ["plain"]}}
    dataset = decode(encode_answer(build_name(name) | description, EXPLICIT, sets))
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert (dataset.PatientName, dataset.StudyDescription) == (name, "plain")


@pytest.mark.parametrize(
    ("sets", "name", "shown"),
    [
        (("ISO_IR 100",), FRENCH, FRENCH),
        (("ISO_IR 100",), f"{FRENCH}={ARABIC}", f"{FRENCH}=qbani^nzar"),
        (("ISO_IR 6",), FRENCH, "Benali^Eleonore"),
        (("ISO_IR 100",), "山田^太郎", "__^__"),
        (("", "ISO 2022 IR 127"), f"{FRENCH}={ARABIC}", f"Benali^Eleonore={ARABIC}"),
    ],
)
def test_a_device_of_latin_letters_gets_them_and_never_a_question_mark(sets, name, shown) -> None:
    encoded = encode_answer(build_name(name), EXPLICIT, sets, is_latin_only=True)
    assert decode(encoded).PatientName == shown
    assert b"?" not in encoded


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_every_kind_of_value_is_encoded(syntax) -> None:
    item = {"00400009": {"vr": "SH", "Value": ["é"]}, "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}}
    attributes = {
        "00200013": {"vr": "IS", "Value": [7]},
        "00080054": {"vr": "AE", "Value": ["PACS"]},
        "00180050": {"vr": "DS", "Value": [1.25, 3.0, 0.12345678901234568, -1e-20, 5]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00280009": {"vr": "AT", "Value": ["00181063"]},
        "00280010": {"vr": "US", "Value": [512]},
        "00189073": {"vr": "FD", "Value": [0.5, None]},
        "00400275": {"vr": "SQ", "Value": [item, {}]},
        "00081155": {"vr": "UI"},
        "00090010": {"vr": "LO", "Value": ["CREATOR"]},
        "00091001": {"vr": "OB", "InlineBinary": "AQID"},
        "00281201": {"vr": "OW", "InlineBinary": "AQIDBA=="},
        "7FE00010": {"vr": "OW", "BulkDataURI": "elsewhere"},
    }
    dataset = decode(encode_answer(attributes, syntax), syntax)
    assert list(dataset.keys()) == sorted(dataset.keys())
    assert (dataset.InstanceNumber, dataset.RetrieveAETitle, dataset.StudyInstanceUID) == (7, "PACS", "1.2.3")
    assert all(len(str(value)) <= 16 for value in dataset.SliceThickness)
    assert [float(value) for value in dataset.SliceThickness] == [1.25, 3, pytest.approx(0.12345678901235), -1e-20, 5]
    assert (dataset.FrameIncrementPointer, dataset.Rows, dataset.AcquisitionDuration) == (0x00181063, 512, 0.5)
    assert [one.get("ScheduledProcedureStepID") for one in dataset.RequestAttributesSequence] == ["é", None]
    assert "SpecificCharacterSet" not in dataset.RequestAttributesSequence[0]
    assert dataset["ReferencedSOPInstanceUID"].is_empty
    assert dataset["PixelData"].is_empty
    assert dataset.RedPaletteColorLookupTableData == (b"\2\1\4\3" if syntax == BIG_ENDIAN else b"\1\2\3\4")
    if syntax != IMPLICIT:
        assert dataset[0x0009, 0x1001].value == b"\1\2\3\0"


def test_a_text_too_long_for_its_length_field_is_kept_as_bytes() -> None:
    """PS3.5 6.2.2, note 1: in explicit VR a long text of a short VR is UN."""
    dataset = decode(encode_answer({"00204000": {"vr": "LT", "Value": ["x" * 70_000]}}, EXPLICIT))
    assert dataset[0x0020, 0x4000].VR in ("UN", "LT")
    assert len(dataset[0x0020, 0x4000].value) == 70_000


@pytest.mark.parametrize(
    ("peer", "asked", "chosen"),
    [
        (Peer("A"), None, ("ISO_IR 192",)),
        (Peer("A"), ["ISO_IR 100"], ("ISO_IR 100",)),
        (Peer("A"), ["", "ISO 2022 IR 100"], ("", "ISO 2022 IR 100")),
        (Peer("A"), [None, "ISO 2022 IR 100"], ("", "ISO 2022 IR 100")),
        (Peer("A"), ["ISO_IR 192", "ISO 2022 IR 100"], ("ISO_IR 192",)),
        (Peer("A"), ["ISO_IR 100", "ISO_IR 192"], ("ISO_IR 192",)),
        (Peer("A"), ["nonsense"], ("ISO_IR 192",)),
        (Peer("A"), [""], ("ISO_IR 192",)),
        (Peer("A", answer_character_set="ISO_IR 127"), ["ISO_IR 100"], ("ISO_IR 127",)),
        (Peer("A", answer_character_set="\\ISO 2022 IR 127"), ["ISO_IR 100"], ("", "ISO 2022 IR 127")),
        (Peer("A", is_latin_only=True), None, ("ISO_IR 100",)),
        (Peer("A", is_latin_only=True), ["ISO_IR 6"], ("ISO_IR 6",)),
    ],
)
def test_the_peers_set_goes_before_the_requests_and_that_before_unicode(peer, asked, chosen) -> None:
    request = {"00080005": {"vr": "CS", "Value": asked}} if asked else {}
    assert choose_character_sets(peer, request) == chosen


def test_unicode_is_a_set_and_a_python_codec_is_none() -> None:
    assert is_character_set(UNICODE)
    assert not is_character_set(("utf-8",))
    assert not is_character_set(("rot13",))
    assert not is_character_set(())


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("Éàçûœ Ørsted ß", "Eacuoe Orsted ss"),
        ("محمد العلوي", "mhmd al'loui"),
        ("فاطمة", "fatma"),
        ("ڭزول", "gzoul"),
        ("٢٠٢٤", "2024"),
        ("مُحَمَّد", "mohamad"),
        ("a\u200fb\u00a0c", "ab c"),
        ("ﻻ", "la"),
        ("山", "_"),
        ("?", "?"),
    ],
)
def test_letters_are_written_by_their_sound(text, latin) -> None:
    assert transliterate(text) == latin


def test_a_setting_that_is_no_character_set_is_named(tmp_path) -> None:
    peers = [PeerSettings(ae_title="A", answer_character_set="Windows-1256")]
    settings = Settings(data_dir=tmp_path, storage=StorageSettings(url="memory:"), dimse=DimseSettings(peers=peers))
    with pytest.raises(InvalidSetting, match=r"dimse\.peers\.0\.answer_character_set"), open_archive(settings):
        pass
