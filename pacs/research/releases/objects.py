"""One object of a release: read as it leaves the clinical archive, de-identified, stored, and read again.

What goes in at the end is what a clinical door would have given, with everything coerced and corrected. It comes in by
``Ingestor.store``, as all that is stored. Made twice from the same it is the same bytes under the same UIDs, so that
whoever was killed on the way just does it again. What is not certain to be right is kept back, and nothing of it stays.
"""

import hashlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import IO, BinaryIO, cast

from sqlalchemy import Connection

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.deid import FrameDecoder, Lettering, Profile, ProjectKey, Quarantine, Reason, Report, Subject, deidentify
from pacs.deid.known import Needles
from pacs.errors import CorruptPixelData, InvalidHeader, NotAcceptable, NotFound, Unavailable
from pacs.index import removing, writer
from pacs.ingest.header import parse_header
from pacs.ingest.incoming import Incoming, IncomingSpool
from pacs.ingest.outcome import Outcome
from pacs.ingest.outcome import Reason as Refusal
from pacs.model import ByteRange, Door, DuplicatePolicy, Header, Origin
from pacs.research.releases.clinical import Source
from pacs.research.releases.kept_back import BROKEN, MISSING, NOT_STORED, UNREADABLE, UNVERIFIED
from pacs.research.releases.partition import Partition
from pacs.retrieve import ANY, Retriever
from pacs.retrieve.stored import StoredBytes, store_errors
from pacs.tags import text_of
from storage.errors import BlobNotFound
from storage.keys import key_digest
from storage.spool import CHUNK_BYTES, MEMORY_LIMIT_BYTES

LOGGER = logging.getLogger(__name__)

_OVERLAP_BYTES = 512
_ORIGIN = Origin(Door.RELEASE, duplicate_policy=DuplicatePolicy.REJECT)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all objects of a release are made with."""

    partition: Partition
    profile: Profile
    key: ProjectKey


@dataclass(frozen=True, slots=True)
class Person:
    """Who the patient of an object is in the project, and what must not be found in it."""

    subject: Subject
    needles: Needles


@dataclass(frozen=True, slots=True)
class Made:
    """The object is stored and was verified."""

    report: Report


@dataclass(frozen=True, slots=True)
class KeptBack:
    """Nothing of the object is in the release; ``reasons`` are those of ``pacs.deid.Reason``, or of ``kept_back``."""

    reasons: tuple[str, ...]
    modality: str = ""
    sop_class_uid: str = ""


class ObjectMaker:
    """Makes objects from one clinical partition. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        clinical: Retriever,
        decode: FrameDecoder | None = None,
        lettering: Lettering | None = None,
    ) -> None:
        """Make what makes objects; ``decode`` and ``lettering`` are as for ``deidentify``."""
        self._database = database
        self._clinical = clinical
        self._decode = decode
        self._lettering = lettering

    def make(
        self, recipe: Recipe, source: Source, person: Person, released_reasons: Collection[str] = ()
    ) -> Made | KeptBack:
        """Make the object of a clinical instance.

        Raises NotFound if the instance has just gone, Unavailable or OutOfResources if nothing can be made now.
        """
        try:
            made = self._make(recipe, source, person, released_reasons)
        except Exception as error:  # noqa: BLE001 - fail closed: what breaks the engine is for a person to look at
            reasons = _explain(error)
        else:
            if isinstance(made, Report):
                return Made(made)
            reasons = (made,)
        self._discard(recipe, recipe.key.derive_uid(source.record.sop_instance_uid))
        return KeptBack(reasons, source.modality, source.record.sop_class_uid)

    def _make(self, recipe: Recipe, source: Source, person: Person, released_reasons: Collection[str]) -> Report | str:
        """Return the report of what was made and verified, or the reason why it was not."""
        partition, folder = recipe.partition, str(recipe.partition.spool_directory)
        with (
            tempfile.SpooledTemporaryFile(MEMORY_LIMIT_BYTES, dir=folder) as original,
            tempfile.SpooledTemporaryFile(MEMORY_LIMIT_BYTES, dir=folder) as target,
        ):
            with self._clinical.open_instance(LOCAL, source.record, ANY) as representation:
                for chunk in representation.iter_chunks():
                    original.write(chunk)
            original.seek(0)
            waived = tuple(reason for reason in Reason if reason.value in released_reasons)
            report = deidentify(
                cast("BinaryIO", original),
                cast("BinaryIO", target),
                recipe.profile,
                recipe.key,
                person.subject,
                released_reasons=waived,
                decode=self._decode,
                lettering=self._lettering,
            )
            target.seek(0)
            with partition.ingest.open_spool() as spool:
                _copy(target, spool)
                problem = self._store(recipe, spool, report, _Search(source, person, waived))
                return problem or report

    def _store(self, recipe: Recipe, spool: IncomingSpool, report: Report, search: "_Search") -> str:
        """Store what was made; return why it must not stay, or nothing."""
        partition = recipe.partition
        digest = spool.digest()
        outcome = partition.ingest.store(Incoming(spool, _ORIGIN))
        if outcome.reason is Refusal.DUPLICATE_REJECTED:
            # What was made before a kill, of an instance that was corrected since; it was never said to be made.
            self._discard(recipe, report.sop_instance_uid)
            outcome = partition.ingest.store(Incoming(spool, _ORIGIN))
        if _is_away(outcome):
            raise Unavailable
        if not outcome.is_stored:
            LOGGER.warning("An object of a release was not taken: %s", outcome.reason and outcome.reason.name)
            return NOT_STORED
        return self._verify(partition, report, digest, search)

    def _verify(self, partition: Partition, report: Report, digest: str, search: "_Search") -> str:
        """Read back what was stored; return what is wrong with it, or nothing.

        It has to be the very bytes that the engine made, an instance of the UIDs it gave, and tell nothing of the
        patient.
        """
        with self._database.read() as connection:
            stored = writer.find_existing(connection, partition.id, report.sop_instance_uid)
        if stored is None:
            return UNVERIFIED
        location = stored.location
        sha256 = hashlib.sha256()
        try:
            with store_errors(), closing(partition.store.open(location.blob_key)) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    sha256.update(chunk)
            content = StoredBytes(partition.store, location)
            header = parse_header(content, location.length_bytes)
            is_clean = search.is_clean(header, content)
        except (InvalidHeader, Unavailable) as error:
            if isinstance(error, Unavailable) and not isinstance(error.__cause__, BlobNotFound):
                raise
            return UNVERIFIED
        expected = {
            "StudyInstanceUID": report.study_instance_uid,
            "SeriesInstanceUID": report.series_instance_uid,
            "SOPInstanceUID": report.sop_instance_uid,
            "PatientIdentityRemoved": "YES",
        }
        is_what_was_made = sha256.hexdigest() == digest == key_digest(location.blob_key)
        if not is_what_was_made or any(text_of(header.attributes, name) != value for name, value in expected.items()):
            return UNVERIFIED
        return "" if is_clean else Reason.RESIDUE.value

    def _discard(self, recipe: Recipe, sop_instance_uid: str) -> None:
        """Take an object that was stored and must not be served out of the index; its bytes are the sweeper's."""
        partition_id = recipe.partition.id

        def write(connection: Connection) -> None:
            stored = writer.find_existing(connection, partition_id, sop_instance_uid)
            if stored is not None:
                removing.remove_instances(connection, [stored.row_id], datetime.now(UTC))

        self._database.write(write)


