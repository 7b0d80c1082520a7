"""What we ask of peers: echo, find, move and send; and a peer as a destination of what is forwarded."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.presentation import build_context

from pacs.access import Principal
from pacs.dimse.calling import Caller
from pacs.dimse.peers import Peer
from pacs.dimse.sending import NATIVE, Result, send_all
from pacs.errors import InvalidQuery, NotAcceptable, PacsError
from pacs.model import InstanceRecord, Level
from pacs.retrieve import DICOM, Acceptable, Coerce, Representation, Retriever
from pacs.routing.destinations import Sent

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
SOP_CLASS_UIDS = (VERIFICATION, PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE)
"""What the command line asks of peers, besides storing."""
_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00
_SOME_FAILED = 0xB000
_MOVE_SECONDS = 900.0
"""How long a peer may take between two answers to a C-MOVE; many give none but the last."""
_COUNTS = ("Remaining", "Completed", "Failed", "Warning")
_CHUNK_BYTES = 512 * 1024
_REQUEST_ID = 1

Answer = dict[str, str]


class PeerRefused(PacsError):
    """The peer did not do what it was asked."""


def echo(caller: Caller, peer: Peer) -> float:
    """Ask for an echo and return how many seconds it took; raise Unreachable, or PeerRefused for another answer."""
    with caller.associate(peer, [build_context(VERIFICATION)]) as association:
        began = time.monotonic()
        _check(peer, association.send_c_echo().get("Status"), "C-ECHO")
        return time.monotonic() - began


def find(
    caller: Caller, peer: Peer, level: Level, keys: Mapping[str, str], limit: int | None = None
) -> Iterator[Answer]:
    """Yield the answers to a C-FIND as texts by keyword; a key without a value is only asked for.

    Patients are asked of the Patient Root model, all else of the Study Root. After ``limit`` answers the query is
    cancelled. Raises InvalidQuery for a key that is no keyword, PeerRefused if the peer answers with a failure.
    """
    identifier = _build_identifier(level, keys)
    model = PATIENT_ROOT_FIND if level is Level.PATIENT else STUDY_ROOT_FIND
    with caller.associate(peer, [build_context(model, list(NATIVE))]) as association:
        count = 0
        for status, found in association.send_c_find(identifier, UID(model), msg_id=_REQUEST_ID):
            code = status.get("Status")
            if code not in _PENDING:
                if code != _CANCELLED:
                    _check(peer, code, "C-FIND")
                break
            if found is None or count == limit:
                continue
            yield {element.keyword: _text(element.value) for element in found if element.keyword}
            count += 1
            if count == limit:
                association.send_c_cancel(_REQUEST_ID, query_model=UID(model))


_MEANINGS = {
    0x0122: "it does not offer this",
    0x0124: "it does not allow us this; its settings say who may",
    0xA700: "it has no room",
    0xA701: "it has no room to count what matches",
    0xA702: "it has no room, or does not reach the destination",
    0xA801: "it does not know the destination; its settings must have that AE title, address and port",
    0xA900: "it cannot use the keys; a value is wrong, or a unique key of a level above (StudyInstanceUID) is missing",
}


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """What a peer says of its sub-operations so far; ``is_final`` with its last word."""

    remaining: int
    completed: int
    failed: int
    warning: int
    is_final: bool


def move(caller: Caller, peer: Peer, destination: str, level: Level, keys: Mapping[str, str]) -> Iterator[MoveProgress]:
    """Ask a peer to send what the unique keys name to the AE ``destination``, and yield its progress.

    Raises PeerRefused if it answers with a failure; that some instances failed is only in the last progress.
    """
    identifier = _build_identifier(level, keys)
    model = PATIENT_ROOT_MOVE if level is Level.PATIENT else STUDY_ROOT_MOVE
    with caller.associate(peer, [build_context(model, list(NATIVE))]) as association:
        association.dimse_timeout = _MOVE_SECONDS
        for status, _ in association.send_c_move(identifier, destination, UID(model), msg_id=_REQUEST_ID):
            code = status.get("Status")
            is_final = code not in _PENDING
            if is_final and code != _SOME_FAILED:
                _check(peer, code, "C-MOVE")
            counts = [int(status.get(f"NumberOf{kind}Suboperations") or 0) for kind in _COUNTS]
            yield MoveProgress(counts[0], counts[1], counts[2], counts[3], is_final)


@dataclass(frozen=True, slots=True)
class FileItem:
    """A DICOM file that can be sent as it is: what it holds, and how to open it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    open: Callable[[], BinaryIO]


def read_file_item(open_file: Callable[[], BinaryIO]) -> FileItem:
    """Return what a file holds; raise PacsError if it is no DICOM file."""
    try:
        with open_file() as file:
            dataset = pydicom.dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        item = FileItem(
            str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.file_meta.TransferSyntaxUID), open_file
        )
    except Exception as error:
        raise PacsError("It is not a DICOM file.") from error
    if not (item.sop_class_uid and item.sop_instance_uid and item.transfer_syntax_uid):
        raise PacsError("It does not say what it holds.")
    return item


def send_files(caller: Caller, peer: Peer, items: Sequence[FileItem]) -> Iterator[Result[FileItem]]:
    """Send files as they are and yield what became of each; raise Unreachable as ``send_all`` does."""
    return send_all(caller, peer, items, _open_file)


class DicomDestination:
    """A peer that takes instances of the archive; ``pacs.routing.destinations.Destination``."""

    def __init__(
        self, caller: Caller, peer: Peer, retriever: Retriever, principal: Principal, coerce: Coerce | None = None
    ) -> None:
        self._coerce = coerce
        self._caller = caller
        self._peer = peer
        self._retriever = retriever
        self._principal = principal

    @property
    def name(self) -> str:
        """The AE title."""
        return self._peer.ae_title

    def send(self, records: Sequence[InstanceRecord]) -> Iterator[Sent]:
        """Send instances and yield what became of each; raise Unreachable when nothing more can be sent now."""
        ahead = self._retriever.ahead_of(records)

        def open_record(record: InstanceRecord, acceptable: Acceptable) -> Representation:
            return ahead.open_instance(self._principal, record, acceptable, self._coerce)

        for result in send_all(self._caller, self._peer, records, open_record):
            yield Sent(result.item.sop_instance_uid, result.is_delivered, result.comment, result.is_final)


def _open_file(item: FileItem, acceptable: Acceptable) -> Representation:
    if not acceptable.takes(item.transfer_syntax_uid):
        raise NotAcceptable
    file = item.open()
    return Representation(
        item.transfer_syntax_uid, DICOM, 0, lambda: iter(lambda: file.read(_CHUNK_BYTES), b""), file.close
    )


def _build_identifier(level: Level, keys: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    if not all(text.isascii() for text in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = str(level)
    for keyword, text in keys.items():
        if tag_for_keyword(keyword) is None:
            raise InvalidQuery(f"There is no attribute {keyword}.")
        setattr(identifier, keyword, text)
    return identifier


def _check(peer: Peer, status: Any, service: str) -> None:
    if status is None:
        raise PeerRefused(f"{peer.ae_title} did not answer the {service}.")
    if status != 0:
        raise PeerRefused(f"{peer.ae_title} answered the {service} with {_explain(cast('int', status))}.")


def _explain(code: int) -> str:
    """Return a status with what a person can make of it (PS3.4 C.4.1.1.4 and C.4.2.1.5)."""
    meaning = _MEANINGS.get(code, "")
    return f"0x{code:04X}" + (f": {meaning}" if meaning else "")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    return "\\".join(str(part) for part in value)
