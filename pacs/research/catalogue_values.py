"""What the catalogue says of a series, from the header of its first instance: nothing in it is as somebody wrote it.

Texts are cut down to words of a vocabulary, makers, body parts and field strengths to a list each, ages to years with
one end. The rest is numbers. So no name, no number and no day of a patient can be found by asking the catalogue.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pacs.deid.moments import age_between
from pacs.deid.words import clean_text
from pacs.model import Attributes
from pacs.names import fold
from pacs.research.conditions import TOP_AGE
from pacs.tags import tag_of, text_of, values_of

RULES = 1
"""Counts up when this module, or what it calls, says something else of the same header: rows by older rules are made
anew, and are not looked at until they are."""

MAKERS = {
    "AGFA": "AGFA",
    "CANON": "CANON",
    "CARESTREAM": "CARESTREAM",
    "ESAOTE": "ESAOTE",
    "FUJI": "FUJIFILM",
    "GE ": "GE",
    "GEMS": "GE",
    "GENERAL ELECTRIC": "GE",
    "HITACHI": "HITACHI",
    "HOLOGIC": "HOLOGIC",
    "KODAK": "KODAK",
    "KONICA": "KONICA MINOLTA",
    "LORAD": "HOLOGIC",
    "MINDRAY": "MINDRAY",
    "NEUSOFT": "NEUSOFT",
    "PHILIPS": "PHILIPS",
    "PLANMECA": "PLANMECA",
    "SAMSUNG": "SAMSUNG",
    "SHIMADZU": "SHIMADZU",
    "SIEMENS": "SIEMENS",
    "TOSHIBA": "TOSHIBA",
    "UIH": "UNITED IMAGING",
    "UNITED IMAGING": "UNITED IMAGING",
    "VAREX": "VAREX",
    "ZIEHM": "ZIEHM",
}
"""What makers write, and by which name they are counted."""

_BODY_PARTS = """
ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRACHIALPLEXUS BRAIN BREAST BRONCHUS CALCANEUS CALF
CAROTID CEREBELLUM CHEST CHESTABDOMEN CHESTABDPELVIS CLAVICLE COCCYX COLON CORNEA CSPINE CTSPINE EAR ELBOW ENTIREBODY
ESOPHAGUS EXTREMITY EYE FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS ILEUM JAW KIDNEY
KNEE LARYNX LEG LIVER LOWERLEG LSPINE LSSPINE LUNG MAXILLA MEDIASTINUM MOUTH NECK NOSE ORBIT OVARY PANCREAS PAROTID
PATELLA PELVIS PENIS PHARYNX PROSTATE RECTUM RIB SACRUM SCALP SCAPULA SELLA SHOULDER SIJOINT SKULL SPINE SPLEEN SSPINE
STERNUM STOMACH TESTIS THIGH THORAX THUMB THYMUS THYROID TIBIA TLSPINE TMJ TOE TRACHEA TSPINE ULNA UPPERARM URETER
URETHRA UTERUS VAGINA WHOLEBODY WRIST ZYGOMA
"""
BODY_PARTS = frozenset(_BODY_PARTS.split())
"""Defined terms of PS3.16 Annex L, and what devices write for the same."""

_FIELDS = (0.06, 0.2, 0.23, 0.3, 0.35, 0.5, 0.55, 0.6, 1.0, 1.2, 1.5, 3.0, 7.0)
"""Tesla. A device's own value, to five digits, would tell which one it is."""

_KERNEL = re.compile(r"[A-Z0-9][A-Z0-9 _.+/^-]{0,15}")
_LONG_NUMBER = re.compile(r"[0-9]{4}")
_AGE = re.compile(r"([0-9]{3})([DWMY])")
_NO_AGENT = frozenset(
    {"", "NO", "NON", "NONE", "N", "SANS", "WITHOUT", "0", "NO CONTRAST", "SANS CONTRASTE", "UNENHANCED"}
)
_NAME_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class CatalogueValues:
    """One series in the catalogue; None is what its header does not say, or says in a way that is not kept."""

    sex: str | None
    age_years: int | None
    manufacturer: str | None
    body_part: str | None
    kernel: str | None
    has_contrast: bool
    field_strength: int | None
    study_description: str
    series_description: str
    protocol_name: str
    words: str


