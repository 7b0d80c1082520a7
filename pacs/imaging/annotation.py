"""What the annotation parameter burns into a picture (PS3.18 8.3.5.1.1): whose image it is, and how it was made."""

from PIL import Image

from pacs.imaging.grayscale import number_of
from pacs.imaging.lettering import can_draw, draw_corner
from pacs.imaging.report import format_date, format_name, format_time
from pacs.model import Attributes
from pacs.tags import text_of, values_of

PATIENT, TECHNIQUE = "patient", "technique"
ANNOTATIONS = (PATIENT, TECHNIQUE)

UNDRAWABLE = "[?]"
"""Stands for text in letters that no font here has: what is missing is to be seen, and nothing is to be misread."""

_MAX_LETTERS = 64
_NUMBERS = (
    ("KVP", "{:g} kV"),
    ("XRayTubeCurrent", "{:g} mA"),
    ("Exposure", "{:g} mAs"),
    ("RepetitionTime", "TR {:g} ms"),
    ("EchoTime", "TE {:g} ms"),
    ("SliceThickness", "ST {:g} mm"),
    ("SliceLocation", "SL {:g} mm"),
)


def annotate(image: Image.Image, attributes: Attributes, annotations: tuple[str, ...]) -> Image.Image:
    """Return the picture with what was asked for in its upper corners; the picture that was given stays as it is."""
    if not annotations:
        return image
    annotated = image.copy()
    if PATIENT in annotations:
        draw_corner(annotated, _drawable(_patient(attributes)), is_right=False)
    if TECHNIQUE in annotations:
        draw_corner(annotated, _drawable(_technique(attributes)), is_right=True)
    return annotated


def _patient(attributes: Attributes) -> list[str]:
    born = format_date(text_of(attributes, "PatientBirthDate"))
    return [
        _name(attributes),
        text_of(attributes, "PatientID"),
        "  ".join(part for part in (born, text_of(attributes, "PatientSex")) if part),
        format_date(text_of(attributes, "StudyDate")),
    ]


def _name(attributes: Attributes) -> str:
    """Return the patient's name: of its groups (PS3.5 6.2.1.2) those that can be drawn, if any can."""
    value = next(iter(values_of(attributes, "PatientName")), None)
    groups = value if isinstance(value, dict) else {}
    drawable = {group: text for group, text in groups.items() if can_draw(str(text))}
    return format_name(drawable or groups)


def _technique(attributes: Attributes) -> list[str]:
    made = format_date(text_of(attributes, "AcquisitionDate")), format_time(text_of(attributes, "AcquisitionTime"))
    number = text_of(attributes, "SeriesNumber"), text_of(attributes, "InstanceNumber")
    lines = [
        text_of(attributes, "InstitutionName"),
        " ".join(part for part in (text_of(attributes, "Modality"), "/".join(part for part in number if part)) if part),
        text_of(attributes, "SeriesDescription") or text_of(attributes, "ProtocolName"),
        " ".join(part for part in made if part),
    ]
    numbers = ((form, number_of(attributes, keyword)) for keyword, form in _NUMBERS)
    said = [form.format(value) for form, value in numbers if value is not None]
    return [*lines, *("  ".join(said[start : start + 3]) for start in range(0, len(said), 3))]


def _drawable(lines: list[str]) -> list[str]:
    shown = (" ".join(line.split())[:_MAX_LETTERS] for line in lines)
    return [line if can_draw(line) else UNDRAWABLE for line in shown if line]
