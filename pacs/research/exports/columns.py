"""The columns of the index, as one table.

Names, spelling and meaning are those of Imaging Data Commons: its tables ``index``, ``ct_index`` and ``mr_index`` in
version 25, joined into one, for a project has thousands of series and not a million. So a query written for one works
on the other. What Imaging Data Commons has and is not here has no meaning here: ``aws_bucket``, ``series_aws_url`` and
``crdc_series_uuid`` name copies in two clouds, and a column that pretends to would only fail later. In their place
``series_dicomweb_url`` says where a series is had from. It is a reference relative to this server, so that the same
file serves whoever reaches the server by whichever name, and its bytes, and with them its ETag, stay the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from pydicom.uid import UID

from pacs.model import Attributes
from pacs.research.exports import series
from pacs.research.exports.series import Collection, SeriesFacts
from pacs.tags import tag_of

_BYTES_PER_MB = 1_000_000
"""Imaging Data Commons counts in powers of ten."""

_CONTRAST = ("ContrastBolusAgent", "ContrastBolusAgentSequence")


class Kind(Enum):
    """What the values of a column are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXTS = "list of text"
    NUMBERS = "list of numbers"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, what it holds and where that comes from. ``is_idc``: Imaging Data Commons has it, too."""

    name: str
    kind: Kind
    read: Callable[[Collection, SeriesFacts], Any]
    description: str
    is_idc: bool = True


def build_row(collection: Collection, facts: SeriesFacts) -> dict[str, Any]:
    """Return one series as a row, by the names of the columns."""
    return {column.name: column.read(collection, facts) for column in COLUMNS}


def _name_of(uid: str) -> str | None:
    name = UID(uid).name
    return name if name and name != uid else None


def _has_contrast(_: Collection, facts: SeriesFacts) -> bool | None:
    """Whether contrast was given, as far as the header says: an agent that is named was given."""
    tags = [facts.first[tag] for keyword in _CONTRAST if (tag := tag_of(keyword)) in facts.first]
    return any(element.get("Value") for element in tags) if tags else None


def _of(read: Callable[..., Any], keyword: str, *rest: Any) -> Callable[[Collection, SeriesFacts], Any]:
    return lambda _, facts: read(facts.first, keyword, *rest)


def _header(kind: Kind, keyword: str, description: str, *, is_idc: bool = True) -> Column:
    """Return a column that is called as the attribute it shows."""
    return Column(keyword, kind, _of(_READERS[kind], keyword), description, is_idc=is_idc)


_READERS: dict[Kind, Callable[..., Any]] = {
    Kind.TEXT: series.text,
    Kind.INTEGER: series.integer,
    Kind.NUMBER: series.number,
    Kind.TEXTS: series.texts_of,
}
_text = partial(_header, Kind.TEXT)
_texts = partial(_header, Kind.TEXTS)
_number = partial(_header, Kind.NUMBER)
_integer = partial(_header, Kind.INTEGER)
_OURS = {"is_idc": False}


def _date(keyword: str, description: str) -> Column:
    return Column(keyword, Kind.TEXT, _of(series.iso_date, keyword), description)


COLUMNS: tuple[Column, ...] = (
    Column("collection_id", Kind.TEXT, lambda c, _: c.collection_id, "the project"),
    Column("release_version", Kind.INTEGER, lambda c, _: c.version, "the version of the project's release", **_OURS),
    _text("PatientID", "the patient's pseudonym in this project"),
    _text("PatientAge", "age at the time of imaging; 090Y is 90 or older"),
    Column(
        "PatientAge_years", Kind.NUMBER, lambda _, f: age_in_years(f.first), "the same as a number of years", **_OURS
    ),
    _text("PatientSex", "sex"),
    _number("PatientSize", "height in m, where the project's profile keeps it", **_OURS),
    _number("PatientWeight", "weight in kg, where the project's profile keeps it", **_OURS),
    Column("StudyInstanceUID", Kind.TEXT, lambda _, f: f.study_instance_uid, "the study"),
    _date("StudyDate", "date of the study, moved by the patient's days"),
    _text("StudyDescription", "cleaned description of the study"),
    Column("SeriesInstanceUID", Kind.TEXT, lambda _, f: f.series_instance_uid, "the series; no two rows have the same"),
    _text("Modality", "modality"),
    _text("BodyPartExamined", "body part"),
    _date("SeriesDate", "date of the series, moved by the patient's days"),
    _text("SeriesNumber", "number of the series in its study"),
    _text("SeriesDescription", "cleaned description of the series"),
    _text("ProtocolName", "cleaned name of the protocol", **_OURS),
    Column("SOPClassUID", Kind.TEXT, lambda _, f: f.sop_class_uid, "SOP class of the first instance"),
    Column("sop_class_name", Kind.TEXT, lambda _, f: _name_of(f.sop_class_uid), "its name"),
    Column(
        "TransferSyntaxUID",
        Kind.TEXT,
        lambda _, f: ",".join(sorted(f.transfer_syntax_uids)),
        "how the instances are stored; several are separated by commas",
    ),
    Column(
        "transfer_syntax_name",
        Kind.TEXT,
        lambda _, f: ",".join(_name_of(uid) or uid for uid in sorted(f.transfer_syntax_uids)),
        "their names",
    ),
    _text("Manufacturer", "maker of the device"),
    _text("ManufacturerModelName", "model of the device"),
    Column("instanceCount", Kind.INTEGER, lambda _, f: f.instance_count, "number of instances in the series"),
    Column(
        "series_size_MB",
        Kind.NUMBER,
        lambda _, f: round(f.length_bytes / _BYTES_PER_MB, 2),
        "size of the series as stored, in millions of bytes",
    ),
    Column(
        "license_short_name",
        Kind.TEXT,
        lambda c, _: c.license_short_name,
        "under which approval the series may be used: data of a project have no licence",
    ),
    Column(
        "series_dicomweb_url",
        Kind.TEXT,
        lambda c, f: f"{c.root}/studies/{f.study_instance_uid}/series/{f.series_instance_uid}",
        "where the series is on this server (DICOMweb), relative to the server's address",
        **_OURS,
    ),
    _texts("ImageType", "image type"),
    _integer("Rows", "rows of an image"),
    _integer("Columns", "columns of an image"),
    Column(
        "PixelSpacing_row_mm", Kind.NUMBER, _of(series.number, "PixelSpacing", 0), "distance of the centres of two rows"
    ),
    Column(
        "PixelSpacing_col_mm", Kind.NUMBER, _of(series.number, "PixelSpacing", 1), "distance of the centres of columns"
    ),
    _number("SliceThickness", "thickness of a slice in mm"),
    _number("SpacingBetweenSlices", "distance of two slices in mm", **_OURS),
    Column("slice_count", Kind.INTEGER, lambda _, f: len(f.slice_positions), "number of different positions", **_OURS),
    _text("PatientPosition", "position of the patient in the device", **_OURS),
    Column("has_contrast", Kind.BOOLEAN, _has_contrast, "contrast agent given; NULL if nothing is said of it", **_OURS),
    _number("KVP", "peak voltage of the X-ray tube in kV"),
    _texts("ConvolutionKernel", "reconstruction kernel"),
    _texts("ScanOptions", "scan options"),
    _number("XRayTubeCurrent", "current of the X-ray tube in mA, of the first instance", **_OURS),
    _number("ReconstructionDiameter", "diameter of the reconstructed field in mm"),
    _number("SpiralPitchFactor", "pitch of a spiral CT"),
    _number("MagneticFieldStrength", "field strength in T"),
    _texts("ScanningSequence", "kind of the sequence"),
    _texts("SequenceVariant", "variant of the sequence"),
    _text("SequenceName", "name of the sequence"),
    _text("MRAcquisitionType", "2D or 3D"),
    Column("EchoTime", Kind.NUMBERS, lambda _, f: sorted(f.echo_times) or None, "all echo times in ms"),
    _number("RepetitionTime", "repetition time in ms"),
    _number("InversionTime", "inversion time in ms"),
    _number("FlipAngle", "flip angle in degrees"),
    Column("DiffusionBValue", Kind.NUMBERS, lambda _, f: sorted(f.b_values) or None, "all b-values in s/mm2"),
)

_DAYS_OF = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


def age_in_years(attributes: Attributes) -> float | None:
    """Return Patient's Age (PS3.5 6.2, AS) as a number of years; None if there is none."""
    age = series.text(attributes, "PatientAge") or ""
    count, unit = age[:-1], age[-1:].upper()
    if not (count.isdecimal() and unit in _DAYS_OF):
        return None
    return round(int(count) * _DAYS_OF[unit] / _DAYS_OF["Y"], 3)
