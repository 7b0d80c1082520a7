"""Metadata and bulk data that come apart in one body (PS3.18 10.5.1, Figure 8.6-1), put together for the one door.

Parts of JSON or XML are metadata, up to a bound, all others bulk data; all go into one spool, so that a body under way
holds no memory. What names what is known once all have come: everything is read and stored at the end, and nothing of a
body that broke. A BulkDataURI only ever names a part of the same body: nothing is fetched from anywhere.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import orjson

from dicomweb import media_types
from dicomweb.dicom_xml import ModelParser
from dicomweb.errors import ContentTooLarge, InvalidMetadata
from dicomweb.multipart import MultipartParser, PartBegan, PartData, PartEnded
from dicomweb.stow_sinks import Receiver, check_encoding
from pacs.ingest.assembly import BulkPart, CannotAssemble, plan_file
from pacs.ingest.incoming import IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.ingest.rules import is_uid
from pacs.tags import tag_of

MAX_METADATA_BYTES = 64 * 1024 * 1024
MAX_ELEMENTS = 2_000_000
"""XML elements, or what begins or parts two values in JSON: in memory each is many times its bytes."""

MAX_INSTANCES = 10_000
"""Of one body: a data set of thirty bytes costs as much work as an object does."""

_FRAME = re.compile(r"(.*)/frames/([1-9][0-9]{0,8})", re.DOTALL)
_METADATA = frozenset({media_types.DICOM_JSON, media_types.JSON, media_types.DICOM_XML})

_TOO_LARGE = "The metadata are too large; send instances as PS3.10 files."

_log = logging.getLogger(__name__)


LARGE_METADATA_BYTES = 1024 * 1024
"""From here on metadata are large: as Python objects they are many times as much."""


class _Metadata:
    """The metadata of one body: where its documents lie in the spool, and how much more of them may come."""

    def __init__(self, spool: IncomingSpool) -> None:
        self.length_bytes = 0
        self._spool = spool
        self._documents: list[tuple[int, int, bool]] = []
        self._elements_left = MAX_ELEMENTS

    def write(self, view: memoryview) -> None:
        """Append to the document under way; raise ContentTooLarge, OutOfResources or Unavailable."""
        self.length_bytes += len(view)
        if self.length_bytes > MAX_METADATA_BYTES:
            raise ContentTooLarge(_TOO_LARGE)
        self._spool.write(view)

    def add(self, start: int, *, is_xml: bool) -> None:
        """Note that a document is whole that begins at ``start``."""
        self._documents.append((start, self._spool.size_bytes, is_xml))

    def read(self) -> list[Any]:
        """Return the data sets of all documents; raise InvalidMetadata, InvalidXml or ContentTooLarge."""
        instances: list[Any] = []
        for start, end, is_xml in self._documents:
            chunks = self._spool.iter_range(start, end)
            instances += self._read_xml(chunks) if is_xml else self._read_json(b"".join(chunks))
            if len(instances) > MAX_INSTANCES:
                raise ContentTooLarge(f"There are more than {MAX_INSTANCES} instances in one request.")
        if not instances:
            raise InvalidMetadata("The body has no metadata.")
        return instances

    def _read_xml(self, chunks: Iterable[bytes]) -> list[Any]:
        """Return the one data set of a document."""
        parser = ModelParser(self._elements_left)
        for chunk in chunks:
            parser.feed(chunk)
        data_set = parser.finish()
        self._elements_left = parser.elements_left
        return [data_set]

    def _read_json(self, content: bytes) -> list[Any]:
        """Return the data sets of an array of them, or one that stands alone."""
        self._elements_left -= sum(map(content.count, (b",", b"{", b"[")))
        if self._elements_left < 0:
            raise ContentTooLarge(_TOO_LARGE)
        try:
            parsed = orjson.loads(content)
        except orjson.JSONDecodeError:
            # What it says of the place may repeat what stands there.
            raise InvalidMetadata("The metadata are no JSON.") from None
        return parsed if isinstance(parsed, list) else [parsed]


class MetadataSink:
    """A multipart/related body of metadata and bulk data. ``base`` is what its relative addresses are relative to."""

    def __init__(self, receiver: Receiver, parser: MultipartParser, base: str) -> None:
        self._receiver = receiver
        self._parser = parser
        self._spool = receiver.ingest.open_spool()
        self._metadata = _Metadata(self._spool)
        self._bulk = BulkData(base, self._spool)
        self._part: _MetadataPart | _BulkPart | None = None

    @property
    def is_heavy(self) -> bool:
        """Whether ``finish`` takes much memory."""
        return self._metadata.length_bytes > LARGE_METADATA_BYTES

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raise MultipartError when they make no sense, ContentTooLarge when they are too many."""
        for event in self._parser.feed(data):
            match event:
                case PartData(view):
                    if self._part is not None:
                        self._part.write(view)
                case PartBegan(headers):
                    check_encoding(headers)
                    self._part = self._open_part(headers)
                case PartEnded():
                    if self._part is not None:
                        self._part.finish()

    def finish(self) -> None:
        """Store every instance that is whole; raise InvalidMetadata, InvalidXml or ContentTooLarge if that is none."""
        self._parser.finish()
        instances = self._metadata.read()
        # Taken one by one, so that what is stored need not be held.
        instances.reverse()
        while instances and not self._receiver.is_exhausted:
            self._store(instances.pop())
        if self._bulk.has_unnamed() and not self._receiver.is_exhausted:
            self._receiver.outcomes.append(Outcome(Disposition.REJECTED, Reason.BULK_DATA_UNNAMED))

    def close(self) -> None:
        """Give back what is spooled."""
        self._spool.close()

    def _open_part(self, headers: dict[str, str]) -> "_MetadataPart | _BulkPart":
        content_type = media_types.parse_media_type(headers.get("content-type", ""))
        media_type = content_type.media_type if content_type is not None else media_types.OCTET_STREAM
        if media_type in _METADATA:
            return _MetadataPart(self._metadata, self._spool.size_bytes, is_xml=media_type == media_types.DICOM_XML)
        syntaxes = content_type.transfer_syntax_uids if content_type is not None else ()
        return _BulkPart(self._bulk, headers.get("content-location", ""), media_type, " ".join(syntaxes))

    def _store(self, metadata: Any) -> None:
        try:
            plan = plan_file(metadata, self._bulk.find)
        except CannotAssemble as error:
            _log.info("Metadata from %s make no object: %s", self._receiver.origin.address, error)
            self._receiver.outcomes.append(_refuse(metadata, error.reason))
            return
        self._receiver.begin()
        for chunk in plan.iter_chunks():
            self._receiver.write(chunk)
        self._receiver.store()


