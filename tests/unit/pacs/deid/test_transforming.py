"""What the engine does to attributes, rule by rule."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs.deid import (
    RELEASE_DEFAULT,
    Option,
    Profile,
    ProjectKey,
    Reason,
    SafePrivate,
    derive_subject,
    subject_identity,
)
from pacs.deid.words import clean_text, is_medical
from pacs.deid.writing import encode_element, encode_file_meta, encode_sequence
from tests.builders import as_part10, build_code, build_ct, build_mr, build_sr, new_uid
from tests.unit.pacs.deid.running import BASIC, KEY, deeds, run, run_bytes, with_options

PIXEL_TAG = b"\xe0\x7f\x10\x00"
NAMES = Path(__file__).parents[3] / "names"


USEFUL = """
    Modality ImageType BodyPartExamined PatientAge PatientSex PatientWeight PatientSize KVP SliceThickness PixelSpacing
    ImagePositionPatient ImageOrientationPatient ConvolutionKernel RepetitionTime EchoTime MagneticFieldStrength
    SliceLocation ScanOptions PatientPosition Manufacturer ManufacturerModelName SoftwareVersions Rows Columns
    RescaleSlope RescaleIntercept WindowCenter SeriesNumber InstanceNumber PixelData SOPClassUID
"""


def item(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("build", [build_ct, build_mr])
def test_what_science_needs_survives(build):
    before = build(
        ContrastBolusAgent="Iode",
        ConvolutionKernel="B70f",
        PatientWeight="71",
        PatientSize="1.75",
        RepetitionTime="500",
        SliceLocation="12.25",
        ScanOptions="HELICAL MODE",
        PatientPosition="HFS",
        Manufacturer="SIEMENS",
        ManufacturerModelName="Definition AS",
        SoftwareVersions="syngo CT 2012B",
        PatientSex="F",
    )
    after = run(before)
    for keyword in USEFUL.split():
        assert after.get(keyword) == before.get(keyword), keyword
    assert after.ContrastBolusAgent
    assert after.ProcedureCodeSequence[0].CodeValue == "77477000"


def test_the_object_says_what_was_done_to_it():
    after = run(build_ct())
    assert after.PatientIdentityRemoved == "YES"
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    found = [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
    assert sorted(found) == ["113100", *sorted(option.code for option in RELEASE_DEFAULT.options)]
    assert {code.CodingSchemeDesignator for code in after.DeidentificationMethodCodeSequence} == {"DCM"}
    assert run(build_ct(), BASIC).LongitudinalTemporalInformationModified == "REMOVED"
    full = with_options(Option.RETAIN_FULL_DATES)
    assert run(build_ct(), full).LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_preamble_and_file_meta_are_the_engines_own():
    data = as_part10(build_ct())
    data = b"PATIENT NAME".ljust(128) + data[128:]
    output, report = run_bytes(data)
    assert output[:128] == bytes(128)
    meta = pydicom.dcmread(io.BytesIO(output)).file_meta
    assert meta.MediaStorageSOPInstanceUID == report.sop_instance_uid
    assert "SourceApplicationEntityTitle" not in meta


def test_intervals_between_studies_and_times_of_day_are_kept():
    one = run(build_ct(StudyDate="20240229", StudyTime="101523.5", SeriesDate="20240301"))
    two = run(build_ct(StudyDate="20240403", StudyTime="000001"))
    days = [pydicom.valuerep.DA(value) for value in (one.StudyDate, one.SeriesDate, two.StudyDate)]
    assert (days[1] - days[0]).days == 1
    assert (days[2] - days[0]).days == 34
    assert one.StudyDate != "20240229"
    assert (one.StudyTime, two.StudyTime) == ("101523.5", "000001")


def test_a_date_with_its_time_keeps_its_offset_and_moves_as_dates_do():
    after = run(build_ct(StudyDate="20240229", AcquisitionDateTime="20240229235959.25+0100"))
    assert after.AcquisitionDateTime == after.StudyDate + "235959.25+0100"


@pytest.mark.parametrize("value", ["2024", "202402", "20240229"])
def test_a_date_is_as_precise_as_it_was(value):
    assert len(run(build_ct(AcquisitionDateTime=value)).AcquisitionDateTime) == len(value)


@pytest.mark.parametrize(("keyword", "vr"), [("SeriesDate", "DA"), ("SeriesTime", "TM"), ("AcquisitionDateTime", "DT")])
def test_what_is_no_date_comes_out_empty(keyword, vr):
    before = build_ct()
    before.add(pydicom.DataElement(keyword, vr, "x", validation_mode=0))
    data = as_part10(before).replace(b"x ", b"@@", 0)
    output, _ = run_bytes(data)
    assert not pydicom.dcmread(io.BytesIO(output))[keyword].value


@pytest.mark.parametrize(
    ("birth", "age", "then"),
    [
        ("19700131", None, "054Y"),
        ("19300101", None, "090Y"),
        ("20240101", None, "059D"),
        (None, "094Y", "090Y"),
        (None, "089Y", "089Y"),
    ],
)
def test_age_is_there_and_the_oldest_are_one(birth, age, then):
    after = run(build_ct(StudyDate="20240229", PatientBirthDate=birth, PatientAge=age))
    assert after.PatientAge == then
    assert not after.get("PatientBirthDate")


def test_a_birth_date_is_emptied_also_where_dates_are_kept():
    after = run(build_ct(), with_options(Option.RETAIN_FULL_DATES, Option.RETAIN_PATIENT_CHARACTERISTICS))
    assert after.StudyDate == "20240229"
    assert after.PatientBirthDate == ""


def test_versions_of_context_groups_do_not_tell_the_shift():
    code = build_code("77477000", "SCT", "x")
    code.MappingResource, code.ContextGroupVersion, code.ContextIdentifier = "DCMR", "20040920", "29"
    after = run(build_ct(ProcedureCodeSequence=Sequence([code])))
    assert after.ProcedureCodeSequence[0].ContextGroupVersion == "20040920"


def test_dates_that_many_patients_share_stay_only_with_the_device():
    before = build_ct(DateOfLastCalibration="20240105")
    assert "DateOfLastCalibration" not in run(before)
    kept = Profile("device", RELEASE_DEFAULT.options | {Option.RETAIN_DEVICE_IDENTITY})
    assert run(before, kept).DateOfLastCalibration


def test_references_follow_the_instances_they_mean():
    image = build_ct()
    reference = item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    other = build_ct(ReferencedImageSequence=Sequence([reference]), StudyInstanceUID=image.StudyInstanceUID)
    one, two = run(image), run(other)
    assert two.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert two.ReferencedImageSequence[0].ReferencedSOPClassUID == image.SOPClassUID
    assert two.StudyInstanceUID == one.StudyInstanceUID
    assert re.fullmatch(r"2\.25\.[0-9]{1,39}", str(one.SOPInstanceUID))


def test_a_uid_is_structural_by_its_attribute_and_not_by_its_root():
    after = run(
        build_ct(FrameOfReferenceUID="1.2.840.10008.1.4.1.1", SynchronizationFrameOfReferenceUID="1.2.840.10008.77.1")
    )
    assert after.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert after.SynchronizationFrameOfReferenceUID.startswith("2.25.")


def test_uids_stay_if_the_profile_retains_them():
    before = build_ct()
    after = run(before, with_options(Option.RETAIN_UIDS))
    assert (after.SOPInstanceUID, after.FrameOfReferenceUID) == (before.SOPInstanceUID, before.FrameOfReferenceUID)


def test_institution_and_device_stay_only_with_their_options():
    before = build_ct(InstitutionName="Some Hospital", StationName="CT01", DeviceSerialNumber="S-12")
    plain = run(before)
    assert plain.InstitutionName == "REMOVED"
    assert plain.StationName == "REMOVED"
    options = (Option.RETAIN_INSTITUTION_IDENTITY, Option.RETAIN_DEVICE_IDENTITY)
    kept = run(before, with_options(*options))
    assert (kept.InstitutionName, kept.StationName, kept.DeviceSerialNumber) == ("Some Hospital", "CT01", "S-12")


def test_sequences_are_entered_at_any_depth():
    inner = item(PatientName="IN^NER", StudyDescription="Thorax ZORBAK", SeriesInstanceUID=new_uid())
    for _ in range(6):
        inner = item(ReferencedSeriesSequence=Sequence([inner]))
    after = run(build_ct(ReferencedSeriesSequence=Sequence([inner])))
    for _ in range(7):
        after = after.ReferencedSeriesSequence[0]
    assert after.StudyDescription == "Thorax"
    assert not after.get("PatientName")
    assert after.SeriesInstanceUID.startswith("2.25.")


def test_whole_sequences_go():
    attributes = item(PatientName="OLD^NAME", StudyDescription="Thorax")
    original = item(ModifiedAttributesSequence=Sequence([attributes]), ReasonForTheAttributeModification="CORRECT")
    after = run(
        build_ct(
            OriginalAttributesSequence=Sequence([original]), OtherPatientIDsSequence=Sequence([item(PatientID="1")])
        )
    )
    assert "OriginalAttributesSequence" not in after
    assert "OtherPatientIDsSequence" not in after


def test_an_item_is_read_in_its_own_character_set():
    """The Arabic of an item in ISO_IR 127, within a Latin data set."""
    inner = encode_element(0x00080005, "CS", b"ISO_IR 127") + encode_element(
        0x0008103E, "LO", "صورة الرأس".encode("iso8859_6")
    )
    parts = _root() + encode_sequence(0x00081115, [inner]) + _uids()
    after = pydicom.dcmread(io.BytesIO(run_bytes(_file(parts))[0]))
    described = after.ReferencedSeriesSequence[0]
    assert described.SeriesDescription == "صورة الرأس"
    assert "SpecificCharacterSet" not in described
    assert after.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("terms", [["ISO 2022 IR 6", "ISO 2022 IR 127"], ["", "ISO 2022 IR 126"]])
def test_escapes_to_other_character_sets_are_followed(terms):
    arabic = terms[-1].endswith("127")
    name, word, kept = ("زوربخيت", "زوربخيت", "صورة") if arabic else ("Ζορμπακ", "Ζορμπακ", "Thorax")
    before = build_ct(
        SpecificCharacterSet=terms, PatientName=f"BUILT^X={name}", StudyDescription=f"Thorax {kept} {word}"
    )
    output, _ = run_bytes(as_part10(before))
    assert pydicom.dcmread(io.BytesIO(output)).StudyDescription.split()[-1] == kept
    assert name.encode() not in output
    assert b"\x1b" not in output[: output.index(PIXEL_TAG)]


def test_what_is_stored_as_un_is_read_as_what_it_is():
    inner = (
        b"\xfe\xff\x00\xe0" + (24).to_bytes(4, "little") + b"\x10\x00\x10\x00" + (6).to_bytes(4, "little") + b"BAD^UN"
    )
    inner += b"\x08\x00\x60\x00" + (2).to_bytes(4, "little") + b"CT"
    parts = (
        _root() + encode_element(0x00081030, "UN", b"Thorax BADUN") + encode_element(0x00081115, "UN", inner) + _uids()
    )
    output, _ = run_bytes(_file(parts))
    after = pydicom.dcmread(io.BytesIO(output))
    assert after.StudyDescription == "Thorax"
    assert after.ReferencedSeriesSequence[0].Modality == "CT"
    assert b"BAD" not in output


def _root():
    return (
        encode_element(0x00080005, "CS", b"ISO_IR 100")
        + encode_element(0x00080016, "UI", uid.CTImageStorage.encode())
        + encode_element(0x00080018, "UI", b"1.2.3")
    )


def _uids():
    return (
        encode_element(0x00100020, "LO", b"4711")
        + encode_element(0x0020000D, "UI", b"1.2.4")
        + encode_element(0x0020000E, "UI", b"1.2.5")
    )


def _file(parts):
    return encode_file_meta(str(uid.CTImageStorage), "1.2.3", str(uid.ExplicitVRLittleEndian)) + parts


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian]
)
def test_every_native_transfer_syntax_gives_the_same_object(syntax):
    before = build_ct(ReferencedImageSequence=Sequence([item(ReferencedSOPInstanceUID=new_uid())]))
    after = run(before, syntax=syntax)
    assert after.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    if syntax == uid.ExplicitVRBigEndian:
        # pydicom writes the words of pixel data as they are.
        after.PixelData = np.frombuffer(after.PixelData, "<u2").byteswap().tobytes()
    assert after == run(before)


def test_safe_private_attributes_stay_by_their_creator_and_all_others_go():
    before = build_mr()
    block = before.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", "1000")
    block.add_new(0x0B, "SH", "someone")
    other = before.private_block(0x0021, "OTHER", create=True)
    other.add_new(0x0C, "IS", "1000")
    after = run(before)
    assert [element.tag.group for element in after if element.tag.is_private] == [0x0019, 0x0019]
    assert after.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 1000
    assert not [element for element in run(before, BASIC) if element.tag.is_private]


def test_a_profile_may_name_private_attributes_of_its_own():
    before = build_ct()
    before.private_block(0x0021, "ACME 1", create=True).add_new(0x0C, "DS", "1.5")
    profile = Profile("acme", RELEASE_DEFAULT.options, safe_private=(SafePrivate("ACME 1", 0x0021, 0x0C, "DS"),))
    assert run(before, profile).private_block(0x0021, "ACME 1")[0x0C].value == 1.5


def test_a_code_says_what_its_scheme_says_and_private_codes_are_keyed():
    known, local = (
        build_code("77477000", "SCT", "ANYTHING typed"),
        build_code("RX-0612345678", "99HOSPITAL", "Scanner BENZ"),
    )
    after = run(build_ct(ProcedureCodeSequence=Sequence([known]), RequestedProcedureCodeSequence=Sequence([local])))
    assert after.ProcedureCodeSequence[0].CodeMeaning == "Computerized axial tomography (procedure)"
    keyed = after.RequestedProcedureCodeSequence[0]
    assert keyed.CodeValue.startswith("K")
    assert keyed.CodingSchemeDesignator == "99LOCAL"
    assert keyed.CodeMeaning == "Scanner"


def test_overlays_curves_icons_and_signatures_go():
    before = build_ct(
        IconImageSequence=Sequence([item(Rows=1)]), DigitalSignaturesSequence=Sequence([item(MACIDNumber=1)])
    )
    before.add_new(0x60000010, "US", 8)
    before.add_new(0x60003000, "OW", b"\1\0")
    before.add_new(0x50000005, "US", 1)
    after = run(before)
    assert not [element for element in after if element.tag.group in (0x5000, 0x6000, 0xFFFA)]
    assert "IconImageSequence" not in after


REPORT_ITEMS = {
    "PNAME": item(PersonName="OBS^ERVER"),
    "TEXT": item(TextValue="Nodule du poumon droit chez M. ZORBAK, 12 mm, tel 06 12 34 56 78"),
    "DATE": item(Date="20240229"),
    "TIME": item(Time="101500"),
    "DATETIME": item(DateTime="20240229101500+0100"),
    "UIDREF": item(UID="1.2.3.4.5.6"),
    "NUM": item(MeasuredValueSequence=Sequence([item(NumericValue="12.5")])),
    "SCOORD": item(GraphicType="POINT", GraphicData=[1.0, 2.0]),
}


def test_a_report_is_cleaned_by_value_type():
    items = []
    for value_type, content in REPORT_ITEMS.items():
        content.ValueType = value_type
        content.ConceptNameCodeSequence = Sequence([build_code("121071", "DCM", "typed by hand")])
        items.append(content)
    after = run(build_sr(StudyDate="20240229", ContentSequence=Sequence(items)))
    found = {content.ValueType: content for content in after.ContentSequence}
    assert found["PNAME"].PersonName == "REMOVED"
    assert found["TEXT"].TextValue.startswith("Nodule du poumon droit")
    assert not re.search(r"\d|ZORBAK", found["TEXT"].TextValue)
    assert found["DATE"].Date == after.StudyDate
    assert found["TIME"].Time == "101500"
    assert found["DATETIME"].DateTime == after.StudyDate + "101500+0100"
    assert found["UIDREF"].UID.startswith("2.25.")
    assert found["NUM"].MeasuredValueSequence[0].NumericValue == 12.5
    assert found["SCOORD"].GraphicData == [1.0, 2.0]
    assert {content.ConceptNameCodeSequence[0].CodeMeaning for content in after.ContentSequence} == {"Finding"}


def test_a_report_does_not_tell_birth_dates_and_great_ages():
    birth = item(
        ValueType="DATE", Date="19200101", ConceptNameCodeSequence=Sequence([build_code("121031", "DCM", "x")])
    )
    age = item(ValueType="NUM", MeasuredValueSequence=Sequence([item(NumericValue="104")]),
               ConceptNameCodeSequence=Sequence([build_code("121033", "DCM", "x")]))  # fmt: skip
    after = run(build_sr(ContentSequence=Sequence([birth, age])))
    assert [content.ValueType for content in after.ContentSequence] == ["NUM"]
    assert "MeasuredValueSequence" not in after.ContentSequence[0]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Scanner thoracique avec injection", "Scanner thoracique avec injection"),
        ("T1-weighted axial SE", "T1-weighted axial"),
        ("IRM cérébrale, séquence T2/FLAIR", "IRM cérébrale séquence T2/FLAIR"),
        ("THORAX 06 12 34 56 78 ROUTINE", "THORAX ROUTINE"),
        ("Thorax ٠٦١٢٣٤٥٦٧٨", "Thorax"),
        ("صورة الرأس مع حقن", "صورة الرأس مع حقن"),
        ("Abdomen le 12 mars 2021", "Abdomen le"),
        ("CIN AB 123 456, L5 S1", "L5 S1"),
        ("ThoraxRoutine AbdomenZorbak", "ThoraxRoutine"),
        ("OMNIPAQUE 350", "OMNIPAQUE"),
        ("Zorbakfan", ""),
    ],
)
def test_text_keeps_the_words_of_medicine_and_no_number(text, cleaned):
    assert clean_text(text) == cleaned


def test_no_name_of_our_lists_is_a_word_of_medicine():
    found = set()
    for name in ("tuning.csv", "held_out.csv"):
        lines = [line for line in (NAMES / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for row in csv.DictReader(lines):
            for word in re.findall(r"[^\W\d_]{3,}", f"{row['query']} {row['name']}"):
                if is_medical(word):
                    found.add(word)
    assert found == set()


def test_known_words_go_even_if_they_are_words_of_medicine():
    after = run(
        build_ct(PatientName="Foie^Axial", StudyDescription="Scanner axial du foie", Manufacturer="Axial Systems")
    )
    assert after.StudyDescription == "Scanner du"
    assert after.Manufacturer == "Systems"


def test_names_of_several_words_are_known_when_they_are_written_as_one():
    after = run(
        build_ct(PatientName="El Zorbak^Foie Axial", Manufacturer="ELZORBAK systems", StudyDescription="FOIEAXIAL IRM")
    )
    assert (after.Manufacturer, after.StudyDescription) == ("systems", "IRM")


def test_the_report_says_what_was_done_and_by_which_rule():
    found = deeds(build_ct(InstitutionName="x", StudyDescription="Thorax"))
    assert found["00080080"] == ("replaced", "E.1-1 X/Z/D")
    assert found["00081030"] == ("cleaned", "E.1-1 clean-descriptors C")
    assert found["00080020"] == ("shifted", "E.1-1 retain-modified-dates C")
    assert found["00080018"] == ("mapped", "E.1-1 U")
    assert found["00100030"] == ("emptied", "E.1-1 Z")


def test_a_subject_that_is_given_is_who_the_patient_is():
    subject = derive_subject(KEY, subject_identity("ELSEWHERE", "1", ""))
    after = run(build_ct(), subject=subject)
    assert after.PatientID == after.PatientName == subject.pseudonym


patients = st.fixed_dictionaries(
    {
        "PatientName": st.text("ABCDEFGHIJ^", min_size=1, max_size=20),
        "PatientID": st.text("ABC0123456789", min_size=1, max_size=12),
        "AccessionNumber": st.text("0123456789", min_size=1, max_size=10),
    }
)


@settings(max_examples=25, deadline=None)
@given(patients, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_one_project_is_always_the_same_and_two_have_nothing_in_common(patient, one, other):
    data = as_part10(build_ct(**patient))
    waived = {"released_reasons": [Reason.RESIDUE]}
    first, again = (run_bytes(data, key=ProjectKey(one), **waived) for _ in range(2))
    assert first == again
    if one == other:
        return
    elsewhere, _ = run_bytes(data, key=ProjectKey(other), **waived)
    ours, theirs = (_identifiers(output) for output in (first[0], elsewhere))
    assert len(ours) >= 6
    assert not ours & theirs
    assert not ours & _identifiers(data)


def _identifiers(data):
    dataset = pydicom.dcmread(io.BytesIO(data))
    keywords = (
        "PatientID PatientName AccessionNumber StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID"
    )
    return {str(dataset[keyword].value) for keyword in keywords.split()}
