"""Who may pass without a person's look: decided by SOP class, Image Type and what the object says of itself.

A closed list: a class that is not in it is unknown, and what is unknown is held back.
"""

from pydicom._uid_dict import UID_dictionary

from pacs.deid.charsets import UNDECLARED, decode_text
from pacs.deid.profile import DeviceRectangles, Option, Profile
from pacs.deid.reading import Elements
from pacs.deid.reasons import Reason

SOP_CLASS_UID = 0x00080016
IMAGE_TYPE = 0x00080008
CONVERSION_TYPE = 0x00080064
BURNED_IN_ANNOTATION, VISUAL_FEATURES = 0x00280301, 0x00280302
_MANUFACTURER, _MODEL = 0x00080070, 0x00081090
_ROWS, _COLUMNS, _SAMPLES = 0x00280010, 0x00280011, 0x00280002
_BODY_PART = 0x00180015
ENCAPSULATED_DOCUMENT = 0x00420011

_STORAGE = "1.2.840.10008.5.1.4.1.1."


def _named(*names: str) -> frozenset[str]:
    found = {value[4]: str(key) for key, value in UID_dictionary.items()}
    return frozenset(found[name] for name in names if name in found)


_PLAIN_IMAGES = _named(
    "CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage",
    "MRImageStorage", "EnhancedMRImageStorage", "EnhancedMRColorImageStorage", "MRSpectroscopyStorage",
    "LegacyConvertedEnhancedMRImageStorage",
    "PositronEmissionTomographyImageStorage", "EnhancedPETImageStorage", "LegacyConvertedEnhancedPETImageStorage",
    "NuclearMedicineImageStorage", "XRay3DAngiographicImageStorage", "XRay3DCraniofacialImageStorage",
    "BreastTomosynthesisImageStorage", "BreastProjectionXRayImageStorageForPresentation",
    "BreastProjectionXRayImageStorageForProcessing", "SegmentationStorage",
    "ParametricMapStorage", "RTDoseStorage", "OphthalmicTomographyImageStorage",
    "OphthalmicOpticalCoherenceTomographyEnFaceImageStorage",
    "OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage",
    "IntravascularOpticalCoherenceTomographyImageStorageForPresentation",
    "IntravascularOpticalCoherenceTomographyImageStorageForProcessing",
) | {_STORAGE + "66.7", _STORAGE + "66.8"}  # fmt: skip
"""Made of measurements: devices write no text into them."""

_WITHOUT_PIXELS = _named(
    "BasicTextSRStorage", "EnhancedSRStorage", "ComprehensiveSRStorage", "Comprehensive3DSRStorage",
    "ExtensibleSRStorage", "MammographyCADSRStorage", "ChestCADSRStorage", "ColonCADSRStorage",
    "XRayRadiationDoseSRStorage", "EnhancedXRayRadiationDoseSRStorage", "RadiopharmaceuticalRadiationDoseSRStorage",
    "PatientRadiationDoseSRStorage", "AcquisitionContextSRStorage", "SimplifiedAdultEchoSRStorage",
    "ImplantationPlanSRStorage", "ProcedureLogStorage", "PlannedImagingAgentAdministrationSRStorage",
    "PerformedImagingAgentAdministrationSRStorage", "SpectaclePrescriptionReportStorage",
    "MacularGridThicknessAndVolumeReportStorage", "WaveformAnnotationSRStorage",
    "KeyObjectSelectionDocumentStorage", "GrayscaleSoftcopyPresentationStateStorage",
    "ColorSoftcopyPresentationStateStorage", "PseudoColorSoftcopyPresentationStateStorage",
    "BlendingSoftcopyPresentationStateStorage", "AdvancedBlendingPresentationStateStorage",
    "XAXRFGrayscaleSoftcopyPresentationStateStorage", "VolumeRenderingVolumetricPresentationStateStorage",
    "GrayscalePlanarMPRVolumetricPresentationStateStorage",
    "CompositingPlanarMPRVolumetricPresentationStateStorage", "VariableModalityLUTSoftcopyPresentationStateStorage",
    "SpatialRegistrationStorage", "DeformableSpatialRegistrationStorage", "SpatialFiducialsStorage",
    "RealWorldValueMappingStorage", "SurfaceSegmentationStorage", "TractographyResultsStorage",
    "RTStructureSetStorage", "RTPlanStorage", "RTIonPlanStorage", "RTBrachyTreatmentRecordStorage",
    "RTBeamsTreatmentRecordStorage", "RTIonBeamsTreatmentRecordStorage", "RTTreatmentSummaryRecordStorage",
    "RTPhysicianIntentStorage", "RTSegmentAnnotationStorage", "RTRadiationSetStorage",
    "CArmPhotonElectronRadiationStorage",
    "TwelveLeadECGWaveformStorage", "GeneralECGWaveformStorage", "General32bitECGWaveformStorage",
    "AmbulatoryECGWaveformStorage", "HemodynamicWaveformStorage", "CardiacElectrophysiologyWaveformStorage",
    "ArterialPulseWaveformStorage", "RespiratoryWaveformStorage", "MultichannelRespiratoryWaveformStorage",
    "RoutineScalpElectroencephalogramWaveformStorage", "ElectromyogramWaveformStorage",
    "ElectrooculogramWaveformStorage", "SleepElectroencephalogramWaveformStorage", "BodyPositionWaveformStorage",
    "LensometryMeasurementsStorage", "AutorefractionMeasurementsStorage", "KeratometryMeasurementsStorage",
    "SubjectiveRefractionMeasurementsStorage", "VisualAcuityMeasurementsStorage", "OphthalmicAxialMeasurementsStorage",
    "IntraocularLensCalculationsStorage", "OphthalmicVisualFieldStaticPerimetryMeasurementsStorage",
    "MicroscopyBulkSimpleAnnotationsStorage", "BasicStructuredDisplayStorage", "HangingProtocolStorage",
    "ColorPaletteStorage",
)  # fmt: skip

