"""The form by which a cohort is described: its fields, and what it says in conditions."""

from collections.abc import Mapping
from dataclasses import dataclass

_MODALITIES = ("CR", "CT", "DX", "MG", "MR", "NM", "PT", "RF", "US", "XA")
_YOUNGEST = ("0", "5", "10", "15", "18", "20", "25", "30", "35", "40", "45", "50", "55", "60", "65", "70", "75", "80")
_OLDEST = (
    "4",
    "9",
    "14",
    "17",
    "19",
    "24",
    "29",
    "34",
    "39",
    "44",
    "49",
    "54",
    "59",
    "64",
    "69",
    "74",
    "79",
    "84",
    "89",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form, and what stands in it; ``choices`` are values with their labels."""

    name: str
    label: str
    hint: str = ""
    example: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    is_wide: bool = False
    value: str = ""


def _same(values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((value, value) for value in values)


FIELDS: tuple[Field, ...] = (
    Field("Modality", "Modality", choices=_same(_MODALITIES)),
    Field("BodyPartExamined", "Body part", example="CHEST"),
    Field("PatientSex", "Sex", choices=(("F", "female"), ("M", "male"), ("O", "other"))),
    Field("age_min", "Age from", choices=_same((*_YOUNGEST, "85", "90"))),
    Field("age_max", "Age to", choices=_same(_OLDEST)),
    Field("StudyDate", "Study year", example="2020-2024"),
    Field("Manufacturer", "Manufacturer", example="SIEMENS*"),
    Field("ManufacturerModelName", "Model"),
    Field("ProtocolName", "Protocol", example="*thorax*"),
    Field("ConvolutionKernel", "Kernel", example="B70*"),
    Field("contrast", "Contrast agent", choices=(("yes", "yes"), ("no", "no"))),
    Field("MagneticFieldStrength", "Field strength", "tesla", example="1.5"),
    Field("words", "Words of the description", "of cleaned descriptions", is_wide=True),
)
LABELS: Mapping[str, str] = {field.name: field.label for field in FIELDS} | {
    "ModalitiesInStudy": "Modality",
    "StudyDescription": "Description",
    "SeriesDescription": "Description",
    "Laterality": "Laterality",
    "SOPClassUID": "SOP Class",
}


def fill(given: Mapping[str, str]) -> list[Field]:
    """Return the fields with what was given for them."""
    return [
        Field(one.name, one.label, one.hint, one.example, one.choices, one.is_wide, given.get(one.name, ""))
        for one in FIELDS
    ]


def read_conditions(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what a form asks for by its names, without what was left empty and what is not of it."""
    names = (one.name for one in FIELDS)
    return {name: text for name in names if (text := fields.get(name, "").replace("\0", "").strip())}


def describe(conditions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return conditions as people read them: a label for each, and its value."""
    return [(LABELS.get(name, name), value.replace("\\", ", ")) for name, value in conditions.items()]
