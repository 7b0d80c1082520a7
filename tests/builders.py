"""Data sets for tests, built and never downloaded: small, valid, each with UIDs of its own under 2.25.

Every ``build_`` function takes attribute keywords as overrides; a value of None leaves the attribute out.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_dataset, write_file_meta_info
from pydicom.sequence import Sequence

IMPLEMENTATION_CLASS_UID = "2.25.1"


def new_uid() -> str:
    """Return a UID nobody else has, under 2.25."""
    return str(uid.generate_uid(prefix=None))


def build_dataset(**overrides: Any) -> Dataset:
    """Return the patient, study and series part that every object has; secondary capture without pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = str(uid.SecondaryCaptureImageStorage)
    dataset.SOPInstanceUID = new_uid()
    dataset.StudyInstanceUID = new_uid()
    dataset.SeriesInstanceUID = new_uid()
    dataset.PatientName = "TEST^BUILT"
    dataset.PatientID = "BUILT-1"
    dataset.PatientBirthDate = "19700131"
    dataset.PatientSex = "O"
    dataset.StudyDate = "20240229"
    dataset.StudyTime = "120000"
    dataset.StudyID = "1"
    dataset.AccessionNumber = "ACC1"
    dataset.ReferringPhysicianName = None
    dataset.StudyDescription = "Built study"
    dataset.Modality = "OT"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    return _override(dataset, overrides)


def build_image(rows: int = 8, columns: int = 8, frames: int = 0, bits: int = 16, samples: int = 1) -> Dataset:
    """Return only an image's pixel module; ``frames`` 0 leaves Number of Frames out, ``bits`` are Bits Allocated."""
    dataset = Dataset()
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples > 1:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames
    dataset.Rows = rows
    dataset.Columns = columns
    dataset.BitsAllocated = bits
    dataset.BitsStored = min(bits, 12) if bits == 16 else bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixel_bytes(rows, columns, max(frames, 1), bits, samples)
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return dataset