_OFTEN_LETTERED = _named(
    "ComputedRadiographyImageStorage", "DigitalXRayImageStorageForPresentation",
    "DigitalXRayImageStorageForProcessing", "DigitalMammographyXRayImageStorageForPresentation",
    "DigitalMammographyXRayImageStorageForProcessing", "DigitalIntraOralXRayImageStorageForPresentation",
    "DigitalIntraOralXRayImageStorageForProcessing", "XRayAngiographicImageStorage", "EnhancedXAImageStorage",
    "XRayRadiofluoroscopicImageStorage", "EnhancedXRFImageStorage", "RTImageStorage", "EnhancedRTImageStorage",
    "VLEndoscopicImageStorage", "VLMicroscopicImageStorage", "VLSlideCoordinatesMicroscopicImageStorage",
    "VLPhotographicImageStorage", "DermoscopicPhotographyImageStorage", "OphthalmicPhotography8BitImageStorage",
    "OphthalmicPhotography16BitImageStorage", "WideFieldOphthalmicPhotographyStereographicProjectionImageStorage",
    "WideFieldOphthalmicPhotography3DCoordinatesImageStorage", "OphthalmicThicknessMapStorage",
    "CornealTopographyMapStorage", "VLWholeSlideMicroscopyImageStorage", "ConfocalMicroscopyImageStorage",
)  # fmt: skip
"""Held back unless the object itself says that nothing is burned in."""

_ULTRASOUND = _named(
    "UltrasoundImageStorage", "UltrasoundMultiFrameImageStorage", "EnhancedUSVolumeStorage",
) | {_STORAGE + "6", _STORAGE + "3"}  # fmt: skip
_SECONDARY = _named(
    "SecondaryCaptureImageStorage", "MultiFrameSingleBitSecondaryCaptureImageStorage",
    "MultiFrameGrayscaleByteSecondaryCaptureImageStorage", "MultiFrameGrayscaleWordSecondaryCaptureImageStorage",
    "MultiFrameTrueColorSecondaryCaptureImageStorage",
)  # fmt: skip
_DOCUMENTS = frozenset(f"{_STORAGE}104.{number}" for number in range(1, 10))
_VIDEOS = _named("VideoEndoscopicImageStorage", "VideoMicroscopicImageStorage", "VideoPhotographicImageStorage")
_AUDIO = _named("BasicVoiceAudioWaveformStorage", "GeneralAudioWaveformStorage")
_KNOWN = _PLAIN_IMAGES | _WITHOUT_PIXELS | _OFTEN_LETTERED | _ULTRASOUND | _SECONDARY | _DOCUMENTS | _VIDEOS | _AUDIO
_PHOTOGRAPHS = _named(
    "VLPhotographicImageStorage", "VideoPhotographicImageStorage", "DermoscopicPhotographyImageStorage"
)
_VOLUMES = _PLAIN_IMAGES & _named(
    "CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage",
    "MRImageStorage", "EnhancedMRImageStorage", "LegacyConvertedEnhancedMRImageStorage",
    "PositronEmissionTomographyImageStorage", "EnhancedPETImageStorage", "LegacyConvertedEnhancedPETImageStorage",
    "XRay3DCraniofacialImageStorage",
)  # fmt: skip
"""In which a face can be rendered."""
_VIDEO_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
_SCREENS = ("SCREEN", "CAPTURE", "REPORT", "DOSE_INFO", "PASTED", "ANNOTAT", "LABEL", "OVERVIEW", "THUMBNAIL")
_FACELESS = frozenset(
    {"ABDOMEN", "CHEST", "PELVIS", "LSPINE", "TSPINE", "SPINE", "KNEE", "ANKLE", "FOOT", "HAND", "WRIST", "ELBOW"}
    | {"SHOULDER", "HIP", "LEG", "ARM", "BREAST", "HEART", "LIVER", "KIDNEY", "PROSTATE", "UTERUS", "EXTREMITY"}
)