class BulkData:
    """The bulk data of one body, in one spool, by the address that their sender gave them."""

    def __init__(self, base: str, spool: IncomingSpool) -> None:
        self.spool = spool
        self._base = base
        self._parts: dict[str, list[BulkPart]] = {}
        self._frames: dict[str, dict[int, BulkPart]] = {}
        self._named: set[str] = set()

    def add(self, location: str, part: BulkPart) -> None:
        """Note a part; several under one address are in their order, or in that of the frame numbers they end with."""
        address = self._resolve(location)
        self._parts.setdefault(address, []).append(part)
        if match := _FRAME.fullmatch(address):
            self._frames.setdefault(match[1], {})[int(match[2])] = part

    def find(self, uri: str) -> Sequence[BulkPart]:
        """Return the parts that a BulkDataURI names, none if none came."""
        address = self._resolve(uri)
        if parts := self._parts.get(address):
            self._named.add(address)
            return parts
        frames = self._frames.get(address, {})
        if sorted(frames) != list(range(1, len(frames) + 1)):
            return ()
        self._named.update(f"{address}/frames/{number}" for number in frames)
        return [frames[number] for number in sorted(frames)]

    def has_unnamed(self) -> bool:
        """Whether something came that nothing was looking for."""
        return not self._parts.keys() <= self._named

    def _resolve(self, location: str) -> str:
        try:
            return urljoin(self._base, location.strip())
        except ValueError:
            return location


@dataclass(frozen=True, slots=True)
class _MetadataPart:
    """A document under way into the spool, from ``start`` on."""

    metadata: _Metadata
    start: int
    is_xml: bool

    def write(self, view: memoryview) -> None:
        """Take the next bytes; raise ContentTooLarge, OutOfResources or Unavailable."""
        self.metadata.write(view)

    def finish(self) -> None:
        """Note what came."""
        self.metadata.add(self.start, is_xml=self.is_xml)


class _BulkPart:
    """Bulk data under way into the spool."""

    def __init__(self, bulk: BulkData, location: str, media_type: str, transfer_syntax_uid: str) -> None:
        self._bulk = bulk
        self._location = location
        self._media_type = media_type
        self._transfer_syntax_uid = transfer_syntax_uid
        self._start = bulk.spool.size_bytes

    def write(self, view: memoryview) -> None:
        """Take the next bytes; raise OutOfResources or Unavailable."""
        self._bulk.spool.write(view)

    def finish(self) -> None:
        """Note what came."""
        spool = self._bulk.spool
        part = BulkPart(spool, self._start, spool.size_bytes, self._media_type, self._transfer_syntax_uid)
        self._bulk.add(self._location, part)


def _refuse(metadata: Any, reason: Reason) -> Outcome:
    return Outcome(
        Disposition.REJECTED,
        reason,
        sop_class_uid=_uid(metadata, "SOPClassUID"),
        sop_instance_uid=_uid(metadata, "SOPInstanceUID"),
        study_instance_uid=_uid(metadata, "StudyInstanceUID"),
        series_instance_uid=_uid(metadata, "SeriesInstanceUID"),
    )


def _uid(metadata: Any, keyword: str) -> str:
    """Return a UID of metadata that may be anything at all; empty if there is none."""
    element = metadata.get(tag_of(keyword)) if isinstance(metadata, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    uid = values[0] if isinstance(values, list) and values else None
    return uid if isinstance(uid, str) and is_uid(uid) else ""
