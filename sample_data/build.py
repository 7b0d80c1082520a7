# ruff: noqa: INP001 - a script beside its data, not a package
"""Builds every file of this folder and its manifest, the same bytes each time on the same library versions.

The CT series is made from the plastic head phantom of https://github.com/neurolabusc/dcm_qa_ct (BSD-2-Clause): give the
folder that holds its slices. Everything else is computed here. No file shows, names or was measured on a person.

    python sample_data/build.py FOLDER_WITH_THE_PHANTOM_SLICES
"""

import hashlib
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from drawings import ct_slice, mr_volume, radiograph, report_pdf, ultrasound
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, Sequence, dcmread, dcmwrite
from pydicom import uid as uids
from pydicom.encaps import encapsulate
from pydicom.uid import UID

HERE = Path(__file__).parent
CLAMP = 100  # stored value, -924 HU: below it the noise of the air becomes -1024 HU, which halves the files
MADE_HERE = ("computed by sample_data/build.py", "CC0-1.0", "No copyright claimed (CC0-1.0).")
PHANTOM = (
    (
        "https://github.com/neurolabusc/dcm_qa_ct, Philips CT of a plastic head phantom (courtesy of Paul Morgan, "
        "Nottingham): three slices averaged, air noise clamped, header rewritten"
    ),
    "BSD-2-Clause",
    "Copyright (c) 2018-2019, Chris Rorden. Text of the licence: LICENSE-dcm_qa_ct.txt",
)


@dataclass(frozen=True)
class Sample:
    """One file: where it goes, what it holds, what it is for and where it came from."""

    path: str
    dataset: Dataset
    purpose: str
    origin: tuple[str, str, str] = MADE_HERE


def stable_uid(name: str) -> UID:
    """Return the same UID for the same name, for ever, under the root that needs no registration (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'sample_data/{name}').int}")


@dataclass(frozen=True)
class Subject:
    """A test patient that belongs to nobody, and the one study made for it."""

    patient_id: str
    name: str
    character_set: str
    sex: str
    study_description: str
    study_date: str

    def dataset(self, series: str, number: int, sop_class_uid: UID, modality: str, instance_number: int = 1) -> Dataset:
        """Return a data set with the patient, study, series and SOP common modules filled in; it has no content yet."""
        ds = Dataset()
        ds.SpecificCharacterSet = self.character_set
        ds.SOPClassUID = sop_class_uid
        ds.SOPInstanceUID = stable_uid(f"{self.patient_id}/{series}/{instance_number}")
        ds.StudyDate = ds.SeriesDate = ds.ContentDate = self.study_date
        ds.StudyTime = ds.SeriesTime = ds.ContentTime = "093000"
        ds.AccessionNumber = f"A{self.patient_id}"
        ds.Modality = modality
        ds.Manufacturer = "sample_data"
        ds.ReferringPhysicianName = ""
        ds.StudyDescription = self.study_description
        ds.SeriesDescription = series
        ds.PatientName = self.name
        ds.PatientID = self.patient_id
        ds.PatientBirthDate = ""
        ds.PatientSex = self.sex
        ds.PatientComments = "Test data. No such person."
        ds.StudyInstanceUID = stable_uid(f"{self.patient_id}/study")
        ds.SeriesInstanceUID = stable_uid(f"{self.patient_id}/{series}")
        ds.StudyID = "1"
        ds.SeriesNumber = number
        ds.InstanceNumber = instance_number
        return ds


DEMO = Subject("TEST-0001", "Échantillon^Démo", "ISO_IR 192", "O", "CT Tête (fantôme)", "20260112")
BENALI = Subject("TEST-0002", "Bénali^Amine=بنعلي^أمين", "ISO_IR 192", "M", "IRM encéphale (synthétique)", "20260106")
HELENE = Subject("TEST-0003", "Essai^Hélène", "ISO_IR 100", "F", "Radiographie de contrôle (mire)", "20260107")
FATIMA = Subject("TEST-0004", "اختبار^فاطمة", "ISO_IR 127", "F", "فحص بالموجات فوق الصوتية", "20260108")
SYNTAXES = Subject("TEST-0005", "Syntaxes^Essai", "ISO_IR 100", "O", "One slice in every transfer syntax", "20260109")


def set_pixels(ds: Dataset, frames: NDArray[np.generic], bits_stored: int, *, signed: bool = False) -> None:
    """Hold ``frames`` (rows x columns; several: first axis; RGB: last axis) in the Image Pixel module."""
    is_rgb = frames.shape[-1] == 3
    shape = frames.shape[:-1] if is_rgb else frames.shape
    ds.SamplesPerPixel = 3 if is_rgb else 1
    ds.PhotometricInterpretation = "RGB" if is_rgb else "MONOCHROME2"
    if is_rgb:
        ds.PlanarConfiguration = 0
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.Rows, ds.Columns = shape[-2:]
    ds.BitsAllocated = frames.dtype.itemsize * 8
    ds.BitsStored = bits_stored
    ds.HighBit = bits_stored - 1
    ds.PixelRepresentation = int(signed)
    ds.PixelData = frames.tobytes()
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"


def set_meta(ds: Dataset, transfer_syntax_uid: UID) -> Dataset:
    """Give ``ds`` the file meta information for ``transfer_syntax_uid`` and return it."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.file_meta.ImplementationClassUID = stable_uid("implementation")
    ds.file_meta.ImplementationVersionName = "SAMPLE_DATA"
    return ds


