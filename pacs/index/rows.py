"""One instance as rows of the four levels. Pure: what costs time is computed before the write lock is taken."""

import hashlib
import re
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from pacs.database.tables import MATCH_COLUMNS
from pacs.index.metadata import dump_text, encode_attributes, encode_bulk
from pacs.model import Attributes, Header, Level, Location, Origin
from pacs.names import name_keys
from pacs.tags import ATTRIBUTES, Attribute, Matching, attributes_of, tag_of, text_of, values_of

MAX_TEXT_LENGTH = 256
"""Characters of a match column; more than any VR that is matched may hold (PS3.5 6.2). Answers are never cut."""

_SEPARATOR = "\x1f"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance whose bytes are durable and that is not in the index yet. ``dataset_digest`` is SHA-256 in hex."""

    partition_id: int
    header: Header
    layout: bytes
    location: Location
    dataset_digest: str
    origin: Origin
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class PreparedInstance:
    """A new instance as rows, without the keys that only the database knows. Made by ``prepare``."""

    new: NewInstance
    identity: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    patient_attributes: Attributes
    study_attributes: Attributes
    series_attributes: Attributes
    patient: Row
    study: Row
    series: Row
    instance: Row
    header: Row

    @property
    def partition_id(self) -> int:
        """The partition it belongs to."""
        return self.new.partition_id

    @property
    def origin(self) -> Origin:
        """Where it came from."""
        return self.new.origin

    @property
    def stored_at(self) -> datetime:
        """When it was stored, aware UTC."""
        return self.new.stored_at


def prepare(new: NewInstance) -> PreparedInstance:
    """Return the rows that stand for ``new``; its header must carry the three Instance UIDs and the SOP Class UID."""
    attributes = new.header.attributes
    study_instance_uid = text_of(attributes, "StudyInstanceUID")
    issuer = text_of(attributes, "IssuerOfPatientID") or new.origin.issuer_of_patient_id
    identity = _identity(issuer, text_of(attributes, "PatientID"), study_instance_uid)
    of_patient = _select(attributes, Level.PATIENT)
    of_study = _select(attributes, Level.STUDY)
    of_series = _select(attributes, Level.SERIES)
    return PreparedInstance(
        new=new,
        identity=identity,
        study_instance_uid=study_instance_uid,
        series_instance_uid=text_of(attributes, "SeriesInstanceUID"),
        sop_instance_uid=text_of(attributes, "SOPInstanceUID"),
        sop_class_uid=text_of(attributes, "SOPClassUID"),
        patient_attributes=of_patient,
        study_attributes=of_study,
        series_attributes=of_series,
        patient=patient_values(of_patient, issuer) | {"identity": identity},
        study=study_values(of_study, issuer),
        series=series_values(of_series),
        instance=_instance_values(new),
        header={
            "summary": dump_text(_select(attributes, Level.INSTANCE)),
            "attributes": encode_attributes(attributes),
            "bulk": encode_bulk(new.header),
            "layout": new.layout,
        },
    )


def patient_values(attributes: Attributes, issuer: str) -> Row:
    """Return what a patient's row says of these attributes; ``issuer`` counts where they name none."""
    return {
        "patient_id": _clean(text_of(attributes, "PatientID"))[:MAX_TEXT_LENGTH],
        "issuer_of_patient_id": _clean(issuer)[:MAX_TEXT_LENGTH],
        "attributes": dump_text(attributes),
    }


def study_values(attributes: Attributes, issuer: str) -> Row:
    """Return the match columns, the order and the attributes of a study's row; ``issuer`` as for patients."""
    row = _match_values(attributes, Level.STUDY)
    row["issuer_of_patient_id"] = row["issuer_of_patient_id"] or _clean(issuer)[:MAX_TEXT_LENGTH] or None
    row["sort_key"] = (row["study_date"] or "") + (row["study_time"] or "" if row["study_date"] else "")
    row["attributes"] = dump_text(attributes)
    return row


def series_values(attributes: Attributes) -> Row:
    """Return the match columns and the attributes of a series' row."""
    return {**_match_values(attributes, Level.SERIES), "attributes": dump_text(attributes)}


def name_rows(attributes: Attributes) -> list[Row]:
    """Return keyword and key of every component group of every indexed person name of a study."""
    return [
        {"keyword": attribute.keyword, "key": key}
        for attribute in _NAMES
        for key in dict.fromkeys(
            key
            for value in values_of(attributes, attribute.keyword)
            if isinstance(value, dict | str)
            for key in name_keys(value)
        )
    ]


def request_rows(attributes: Attributes) -> list[Row]:
    """Return the step and procedure identifiers of every item of the Request Attributes Sequence of a series."""
    return [
        {column: _match_value(attribute, item) for column, attribute in _REQUESTS}
        for item in values_of(attributes, "RequestAttributesSequence")
        if isinstance(item, dict)
    ]