@dataclass(frozen=True, slots=True)
class _Search:
    """What is searched for in what was stored; not for what a person has found to be none of the patient's."""

    source: Source
    person: Person
    waived: Collection[Reason]

    def is_clean(self, header: Header, content: StoredBytes) -> bool:
        """Return whether nothing of the patient is around the pixels."""
        if Reason.RESIDUE in self.waived:
            return True
        end = content.size_bytes
        hole = ByteRange(end, end) if header.pixels is None else header.pixels.range
        record = self.source.record
        uids = (record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid)
        for part in chain(_parts(content, 0, hole.start), _parts(content, hole.end, end)):
            if self.person.needles.is_in(part) or any(uid.encode() in part for uid in uids):
                return False
        return True


def _parts(content: StoredBytes, start: int, end: int) -> Iterator[bytes]:
    """Yield bytes in pieces that overlap, so that nothing is cut in two that is searched for."""
    for place in range(start, end, CHUNK_BYTES):
        yield content.read_range(place, min(place + CHUNK_BYTES + _OVERLAP_BYTES, end))


def _explain(error: Exception) -> tuple[str, ...]:
    """Return why an object is kept back, or raise what has nothing to do with it."""
    match error:
        case Quarantine():
            return tuple(reason.value for reason in error.reasons)
        case NotAcceptable() | CorruptPixelData() | InvalidHeader():
            return (UNREADABLE,)
        case Unavailable() if isinstance(error.__cause__, BlobNotFound):
            return (MISSING,)
        case NotFound() | Unavailable():
            raise error
        case OSError() if error.errno is not None:  # without one it is a decoder's, which calls by this name anything
            raise Unavailable("What is spooled cannot be written.") from error
    # Its text and its traceback may show values.
    LOGGER.error("An object of a release is kept back, for the engine failed: %s", type(error).__name__)
    return (BROKEN,)


def _is_away(outcome: Outcome) -> bool:
    return outcome.reason in (Refusal.OUT_OF_RESOURCES, Refusal.UNAVAILABLE)


def _copy(source: IO[bytes], target: IncomingSpool) -> None:
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