def set_fragments(ds: Dataset, transfer_syntax_uid: UID, frames: list[bytes]) -> Dataset:
    """Replace the pixels by already encoded ``frames``, one fragment each behind a Basic Offset Table."""
    ds.PixelData = encapsulate(frames, has_bot=True)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return set_meta(ds, transfer_syntax_uid)


def set_geometry(ds: Dataset, position_mm: tuple[float, float, float], spacing_mm: float, slice_mm: float) -> None:
    """Place an axial slice: ``position_mm`` is the centre of its first pixel (PS3.3 C.7.6.2)."""
    ds.FrameOfReferenceUID = stable_uid(f"{ds.PatientID}/frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.ImagePositionPatient = [round(value, 3) for value in position_mm]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [spacing_mm, spacing_mm]
    ds.SliceThickness = slice_mm
    ds.SpacingBetweenSlices = slice_mm
    ds.SliceLocation = round(position_mm[2], 3)
    ds.PatientPosition = "HFS"


def set_ct(ds: Dataset, pixels: NDArray[np.uint16], image_type: list[str]) -> None:
    """Fill the CT Image module around ``pixels``: stored value 0 is -1024 HU; soft tissue first, bone second."""
    ds.ImageType = image_type
    ds.KVP = 120
    ds.AcquisitionNumber = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = [40, 500], [400, 2500]
    ds.WindowCenterWidthExplanation = ["SOFT", "BONE"]
    set_pixels(ds, pixels, 12)


def ct_series(folder: Path) -> Iterator[Sample]:
    """Average the phantom's slices of 1 mm by three: 30 slices of 3 mm, 512 x 512, JPEG-LS lossless.

    The lowest and the topmost of the 108 show little; a viewer opens at the top.
    """
    sources = [dcmread(path) for path in folder.iterdir() if path.is_file()]
    sources.sort(key=lambda source: float(source.ImagePositionPatient[2]))
    sources = sources[6:96]
    for index in range(len(sources) // 3):
        group = sources[3 * index : 3 * index + 3]
        mean = np.rint(np.mean([source.pixel_array for source in group], axis=0)).astype(np.uint16)
        pixels = np.where(mean < CLAMP, 0, mean).astype(np.uint16)
        number = index + 1
        ds = DEMO.dataset("Tête axiale 3 mm", 2, uids.CTImageStorage, "CT", number)
        ds.BodyPartExamined = "HEAD"
        x, y, z = (float(value) for value in group[1].ImagePositionPatient)
        set_geometry(ds, (x, y, z), float(group[1].PixelSpacing[0]), 3)
        set_ct(ds, pixels, ["DERIVED", "PRIMARY", "AXIAL"])
        ds.DerivationDescription = "Three slices of a phantom averaged, air noise clamped"
        ds.ConvolutionKernel = str(group[1].ConvolutionKernel)
        set_fragments(ds, uids.JPEGLSLossless, [imagecodecs.jpegls_encode(pixels)])
        yield Sample(
            f"ct-head/{number:02d}.dcm",
            ds,
            "The study to open first: CT with the geometry that MPR needs.",
            PHANTOM,
        )


def ct_report() -> Iterator[Sample]:
    """Make a Basic Text SR and a PDF in the CT study, both in French."""
    ds = DEMO.dataset("Compte rendu", 10, uids.BasicTextSRStorage, "SR")
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.PerformedProcedureCodeSequence = Sequence()
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", "Diagnostic imaging report")])
    finding = code("121071", "DCM", "Finding")
    conclusion = code("121077", "DCM", "Conclusion")
    ds.ContentSequence = Sequence(
        [
            text_item(finding, "Fantôme en plastique, sans anomalie : inserts ronds et carrés visibles."),
            text_item(conclusion, "Donnée d'essai. نص تجريبي."),
        ]
    )
    yield Sample("ct-head-sr/report.dcm", set_meta(ds, uids.ExplicitVRLittleEndian), "A structured report: no pixels.")
    pdf = DEMO.dataset("Compte rendu PDF", 11, uids.EncapsulatedPDFStorage, "DOC")
    pdf.ConversionType, pdf.BurnedInAnnotation = "WSD", "YES"
    pdf.AcquisitionDateTime = f"{DEMO.study_date}093000"
    pdf.DocumentTitle = "Compte rendu d'essai"
    pdf.ConceptNameCodeSequence = Sequence()
    pdf.MIMETypeOfEncapsulatedDocument = "application/pdf"
    body = report_pdf()
    pdf.EncapsulatedDocumentLength = len(body)
    pdf.EncapsulatedDocument = body + b"\0" * (len(body) % 2)
    yield Sample("ct-head-pdf/report.dcm", set_meta(pdf, uids.ExplicitVRLittleEndian), "An encapsulated PDF document.")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def text_item(concept: Dataset, text: str) -> Dataset:
    """Return a TEXT content item (PS3.3 C.17.3)."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([concept])
    item.TextValue = text
    return item


def mr_series() -> Iterator[Sample]:
    """Make an ellipsoid head phantom, 24 slices of 5 mm, HTJ2K lossless."""
    volume = mr_volume()
    for index, pixels in enumerate(volume):
        number = index + 1
        ds = BENALI.dataset("T1 axial", 1, uids.MRImageStorage, "MR", number)
        ds.BodyPartExamined = "BRAIN"
        ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", ""
        ds.MRAcquisitionType, ds.EchoTime, ds.RepetitionTime, ds.EchoTrainLength = "3D", 10, 500, 1
        set_geometry(ds, (-119.5, -119.5, -60 + 5.0 * index), 1.25, 5)
        ds.WindowCenter, ds.WindowWidth = 1000, 2000
        set_pixels(ds, pixels, 12)
        set_fragments(ds, uids.HTJ2KLossless, [imagecodecs.htj2k_encode(pixels, reversible=True)])
        yield Sample(f"mr-brain/{number:02d}.dcm", ds, "An MR series in HTJ2K; a name in Latin and Arabic letters.")


def cr_image() -> Iterator[Sample]:
    """Make a resolution pattern with a step wedge, 1024 x 1024, JPEG lossless, Latin-1 header."""
    pixels = radiograph()
    ds = HELENE.dataset("Mire", 1, uids.ComputedRadiographyImageStorage, "CR")
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CHEST", "PA", ["L", "F"]
    ds.ImagerPixelSpacing = [0.2, 0.2]
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    set_pixels(ds, pixels, 12)
    body = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=12)
    yield Sample(
        "cr-pattern/1.dcm",
        set_fragments(ds, uids.JPEGLosslessSV1, [body]),
        "A projection radiograph in JPEG lossless; its header is ISO_IR 100.",
    )


def us_loop() -> Iterator[Sample]:
    """Make a sector of speckle with a beating circle: 16 colour frames, JPEG baseline, header in ISO_IR 127."""
    frames = ultrasound()
    ds = FATIMA.dataset("Cine", 1, uids.UltrasoundMultiFrameImageStorage, "US")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "", "0001"]
    ds.FrameTime, ds.FrameIncrementPointer, ds.CineRate = 62.5, 0x00181063, 16
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "NO"
    set_pixels(ds, frames, 8)
    ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    bodies = [
        imagecodecs.jpeg8_encode(frame, level=85, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")
        for frame in frames
    ]
    ds.LossyImageCompressionRatio = round(frames.nbytes / sum(map(len, bodies)), 2)
    yield Sample(
        "us-cine/1.dcm",
        set_fragments(ds, uids.JPEGBaseline8Bit, bodies),
        "A colour multi-frame object: frame ranges, cine, and an Arabic name in a single-byte character set.",
    )


def slices_in_every_syntax() -> Iterator[Sample]:
    """Make the same 128 x 128 slice native, deflated and compressed; a series a syntax."""
    pixels = ct_slice()
    narrow = (pixels >> 4).astype(np.uint8)
    j2k = {"codecformat": "j2k", "bitspersample": 12}
    plans: list[tuple[str, UID, bytes | None]] = [
        ("implicit-le", uids.ImplicitVRLittleEndian, None),
        ("explicit-le", uids.ExplicitVRLittleEndian, None),
        ("explicit-be", uids.ExplicitVRBigEndian, None),
        ("deflated", uids.DeflatedExplicitVRLittleEndian, None),
        ("rle", uids.RLELossless, None),
        ("jpeg-baseline", uids.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(narrow, level=90)),
        ("jpeg-lossless", uids.JPEGLossless, imagecodecs.ljpeg_encode(pixels, bitspersample=12)),
        ("jpeg-lossless-sv1", uids.JPEGLosslessSV1, jpeg_lossless(pixels)),
        ("jpeg-ls", uids.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)),
        ("jpeg-ls-near", uids.JPEGLSNearLossless, imagecodecs.jpegls_encode(pixels, level=2)),
        (
            "j2k-lossless",
            uids.JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(pixels, **j2k, reversible=True, level=0),
        ),
        ("j2k", uids.JPEG2000, imagecodecs.jpeg2k_encode(pixels, **j2k, level=75)),
        ("htj2k-lossless", uids.HTJ2KLossless, imagecodecs.htj2k_encode(pixels, reversible=True)),
        ("htj2k-rpcl", uids.HTJ2KLosslessRPCL, imagecodecs.htj2k_encode(pixels, reversible=True, tlm=True)),
        ("htj2k", uids.HTJ2K, imagecodecs.htj2k_encode(pixels, reversible=True)),
    ]
    lossy = {"jpeg-baseline": "ISO_10918_1", "jpeg-ls-near": "ISO_14495_1", "j2k": "ISO_15444_1"}
    for number, (name, syntax, body) in enumerate(plans, start=1):
        ds = SYNTAXES.dataset(name, number, uids.CTImageStorage, "CT")
        set_geometry(ds, (-64.0, -64.0, 0.0), 1.0, 3)
        if name in lossy:
            ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", lossy[name]
            ds.LossyImageCompressionRatio = round(pixels.nbytes / len(body or b"-"), 2)
        set_ct(ds, pixels, ["DERIVED", "SECONDARY", "AXIAL"])
        if name == "jpeg-baseline":  # eight bits a sample is all that process 1 can hold
            set_pixels(ds, narrow, 8)
            ds.RescaleSlope = 16
        if name == "explicit-be":
            ds.PixelData = pixels.astype(">u2").tobytes()
        if body is None:
            set_meta(ds, uids.ExplicitVRLittleEndian if name == "rle" else syntax)
        else:
            set_fragments(ds, syntax, [body])
        if name == "rle":
            ds.compress(uids.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        yield Sample(f"syntaxes/{name}.dcm", ds, f"Transfer syntax {syntax} ({syntax.name}).")


def jpeg_lossless(pixels: NDArray[np.uint16]) -> bytes:
    """Return ``pixels`` as JPEG lossless with first-order prediction, 12 bits a sample."""
    body: bytes = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=12)
    return body


def quoted(text: str) -> str:
    """Return ``text`` as a TOML basic string; no sample needs an escape beyond these two."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(phantom: Path) -> None:
    """Write every file and the manifest."""
    entries = ["# Made by build.py: what each file is for, where it came from, and its digest. Do not edit by hand.\n"]
    for make in (lambda: ct_series(phantom), ct_report, mr_series, cr_image, us_loop, slices_in_every_syntax):
        for sample in make():
            path = HERE / sample.path
            path.parent.mkdir(exist_ok=True)
            dcmwrite(path, sample.dataset, enforce_file_format=True)
            source, licence, copyright_line = sample.origin
            fields = {
                "path": sample.path,
                "purpose": sample.purpose,
                "source": source,
                "licence": licence,
                "copyright": copyright_line,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            entries.append("\n".join(["[[file]]", *(f"{key} = {quoted(value)}" for key, value in fields.items()), ""]))
    (HERE / "manifest.toml").write_text("\n".join(entries), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
