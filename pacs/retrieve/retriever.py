"""What leaves the archive: metadata, instances, frames and bulk data, as received or in a syntax the client takes.

What was coerced or corrected leaves like that through every method here: metadata and instances with the new values and
Original Attributes Sequence, from bytes that never change. An instance that nobody touched, in a syntax the client
takes, is the received bytes.

Nothing here opens an instance to answer what the index knows, and nothing holds an instance in memory: what is handed
out names its length and its syntax, and reads its bytes while they are sent.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import (
    BulkDataNotFound,
    InstanceNotFound,
    NotAcceptable,
    SeriesNotFound,
    StudyNotFound,
    Unavailable,
)
from pacs.imaging.codecs import DecodedFrame
from pacs.imaging.frames import decode_layout, plan_frames
from pacs.imaging.opened import OpenInstance, closer
from pacs.imaging.representation import ANY, DEFAULT, Acceptable, Frames, Representation
from pacs.imaging.sources import Pieces
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, lookup
from pacs.imaging.transcode import FrameCodec, Transcoded, transcode
from pacs.index import metadata, reader
from pacs.index.metadata import Revision
from pacs.model import Attributes, Header, InstanceRecord, Location
from pacs.overlay import Step, apply
from pacs.retrieve.cache import FrameCache
from pacs.retrieve.frames import UNDECODABLE, FrameReader
from pacs.retrieve.stored import SpoolScratch, StoredBytes
from storage.ahead import Extent, ReadAhead
from storage.base import BlobStore
from storage.ranged import InFiles

__all__ = ["ANY", "DEFAULT", "DICOM", "Acceptable", "Frames", "Representation", "Retriever", "Revision"]

LOGGER = logging.getLogger(__name__)

DICOM = "application/dicom"

Coerce = Callable[[Attributes], Sequence[Step]]
DecodeFrames = Callable[[Sequence[int]], Iterator[DecodedFrame]]


class Retriever:
    """Reads one partition of the archive. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        partition_id: int,
        spool_directory: Path,
        codec: FrameCodec,
        *,
        parse: Callable[[StoredBytes], Header] | None = None,
        cache: FrameCache | None = None,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        """Make a retriever; ``parse`` reads the header of what is in no level: a rejection note to be forwarded.

        ``cache`` keeps the frames that are made for clients; ``read_ahead`` is for a store that answers after a while.
        """
        self._parse = parse
        self._read_ahead = read_ahead
        self._database = database
        self._store = store
        self._files = store if isinstance(store, InFiles) else None
        self._partition_id = partition_id
        self._spool_directory = spool_directory
        self._codec = codec
        self._frames = FrameReader(codec, cache)
        self._untouched: frozenset[int] = frozenset()

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

    def find_with_revision(
        self, principal: Principal, study_instance_uid: str, series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> tuple[list[InstanceRecord], Revision]:
        """Return what ``find_instances`` does, and which state of them this is; raise as it does."""
        with self._database.read() as connection:
            records, revision = reader.find_with_revision(
                connection,
                self._partition_id,
                study_instance_uid,
                series_instance_uid or None,
                sop_instance_uid or None,
            )
        if not records:  # it knows what to raise
            records = self.find_instances(principal, study_instance_uid, series_instance_uid, sop_instance_uid)
            revision = self.read_revision(principal, records)
        return records, revision

    def ahead_of(self, records: Sequence[InstanceRecord], revision: Revision | None = None) -> "Retriever":
        """Return a retriever for one reader of these instances, quicker if they are read in about this order.

        It gives them with what was laid over them at that ``revision``, and need not look for it if that was nothing.
        """
        retriever = copy(self)
        if revision is not None:
            retriever._untouched = revision.untouched  # noqa: SLF001 - it is one of us
        if self._read_ahead is not None and len(records) > 1:
            places = (record.location for record in records)
            extents = [Extent(at.blob_key, at.offset, at.length_bytes) for at in places]
            retriever._store = self._read_ahead.over(extents)  # noqa: SLF001
        return retriever

    def find_instance(
        self, principal: Principal, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> tuple[InstanceRecord, Revision]:
        """Return one instance and which state of it this is; raise as ``find_instances`` does."""
        uids = (study_instance_uid, series_instance_uid, sop_instance_uid)
        (record,), revision = self.find_with_revision(principal, *uids)
        return record, revision

    def iter_metadata(
        self,
        principal: Principal,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uid: str = "",
    ) -> Iterator[tuple[InstanceRecord, bytes]]:
        """Return each instance's record and its DICOM JSON object in UTF-8: as stored, or coerced and corrected.

        A BulkDataURI in it is the bare path that ``open_bulk`` takes. What is not found is raised at once, as by
        ``find_instances``; no instance is opened, and no transaction stays open between pages.
        """
        records = self.find_instances(principal, study_instance_uid, series_instance_uid, sop_instance_uid)
        return self.iter_metadata_of(principal, records)

    def iter_metadata_of(
        self,
        principal: Principal,  # noqa: ARG002
        records: Sequence[InstanceRecord],
    ) -> Iterator[tuple[InstanceRecord, bytes]]:
        """Return the same of instances that were found already; one that is gone by its turn is left out."""
        return metadata.iter_metadata(self._database, [record.row_id for record in records])

    def read_revision(
        self,
        principal: Principal,  # noqa: ARG002
        records: Sequence[InstanceRecord],
    ) -> Revision:
        """Return which state of these instances this is, from the index alone: another one after every change."""
        with self._database.read() as connection:
            return metadata.read_revision(connection, [record.row_id for record in records])

    def open_instance(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
        acceptable: Acceptable = DEFAULT,
        coerce: Coerce | None = None,
    ) -> Representation:
        """Return the whole instance as a DICOM file; the caller closes it.

        In the stored syntax the bytes are the received ones, unless something was coerced or corrected: then header and
        file meta are written anew and the pixels stay. Else it is the first syntax the client named that holds the
        pixels without loss. Raises NotAcceptable if there is none, or if a corrected instance cannot be written.
        ``coerce`` is asked what else to lay over for this client, by the attributes as they would leave.
        """
        steps = self._read_steps(record)
        stored = lookup(record.transfer_syntax_uid)
        if record.row_id == 0:  # a rejection note: it is hidden, and goes as it came
            coerce = None
        if not steps and coerce is None and _goes_as_stored(stored.uid, acceptable):
            return self._as_stored(record)
        with self._open(record) as opened:
            if coerce is not None:
                opened.steps = (*opened.steps, *coerce(apply(opened.header.attributes, opened.steps)))
            keeps_lossy = not (stored.is_lossless or opened.header.pixels is None)
            for uid in acceptable.targets(stored, keeps_lossy=keeps_lossy):
                if uid == stored.uid and not opened.steps:
                    return self._as_stored(record)
                try:
                    transcoded = transcode(opened, uid, self._codec, self._open_scratch)
                except UNDECODABLE as error:
                    LOGGER.info("An instance cannot leave in transfer syntax %s: %s", uid, type(error).__name__)
                    continue
                transcoded.scratches += opened.release()
                return _represent(transcoded, uid)
        raise NotAcceptable("The instance cannot be given in a transfer syntax that was asked for.")

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
        decoded, or encoded without loss, into the first syntax the client named that the first one can be had in. A
        video is one frame. Raises FrameNotFound, NotAcceptable, or CorruptPixelData if nobody knows where the frames
        lie; the iterator raises CorruptPixelData or UnsupportedTransferSyntax for a later frame.
        """
        with self._open(record) as opened:
            frames = self._frames.open_frames(opened, frame_numbers, acceptable)
            return frames.owning(closer(opened.release()))

    def open_frame(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
        frame_number: int,
        acceptable: Acceptable = DEFAULT,
    ) -> Representation:
        """Return one frame, as ``open_frames`` does; the caller closes it.

        Nothing of it is read yet where it lies in the store as it leaves: then ranges of it can be read. So they can of
        a frame that was made, if it is kept.
        """
        with self._open(record) as opened:
            return self._frames.open_frame(opened, frame_number, acceptable)

    @contextmanager
    def open_stored(
        self,
        principal: Principal,  # noqa: ARG002
        record: InstanceRecord,
    ) -> Iterator[tuple[OpenInstance, DecodeFrames]]:
        """Give an instance, and what decodes its frames by their indexes, which count from 0, while the block lasts.

        What decodes raises FrameNotFound if there are no pixels, CorruptPixelData or UnsupportedTransferSyntax.
        """
        with self._open(record) as opened:
            yield opened, partial(self._frames.iter_decoded, opened)

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
            value = opened.find_bulk(path.strip("/").upper())
            if value is None:
                raise BulkDataNotFound
            pixels = opened.header.pixels
            pieces = Pieces()
            words = 1
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
            close = closer(opened.release())
        # Of words that are turned around, a range may begin in the midst of one.
        iter_range = pieces.iter_range if words == 1 else None
        return Representation(syntax_uid, media_type, pieces.length_bytes, pieces.iter_chunks, close, iter_range)

    def _read_steps(self, record: InstanceRecord) -> Sequence[Step]:
        if not record.row_id or record.row_id in self._untouched:
            return ()
        with self._database.read() as connection:
            return metadata.read_steps(connection, record.row_id)

    def _as_stored(self, record: InstanceRecord) -> Representation:
        source = self._source(record)
        return Representation(
            record.transfer_syntax_uid,
            DICOM,
            source.size_bytes,
            lambda: source.iter_range(0, source.size_bytes),
            iter_range=source.iter_range,
            open_file=lambda: source.open_file(0, source.size_bytes),
        )

    @contextmanager
    def _open(self, record: InstanceRecord) -> Iterator[OpenInstance]:
        """Give the instance's header and its bytes, inflated if need be, for as long as the block lasts."""
        opened = self._open_indexed(record) if record.row_id else self._open_unindexed(record)
        try:
            if opened.header.is_deflated:
                opened.inflate(self._open_scratch())
            yield opened
        finally:
            closer(opened.release())()

    def _open_unindexed(self, record: InstanceRecord) -> OpenInstance:
        if self._parse is None:
            raise InstanceNotFound
        source = self._source(record)
        header = self._parse(source)
        return OpenInstance(header, plan_frames(header, source), source)

    def _open_indexed(self, record: InstanceRecord) -> OpenInstance:
        with self._database.read() as connection:
            stored = metadata.read_header(connection, record.row_id)
        header = Header(
            transfer_syntax_uid=stored.transfer_syntax_uid,
            dataset_offset=stored.dataset_offset,
            attributes=orjson.loads(stored.attributes),
            bulk=stored.bulk,
            pixels=stored.pixels,
            is_deflated=stored.is_deflated,
        )
        # What was found a moment ago may have been replaced or recompressed since: these offsets are of these bytes.
        source = self._source(replace(record, location=stored.location))
        return OpenInstance(header, decode_layout(stored.layout), source, stored.steps, stored.location)

    def _source(self, record: InstanceRecord) -> StoredBytes:
        return StoredBytes(self._store, record.location, lambda: self._relocate(record), self._files)

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
        if found[0].location.length_bytes != record.location.length_bytes:
            raise Unavailable("The instance was replaced while it was read; ask again.")
        return found[0].location

    def _open_scratch(self) -> SpoolScratch:
        return SpoolScratch(self._spool_directory)


def _represent(transcoded: Transcoded, transfer_syntax_uid: str) -> Representation:
    return Representation(transfer_syntax_uid, DICOM, transcoded.length_bytes, transcoded.iter_chunks, transcoded.close)


def _goes_as_stored(stored: str, acceptable: Acceptable) -> bool:
    """Whether the received bytes are the answer, whatever is in them."""
    return stored == EXPLICIT_VR_LITTLE_ENDIAN if acceptable.is_default else acceptable.takes(stored)
