"""Policy ``htj2k-lossless``: what was stored uncompressed is packed in the background, and nothing of it is lost.

The order is the promise, as on the way in: read, encode, put the new blob, read it back from the store and compare
every value and every stored bit with what was received, and only then one transaction that switches the row, if the row
is still what it was. Killed anywhere, there is a blob more that nothing refers to; the job is done again.

What might not come back bit for bit, or is of no use, is left alone: ``OBSTACLES`` and the codec say why. The received
bytes stay for a set time, and their digests for ever.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import CorruptPixelData, InvalidHeader, UnsupportedTransferSyntax
from pacs.imaging import syntaxes
from pacs.imaging.frames import encode_layout, plan_frames
from pacs.imaging.opened import OpenInstance
from pacs.imaging.rewriting import PIXEL_DATA
from pacs.imaging.sameness import has_spare_bytes, is_same
from pacs.imaging.transcode import FrameCodec, Transcoded, transcode
from pacs.index import copies, recompressed, rows, writer
from pacs.index.conflicts import origin_of
from pacs.index.recompressed import Candidate
from pacs.index.writer import Existing
from pacs.ingest.header import parse_header
from pacs.ingest.rules import place
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Failed, Finished
from pacs.maintenance.verification import find_problem
from pacs.model import Attributes, Change, ChangeKind, Location, Origin
from pacs.overlay import load_steps
from pacs.retrieve.stored import SpoolScratch, StoredBytes, store_errors
from pacs.tags import text_of
from storage.base import BlobStore
from storage.keys import blob_key, key_digest
from storage.spool import Spool

LOGGER = logging.getLogger(__name__)

KIND = "recompress"
FOLLOWER = "recompression"
LANE = "htj2k-lossless"
DELAY = timedelta(minutes=1)
"""What has just come is forwarded, and opened by whoever waits for it, as it came: it costs those nothing."""

TARGET = syntaxes.HTJ2K_LOSSLESS_RPCL
SOURCES = (
    syntaxes.EXPLICIT_VR_LITTLE_ENDIAN,
    syntaxes.IMPLICIT_VR_LITTLE_ENDIAN,
    syntaxes.RLE_LOSSLESS,
    syntaxes.DEFLATED_IMAGE_FRAME,
)
"""What is worth it. JPEG-LS, JPEG 2000 and lossless JPEG are about as small; the rest is lossy, or rare."""

_PAGE = 100
_STORED = frozenset({ChangeKind.INSTANCE_STORED, ChangeKind.INSTANCE_REPLACED, ChangeKind.INSTANCE_RESTORED})
_SIGNATURES = frozenset({"FFFAFFFA", "4FFE0001"})  # Digital Signatures Sequence, MAC Parameters Sequence
_UNPACKABLE = (UnsupportedTransferSyntax, CorruptPixelData, InvalidHeader)


@dataclass(frozen=True, slots=True)
class Recompression:
    """What became of one instance: an empty ``obstacle`` is one that was packed. Lengths are of whole files.

    Without ``is_sound`` its bytes are not in the store as they should be, and the obstacle says in which way.
    """

    obstacle: str = ""
    before_bytes: int = 0
    after_bytes: int = 0
    is_sound: bool = True


class _LeftAlone(Exception):
    """The instance stays as it is; the message says why."""


class Recompressor:
    """Packs instances of one partition. Any number of threads and processes may do it at once."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        partition_id: int,
        codec: FrameCodec,
        spool_directory: Path,
        *,
        character_set: str = "ISO_IR 100",
        keep_original: timedelta = timedelta(days=30),
        delay: timedelta = DELAY,
    ) -> None:
        """Make a recompressor; ``character_set`` is the site's, as for ``Ingestor``."""
        self._database = database
        self._store = store
        self._partition_id = partition_id
        self._codec = codec
        self._spool_directory = spool_directory
        self._character_set = character_set
        self._keep_original = keep_original
        self._delay = delay

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:  # noqa: ARG002
        """Return a job for every instance that was stored: a follower's plan."""
        due_at = datetime.now(UTC) + self._delay
        uids = dict.fromkeys(change.sop_instance_uid for change in changes if change.kind in _STORED)
        return [NewJob(KIND, LANE, uid, due_at=due_at) for uid in uids]

    def work(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Pack the instances of some jobs: a task of the worker. What is left alone is done, too."""
        found: Counter[str] = Counter()
        for job in jobs:
            done = self.recompress(job.key)
            found[done.obstacle or "packed"] += 1
            problem = f"The stored bytes of the instance are {done.obstacle}."
            is_sound = done.is_sound
            yield Finished(job, leaves_receipt=False) if is_sound else Failed(job, problem, is_final=True)
        LOGGER.info("Recompression: %s", ", ".join(f"{count} {what}" for what, count in found.items()) or "nothing")
        self.release_expired()

    def iter_all(self) -> Iterator[Recompression]:
        """Pack everything that is stored in a syntax worth it, and yield what became of each.

        What is stored meanwhile may or may not be among them.
        """
        after = 0
        while page := self._read_page(after):
            for candidate in page:
                yield self.recompress(candidate.sop_instance_uid)
            after = page[-1].row_id
        self.release_expired()

    def count(self) -> int:
        """Return how many instances ``iter_all`` looks at."""
        with self._database.read() as connection:
            return recompressed.count_candidates(connection, self._partition_id, SOURCES)

    def release_expired(self) -> None:
        """Let go of received bytes that were kept for long enough; the sweeper removes them."""
        now = datetime.now(UTC)
        while self._database.write(
            lambda connection: recompressed.release_expired(connection, self._partition_id, now)
        ):
            pass

    def recompress(self, sop_instance_uid: str) -> Recompression:
        """Pack one instance, if that can be done without any loss and makes it smaller.

        Raises OutOfResources or Unavailable if it cannot be done now.
        """
        try:
            return self._recompress(sop_instance_uid)
        except _LeftAlone as reason:
            return Recompression(str(reason))
        except _UNPACKABLE:
            return Recompression("nothing that can be packed without loss")

    def _recompress(self, sop_instance_uid: str) -> Recompression:
        with self._database.read() as connection:
            before = writer.find_existing(connection, self._partition_id, sop_instance_uid)
            if before is None:
                raise _LeftAlone("gone")
            if before.transfer_syntax_uid not in SOURCES:
                raise _LeftAlone("in a syntax that is kept")
            content = copies.dump_instance(connection, before)
        with store_errors():
            # What is damaged would be packed with a digest of its own, and never be found.
            problem = find_problem(self._store, before.location)
        if problem:
            return Recompression(problem, is_sound=False)
        origin = origin_of(content["origin"])
        packed, location = self._pack(before, origin)
        after = rows.prepare(
            rows.NewInstance(
                partition_id=self._partition_id,
                header=packed.header,
                layout=encode_layout(packed.layout),
                location=location,
                dataset_digest=before.dataset_digest,
                origin=origin,
                stored_at=before.stored_at,
                steps=load_steps(content["steps"]),
            )
        )
        if not self._switch(before, after):
            raise _LeftAlone("changed meanwhile")
        return Recompression("", before.location.length_bytes, location.length_bytes)

    def _pack(self, before: Existing, origin: Origin) -> tuple[OpenInstance, Location]:
        """Return the packed instance, read back from the store and found the same, and where it lies."""
        opened = self._open(before.location, origin)
        for reason, is_obstacle in OBSTACLES.items():
            if is_obstacle(opened):
                raise _LeftAlone(reason)
        with closing(transcode(opened, TARGET, self._codec, self._open_scratch)) as transcoded:
            if transcoded.length_bytes >= before.location.length_bytes:
                raise _LeftAlone("no smaller when packed")
            location = self._put(transcoded)
        packed = self._open(location, origin)
        if not is_same(opened, packed, self._codec):
            LOGGER.error("An instance did not come back as it was, and is left alone")
            raise _LeftAlone("not the same when packed")
        return packed, location

    def _open(self, location: Location, origin: Origin) -> OpenInstance:
        source = StoredBytes(self._store, location)
        header = place(parse_header(source, source.size_bytes, (origin.character_set, self._character_set)))
        return OpenInstance(header, plan_frames(header, source), source)

    def _put(self, transcoded: Transcoded) -> Location:
        with Spool(self._spool_directory) as spool, store_errors():
            for chunk in transcoded.iter_chunks():
                spool.write(chunk)
            location = Location(blob_key(spool.digest()), 0, spool.size_bytes)
            self._store.put(location.blob_key, spool)
        return location

    def _switch(self, before: Existing, after: rows.PreparedInstance) -> bool:
        at = datetime.now(UTC)
        return self._database.write(
            lambda connection: recompressed.switch(
                connection,
                before,
                after,
                blob_digest=key_digest(before.location.blob_key),
                at=at,
                kept_until=at + self._keep_original,
            )
        )

    def _read_page(self, after: int) -> list[Candidate]:
        with self._database.read() as connection:
            return recompressed.read_candidates(connection, self._partition_id, SOURCES, after, _PAGE)

    def _open_scratch(self) -> SpoolScratch:
        return SpoolScratch(self._spool_directory)


def _has_no_integer_pixels(opened: OpenInstance) -> bool:
    pixels = opened.header.pixels
    return pixels is None or int(pixels.tag, 16) != PIXEL_DATA


def _has_bits_below(opened: OpenInstance) -> bool:
    """Return whether samples do not lie in the lowest bits: a codec would take what is beside them for their value."""
    bits_stored, high_bit = (text_of(opened.header.attributes, keyword) for keyword in ("BitsStored", "HighBit"))
    return not (bits_stored.isdecimal() and high_bit.isdecimal()) or int(high_bit) != int(bits_stored) - 1


def _is_signed(attributes: Attributes) -> bool:
    """Return whether there is a digital signature at any depth: an item's covers what is in the item, and no more."""
    return any(
        tag in _SIGNATURES
        or (element.get("vr") == "SQ" and any(_is_signed(item) for item in element.get("Value", ()) if item))
        for tag, element in attributes.items()
    )


OBSTACLES: dict[str, Callable[[OpenInstance], bool]] = {
    "without integer pixels": _has_no_integer_pixels,
    "of neither 8 nor 16 bits": lambda opened: text_of(opened.header.attributes, "BitsAllocated") not in ("8", "16"),
    "with bits below its samples": _has_bits_below,
    "lossy already": lambda opened: text_of(opened.header.attributes, "LossyImageCompression") == "01",
    "with an overlay": lambda opened: any(tag.startswith("60") for tag in opened.header.attributes),
    "digitally signed": lambda opened: _is_signed(opened.header.attributes),
    "with more than its frames in its pixel data": has_spare_bytes,
}
"""Why an instance is left alone whatever a codec could do with it. A codec refuses by itself what it cannot give back:
data in unused high bits, 4:2:2, other colour spaces."""
