"""One instance as rows of the four levels. Pure: what costs time is computed before the write lock is taken."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from pacs.database.tables import MATCH_COLUMNS
from pacs.index.metadata import dump_text, encode_attributes, encode_bulk
from pacs.model import Attributes, Door, Header, Level, Location, Origin
from pacs.names import GROUPS, name_keys
from pacs.normal import MAX_TEXT_LENGTH, clean, match_value
from pacs.overlay import Step, dump_steps
from pacs.phonetics import fuzzy_keys
from pacs.tags import ATTRIBUTES, Matching, attributes_of, tag_of, text_of, values_of

_KNOWN_ORIGINS = 256
_KNOWN_ATTRIBUTES = 64
_LONGEST_KNOWN = 8 * 1024
"""Characters of the attributes of a study or a series whose match columns are remembered: half a megabyte at most."""

_SEPARATOR = "\x1f"
_USUAL_ORIGIN = asdict(Origin(Door.DIMSE))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance whose bytes are durable and that is not in the index yet. ``dataset_digest`` is SHA-256 in hex.

    ``header`` is as received; ``steps`` are what was coerced on the way in, and hold for everything but the header.
    """

    partition_id: int
    header: Header
    layout: bytes
    location: Location
    dataset_digest: str
    origin: Origin
    stored_at: datetime
    steps: tuple[Step, ...] = ()


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
    attributes = lay(new.header.attributes, new.steps)
    study_instance_uid = text_of(attributes, "StudyInstanceUID")
    issuer = text_of(attributes, "IssuerOfPatientID") or new.origin.issuer_of_patient_id
    identity = identity_of(issuer, text_of(attributes, "PatientID"), study_instance_uid)
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
        instance=_instance_values(new, attributes),
        header={
            "summary": dump_text(_select(attributes, Level.INSTANCE)),
            "attributes": encode_attributes(new.header.attributes),
            "bulk": encode_bulk(new.header),
            "layout": new.layout,
            "overlay": dump_steps(new.steps),
            "origin": origin_text(new.origin),
        },
    )


def lay(attributes: Attributes, steps: Iterable[Step]) -> Attributes:
    """Return the attributes with the steps' values, as rows are made of them: what was there before is not kept."""
    for step in steps:
        attributes = attributes | step.changes
    return attributes


def with_values(attributes: Attributes) -> Attributes:
    """Return those of the attributes that have a value, which is what the rows of the four levels keep."""
    return {tag: element for tag, element in sorted(attributes.items()) if element.get("Value")}


def patient_values(attributes: Attributes, issuer: str) -> Row:
    """Return what a patient's row says of these attributes; ``issuer`` counts where they name none."""
    return {
        "patient_id": clean(text_of(attributes, "PatientID"))[:MAX_TEXT_LENGTH],
        "issuer_of_patient_id": clean(issuer)[:MAX_TEXT_LENGTH],
        "attributes": dump_text(attributes),
    }


def study_values(attributes: Attributes, issuer: str) -> Row:
    """Return the match columns, the order and the attributes of a study's row; ``issuer`` as for patients."""
    text = dump_text(attributes)
    row = _match_columns(Level.STUDY, text).copy()
    row["issuer_of_patient_id"] = row["issuer_of_patient_id"] or clean(issuer)[:MAX_TEXT_LENGTH] or None
    row["sort_key"] = (row["study_date"] or "") + (row["study_time"] or "" if row["study_date"] else "")
    row["attributes"] = text
    return row


def series_values(attributes: Attributes) -> Row:
    """Return the match columns and the attributes of a series' row."""
    text = dump_text(attributes)
    return {**_match_columns(Level.SERIES, text), "attributes": text}


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


def sound_rows(names: Iterable[Row]) -> list[Row]:
    """Return keyword and sound of the names of one study, given as ``name_rows`` returns them."""
    sounds = ((name["keyword"], sound) for name in names for sound in fuzzy_keys({GROUPS[0]: name["key"]}))
    return [{"keyword": keyword, "sound": sound} for keyword, sound in dict.fromkeys(sounds)]


def request_rows(attributes: Attributes) -> list[Row]:
    """Return the step and procedure identifiers of every item of the Request Attributes Sequence of a series."""
    return [
        {column: match_value(attribute, item) for column, attribute in _REQUESTS}
        for item in values_of(attributes, "RequestAttributesSequence")
        if isinstance(item, dict)
    ]


@lru_cache(_KNOWN_ORIGINS)
def origin_text(origin: Origin) -> str:
    """Return an origin as JSON without what is as always, for whoever decides a conflict or reads the bytes again."""
    fields = asdict(origin)
    return dump_text({name: value for name, value in fields.items() if value != _USUAL_ORIGIN[name]})


def digest_of(*parts: str) -> str:
    """Return SHA-256 in hex over parts that none can imitate by moving a boundary."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode("utf-8", "replace")).hexdigest()


def _select(attributes: Attributes, level: Level) -> Attributes:
    return {tag: attributes[tag] for tag in _TAGS[level] if tag in attributes and attributes[tag].get("Value")}


def identity_of(issuer: str, patient_id: str, study_instance_uid: str) -> str:
    """Return what makes a patient one: issuer and Patient ID; without a Patient ID the study stands alone."""
    issuer, patient_id = clean(issuer), clean(patient_id)
    if not patient_id:
        return f"{_SEPARATOR}{_SEPARATOR}{study_instance_uid}"
    identity = f"{issuer}{_SEPARATOR}{patient_id}"
    if len(identity) <= 2 * MAX_TEXT_LENGTH:
        return identity
    return f"{identity[:MAX_TEXT_LENGTH]}{_SEPARATOR}{digest_of(issuer, patient_id)}"  # cut, and still its own


def _instance_values(new: NewInstance, attributes: Attributes) -> Row:
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


def _match_columns(level: Level, text: str) -> Row:
    """Return the match columns of attributes given as JSON, as come a thousand times in a series; not to be changed."""
    return (_known_columns if len(text) <= _LONGEST_KNOWN else _known_columns.__wrapped__)(level, text)


@lru_cache(_KNOWN_ATTRIBUTES)
def _known_columns(level: Level, text: str) -> Row:
    return _match_values(orjson.loads(text), level)


def _match_values(attributes: Attributes, level: Level) -> Row:
    return {column: match_value(attribute, attributes) for column, attribute in _MATCHED[level]}


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
