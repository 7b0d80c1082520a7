"""What the engine cannot vouch for is held back, with all the reasons, and nothing of it is written."""

import io
import struct
import zlib

import pydicom
import pytest
from pydicom import uid

from pacs.deid import RELEASE_DEFAULT, DeviceRectangles, Option, Profile, Quarantine, Reason, deidentify, reading
from pacs.deid.known import KnownValues
from pacs.deid.writing import encode_element, encode_file_meta
from tests.builders import as_part10, build_ct, build_image, build_mr, build_pdf
from tests.unit.pacs.deid.running import KEY, run, run_bytes


def reasons_of(dataset, profile=RELEASE_DEFAULT, syntax=uid.ExplicitVRLittleEndian, **options):
    data = dataset if isinstance(dataset, bytes) else as_part10(dataset, syntax)
    target = io.BytesIO()
    with pytest.raises(Quarantine) as held:
        deidentify(io.BytesIO(data), target, profile, KEY, **options)
    assert target.getvalue() == b""
    return set(held.value.reasons)


def image_of(sop_class, **overrides):
    return build_ct(SOPClassUID=str(sop_class), **overrides)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (image_of(uid.SecondaryCaptureImageStorage), Reason.SECONDARY_CAPTURE),
        (image_of("1.2.3.4.5"), Reason.UNKNOWN_SOP_CLASS),
        (image_of(uid.RawDataStorage), Reason.UNKNOWN_SOP_CLASS),
        (image_of(uid.ComputedRadiographyImageStorage), Reason.BURNED_IN),
        (image_of(uid.UltrasoundImageStorage), Reason.NO_REGIONS),
        (image_of(uid.VLPhotographicImageStorage, BurnedInAnnotation="NO"), Reason.VISIBLE_FEATURES),
        (image_of(uid.VideoEndoscopicImageStorage), Reason.VIDEO),
        (image_of(uid.BasicVoiceAudioWaveformStorage), Reason.AUDIO),
        (build_pdf(), Reason.DOCUMENT),
        (build_ct(BurnedInAnnotation="YES"), Reason.BURNED_IN),
        (build_ct(RecognizableVisualFeatures="YES"), Reason.VISIBLE_FEATURES),
        (build_ct(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), Reason.BURNED_IN),
        (build_ct(ConversionType="WSD"), Reason.BURNED_IN),
        (build_ct(StudyInstanceUID=None), Reason.NO_UIDS),
        (build_ct(Rows=9), Reason.PIXEL_LENGTH),
        (as_part10(build_ct(NumberOfFrames="1")).replace(b"IS\x02\x001 (", b"IS\x02\x001A(", 1), Reason.PIXEL_LENGTH),
    ],
)
def test_a_person_has_to_look(dataset, reason):
    assert reason in reasons_of(dataset)


def test_every_reason_is_named():
    colour = build_ct()
    colour.update(build_image(samples=3, bits=8))
    colour.BurnedInAnnotation = "YES"
    colour.RecognizableVisualFeatures = "YES"
    assert reasons_of(colour) == {Reason.BURNED_IN, Reason.VISIBLE_FEATURES}


def test_an_image_that_says_nothing_is_burned_in_passes():
    after = run(image_of(uid.ComputedRadiographyImageStorage, BurnedInAnnotation="NO"))
    assert after.BurnedInAnnotation == "NO"


def test_heads_are_held_back_where_faces_are_not_wanted():
    profile = Profile("faceless", RELEASE_DEFAULT.options | {Option.CLEAN_VISUAL_FEATURES})
    assert reasons_of(build_mr(BodyPartExamined="HEAD"), profile) == {Reason.VISIBLE_FEATURES}
    assert run(build_mr(BodyPartExamined="KNEE"), profile)


def test_what_a_person_has_looked_at_goes_and_the_report_says_so():
    data = as_part10(image_of(uid.SecondaryCaptureImageStorage))
    assert reasons_of(data, released_reasons=[Reason.BURNED_IN]) == {Reason.SECONDARY_CAPTURE}
    _, report = run_bytes(data, released_reasons=[Reason.SECONDARY_CAPTURE])
    assert report.released_reasons == (Reason.SECONDARY_CAPTURE,)


def test_nobody_waives_what_cannot_be_looked_at():
    assert reasons_of(b"nothing", released_reasons=list(Reason)) == {Reason.PARSE_ERROR}


def test_a_document_that_was_looked_at_stays_whole():
    output, _ = run_bytes(as_part10(build_pdf(b"%PDF-1.4 looked at\n%%EOF")), released_reasons=list(Reason))
    assert pydicom.dcmread(io.BytesIO(output)).EncapsulatedDocument.startswith(b"%PDF-1.4 looked at")


def test_a_device_that_is_known_to_write_nowhere_passes():
    device = DeviceRectangles("ACME", "", 0, 0, ())
    profile = Profile("devices", RELEASE_DEFAULT.options, (device,))
    radiograph = image_of(uid.ComputedRadiographyImageStorage, Manufacturer="Acme")
    assert reasons_of(radiograph) == {Reason.BURNED_IN}
    assert run(radiograph, profile).Manufacturer == "Acme"


def test_an_overlay_in_unused_bits_is_seen():
    before = build_ct()
    before.add_new(0x60000100, "US", 16)
    before.add_new(0x60000102, "US", 12)
    assert reasons_of(before) == {Reason.OVERLAY_IN_PIXELS}


