"""An instance's header as it is kept: compressed DICOM JSON that is sent as it is, and where the values outside it lie.

Reading hands out the stored JSON bytes; nothing is decoded to be encoded again but where something was coerced or
corrected: what is kept is as received, and the overlay is laid over it on the way out.
"""

import hashlib
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, Select, bindparam, select, type_coerce

from pacs.database.base import Database
from pacs.database.prepared import Prepared
from pacs.database.tables import instance, instance_header, series, study
from pacs.errors import InstanceNotFound
from pacs.index.records import OVERLAY_COLUMNS, RECORD_COLUMNS, record_of, steps_of
from pacs.model import BulkValue, ByteRange, Header, InstanceRecord, Location, PixelElement
from pacs.overlay import Step, apply

PAGE_SIZE = 100
"""Headers read in one go: a few hundred kilobytes, and a transaction of a few milliseconds."""

_REVISION_ROWS = 500
_LEVEL = 1
"""A third of the time of zlib's default for a quarter more bytes: this is paid on every store."""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """A header as ingest kept it; ``attributes`` is its DICOM JSON as UTF-8, ``layout`` is ``imaging.frames``' own.

    ``steps`` are what was coerced and corrected since, in order; ``attributes`` are without them. Offsets count in what
    is at ``location`` and in no other copy: one that took its place since is laid out otherwise.
    """

    transfer_syntax_uid: str
    location: Location
    attributes: bytes
    dataset_offset: int
    is_deflated: bool
    pixels: PixelElement | None
    bulk: tuple[BulkValue, ...]
    layout: bytes
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """Which state of some instances this is; another one after every change to what they are answered with.

    ``digest`` is made of where and when the bytes were stored, their digest, and which steps are laid over them: never
    of a value that a step or a header has. ``is_corrected``: a correction was made to their study, or undone.
    ``untouched`` are the rows of which is known that nothing is laid over them.
    """

    digest: str
    is_corrected: bool
    untouched: frozenset[int] = frozenset()


def dump(value: object) -> bytes:
    """Return compact JSON as UTF-8; what JSON cannot hold (half a surrogate pair, a giant integer) is respelled."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_respell(value))


def dump_text(value: object) -> str:
    """Return compact JSON as text, as ``dump``."""
    return dump(value).decode()


def encode_attributes(attributes: object) -> bytes:
    """Return a data set's DICOM JSON as it is stored."""
    return zlib.compress(dump(attributes), _LEVEL)


def encode_bulk(header: Header) -> str:
    """Return where the values outside the header lie, as compact JSON."""
    pixels = header.pixels
    return dump_text(
        {
            "offset": header.dataset_offset,
            "deflated": header.is_deflated,
            "pixels": pixels
            and [pixels.tag, pixels.vr, pixels.range.start, pixels.range.end, int(pixels.is_encapsulated)],
            "bulk": [[value.path, value.vr, value.range.start, value.range.end] for value in header.bulk],
        }
    )


def read_header(connection: Connection, row_id: int) -> StoredHeader:
    """Return one instance's header; raise InstanceNotFound if the row is gone."""
    row = _HEADER.first(connection, {"row_id": row_id})
    if row is None:
        raise InstanceNotFound
    bulk = orjson.loads(row.bulk)
    pixels = bulk["pixels"]
    return StoredHeader(
        transfer_syntax_uid=row.transfer_syntax_uid,
        location=Location(row.blob_key, row.blob_offset, row.blob_length),
        attributes=zlib.decompress(row.attributes),
        dataset_offset=bulk["offset"],
        is_deflated=bulk["deflated"],
        pixels=pixels and PixelElement(pixels[0], pixels[1], ByteRange(pixels[2], pixels[3]), bool(pixels[4])),
        bulk=tuple(BulkValue(path, vr, ByteRange(start, end)) for path, vr, start, end in bulk["bulk"]),
        layout=row.layout,
        steps=steps_of(row),
    )


def read_steps(connection: Connection, row_id: int) -> tuple[Step, ...]:
    """Return what is laid over one instance; raise InstanceNotFound if the row is gone."""
    row = _OVERLAYS.first(connection, {"row_id": row_id})
    if row is None:
        raise InstanceNotFound
    return steps_of(row)


def read_revision(connection: Connection, row_ids: Sequence[int]) -> Revision:
    """Return what the answers made of these instances, in this order, depend on; a row that is gone is left out."""
    digest = RevisionDigest()
    for start in range(0, len(row_ids), _REVISION_ROWS):
        wanted = row_ids[start : start + _REVISION_ROWS]
        rows = {row.id: row for row in connection.execute(_REVISIONS, {"row_ids": list(wanted)})}
        for row in (rows[row_id] for row_id in wanted if row_id in rows):
            digest.add(row)
    return digest.revision()


