"""C-STORE (PS3.4 Annex B): the data set goes to a spool while it arrives, and from there through the one door.

The thread that reads the socket writes a StoreRequest, and mostly serves it too. Nothing that a sender or a disk does
may raise there, for its end is the association's: what goes wrong is remembered, the rest of the data set is swallowed,
and the answer says it.
"""

import logging

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pacs.dimse import status
from pacs.dimse.commands import StoreCommand, encode_store_response
from pacs.errors import OutOfResources
from pacs.ingest.incoming import Expected, Incoming, encode_file_meta
from pacs.ingest.outcome import Reason
from pacs.ingest.pipeline import Ingestor
from pacs.model import Origin

LOGGER = logging.getLogger(__name__)

_UNREADABLE = "unreadable UID"


class StoreRequest:
    """One C-STORE: its command, and a spool that its data set is written to behind our file meta.

    ``close`` frees the spool.
    """

    def __init__(self, command: StoreCommand, context: PresentationContext, ingest: Ingestor, origin: Origin) -> None:
        self.command = command
        self.origin = origin
        self.refusal: Dataset | None = None
        self.has_data = False
        self.spool = ingest.open_spool()
        if context.abstract_syntax == Verification:
            self._refuse(status.build_code(status.SOP_CLASS_NOT_SUPPORTED, "This context is for C-ECHO only."))
        elif not (command.sop_class_uid and command.sop_instance_uid):
            self._refuse(status.build_refusal(Reason.INVALID_UID))
        else:
            syntax = UID(context.transfer_syntax[0])
            self._spool(encode_file_meta(command.sop_class_uid, command.sop_instance_uid, syntax))

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the next piece of the data set and return its length; never raises."""
        self.has_data = self.has_data or len(data) > 0
        if self.refusal is None:
            self._spool(data)
        return len(data)

    def close(self) -> None:
        """Free the spool; a second time does nothing."""
        self.spool.close()

    def _spool(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self.spool.write(data)
        except OutOfResources:
            self._refuse(status.build_refusal(Reason.OUT_OF_RESOURCES))
        except Exception:
            LOGGER.exception("Cannot spool %s from %s", self.command.sop_instance_uid, self.origin.calling_ae_title)
            self._refuse(status.build_refusal(Reason.UNAVAILABLE))

    def _refuse(self, refusal: Dataset) -> None:
        # The spool is closed at once: a disk that is full gets its room back while the rest of the data set comes in.
        self.refusal = refusal
        self.spool.close()


class StoreService:
    """Serves C-STORE requests from any number of associations at once."""

    def __init__(self, ingest: Ingestor) -> None:
        self._ingest = ingest

    def begin(self, command: StoreCommand, context: PresentationContext, origin: Origin) -> StoreRequest:
        """Return a request that takes in the data set of this command; whoever asked closes it."""
        return StoreRequest(command, context, self._ingest, origin)

    def answer(self, request: StoreRequest) -> bytes:
        """Store a complete request and return the command set to answer with; closes it, never raises."""
        return encode_store_response(request.command, self.serve(request))

    def serve(self, request: StoreRequest) -> Dataset:
        """Store a complete request and return the status to answer with; closes it, never raises."""
        try:
            return self._store(request)
        except Exception:
            # A fault of ours is no reason to lose the association, nor for the sender to believe that all is well.
            LOGGER.exception("C-STORE of %s failed", request.command.sop_instance_uid or _UNREADABLE)
            return status.build_code(status.PROCESSING_FAILURE, "The archive failed; its log says why.")
        finally:
            request.close()

    def _store(self, request: StoreRequest) -> Dataset:
        if request.refusal is not None:
            LOGGER.info(
                "C-STORE of %s from %s refused with 0x%04X",
                request.command.sop_instance_uid or _UNREADABLE,
                request.origin.calling_ae_title,
                request.refusal.Status,
            )
            return request.refusal
        if not request.has_data:
            return status.build_refusal(Reason.NOT_DICOM)
        expected = Expected(request.command.sop_class_uid, request.command.sop_instance_uid)
        return status.build_status(self._ingest.store(Incoming(request.spool, request.origin, expected)))