def find_device(elements: Elements, profile: Profile) -> DeviceRectangles | None:
    """Return the first rule of the profile for the device that made an image of this size, None if there is none."""
    manufacturer, model = text_at(elements, _MANUFACTURER).casefold(), text_at(elements, _MODEL).casefold()
    rows, columns = number_at(elements, _ROWS), number_at(elements, _COLUMNS)
    for device in profile.device_rectangles:
        if (
            device.manufacturer.casefold() in ("", manufacturer)
            and device.model.casefold() in ("", model)
            and device.rows in (0, rows)
            and device.columns in (0, columns)
        ):
            return device
    return None


def find_reasons(
    elements: Elements, transfer_syntax_uid: str, profile: Profile, *, has_pixels: bool, is_device_known: bool
) -> set[Reason]:
    """Return why a person should look at an object; ultrasound with regions is cleaned later, and is no reason here.

    ``is_device_known``: the profile says where the device writes text, so that its images hold none elsewhere.
    """
    sop_class = text_at(elements, SOP_CLASS_UID)
    reasons = set(_by_class(sop_class))
    if transfer_syntax_uid.startswith(_VIDEO_SYNTAXES):
        reasons.add(Reason.VIDEO)
    if ENCAPSULATED_DOCUMENT in elements:
        reasons.add(Reason.DOCUMENT)
    says_none = text_at(elements, BURNED_IN_ANNOTATION) == "NO"
    if text_at(elements, BURNED_IN_ANNOTATION) == "YES" or (has_pixels and _is_captured(elements, sop_class)):
        reasons.add(Reason.BURNED_IN)
    if sop_class in _OFTEN_LETTERED and not says_none:
        reasons.add(Reason.BURNED_IN)
    reasons |= _visible(elements, sop_class, profile)
    if is_device_known:
        reasons -= {Reason.BURNED_IN, Reason.SECONDARY_CAPTURE}
    return reasons


def is_document(elements: Elements) -> bool:
    """Whether the object is a structured report or a key object selection."""
    return text_at(elements, SOP_CLASS_UID).startswith(_STORAGE + "88.")


def is_ultrasound(elements: Elements) -> bool:
    """Whether the object is an ultrasound image, on which devices write all around the image proper."""
    return text_at(elements, SOP_CLASS_UID) in _ULTRASOUND


def _by_class(sop_class: str) -> list[Reason]:
    found = []
    for classes, reason in (
        (_SECONDARY, Reason.SECONDARY_CAPTURE),
        (_DOCUMENTS, Reason.DOCUMENT),
        (_VIDEOS, Reason.VIDEO),
        (_AUDIO, Reason.AUDIO),
    ):
        if sop_class in classes:
            found.append(reason)
    if sop_class not in _KNOWN:
        found.append(Reason.UNKNOWN_SOP_CLASS)
    return found


def _is_captured(elements: Elements, sop_class: str) -> bool:
    """Whether an image looks like a picture of a screen, whatever its class says it is."""
    image_type = text_at(elements, IMAGE_TYPE).upper()
    if any(word in image_type for word in _SCREENS) or text_at(elements, CONVERSION_TYPE):
        return True
    return sop_class in _VOLUMES and number_at(elements, _SAMPLES) > 1


def _visible(elements: Elements, sop_class: str, profile: Profile) -> set[Reason]:
    says = text_at(elements, VISUAL_FEATURES)
    is_seen = says == "YES" or (sop_class in _PHOTOGRAPHS and says != "NO")
    if Option.CLEAN_VISUAL_FEATURES in profile.options and says != "NO" and sop_class in _VOLUMES:
        is_seen = is_seen or text_at(elements, _BODY_PART).upper() not in _FACELESS
    return {Reason.VISIBLE_FEATURES} if is_seen else set()


def text_at(elements: Elements, tag: int) -> str:
    """Return an attribute of the root as text, empty if it is absent."""
    element = elements.get(tag)
    return decode_text(element.value, UNDECLARED).strip(" \0") if element is not None else ""


def number_at(elements: Elements, tag: int, default: int = 0) -> int:
    """Return an attribute of the root as a number, US or IS, or the default."""
    element = elements.get(tag)
    if element is None:
        return default
    if element.vr == "US" and len(element.value) >= 2:
        return int.from_bytes(element.value[:2], "little")
    text = text_at(elements, tag).split("\\")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