class SeriesReading:
    """Reads a series from its first instance to its last, in one transaction and in the order of ``find_instances``.

    Iterating yields SOP Instance UID, transfer syntax and DICOM JSON of each instance as it leaves; afterwards
    ``revision`` is that of all of them.
    """

    def __init__(self, connection: Connection, series_row_id: int) -> None:
        self._rows = connection.execute(_OF_SERIES, {"row_id": series_row_id}, execution_options=_BY_PAGE)
        self._digest = RevisionDigest()

    def __iter__(self) -> Generator[tuple[str, str, bytes], None, None]:
        with self._rows:
            for row in self._rows:
                self._digest.add(row)
                attributes = _lay_over(zlib.decompress(row.attributes), steps_of(row))
                yield row.sop_instance_uid, row.transfer_syntax_uid, attributes

    @property
    def revision(self) -> Revision:
        """That of the instances so far."""
        return self._digest.revision()


class RevisionDigest:
    """What makes a revision another one, taken from rows in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._is_corrected = False
        self._untouched: set[int] = set()

    def add(self, row: Any) -> None:
        """Take in a row with ``FACTS`` and ``OVERLAY_COLUMNS``."""
        self._is_corrected = self._is_corrected or bool(row.corrections)
        steps = [(step.correction_id, step.at.isoformat(), sorted(step.changes)) for step in steps_of(row)]
        if not steps:
            self._untouched.add(row.id)
        location = (row.blob_key, row.blob_offset, row.blob_length)
        facts = (row.id, *location, bytes(row.dataset_digest), row.microseconds, steps)
        self._digest.update(repr(facts).encode())

    def revision(self) -> Revision:
        """Return the revision of the rows so far."""
        return Revision(self._digest.hexdigest(), self._is_corrected, frozenset(self._untouched))


def read_metadata(connection: Connection, row_ids: Sequence[int]) -> list[tuple[InstanceRecord, bytes]]:
    """Return record and DICOM JSON of these instances as they leave, in this order; a row that is gone is left out."""
    rows = {row.id: row for row in connection.execute(_METADATA, {"row_ids": list(row_ids)})}
    found = (rows[row_id] for row_id in row_ids if row_id in rows)
    return [(record_of(row), _lay_over(zlib.decompress(row.attributes), steps_of(row))) for row in found]


def iter_metadata(
    database: Database, row_ids: Sequence[int], page_size: int = PAGE_SIZE
) -> Iterator[tuple[InstanceRecord, bytes]]:
    """Yield record and DICOM JSON of these instances, in this order.

    Every page is a read of its own that ends before anything of it is yielded: a slow client holds no transaction.
    """
    for start in range(0, len(row_ids), page_size):
        with database.read() as connection:
            page = read_metadata(connection, row_ids[start : start + page_size])
        yield from page


def _lay_over(attributes: bytes, steps: Sequence[Step]) -> bytes:
    return dump(apply(orjson.loads(attributes), steps)) if steps else attributes


def _respell(value: object) -> object:
    match value:
        case dict():
            return {_respell(str(key)): _respell(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_respell(entry) for entry in value]
        case str():
            return value.encode("utf-8", "replace").decode()
        case bool() | None | float():
            return value
        case int() if -(2**63) <= value < 2**64:
            return value
    return str(value)


_OF_INSTANCE = instance_header.c.instance_row_id == bindparam("row_id")


def _with_overlays(*columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns, *OVERLAY_COLUMNS)
        .join_from(instance, series, instance.c.series_row_id == series.c.id)
        .join(study, series.c.study_row_id == study.c.id)
        .join(instance_header, instance_header.c.instance_row_id == instance.c.id)
    )


_OVERLAYS = Prepared(_with_overlays().where(_OF_INSTANCE))
_HEADER = Prepared(
    _with_overlays(
        instance.c.transfer_syntax_uid,
        instance.c.blob_key,
        instance.c.blob_offset,
        instance.c.blob_length,
        instance_header.c.attributes,
        instance_header.c.bulk,
        instance_header.c.layout,
    ).where(_OF_INSTANCE)
)
_METADATA = _with_overlays(*RECORD_COLUMNS, instance_header.c.attributes).where(
    instance.c.id.in_(bindparam("row_ids", expanding=True))
)
MICROSECONDS = type_coerce(instance.c.stored_at, BigInteger).label("microseconds")
FACTS = (
    instance.c.id,
    instance.c.blob_key,
    instance.c.blob_offset,
    instance.c.blob_length,
    instance.c.dataset_digest,
    MICROSECONDS,
)
_REVISIONS = _with_overlays(*FACTS).where(instance.c.id.in_(bindparam("row_ids", expanding=True)))
_OF_SERIES = (
    _with_overlays(*FACTS, instance.c.sop_instance_uid, instance.c.transfer_syntax_uid, instance_header.c.attributes)
    .where(instance.c.series_row_id == bindparam("row_id"))
    .order_by(instance.c.instance_number.nulls_last(), instance.c.id)
)
_BY_PAGE = {"yield_per": PAGE_SIZE}
