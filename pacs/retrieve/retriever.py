"""What leaves the archive: metadata as stored, instances, frames and bulk data as received or as Explicit VR LE.

Nothing here opens an instance to answer what the index knows, and nothing holds an instance in memory: what is handed
out names its length and its syntax, and reads its bytes while they are sent.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import orjson

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import (
    BulkDataNotFound,
    CorruptPixelData,
    FrameNotFound,
    InstanceNotFound,
    InvalidHeader,
    NotAcceptable,
    SeriesNotFound,
    StudyNotFound,
    UnsupportedTransferSyntax,
)
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.frames import decode_layout
from pacs.imaging.opened import OpenInstance, closer
from pacs.imaging.reading import iter_frames, iter_native_frames
from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.imaging.sources import Pieces
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, lookup
from pacs.imaging.transcode import FrameDecoder, Transcoded, to_explicit_little_endian
from pacs.index import metadata, reader
from pacs.model import BulkValue, Header, InstanceRecord, Location, PixelElement
from pacs.retrieve.stored import SpoolScratch, StoredBytes
from storage.base import BlobStore

__all__ = ["ANY", "DEFAULT", "DICOM", "Acceptable", "Frames", "Representation", "Retriever"]

LOGGER = logging.getLogger(__name__)

DICOM = "application/dicom"

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024
_UNDECODABLE = (UnsupportedTransferSyntax, CorruptPixelData, InvalidHeader)


class Retriever:
    """Reads one partition of the archive. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        partition_id: int,
        spool_directory: Path,
        decoder: FrameDecoder,
    ) -> None:
        self._database = database
        self._store = store
        self._partition_id = partition_id
        self._spool_directory = spool_directory
        self._decoder = decoder

    def find_instances(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one; reading is not restricted yet
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uid: str = "",
    ) -> list[InstanceRecord]:
        """Return the instances under these UIDs by series and instance number.

        Raises StudyNotFound, SeriesNotFound or InstanceNotFound for the first UID that does not exist; never empty.
        """
        with self._database.read() as connection:
            records = reader.find_instances(
                connection,
                self._partition_id,
                study_instance_uid,
                series_instance_uid or None,
                sop_instance_uid or None,
            )
            if records:
                return records
            if not reader.has_study(connection, self._partition_id, study_instance_uid):
                raise StudyNotFound
            if series_instance_uid and not reader.has_series(
                connection, self._partition_id, study_instance_uid, series_instance_uid
            ):
                raise SeriesNotFound
        raise InstanceNotFound

    def iter_metadata(
        self,
        principal: Principal,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uid: str = "",
    ) -> Iterator[tuple[InstanceRecord, bytes]]:
        """Return each instance's record and its DICOM JSON object as stored, in UTF-8.

        A BulkDataURI in it is the bare path that ``open_bulk`` takes. What is not found is raised at once, as by
        ``find_instances``; no instance is opened, and no transaction stays open between pages.
        """
        records = self.find_instances(principal, study_instance_uid, series_instance_uid, sop_instance_uid)
        return metadata.iter_metadata(self._database, [record.row_id for record in records])

    def open_instance(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
        acceptable: Acceptable = DEFAULT,
    ) -> Representation:
        """Return the whole instance as a DICOM file; the caller closes it.

        In the stored syntax the bytes are the received ones. Raises NotAcceptable if the client takes neither that nor
        Explicit VR Little Endian, or the pixels do not decode and it insists on the latter.
        """
        stored = record.transfer_syntax_uid
        if acceptable.takes(stored) or (acceptable.is_default and stored == EXPLICIT_VR_LITTLE_ENDIAN):
            return self._as_stored(record)
        if not acceptable.is_default and not acceptable.takes(EXPLICIT_VR_LITTLE_ENDIAN):
            raise NotAcceptable
        with self._open(record) as opened:
            if acceptable.is_default and not (lookup(stored).is_lossless or opened.header.pixels is None):
                return self._as_stored(record)
            try:
                transcoded = to_explicit_little_endian(
                    opened.header, opened.layout, opened.source, self._decoder, self._open_scratch
                )
            except _UNDECODABLE as error:
                if acceptable.is_default:
                    return self._as_stored(record)
                raise NotAcceptable("The pixel data cannot be decoded.") from error
            transcoded.scratches += opened.release()
        return _represent(transcoded)

    def open_frames(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
        frame_numbers: Sequence[int],
        acceptable: Acceptable = DEFAULT,
    ) -> Frames:
        """Return frames by their numbers, which count from 1; the caller closes them.

        Native frames are Explicit VR Little Endian's, whatever native syntax they are stored in; a bit-packed one
        begins with the lowest bit of its first byte. Encapsulated frames are the stored fragments joined if the client
        takes the stored syntax, or by default where they are lossy or the first one does not decode; else they are
        decoded. A video is one frame. Raises FrameNotFound, NotAcceptable, or CorruptPixelData if nobody knows where
        the frames lie; the iterator raises CorruptPixelData for a later frame that does not decode.
        """
        with self._open(record) as opened:
            pixels = opened.header.pixels
            if pixels is None:
                raise FrameNotFound("The instance has no pixel data.")
            if not opened.layout.frames:
                raise CorruptPixelData("Where the frames lie is not known.")
            if not all(1 <= number <= len(opened.layout.frames) for number in frame_numbers):
                raise FrameNotFound
            indexes = [number - 1 for number in frame_numbers]
            frames = (
                self._encapsulated_frames(opened, indexes, acceptable)
                if pixels.is_encapsulated
                else self._native_frames(opened, pixels, indexes, acceptable)
            )
            return frames.owning(closer(opened.release()))

    def open_bulk(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
        path: str,
    ) -> Representation:
        """Return one value kept out of the metadata, little endian, by the path its BulkDataURI has.

        Of an encapsulated value that is what its frames hold, one after the other, without offset table and items, in
        the stored syntax. Raises BulkDataNotFound.
        """
        with self._open(record) as opened:
            value = next((value for value in opened.header.bulk if value.path == path.strip("/").upper()), None)
            if value is None:
                raise BulkDataNotFound
            pixels = opened.header.pixels
            pieces = Pieces()
            syntax_uid = EXPLICIT_VR_LITTLE_ENDIAN
            media_type = OCTET_STREAM
            if pixels is not None and pixels.is_encapsulated and value.range == pixels.range:
                syntax_uid = opened.header.transfer_syntax_uid
                media_type = opened.syntax.media_type
                for part in (part for ranges in opened.layout.frames for part in ranges):
                    pieces.splice(opened.source, part.start, part.end)
            else:
                words = opened.word_bytes(value)
                pieces.splice(opened.source, value.range.start, value.range.end, words)
            transcoded = Transcoded(pieces, opened.release())
        return _represent(transcoded, syntax_uid, media_type)

    def _native_frames(
        self, opened: OpenInstance, pixels: PixelElement, indexes: Sequence[int], acceptable: Acceptable
    ) -> Frames:
        if not acceptable.is_default and not acceptable.takes(EXPLICIT_VR_LITTLE_ENDIAN):
            raise NotAcceptable
        words = opened.word_bytes(BulkValue(pixels.tag, pixels.vr, pixels.range))
        frames = iter_native_frames(opened.source, opened.layout, indexes, pixels.range, words)
        return Frames(EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, frames)

    def _encapsulated_frames(self, opened: OpenInstance, indexes: Sequence[int], acceptable: Acceptable) -> Frames:
        syntax = opened.syntax
        frames = iter_frames(opened.source, [opened.layout.frames[index] for index in indexes])
        stored = Frames(syntax.uid, syntax.media_type, frames)
        if acceptable.takes(syntax.uid) or (acceptable.is_default and not syntax.is_lossless):
            return stored
        if not acceptable.is_default and not acceptable.takes(EXPLICIT_VR_LITTLE_ENDIAN):
            raise NotAcceptable
        try:
            # One frame is decoded before anything is promised: it is the best guess whether the others will.
            decoded = _decode_ahead(self._iter_decoded(opened, indexes))
        except _UNDECODABLE as error:
            if not acceptable.is_default:
                raise NotAcceptable("The pixel data cannot be decoded.") from error
            return stored
        return Frames(EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, decoded)

    def _iter_decoded(self, opened: OpenInstance, indexes: Sequence[int]) -> Iterator[bytes]:
        description = PixelDescription.from_attributes(opened.header.attributes)
        for frame in iter_frames(opened.source, [opened.layout.frames[index] for index in indexes]):
            yield self._decoder.decode_frame(opened.syntax.uid, frame, description).pixels

    def _as_stored(self, record: InstanceRecord) -> Representation:
        source = self._source(record)
        return Representation(
            record.transfer_syntax_uid, DICOM, source.size_bytes, lambda: source.iter_range(0, source.size_bytes)
        )

    @contextmanager
    def _open(self, record: InstanceRecord) -> Iterator[OpenInstance]:
        """Give the instance's header and its bytes, inflated if need be, for as long as the block lasts."""
        with self._database.read() as connection:
            stored = metadata.read_header(connection, record.row_id)
        header = Header(
            transfer_syntax_uid=record.transfer_syntax_uid,
            dataset_offset=stored.dataset_offset,
            attributes=orjson.loads(stored.attributes),
            bulk=stored.bulk,
            pixels=stored.pixels,
            is_deflated=stored.is_deflated,
        )
        opened = OpenInstance(header, decode_layout(stored.layout), self._source(record))
        try:
            if header.is_deflated:
                opened.inflate(self._open_scratch())
            yield opened
        finally:
            closer(opened.release())()

    def _source(self, record: InstanceRecord) -> StoredBytes:
        return StoredBytes(self._store, record.location, lambda: self._relocate(record))

    def _relocate(self, record: InstanceRecord) -> Location:
        """Return where the instance lies now; raise InstanceNotFound if it is gone."""
        with self._database.read() as connection:
            found = reader.find_instances(
                connection,
                self._partition_id,
                record.study_instance_uid,
                record.series_instance_uid,
                record.sop_instance_uid,
            )
        if not found:
            raise InstanceNotFound
        return found[0].location

    def _open_scratch(self) -> SpoolScratch:
        return SpoolScratch(self._spool_directory)


def _represent(
    transcoded: Transcoded, transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN, media_type: str = DICOM
) -> Representation:
    return Representation(
        transfer_syntax_uid, media_type, transcoded.length_bytes, transcoded.iter_chunks, transcoded.close
    )


def _decode_ahead(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Return the same frames, the first of them read already."""
    return chain(list(islice(frames, 1)), frames)
