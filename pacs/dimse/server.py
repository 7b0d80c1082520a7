"""The DICOM port: what it accepts, from how many at once, and how it starts and stops."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pydicom.config
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AddressInformation, AssociationServer, RequestHandler

from pacs.archive import Archive
from pacs.dimse.association import Acceptor, Timeouts
from pacs.dimse.peers import DEFAULT_MAX_PDU_BYTES, Peers
from pacs.dimse.store import StoreService
from pacs.dimse.transport import PeerSocket
from pacs.dimse.verification import answer_echo
from pacs.imaging.syntaxes import ACCEPTED_ORDER
from pacs.ingest.incoming import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOGGER = logging.getLogger(__name__)

_BACKLOG = 128
_SPARE_CONNECTIONS = 64
"""Connections beyond the association limit that may be open at once, to be told so or to time out."""
_POLL_SECONDS = 0.05
_ADMISSION_SECONDS = 0.2
_ABORT_SECONDS = 2.0
_ACCEPTED_SERVICES = (StorageServiceClass, NonPatientObjectStorageServiceClass, VerificationServiceClass)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE_CLASSES_ELSEWHERE = frozenset(
    {
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage, retired
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage, retired
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage, trial
    }
)
_REJECTED_TRANSIENT, _BY_PRESENTATION, _LOCAL_LIMIT_EXCEEDED = 0x02, 0x03, 0x02


def is_accepted_class(abstract_syntax: str) -> bool:
    """Whether an abstract syntax is Verification or something that can be stored.

    Stored is every storage class that is known, the retired ones too, and whatever nobody knows: a private class, or
    one that is newer than our tables. Refused are the known classes of other services, and a medium's directory. What
    belongs to no patient (PS3.4 GG) is accepted here, for it is not the port that decides what an archive can keep.
    """
    kind = UID(abstract_syntax).type
    if kind not in ("SOP Class", ""):
        return False
    service_class = uid_to_service_class(abstract_syntax)
    if service_class is not ServiceClass:
        return service_class in _ACCEPTED_SERVICES
    return not kind or abstract_syntax.startswith(_STORAGE_ROOT) or abstract_syntax in _STORAGE_CLASSES_ELSEWHERE


def plan_contexts(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return what we support of a proposal: its accepted classes, each with our order of the proposed syntaxes."""
    offered: dict[UID, set[UID]] = {}
    for context in proposed:
        if context.abstract_syntax is not None and is_accepted_class(context.abstract_syntax):
            offered.setdefault(context.abstract_syntax, set()).update(context.transfer_syntax)
    ordered = {uid: [syntax for syntax in ACCEPTED_ORDER if syntax in syntaxes] for uid, syntaxes in offered.items()}
    # A class without a common syntax is listed with one nobody proposed: then the refusal names the right reason.
    return [build_context(uid, cast("Any", syntaxes or [UID(ACCEPTED_ORDER[0])])) for uid, syntaxes in ordered.items()]


class _Connection(RequestHandler):
    """Makes an association of an accepted connection."""

    server: "_Listener"

    def handle(self) -> None:
        """Start the association's threads, or raise if there can be no more threads."""
        association = self._create_association()
        self.server.remember(association)
        try:
            association.start()
        except BaseException:
            self.server.forget(association)
            raise

    def _create_association(self) -> Acceptor:
        server = self.server
        association = Acceptor(server.ae, server.store, server.timeouts, server.forget)
        association._server = server  # noqa: SLF001 - as pynetdicom's own handler does, here and below
        association.name = f"Association with {self.remote.address}:{self.remote.port}"
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(server.timeouts.silence_seconds)
        association.set_socket(PeerSocket(association, client_socket=self.request))
        association.acceptor.maximum_length = server.ae.maximum_pdu_size
        association.acceptor.ae_title = server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        association.acceptor.implementation_version_name = server.ae.implementation_version_name
        association.requestor.address_info = self.remote
        association.bind(evt.EVT_REQUESTED, server.consider)
        association.bind(evt.EVT_C_ECHO, answer_echo)
        return association