def origin_text(origin: Origin) -> str:
    """Return an origin as JSON, for whoever has to decide a conflict."""
    return dump_text(asdict(origin))


def digest_of(*parts: str) -> str:
    """Return SHA-256 in hex over parts that none can imitate by moving a boundary."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode("utf-8", "replace")).hexdigest()


def _select(attributes: Attributes, level: Level) -> Attributes:
    return {tag: attributes[tag] for tag in _TAGS[level] if tag in attributes and attributes[tag].get("Value")}


def _identity(issuer: str, patient_id: str, study_instance_uid: str) -> str:
    """Return what makes a patient one: issuer and Patient ID; without a Patient ID the study stands alone."""
    issuer, patient_id = _clean(issuer), _clean(patient_id)
    if not patient_id:
        return f"{_SEPARATOR}{_SEPARATOR}{study_instance_uid}"
    identity = f"{issuer}{_SEPARATOR}{patient_id}"
    if len(identity) <= 2 * MAX_TEXT_LENGTH:
        return identity
    return f"{identity[:MAX_TEXT_LENGTH]}{_SEPARATOR}{digest_of(issuer, patient_id)}"  # cut, and still its own


def _instance_values(new: NewInstance) -> Row:
    attributes = new.header.attributes
    return {
        **_match_values(attributes, Level.INSTANCE),
        "partition_id": new.partition_id,
        "sop_instance_uid": text_of(attributes, "SOPInstanceUID"),
        "sop_class_uid": text_of(attributes, "SOPClassUID"),
        "transfer_syntax_uid": new.header.transfer_syntax_uid,
        "blob_key": new.location.blob_key,
        "blob_offset": new.location.offset,
        "blob_length": new.location.length_bytes,
        "dataset_digest": bytes.fromhex(new.dataset_digest),
        "stored_at": new.stored_at,
    }


def _match_values(attributes: Attributes, level: Level) -> Row:
    return {column: _match_value(attribute, attributes) for column, attribute in _MATCHED[level]}


def _match_value(attribute: Attribute, attributes: Attributes) -> str | int | None:
    text = text_of(attributes, attribute.keyword)
    if not text:
        return None
    match attribute.matching:
        case Matching.DATE:
            return normal_date(text)
        case Matching.TIME:
            return normal_time(text)
        case Matching.NUMBER:
            return int(text) if _NUMBER.fullmatch(text) else None
        case Matching.CODE:
            return _clean(text).upper()[:MAX_TEXT_LENGTH] or None
        case _:
            return _clean(text)[:MAX_TEXT_LENGTH] or None


def _clean(text: str) -> str:
    """Return text that every engine stores: no NUL, no control characters, no half of a surrogate pair."""
    if text.isprintable():
        return text
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode().strip(" ")


def normal_date(text: str) -> str | None:
    """Return a DA value as ``YYYYMMDD``, the form with dots (PS3.5 6.2 note) included; None if it is no date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = found["year"], found["month"], found["day"]
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return year + month + day


def normal_time(text: str) -> str | None:
    """Return a TM value as ``HHMMSS.FFFFFF``, the form with colons (PS3.5 6.2 note) included; None if it is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = (found[part] or "" for part in ("hour", "minute", "second", "fraction"))
    return f"{hour}{minute or '00'}{second or '00'}.{fraction[:6]:0<6}"


_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_DATE = re.compile(r"(?P<year>[0-9]{4})(?P<dot>\.?)(?P<month>[0-9]{2})(?P=dot)(?P<day>[0-9]{2})", re.ASCII)
_TIME = re.compile(
    r"(?P<hour>[01][0-9]|2[0-3])"
    r"(?::?(?P<minute>[0-5][0-9])(?::?(?P<second>[0-5][0-9]|60)(?:\.(?P<fraction>[0-9]{1,6}))?)?)?",
    re.ASCII,
)

_TAGS: dict[Level, tuple[str, ...]] = {
    level: tuple(sorted(tag_of(attribute.keyword) for attribute in attributes_of(*levels)))
    for level, levels in (
        (Level.PATIENT, (Level.PATIENT,)),
        (Level.STUDY, (Level.PATIENT, Level.STUDY)),
        (Level.SERIES, (Level.SERIES,)),
        (Level.INSTANCE, (Level.INSTANCE,)),
    )
}
_COLUMNS = tuple((attribute.column, attribute) for attribute in ATTRIBUTES)
_MATCHED = {
    level: tuple((column, attribute) for column, attribute in _COLUMNS if column in columns and not attribute.sequence)
    for level, columns in MATCH_COLUMNS.items()
}
_REQUESTS = tuple(pair for pair in _COLUMNS if pair[1].sequence == "RequestAttributesSequence")
_NAMES = tuple(attribute for attribute in ATTRIBUTES if attribute.matching is Matching.NAME)

PATIENT_TAGS = frozenset(_TAGS[Level.PATIENT])
"""Tags that speak of the patient, in a study's attributes too."""
