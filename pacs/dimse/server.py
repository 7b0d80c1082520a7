"""The DICOM ports: what they accept, from whom, and how they start and stop."""

import logging
import selectors
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AssociationServer, RequestHandler

from pacs.archive import Archive
from pacs.dimse.admission import Admission
from pacs.dimse.association import Acceptor, Timeouts
from pacs.dimse.library import configure_library
from pacs.dimse.peers import DEFAULT_MAX_PDU_BYTES, Peer, Peers
from pacs.dimse.service import Service
from pacs.dimse.store import StoreService
from pacs.dimse.transport import PeerSocket
from pacs.dimse.verification import answer_echo
from pacs.imaging.syntaxes import ACCEPTED_ORDER, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, SYNTAXES
from pacs.ingest.incoming import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOGGER = logging.getLogger(__name__)

_BACKLOG = 128
_RETRY_SECONDS = 0.05
_ABORT_SECONDS = 2.0
_NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
MESSAGE_SYNTAXES = tuple(uid for uid in ACCEPTED_ORDER if SYNTAXES[uid].is_native)
"""What the data sets of requests and answers travel in: they have no pixels that a compressed syntax could be for."""
_ACCEPTED_SERVICES = (StorageServiceClass, NonPatientObjectStorageServiceClass, VerificationServiceClass)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE_CLASSES_ELSEWHERE = frozenset(
    {
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage, retired
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage, retired
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage, trial
    }
)
_CALLING_AE_TITLE_NOT_RECOGNIZED = (0x01, 0x01, 0x03)
_LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)
"""Result, source and diagnostic of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""


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


def plan_contexts(proposed: Iterable[PresentationContext], services: Iterable[str] = ()) -> list[PresentationContext]:
    """Return what we support of a proposal: its accepted classes, each with our order of the proposed syntaxes.

    ``services`` are the SOP Classes of other services that are served here.
    """
    served = frozenset(services)
    offered: dict[UID, set[UID]] = {}
    for context in proposed:
        uid = context.abstract_syntax
        if uid is not None and (uid in served or is_accepted_class(uid)):
            offered.setdefault(uid, set()).update(context.transfer_syntax)
    ordered = {
        uid: [syntax for syntax in (MESSAGE_SYNTAXES if uid in served else ACCEPTED_ORDER) if syntax in syntaxes]
        for uid, syntaxes in offered.items()
    }
    # A class without a common syntax is listed with one nobody proposed: then the refusal names the right reason.
    return [build_context(uid, cast("Any", syntaxes or [UID(ACCEPTED_ORDER[0])])) for uid, syntaxes in ordered.items()]


def _plan_roles(context: PresentationContext, asked: Mapping[UID, Any]) -> None:
    """Take both roles where a peer asks to choose: a C-GET receives over what it proposed (PS3.7 D.3.3.4)."""
    if context.abstract_syntax in asked:
        context.scu_role = context.scp_role = True
        # What is sent back is chosen here, before it is known: anything that decodes can be sent in a native syntax.
        context.transfer_syntax = sorted(context.transfer_syntax, key=lambda uid: uid not in _NATIVE)


def _negotiate_extended(event: evt.Event) -> dict[UID, bytes]:
    """Answer SOP Class Extended Negotiation by the services asked, and note what was agreed (PS3.7 D.3.3.5)."""
    association = cast("Acceptor", event.assoc)
    answers = {}
    for uid, information in event.app_info.items():  # type: ignore[attr-defined]
        service = association.services.get(str(uid))
        answer = service.negotiate(str(uid), information) if service is not None else None
        if answer is not None:
            answers[uid] = association.extended[str(uid)] = answer
    return answers


class _Connection(RequestHandler):
    """Makes an association of an accepted connection."""

    server: "_Listener"

    def handle(self) -> None:
        """Start the association's threads, or raise if there can be no more threads."""
        association = self._create_association()
        self.server.door.admission.begin(association)
        try:
            association.start()
        except BaseException:
            self.server.door.admission.end(association)
            raise

    def _create_association(self) -> Acceptor:
        door, ae = self.server.door, self.server.ae
        association = Acceptor(ae, door.store, door.services, door.timeouts, door.admission.end)
        association.name = f"Association with {self.remote.address}:{self.remote.port}"
        association.address = self.remote.address
        association.set_socket(PeerSocket(association, client_socket=self._prepare()))
        association.acceptor.maximum_length = ae.maximum_pdu_size
        association.acceptor.ae_title = self.server.ae_title
        association.acceptor.address_info = self.local
        association.acceptor.implementation_class_uid = ae.implementation_class_uid
        association.acceptor.implementation_version_name = ae.implementation_version_name
        association.requestor.address_info = self.remote
        association.bind(evt.EVT_REQUESTED, door.consider)
        association.bind(evt.EVT_SOP_EXTENDED, _negotiate_extended)
        association.bind(evt.EVT_C_ECHO, answer_echo)
        return association

    def _prepare(self) -> socket.socket:
        connection = cast("socket.socket", self.request)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None:
            connection = self.server.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection


