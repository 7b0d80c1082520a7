"""Hiding instances, and showing them again: what undoes a rejection note, and what DELETE does until the sweep."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection

from pacs.access import Permission, Principal
from pacs.database.base import Database
from pacs.errors import InstanceNotFound
from pacs.index import reader, withholding
from pacs.index.withholding import Cause, Withheld, WithheldReason
from pacs.ingest.stored import CopyReader
from pacs.overlay import load_steps

__all__ = ["Withheld", "WithheldReason", "Withholder"]

LOGGER = logging.getLogger(__name__)


class Withholder:
    """Hides and restores instances of one partition. Any number of threads may call it at once."""

    def __init__(self, database: Database, partition_id: int, copies: CopyReader) -> None:
        self._database = database
        self._partition_id = partition_id
        self._copies = copies

    def find_page(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one
        *,
        after: int = 0,
        limit: int = 100,
        study_instance_uid: str = "",
        note_sop_instance_uid: str = "",
    ) -> list[Withheld]:
        """Return at most ``limit`` hidden instances by id after ``after``, of one study or note if given."""
        with self._database.read() as connection:
            return withholding.read_page(
                connection,
                self._partition_id,
                after=after,
                limit=limit,
                study_instance_uid=study_instance_uid,
                note_sop_instance_uid=note_sop_instance_uid,
            )

    def withhold(
        self,
        principal: Principal,
        study_instance_uid: str,
        series_instance_uid: str = "",
        sop_instance_uid: str = "",
        *,
        reason: WithheldReason = WithheldReason.DELETED,
    ) -> int:
        """Hide what is under these UIDs in one transaction; return how many instances that were, 0 for none.

        Raises NotPermitted if the principal may not delete: a rejection note, which needs another right, is obeyed by
        ``pacs.ingest.rejection``.
        """
        principal.check(Permission.DELETE)
        cause = Cause(reason, principal.name, datetime.now(UTC))

        def work(connection: Connection) -> int:
            records = reader.find_instances(
                connection,
                self._partition_id,
                study_instance_uid,
                series_instance_uid or None,
                sop_instance_uid or None,
            )
            uids = [record.sop_instance_uid for record in records]
            return len(withholding.withhold(connection, self._partition_id, uids, cause))

        count = self._database.write(work)
        LOGGER.info(
            "%s by %s: %d instances of study %s, series %s, instance %s",
            reason,
            principal.name,
            count,
            study_instance_uid,
            series_instance_uid or "any",
            sop_instance_uid or "any",
        )
        return count

    def restore(self, principal: Principal, sop_instance_uid: str) -> int:
        """Show an instance again, or everything a rejection note hid; return how many instances show now.

        A note stays hidden itself. Stored bytes are read as ingest reads them; when they were stored, and what was laid
        over them, stay. What had not arrived is no longer rejected. Raises InstanceNotFound for what is not hidden,
        Unavailable if the store does not give the bytes: what was restored until then stays so.
        """
        with self._database.read() as connection:
            found = withholding.find_copies(connection, self._partition_id, sop_instance_uid)
        if not found:
            raise InstanceNotFound("There is no hidden instance with this UID.")
        is_note = any(copy.is_note for copy in found)
        hidden = self._iter_pages(note_sop_instance_uid=sop_instance_uid) if is_note else found
        return sum(self._restore(copy, principal.name) for copy in hidden if not (is_note and copy.is_note))

    def restore_deleted(self, principal: Principal, study_instance_uid: str, series_instance_uid: str = "") -> int:
        """Show what was deleted of a study or series again; return how many instances show now.

        What is rejected stays hidden, also if it was rejected after it had been deleted. Raises as ``restore`` does.
        """
        uids = {
            copy.sop_instance_uid: None
            for copy in self._iter_pages(study_instance_uid=study_instance_uid)
            if copy.reason is WithheldReason.DELETED and series_instance_uid in ("", copy.series_instance_uid)
        }
        if not uids:
            raise InstanceNotFound("There is no deleted instance with these UIDs.")
        return sum(self._restore_deleted(uid, principal.name) for uid in uids)

    def _restore_deleted(self, sop_instance_uid: str, by: str) -> bool:
        with self._database.read() as connection:
            copies = withholding.find_copies(connection, self._partition_id, sop_instance_uid)
        if any(copy.reason.hides_resent for copy in copies):
            return False
        # All of them, the newest first, which shows; what was deleted before it was sent again gives way to it.
        restored = [self._restore(copy, by) for copy in copies if copy.reason is WithheldReason.DELETED]
        return any(restored)

    def _iter_pages(self, study_instance_uid: str = "", note_sop_instance_uid: str = "") -> Iterator[Withheld]:
        """Yield what ``find_page`` finds, on all pages; no transaction stays open between two of them."""
        after = 0
        while True:
            with self._database.read() as connection:
                page = withholding.read_page(
                    connection,
                    self._partition_id,
                    after=after,
                    study_instance_uid=study_instance_uid,
                    note_sop_instance_uid=note_sop_instance_uid,
                )
            if not page:
                return
            yield from page
            after = page[-1].id

    def _restore(self, copy: Withheld, by: str) -> bool:
        """Show one copy; False for what had not arrived, which is only forgotten."""
        if copy.location is None:
            self._database.write(lambda connection: withholding.forget_expected(connection, copy.id))
            return False
        steps = load_steps(copy.overlay)
        restored = self._copies.prepare(copy.location, copy.dataset_digest, copy.origin, copy.stored_at, steps)
        at = datetime.now(UTC)
        return self._database.write(lambda connection: withholding.release(connection, copy, restored, by, at))