def describe(attributes: Attributes) -> CatalogueValues:
    """Return what the catalogue says of the series of a header, as it leaves: with every correction."""
    known = frozenset(_name_words(attributes))
    texts = [
        fold(clean_text(text_of(attributes, keyword), known))
        for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName")
    ]
    words = sorted({word for text in texts for word in text.split()})
    return CatalogueValues(
        sex=_find(text_of(attributes, "PatientSex").upper(), "MFO"),
        age_years=_age(attributes),
        manufacturer=_maker(text_of(attributes, "Manufacturer")),
        body_part=_body_part(text_of(attributes, "BodyPartExamined")),
        kernel=_kernel(_deep_text(attributes, "ConvolutionKernel")),
        has_contrast=_has_contrast(attributes),
        field_strength=_field(_deep_text(attributes, "MagneticFieldStrength")),
        study_description=texts[0],
        series_description=texts[1],
        protocol_name=texts[2],
        words="".join(f" {word} " for word in words),
    )


def _find(value: str, known: str) -> str | None:
    return value if value and value in known else None


def _age(attributes: Attributes) -> int | None:
    text = text_of(attributes, "PatientAge")
    if not _AGE.fullmatch(text):
        text = age_between(text_of(attributes, "PatientBirthDate"), text_of(attributes, "StudyDate"))
    match = _AGE.fullmatch(text)
    if match is None:
        return None
    years = int(match[1]) if match[2] == "Y" else int(int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12}[match[2]])
    return min(years, TOP_AGE)


def _maker(text: str) -> str | None:
    padded = f" {text.upper()} "
    return next(
        (name for written, name in MAKERS.items() if padded.startswith(written) or f" {written}" in padded), None
    )


def _body_part(text: str) -> str | None:
    term = re.sub(r"[ _-]", "", text.upper())
    return term if term in BODY_PARTS else None


def _kernel(text: str) -> str | None:
    text = text.upper()
    return text if _KERNEL.fullmatch(text) and not _LONG_NUMBER.search(text) else None


def _has_contrast(attributes: Attributes) -> bool:
    agent = text_of(attributes, "ContrastBolusAgent").upper()
    items = [item for item in values_of(attributes, "ContrastBolusAgentSequence") if item]
    return bool(items) or agent not in _NO_AGENT


def _field(text: str) -> int | None:
    try:
        tesla = float(text)
    except ValueError:
        return None
    if tesla > 100:  # some write gauss
        tesla /= 10_000
    nearest = min(_FIELDS, key=lambda field: abs(field - tesla))
    return round(nearest * 1000) if abs(nearest - tesla) <= nearest * 0.07 else None


def _deep_text(attributes: Attributes, keyword: str) -> str:
    """Return a value of the data set, or of the first functional group that all frames share (PS3.3 C.7.6.16)."""
    text = text_of(attributes, keyword)
    for group in values_of(attributes, "SharedFunctionalGroupsSequence")[:1]:
        for element in group.values() if not text and isinstance(group, dict) else ():
            items = element.get("Value", []) if element.get("vr") == "SQ" else []
            found = [text_of(item, keyword) for item in items[:1] if isinstance(item, dict)]
            text = text or "".join(found)
    return text


def _name_words(attributes: Attributes) -> Iterator[str]:
    """Yield what a patient is called: his own name is no word of a description, whatever else it means."""
    for keyword in ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"):
        for value in attributes.get(tag_of(keyword), {}).get("Value", []):
            for group in value.values() if isinstance(value, dict) else [str(value or "")]:
                yield from (fold(word) for word in _NAME_WORD.findall(str(group)))