@dataclass(frozen=True, slots=True)
class Door:
    """What all ports of one server share: who may come in, and what is served."""

    store: StoreService
    services: Mapping[str, Service]
    peers: Peers
    timeouts: Timeouts
    admission: Admission

    def consider(self, event: evt.Event) -> None:
        """Prepare the negotiation of a requested association, or reject it (PS3.8 9.3.4)."""
        association = cast("Acceptor", event.assoc)
        request = association.requestor.primitive
        assert isinstance(request, A_ASSOCIATE)
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        peer = self.peers.lookup(calling, association.address)
        if peer is None or not peer.is_shown_by(association.certificate_sha256):
            _log_unknown(association, calling, peer)
            _reject(association, *_CALLING_AE_TITLE_NOT_RECOGNIZED)
            return
        association.peer = peer
        association.origin = peer.build_origin(calling, called, association.address)
        association.network_timeout = peer.idle_seconds
        if not self.admission.admit(association):
            LOGGER.warning("%s (%s) rejected: it, or everybody, has as many as may be open", association.name, calling)
            _reject(association, *_LOCAL_LIMIT_EXCEEDED)
            return
        association.acceptor.maximum_length = peer.max_pdu_bytes
        contexts = plan_contexts(request.presentation_context_definition_list, self.services)
        for context in contexts:
            _plan_roles(context, association.requestor.role_selection)
        association.acceptor.supported_contexts = contexts


def _log_unknown(association: Acceptor, calling: str, peer: Peer | None) -> None:
    """Say what to put into the settings, should this sender be admitted."""
    if peer is None:
        LOGGER.warning(
            "%s rejected: nobody is known by AE title %s at this address; to admit it, add to the settings a "
            '[[dimse.peers]] with ae_title = "%s" and address = "%s"',
            *(association.name, calling, calling, association.address),
        )
    else:
        LOGGER.warning(
            "%s rejected: %s did not show the certificate of its settings, but %s",
            *(association.name, calling, association.certificate_sha256 or "none"),
        )


def _reject(association: Acceptor, result: int, source: int, diagnostic: int) -> None:
    association.acse.send_reject(result, source, diagnostic)
    association.kill()


class _Listener(AssociationServer):
    """Accepts the connections of one port."""

    request_queue_size = _BACKLOG

    def __init__(self, ae: AE, address: tuple[str, int], door: Door, tls: ssl.SSLContext | None) -> None:
        self.door = door
        self.tls = tls
        super().__init__(ae, address, ae.ae_title, [], request_handler=_Connection)
        # Whoever hangs up before being accepted keeps nobody waiting.
        cast("socket.socket", self.socket).setblocking(False)

    def get_request(self) -> Any:
        """Return a connection and where it comes from; OSError if there is none, or no descriptor left for it."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_RETRY_SECONDS)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's hook
        """Whether there is room for one more connection; without, it is closed and told nothing."""
        return self.door.admission.has_room

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin an association; whatever one connection does, the port stays open."""
        try:
            super().process_request(request, client_address)
        except Exception:
            LOGGER.exception("A connection could not be served")
            self.shutdown_request(request)


class DimseServer:
    """The DICOM ports of one archive: the plain one, and the one for TLS if there is one."""

    def __init__(
        self, ae: AE, address: tuple[str, int], door: Door, tls: tuple[int, ssl.SSLContext] | None = None
    ) -> None:
        self._ae = ae
        self._door = door
        self._host = address[0]
        self._ports = [address[1], tls[0]] if tls else [address[1]]
        self._contexts = [None, tls[1]] if tls else [None]
        self._listeners: list[_Listener] = []
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; before ``start`` the one that was asked for, which may be 0."""
        return self._ports[0]

    @property
    def tls_port(self) -> int:
        """The port for TLS, likewise; IndexError if there is none."""
        return self._ports[1]

    def start(self) -> None:
        """Listen, and serve from threads of its own; OSError if a port cannot be had."""
        listeners: list[_Listener] = []
        try:
            for port, context in zip(self._ports, self._contexts, strict=True):
                listeners.append(_Listener(self._ae, (self._host, port), self._door, context))
        except OSError:
            for listener in listeners:
                listener.server_close()
            raise
        self._listeners = listeners
        self._ports = [listener.server_address[1] for listener in listeners]
        self._stop_receiver, self._stop_sender = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="dimse", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop accepting, let open associations finish the operation under way, and end them within the grace.

        An association is aborted as soon as nothing is under way on it: only its requestor may release it (PS3.8
        7.2). What is still under way when the grace is over loses its connection, and so is never acknowledged.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop_sender.close()
        thread.join()
        self._stop_receiver.close()
        for listener in self._listeners:
            listener.server_close()
        admission = self._door.admission
        deadline = time.monotonic() + grace_seconds
        while admission.connections and time.monotonic() < deadline:
            _end_idle(admission.connections)
            time.sleep(0.005)
        for association in admission.connections:
            LOGGER.warning("%s cut off at the end of the grace period", association.name)
            association.close_connection()
        for association in admission.connections:
            association.join(_ABORT_SECONDS)

    def _accept(self) -> None:
        """Hand connections on until ``stop`` closes the other end of a pair; sleeps while there are none."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop_receiver, selectors.EVENT_READ)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ, listener)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    key.data.handle_request()


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
    services: Sequence[Service] = (),
    timeouts: Timeouts | None = None,
    tls: tuple[int, ssl.SSLContext] | None = None,
) -> DimseServer:
    """Return a server that is not listening yet.

    Without ``peers`` anybody is admitted, and ``max_pdu_bytes`` is offered to all, 0 for no limit: then a peer decides
    how much memory one PDU takes. With ``require_called_ae_title`` an association for another title is rejected.
    ``tls`` is a second port, for TLS only.
    """
    configure_library()
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
        Door(
            store=StoreService(archive.ingest),
            services={uid: service for service in services for uid in service.sop_class_uids},
            peers=peers or Peers(default=Peer("", max_pdu_bytes=max_pdu_bytes)),
            timeouts=timeouts or Timeouts(),
            admission=Admission(max_associations),
        ),
        tls,
    )
