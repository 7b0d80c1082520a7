"""What was corrected leaves so in every syntax, decodable, with what was there before; all else is as it came."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.errors import UnsupportedTransferSyntax
from pacs.imaging.syntaxes import SYNTAXES, lookup
from pacs.overlay import COERCE, Step, apply
from tests import builders
from tests.imaging import Memory, flatten, leave, open_instance, read

AT = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
ORIGINALS = "(0400,0561)"
WRITABLE = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]


def element(vr, *values):
    return {"vr": vr, "Value": list(values)}


def name_step(name, **facts):
    return Step({"00100010": element("PN", {"Alphabetic": name})}, AT, **facts)


def attributes_of(data):
    return open_instance(Memory(data)).header.attributes


def assert_only_changed(before, after, changed):
    expected, actual = flatten(read(before)), flatten(read(after))
    different = {path for path in expected | actual if expected.get(path) != actual.get(path)}
    assert {path for path in different if not path.startswith(ORIGINALS)} == set(changed)


@pytest.mark.parametrize("syntax", WRITABLE, ids=lambda syntax: syntax.keyword)
def test_corrected_values_leave_in_the_stored_syntax_with_what_was_there_before(syntax):
    """RULES.md: what leaves coerced or corrected carries Original Attributes Sequence with the old values."""
    dataset = builders.build_ct(PatientName="WRONG^NAME", PatientID="1")
    data = builders.as_part10(dataset, syntax)
    after = leave(data, syntax, [name_step("RIGHT^NAME", reason=COERCE, system="ARCHIVE", source="SENDER")])

    assert_only_changed(data, after, ["(0010,0010)"])
    found = read(after)
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.PatientName == "RIGHT^NAME"
    assert found.PixelData == dataset.PixelData
    (item,) = found.OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].PatientName == "WRONG^NAME"
    assert str(item.AttributeModificationDateTime) == "20240229123015.000000+0000"
    assert (item.ModifyingSystem, item.SourceOfPreviousValues) == ("ARCHIVE", "SENDER")
    assert item.ReasonForTheAttributeModification == "COERCE"


def test_big_endian_is_never_written():
    with pytest.raises(UnsupportedTransferSyntax):
        leave(
            builders.as_part10(builders.build_ct(), uid.ExplicitVRBigEndian), uid.ExplicitVRBigEndian, [name_step("A")]
        )


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.MPEG2MPML, "1.2.3"])
def test_compressed_pixels_stay_byte_for_byte_whether_they_decode_or_not(syntax):
    dataset = builders.build_encapsulated(has_extended_offset_table=True)
    after = read(leave(builders.as_part10(dataset, syntax), syntax, [name_step("RIGHT^NAME")]))
    assert after.PatientName == "RIGHT^NAME"
    assert after.PixelData == dataset.PixelData
    assert after.ExtendedOffsetTable == dataset.ExtendedOffsetTable


def test_bytes_say_the_same_as_the_metadata():
    """RULES.md: QIDO, C-FIND, metadata, C-STORE out and WADO show the same values."""
    other = Dataset()
    other.PatientID = "1"
    data = builders.as_part10(builders.build_sr(OtherPatientIDsSequence=Sequence([other])))
    steps = [
        name_step("Müller^Jörg"),
        Step({"00080050": {"vr": "SH"}, "00100040": element("CS", "F"), "00101030": element("DS", 71.5)}, AT),
        Step({"00101002": element("SQ", {"00100020": element("LO", "2")}, {}), "00280010": element("US", 7)}, AT),
        Step({"00280009": element("AT", "00181063"), "00189087": element("FD", 0.25)}, AT),
    ]
    after = leave(data, steps=steps)
    expected = apply(attributes_of(data), steps)
    assert attributes_of(after) == expected | {"00080005": attributes_of(after)["00080005"]}


def test_new_text_goes_in_the_character_set_of_the_data_set_if_it_fits():
    dataset = builders.build_ct(SpecificCharacterSet="ISO_IR 100", StudyDescription="Crâne")
    data = builders.as_part10(dataset)
    after = leave(data, steps=[name_step("Éloïse^Noël")])
    assert_only_changed(data, after, ["(0010,0010)"])
    assert "Éloïse".encode("latin-1") in after
    assert read(after).PatientName == "Éloïse^Noël"


CHARACTER_SETS = {
    "ISO_IR 100": "Crâne",
    "ISO_IR 126": "Κρανίο",
    "ISO_IR 127": "جمجمة",
    "ISO_IR 144": "Череп",
    "GBK": "颅骨",
    "ISO_IR 192": "頭蓋",
}


@pytest.mark.parametrize("syntax", WRITABLE, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("character_set", CHARACTER_SETS)
def test_text_that_does_not_fit_takes_all_text_to_unicode(character_set, syntax):
    text = CHARACTER_SETS[character_set]
    item = Dataset()
    item.CodeMeaning = text
    inner = Dataset()
    inner.SpecificCharacterSet = "ISO_IR 100"
    inner.CodeMeaning = "Crâne"
    item.ConceptCodeSequence = Sequence([inner])
    dataset = builders.build_ct(
        SpecificCharacterSet=character_set,
        PatientName=f"{text}^A={text}",
        ImageComments=text * 100,
        ProcedureCodeSequence=Sequence([item]),
    )
    data = builders.as_part10(dataset, syntax)
    after = leave(data, syntax, [Step({"00081030": element("LO", "Étude 頭部 دراسة")}, AT)])

    found = read(after)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.StudyDescription == "Étude 頭部 دراسة"
    before_values, after_values = flatten(read(data)), flatten(found)
    different = {path for path in before_values if before_values[path] != after_values.get(path)}
    assert {path for path in different if not path.endswith("(0008,0005)")} == {"(0008,1030)"}
    if character_set != "ISO_IR 192":
        assert found.ProcedureCodeSequence[0].ConceptCodeSequence[0].SpecificCharacterSet == "ISO_IR 192"
    assert text.encode() in after or syntax.is_deflated


def test_text_that_lied_about_its_character_set_leaves_as_it_was_understood():
    dataset = builders.build_ct()
    data = builders.as_part10(dataset).replace(b"TEST^BUILT", "TÉST^BUI".encode() + b" ")
    after = read(leave(data, steps=[Step({"00081030": element("LO", "Étude")}, AT)]))
    assert after.SpecificCharacterSet == "ISO_IR 192"
    assert after.PatientName == "TÉST^BUI"


def test_japanese_with_escape_sequences_becomes_unicode():
    dataset = builders.build_ct(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
    data = builders.as_part10(dataset)
    assert b"\x1b$B" in data
    after = read(leave(data, steps=[Step({"00081030": element("LO", "頭部")}, AT)]))
    assert after.SpecificCharacterSet == "ISO_IR 192"
    assert after.PatientName == "Yamada^Tarou=山田^太郎"
    ascii_only = read(leave(data, steps=[Step({"00081030": element("LO", "HEAD")}, AT)]))
    assert list(ascii_only.SpecificCharacterSet) == ["", "ISO 2022 IR 87"]
    assert ascii_only.PatientName == "Yamada^Tarou=山田^太郎"


def test_long_text_outside_the_header_becomes_unicode_too():
    dataset = builders.build_sr(SpecificCharacterSet="ISO_IR 100")
    dataset.ContentSequence[0].TextValue = "é" * 70_000
    after = read(leave(builders.as_part10(dataset), steps=[name_step("محمد")]))
    assert after.ContentSequence[0].TextValue == "é" * 70_000
    assert after.PatientName == "محمد"


def test_received_items_and_large_previous_values_are_kept():
    received = Dataset()
    received.ReasonForTheAttributeModification = "COERCE"
    held = Dataset()
    held.add_new(0x00420011, "OB", bytes(range(256)) * 20)
    received.ModifiedAttributesSequence = Sequence([held])
    dataset = builders.build_pdf(b"%PDF" * 2000, OriginalAttributesSequence=Sequence([received]))
    steps = [Step({"00420011": {"vr": "OB"}}, AT)]
    for syntax in (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        after = read(leave(builders.as_part10(dataset, syntax), steps=steps))
        first, second = after.OriginalAttributesSequence
        assert first.ModifiedAttributesSequence[0].EncapsulatedDocument == held.EncapsulatedDocument
        assert second.ModifiedAttributesSequence[0].EncapsulatedDocument == b"%PDF" * 2000
        assert not after.EncapsulatedDocument


@pytest.mark.parametrize(
    "syntax", [value.uid for value in SYNTAXES.values() if value.can_encode], ids=lambda syntax: lookup(syntax).uid
)
def test_correction_and_transcoding_go_together(syntax):
    dataset = builders.build_multiframe(frames=2)
    after = read(leave(builders.as_part10(dataset), syntax, [name_step("محمد")]))
    assert (after.PatientName, after.SpecificCharacterSet) == ("محمد", "ISO_IR 192")
    assert after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientName == "TEST^BUILT"
    if syntax in (uid.RLELossless, *WRITABLE):
        assert np.array_equal(after.pixel_array, read(builders.as_part10(dataset)).pixel_array)


def test_items_with_a_character_set_of_their_own_come_out_readable():
    code = builders.build_code("1", "S", "Crâne")
    code.SpecificCharacterSet = "ISO_IR 100"
    dataset = builders.build_ct(SpecificCharacterSet="ISO_IR 192", ProcedureCodeSequence=Sequence([code]))
    after = read(leave(builders.as_part10(dataset), steps=[Step({"00081032": {"vr": "SQ"}}, AT)]))
    (item,) = after.OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].ProcedureCodeSequence[0].CodeMeaning == "Crâne"


def test_character_set_itself_is_not_a_matter_of_steps():
    dataset = builders.build_ct(SpecificCharacterSet="ISO_IR 100", PatientName="É")
    after = read(leave(builders.as_part10(dataset), steps=[Step({"00080005": element("CS", "ISO_IR 192")}, AT)]))
    assert after.SpecificCharacterSet == "ISO_IR 100"
    assert after.PatientName == "É"
