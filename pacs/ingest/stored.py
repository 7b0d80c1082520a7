"""A stored copy read as ingest read it: for whoever publishes bytes that are in the store already."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from pacs.errors import Unavailable
from pacs.imaging.frames import encode_layout, plan_frames
from pacs.index import rows
from pacs.ingest.coercion import CoercionRule, coerce_in
from pacs.ingest.header import parse_header
from pacs.ingest.rules import place
from pacs.model import Location, Origin
from pacs.overlay import Step
from storage.base import BlobStore
from storage.errors import StorageError
from storage.spool import Spool

_CHUNK_BYTES = 1024 * 1024


class CopyReader:
    """Reads copies of one partition. Any number of threads may call it at once."""

    def __init__(
        self,
        store: BlobStore,
        partition_id: int,
        spool_directory: Path,
        character_set: str = "ISO_IR 100",
        coercion: Sequence[CoercionRule] = (),
    ) -> None:
        """Make a reader; ``character_set`` and ``coercion`` are the site's, as for ``Ingestor``."""
        self._store = store
        self._partition_id = partition_id
        self._spool_directory = spool_directory
        self._character_set = character_set
        self._coercion = coercion

    def prepare(
        self,
        location: Location,
        dataset_digest: str,
        origin: Origin,
        stored_at: datetime,
        steps: tuple[Step, ...] | None = None,
    ) -> rows.PreparedInstance:
        """Return the rows that stand for a copy; raise Unavailable if it cannot be read.

        ``steps`` are what was coerced when it came in; if nobody knows, it is coerced by today's rules.
        """
        with Spool(self._spool_directory) as spool, Spool(self._spool_directory) as inflated:
            self._read(location, spool)
            sets = (origin.character_set, self._character_set)
            header = place(parse_header(spool, spool.size_bytes, sets, inflate_into=inflated))
            layout = encode_layout(plan_frames(header, spool))
        return rows.prepare(
            rows.NewInstance(
                partition_id=self._partition_id,
                header=header,
                layout=layout,
                location=location,
                dataset_digest=dataset_digest,
                origin=origin,
                stored_at=stored_at,
                steps=coerce_in(self._coercion, header.attributes, origin) if steps is None else steps,
            )
        )

    def _read(self, location: Location, spool: Spool) -> None:
        end = location.offset + location.length_bytes
        try:
            with closing(self._store.open(location.blob_key, location.offset, end)) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    spool.write(chunk)
        except StorageError as error:
            raise Unavailable("The bytes of a stored copy cannot be read now.") from error