def pixel_bytes(rows: int, columns: int, frames: int, bits: int = 16, samples: int = 1) -> bytes:
    """Return native pixels, little endian and padded to even, that differ from frame to frame."""
    count = rows * columns * frames * samples
    if bits == 1:
        packed = np.packbits((np.arange(count) * 7 // 3 % 2).astype(np.uint8), bitorder="little").tobytes()
    else:
        kind = np.dtype(f"<u{bits // 8}")
        packed = ((np.arange(count, dtype=np.uint32) * 37) % (1 << min(bits, 12))).astype(kind).tobytes()
    return packed + b"\0" * (len(packed) % 2)


def build_ct(**overrides: Any) -> Dataset:
    """Return one 8 x 8 CT slice of 16 bits."""
    dataset = build_dataset()
    dataset.SOPClassUID = str(uid.CTImageStorage)
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientAge = "054Y"
    dataset.KVP = "120"
    dataset.SliceThickness = "1.25"
    dataset.FrameOfReferenceUID = new_uid()
    dataset.ImagePositionPatient = ["-100.5", "-100.5", "12.25"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = ["0.5", "0.5"]
    dataset.update(build_image())
    dataset.WindowCenter = ["40", "-600"]
    dataset.WindowWidth = ["400", "1500"]
    dataset.RescaleIntercept = "-1024"
    dataset.RescaleSlope = "1"
    code = build_code("77477000", "SCT", "Computed tomography")
    dataset.ProcedureCodeSequence = Sequence([code])
    return _override(dataset, overrides)


def build_mr(**overrides: Any) -> Dataset:
    """Return one 8 x 8 MR slice of 16 bits, with a private creator and two private elements."""
    dataset = build_ct(KVP=None, RescaleIntercept=None, RescaleSlope=None)
    dataset.SOPClassUID = str(uid.MRImageStorage)
    dataset.Modality = "MR"
    dataset.MagneticFieldStrength = "1.5"
    dataset.EchoTime = "12.5"
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    block.add_new(0x10, "OB", b"\x01\x02\x03\x04")
    return _override(dataset, overrides)


def build_multiframe(frames: int = 5, **overrides: Any) -> Dataset:
    """Return a multi-frame grayscale word secondary capture of ``frames`` native frames."""
    dataset = build_dataset()
    dataset.SOPClassUID = str(uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
    dataset.update(build_image(frames=frames))
    return _override(dataset, overrides)


def build_segmentation(frames: int = 3, rows: int = 5, columns: int = 5, **overrides: Any) -> Dataset:
    """Return a binary segmentation whose one-bit frames do not start on bytes."""
    dataset = build_dataset(Modality="SEG")
    dataset.SOPClassUID = str(uid.SegmentationStorage)
    dataset.update(build_image(rows=rows, columns=columns, frames=frames, bits=1))
    return _override(dataset, overrides)


def build_encapsulated(
    frames: Iterable[bytes] = (b"\xff\xd8one\xff\xd9", b"\xff\xd8second\xff\xd9"),
    *,
    fragments_per_frame: int = 1,
    has_offset_table: bool = True,
    has_extended_offset_table: bool = False,
    **overrides: Any,
) -> Dataset:
    """Return an 8 bit image whose encapsulated frames are these bytes as they are; write it in a compressed syntax."""
    contents = list(frames)
    dataset = build_dataset()
    dataset.SOPClassUID = str(uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage)
    dataset.update(build_image(frames=len(contents), bits=8))
    if has_extended_offset_table:
        value, offsets, lengths = encapsulate_extended(contents)
        dataset.ExtendedOffsetTable = offsets
        dataset.ExtendedOffsetTableLengths = lengths
    else:
        value = encapsulate(contents, fragments_per_frame=fragments_per_frame, has_bot=has_offset_table)
    dataset.PixelData = value
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return _override(dataset, overrides)


def build_sr(**overrides: Any) -> Dataset:
    """Return a comprehensive SR with nested content, no pixels."""
    dataset = build_dataset(Modality="SR")
    dataset.SOPClassUID = str(uid.ComprehensiveSRStorage)
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ConceptNameCodeSequence = Sequence([build_code("18748-4", "LN", "Diagnostic imaging report")])
    text = Dataset()
    text.RelationshipType = "CONTAINS"
    text.ValueType = "TEXT"
    text.ConceptNameCodeSequence = Sequence([build_code("121071", "DCM", "Finding")])
    text.TextValue = "Nothing of note."
    container = Dataset()
    container.RelationshipType = "CONTAINS"
    container.ValueType = "CONTAINER"
    container.ConceptNameCodeSequence = Sequence([build_code("121070", "DCM", "Findings")])
    container.ContentSequence = Sequence([text])
    dataset.ContentSequence = Sequence([container])
    return _override(dataset, overrides)


def build_pdf(document: bytes = b"%PDF-1.4\n%%EOF", **overrides: Any) -> Dataset:
    """Return an encapsulated PDF document."""
    dataset = build_dataset(Modality="DOC")
    dataset.SOPClassUID = str(uid.EncapsulatedPDFStorage)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return _override(dataset, overrides)


def build_unicode(**overrides: Any) -> Dataset:
    """Return a CT slice in UTF-8 with Arabic, accented and ideographic text."""
    dataset = build_ct(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="قباني^لنزار=山田^太郎=やまだ^たろう",
        StudyDescription="Étude thoracique سينية",
        InstitutionName="المستشفى العام",
    )
    return _override(dataset, overrides)


def build_code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return the one item of a code sequence (PS3.3 Table 8.8-1a)."""
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = meaning
    return code


def build_series(count: int, **overrides: Any) -> list[Dataset]:
    """Return CT slices of one study and series, with instance numbers from 1 on."""
    shared = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid(), **overrides}
    return [build_ct(InstanceNumber=number, **shared) for number in range(1, count + 1)]


def as_dataset_bytes(dataset: Dataset, transfer_syntax_uid: str = uid.ExplicitVRLittleEndian) -> bytes:
    """Return the data set encoded as C-STORE sends it: without preamble and group 0002."""
    syntax = uid.UID(transfer_syntax_uid)
    if syntax.is_private and not syntax.is_transfer_syntax:
        syntax = uid.ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax.is_little_endian
    buffer.is_implicit_VR = syntax.is_implicit_VR
    resolved = correct_ambiguous_vr(_copy(dataset), syntax.is_little_endian)
    write_dataset(buffer, resolved, convert_encodings(dataset.get("SpecificCharacterSet", "ISO_IR 6") or "ISO_IR 6"))
    encoded = buffer.getvalue()
    if syntax.is_deflated:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = compressor.compress(encoded) + compressor.flush()
        encoded += b"\0" * (len(encoded) % 2)
    return encoded


def as_part10(dataset: Dataset, transfer_syntax_uid: str = uid.ExplicitVRLittleEndian) -> bytes:
    """Return the data set as a file: preamble, file meta (PS3.10 7.1) and data set."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = uid.UID(dataset.get("SOPClassUID", ""))
    meta.MediaStorageSOPInstanceUID = uid.UID(dataset.get("SOPInstanceUID", ""))
    meta.TransferSyntaxUID = uid.UID(transfer_syntax_uid)
    meta.ImplementationClassUID = uid.UID(IMPLEMENTATION_CLASS_UID)
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return b"\0" * 128 + b"DICM" + buffer.getvalue() + as_dataset_bytes(dataset, transfer_syntax_uid)


def _copy(dataset: Dataset) -> Dataset:
    """Return a data set that may be changed without changing the test's own."""
    copy = Dataset()
    for element in dataset:
        if element.VR == "SQ":
            copy.add_new(element.tag, "SQ", Sequence([_copy(item) for item in element.value]))
        else:
            copy.add(element)
    return copy


def _override(dataset: Dataset, overrides: dict[str, Any]) -> Dataset:
    for keyword, value in overrides.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset
