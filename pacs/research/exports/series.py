"""One series as a row of the index, from the headers of its instances.

Only de-identified headers come in here: what a column says is what the release says. Of what may differ from instance
to instance the first one speaks, as in Imaging Data Commons, but for echo times and b-values, whose list is the point.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pacs.model import Attributes, InstanceRecord
from pacs.tags import text_of, values_of


@dataclass(frozen=True, slots=True)
class Collection:
    """What all rows of one release have in common; ``root`` is the path of its DICOMweb service on this server."""

    collection_id: str
    version: int
    license_short_name: str
    root: str


@dataclass(slots=True)
class SeriesFacts:
    """What is known of a series once all its instances were seen."""

    first: Attributes
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    instance_count: int = 0
    length_bytes: int = 0
    transfer_syntax_uids: set[str] = field(default_factory=set)
    echo_times: set[float] = field(default_factory=set)
    b_values: set[float] = field(default_factory=set)
    slice_positions: set[tuple[float, ...]] = field(default_factory=set)

    def add(self, record: InstanceRecord, header: Attributes) -> None:
        """Take in one more instance."""
        self.instance_count += 1
        self.length_bytes += record.location.length_bytes
        self.transfer_syntax_uids.add(record.transfer_syntax_uid)
        self.echo_times.update(numbers_of(header, "EchoTime"))
        self.b_values.update(numbers_of(header, "DiffusionBValue"))
        position = tuple(numbers_of(header, "ImagePositionPatient"))
        if position:
            self.slice_positions.add(position)


def gather(instances: Iterable[tuple[InstanceRecord, Attributes]]) -> SeriesFacts | None:
    """Return what these instances of one series, with their headers, say of it; None if there is none."""
    facts: SeriesFacts | None = None
    for record, header in instances:
        if facts is None:
            facts = SeriesFacts(header, record.study_instance_uid, record.series_instance_uid, record.sop_class_uid)
        facts.add(record, header)
    return facts


def text(attributes: Attributes, keyword: str) -> str | None:
    """Return the first value as text; None, which is NULL in the table, if there is none."""
    return text_of(attributes, keyword) or None


def iso_date(attributes: Attributes, keyword: str) -> str | None:
    """Return a date as ``YYYY-MM-DD``, as Imaging Data Commons spells it; None for what is no date."""
    value = text_of(attributes, keyword)
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdecimal() else None


def texts_of(attributes: Attributes, keyword: str) -> list[str] | None:
    """Return all values as text; None if there is none."""
    return [str(value).strip() for value in values_of(attributes, keyword) if value is not None] or None


def numbers_of(attributes: Attributes, keyword: str) -> list[float]:
    """Return the values that are numbers."""
    return [number for value in values_of(attributes, keyword) if (number := _as_number(value)) is not None]


def number(attributes: Attributes, keyword: str, index: int = 0) -> float | None:
    """Return one of several values as a number; None if it is none."""
    values = values_of(attributes, keyword)
    return _as_number(values[index]) if index < len(values) else None


def integer(attributes: Attributes, keyword: str) -> int | None:
    """Return the first value as an integer; None if it is none."""
    value = number(attributes, keyword)
    return int(value) if value is not None and value.is_integer() else None


def _as_number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    # NaN is no measurement, and infinity none that a histogram can show.
    return found if abs(found) < 1e300 else None