class _Listener(AssociationServer):
    """Accepts connections and keeps count of them."""

    request_queue_size = _BACKLOG

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        *,
        store: StoreService,
        peers: Peers,
        timeouts: Timeouts,
        max_associations: int,
    ) -> None:
        self.store = store
        self.peers = peers
        self.timeouts = timeouts
        self._max_associations = max_associations
        self._lock = threading.Condition()
        self._open: set[Acceptor] = set()
        self._admitted: set[Acceptor] = set()
        super().__init__(ae, address, ae.ae_title, [], request_handler=_Connection)

    @property
    def associations(self) -> list[Acceptor]:
        """Every connection that has not ended, whether or not it has become an association."""
        with self._lock:
            return list(self._open)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's hook
        """Whether there is room for one more connection; without, it is closed and told nothing."""
        with self._lock:
            return len(self._open) < self._max_associations + _SPARE_CONNECTIONS

    def service_actions(self) -> None:
        """Do nothing between two looks at the port: pynetdicom collects garbage here, which stops every thread."""

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin an association; whatever one connection does, the port stays open."""
        try:
            super().process_request(request, client_address)
        except Exception:
            LOGGER.exception("A connection could not be served")
            self.shutdown_request(request)

    def remember(self, association: Acceptor) -> None:
        """Count a connection in."""
        with self._lock:
            self._open.add(association)

    def forget(self, association: Acceptor) -> None:
        """Count a connection out; it has ended."""
        with self._lock:
            self._open.discard(association)
            self._admitted.discard(association)
            self._lock.notify_all()

    def consider(self, event: evt.Event) -> None:
        """Prepare the negotiation of a requested association, or reject it: there may be too many."""
        association = cast("Acceptor", event.assoc)
        request = association.requestor.primitive
        assert isinstance(request, A_ASSOCIATE)
        address = cast("AddressInformation", association.requestor.address_info).address
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        if not self._admit(association):
            LOGGER.warning("%s (%s) rejected: %d are open", association.name, calling, self._max_associations)
            association.acse.send_reject(_REJECTED_TRANSIENT, _BY_PRESENTATION, _LOCAL_LIMIT_EXCEEDED)
            association.kill()
            return
        peer = self.peers.lookup(calling, address)
        association.origin = peer.build_origin(calling, called, address)
        association.acceptor.maximum_length = peer.max_pdu_bytes
        association.acceptor.supported_contexts = plan_contexts(request.presentation_context_definition_list)

    def _admit(self, association: Acceptor) -> bool:
        with self._lock:
            # A peer that has just released may be back before we have cleared up after it.
            is_admitted = self._lock.wait_for(self._has_room, _ADMISSION_SECONDS)
            if is_admitted:
                self._admitted.add(association)
            return is_admitted

    def _has_room(self) -> bool:
        is_open = [not (association.is_released or association.is_aborted) for association in self._admitted]
        return sum(is_open) < self._max_associations


class DimseServer:
    """The DICOM port of one archive."""

    def __init__(self, ae: AE, address: tuple[str, int], **listening: Any) -> None:
        self._ae = ae
        self._address = address
        self._listening = listening
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; before ``start`` the one that was asked for, which may be 0."""
        return self._listener.server_address[1] if self._listener else self._address[1]

    def start(self) -> None:
        """Listen, and serve from threads of its own; OSError if the port cannot be had."""
        self._listener = _Listener(self._ae, self._address, **self._listening)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_SECONDS,), name="dimse", daemon=True
        )
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting, let open associations finish the operation under way, and end them within the grace.

        An association is aborted as soon as nothing is under way on it: only its requestor may release it (PS3.8
        7.2). What is still under way when the grace is over loses its connection, and so is never acknowledged.
        """
        listener, self._listener = self._listener, None
        if listener is None or self._thread is None:
            return
        self._address = (self._address[0], listener.server_address[1])
        # Not pynetdicom's shutdown(), which expects the server in a list of its AE.
        super(AssociationServer, listener).shutdown()
        listener.server_close()
        self._thread.join()
        deadline = time.monotonic() + grace_seconds
        while listener.associations and time.monotonic() < deadline:
            _end_idle(listener.associations)
            time.sleep(0.005)
        for association in listener.associations:
            LOGGER.warning("%s cut off at the end of the grace period", association.name)
            association.close_connection()
        for association in listener.associations:
            association.join(_ABORT_SECONDS)


def _end_idle(associations: Sequence[Acceptor]) -> None:
    for association in associations:
        if association.requestor.primitive is None:
            association.close_connection()
        elif association.is_established and not association.dimse.is_busy:
            association.abort(block=False)


def create_server(
    archive: Archive,
    *,
    host: str = "127.0.0.1",
    port: int = 11112,
    ae_title: str = "PACS",
    max_pdu_bytes: int = DEFAULT_MAX_PDU_BYTES,
    max_associations: int = 64,
    require_called_ae_title: bool = False,
    peers: Peers | None = None,
    timeouts: Timeouts | None = None,
) -> DimseServer:
    """Return a server that is not listening yet.

    ``max_pdu_bytes`` is offered to peers that have no setting of their own, 0 for no limit: then a peer decides how
    much memory one PDU takes. With ``require_called_ae_title`` an association for another title is rejected.
    """
    _configure_pynetdicom()
    ae = AE(ae_title)
    ae.maximum_pdu_size = max_pdu_bytes
    # pynetdicom counts connections that are no associations yet, ten of which would then keep everybody out.
    ae.maximum_associations = sys.maxsize
    ae.require_called_aet = require_called_ae_title
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return DimseServer(
        ae,
        (host, port),
        store=StoreService(archive.ingest),
        peers=peers or Peers(),
        timeouts=timeouts or Timeouts(),
        max_associations=max_associations,
    )


def _configure_pynetdicom() -> None:
    """Set pynetdicom's and pydicom's globals, always to the same values; there is no way to set them for one server."""
    # Whatever is odd in a command or an answer, a UID with a leading zero first, pydicom would warn about and quote.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    # Both default to on, and write the patient data of every C-FIND to the log.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # Its handlers format every PDU and message, only to log it below our level.
    _config.LOG_HANDLER_LEVEL = "none"
