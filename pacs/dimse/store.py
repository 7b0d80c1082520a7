"""C-STORE (PS3.4 Annex B): the data set goes to a spool while it arrives, and from there through the one door.

Two threads meet in a StoreRequest: the one that reads the socket writes it, and once the message is complete the
association's thread serves it. Nothing that a sender or a disk does may raise on the first one, for its end is the
association's: what goes wrong is remembered, the rest of the data set is swallowed, and the answer says it.
"""

import logging
import re

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pacs.dimse import status
from pacs.errors import OutOfResources
from pacs.ingest.incoming import Expected, Incoming, encode_file_meta
from pacs.ingest.outcome import Reason
from pacs.ingest.pipeline import Ingestor
from pacs.model import Origin

LOGGER = logging.getLogger(__name__)

_UID = re.compile(r"[0-9.]{1,64}")
_AFFECTED_SOP_CLASS_UID = 0x00000002
_AFFECTED_SOP_INSTANCE_UID = 0x00001000
_UNREADABLE = "unreadable UID"


class StoreRequest:
    """One C-STORE: what its command says, and a spool that its data set is written to behind our file meta.

    UIDs are without padding, and empty if the command has none or a malformed one. ``close`` frees the spool.
    """

    def __init__(self, command: Dataset, context: PresentationContext, ingest: Ingestor, origin: Origin) -> None:
        self.message_id = _read_message_id(command)
        self.sop_class_uid = _read_uid(command, _AFFECTED_SOP_CLASS_UID)
        self.sop_instance_uid = _read_uid(command, _AFFECTED_SOP_INSTANCE_UID)
        self.origin = origin
        self.refusal: Dataset | None = None
        self.has_data = False
        self.spool = ingest.open_spool()
        if context.abstract_syntax == Verification:
            self._refuse(status.build_code(status.SOP_CLASS_NOT_SUPPORTED, "This context is for C-ECHO only."))
        elif not (self.sop_class_uid and self.sop_instance_uid):
            self._refuse(status.build_refusal(Reason.INVALID_UID))
        else:
            self._spool(encode_file_meta(self.sop_class_uid, self.sop_instance_uid, UID(context.transfer_syntax[0])))

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
            LOGGER.exception("Cannot spool %s from %s", self.sop_instance_uid, self.origin.calling_ae_title)
            self._refuse(status.build_refusal(Reason.UNAVAILABLE))

    def _refuse(self, refusal: Dataset) -> None:
        # The spool is closed at once: a disk that is full gets its room back while the rest of the data set comes in.
        self.refusal = refusal
        self.spool.close()


class StoreService:
    """Serves C-STORE requests from any number of associations at once."""

    def __init__(self, ingest: Ingestor) -> None:
        self._ingest = ingest

    def begin(self, command: Dataset, context: PresentationContext, origin: Origin) -> StoreRequest:
        """Return a request that takes in the data set of this command; whoever asked closes it.

        Raises ValueError if the command has no Message ID: there is nothing that an answer could refer to.
        """
        return StoreRequest(command, context, self._ingest, origin)

    def serve(self, request: StoreRequest) -> Dataset:
        """Store a complete request and return the status to answer with; closes it, never raises."""
        try:
            return self._store(request)
        except Exception:
            # A fault of ours is no reason to lose the association, nor for the sender to believe that all is well.
            LOGGER.exception("C-STORE of %s failed", request.sop_instance_uid or _UNREADABLE)
            return status.build_code(status.PROCESSING_FAILURE, "The archive failed; its log says why.")
        finally:
            request.close()

    def _store(self, request: StoreRequest) -> Dataset:
        if request.refusal is not None:
            LOGGER.info(
                "C-STORE of %s from %s refused with 0x%04X",
                request.sop_instance_uid or _UNREADABLE,
                request.origin.calling_ae_title,
                request.refusal.Status,
            )
            return request.refusal
        if not request.has_data:
            return status.build_refusal(Reason.NOT_DICOM)
        expected = Expected(request.sop_class_uid, request.sop_instance_uid)
        return status.build_status(self._ingest.store(Incoming(request.spool, request.origin, expected)))


def _read_message_id(command: Dataset) -> int:
    message_id = command.get("MessageID")
    if not isinstance(message_id, int):
        raise ValueError("no Message ID")  # noqa: TRY004 - what is wrong is what the peer sent
    return message_id


def _read_uid(command: Dataset, tag: int) -> str:
    """Return a UID of the command without padding, or nothing if it is not one.

    Read from the raw bytes: pydicom would warn about a malformed value and quote it.
    """
    raw = command.get_item(tag)
    value = raw.value if raw is not None else b""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    text = text.rstrip(" \0")
    return text if _UID.fullmatch(text) else ""