def test_text_that_is_read_in_pixels_is_an_alarm():
    assert reasons_of(build_ct(), lettering=lambda picture: picture.shape == (8, 8)) == {Reason.LETTERING}
    assert run(build_ct(), lettering=lambda picture: False)


def test_the_patients_name_in_what_is_kept_holds_the_object_back(monkeypatch):
    """As if a rule were wrong: the search of the output is the last line."""
    monkeypatch.setattr("pacs.deid.known.KnownValues.scrub", lambda self, text: text)
    for vendor in ("made by Zorbakhit", "ZORBAKHIT", "zorbakhit"):
        before = build_ct(PatientName="Zorbakhit^Ali", Manufacturer=vendor)
        assert reasons_of(before) == {Reason.RESIDUE}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("value", ["Zorbakhit", "ZORBAKHÎT", "0612345678", "12 rue des Zorbak"])
def test_the_search_knows_encodings_cases_and_accents(encoding, value):
    known = KnownValues()
    known.add_name("Zorbakhît^Ali")
    known.add_value("0612345678")
    known.add_value("12 rue des Zorbak")
    needles = known.needles()
    assert needles.is_in(b"\0\1" + value.encode(encoding) + b"\0\0")
    assert not needles.is_in("calibration, quality, alias 06123".encode(encoding))


def test_short_names_count_as_whole_words_only():
    known = KnownValues()
    known.add_name("Ali^Zo")
    needles = known.needles()
    assert not needles.is_in(b"calibration \0quality")
    assert needles.is_in(b"LO\x04\0ALI \x08\0")
    assert needles.is_in(b"LO\x03\0AliT\0\x01")


def test_a_number_counts_as_a_whole_for_derived_uids_hold_the_digits_of_every_one():
    known = KnownValues()
    known.add_value("10008")
    known.add_uid("1.2.840.10008.5")
    needles = known.needles()
    assert not needles.is_in(b"UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0 2.25.9100081")
    assert needles.is_in(b"LO\x06\x0010008 \x10\0")
    assert needles.is_in(b"UI\x10\x001.2.840.10008.5\0\x08\0")


def test_what_breaks_the_engine_is_held_back(monkeypatch):
    def break_down(*_):
        raise KeyError("Zorbakhit")

    monkeypatch.setattr("pacs.deid.engine.gather", break_down)
    assert reasons_of(build_ct(), released_reasons=list(Reason)) == {Reason.ENGINE_FAILED}


# Files that are none, or too much of one.


def _file(parts):
    root = encode_element(0x00080016, "UI", uid.CTImageStorage.encode()) + encode_element(0x00080018, "UI", b"1.2")
    return encode_file_meta(str(uid.CTImageStorage), "1.2", str(uid.ExplicitVRLittleEndian)) + root + parts


def test_every_cut_of_a_file_is_held_back_or_an_object():
    data = as_part10(build_ct(PatientName="Zorbakhit^Ali"))
    for end in range(0, len(data), 7):
        target = io.BytesIO()
        try:
            deidentify(io.BytesIO(data[:end]), target, RELEASE_DEFAULT, KEY)
        except Quarantine:
            assert target.getvalue() == b""
        else:
            assert b"Zorbakhit" not in target.getvalue()


def test_nesting_without_end_is_too_large():
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    data = _file(struct.pack("<HH2sHL", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + item * 5000)
    assert reasons_of(data) == {Reason.TOO_LARGE}


def test_a_length_that_lies_takes_no_memory():
    data = _file(struct.pack("<HH2sHL", 0x0009, 0x1010, b"OB", 0, 0xFFFFFF00) + b"x" * 16)
    assert reasons_of(data) == {Reason.PARSE_ERROR}


def test_a_header_without_measure_is_too_large(monkeypatch):
    monkeypatch.setattr(reading._Budget, "__init__", _small)
    assert reasons_of(as_part10(build_ct())) == {Reason.TOO_LARGE}


def _small(budget):
    budget.header_bytes, budget.elements = 100, 10


def test_what_inflates_without_end_is_too_large(monkeypatch):
    monkeypatch.setattr(reading, "MAX_INFLATED_BYTES", 1 << 20)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(4 << 20)) + deflater.flush()
    meta = encode_file_meta(str(uid.CTImageStorage), "1.2", str(uid.DeflatedExplicitVRLittleEndian))
    assert reasons_of(meta + bomb) == {Reason.TOO_LARGE}


def test_an_attribute_twice_is_no_data_set():
    assert reasons_of(_file(encode_element(0x00080018, "UI", b"1.3"))) == {Reason.PARSE_ERROR}


def test_a_value_in_the_wrong_vr_goes():
    parts = encode_element(0x00280010, "LO", b"Zorbakhit") + encode_element(0x00080060, "LO", b"CT")
    parts += encode_element(0x0020000D, "UI", b"1.2.4") + encode_element(0x0020000E, "UI", b"1.2.5")
    data = _file(parts)
    output, _ = run_bytes(data)
    after = pydicom.dcmread(io.BytesIO(output))
    assert "Rows" not in after
    assert (after.Modality, after["Modality"].VR) == ("CT", "CS")
    assert b"orbakhit" not in output
