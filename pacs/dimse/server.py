"""The DICOM ports: what they accept, from whom, and how they start and stop."""

import logging
import selectors
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation, AssociationServer

from pacs.archive import Archive
from pacs.dimse.admission import Admission
from pacs.dimse.association import Acceptor, Timeouts
from pacs.dimse.handover import Crew
from pacs.dimse.library import configure_library
from pacs.dimse.negotiation import negotiate_extended, plan_contexts, plan_roles
from pacs.dimse.peers import DEFAULT_MAX_PDU_BYTES, Peer, Peers
from pacs.dimse.service import Service
from pacs.dimse.store import StoreService
from pacs.dimse.transport import PeerSocket
from pacs.dimse.verification import answer_echo
from pacs.ingest.incoming import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOGGER = logging.getLogger(__name__)

_BACKLOG = 128
_RETRY_SECONDS = 0.05
_ABORT_SECONDS = 2.0
_CALLING_AE_TITLE_NOT_RECOGNIZED = (0x01, 0x01, 0x03)
_LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)
"""Result, source and diagnostic of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""


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
            plan_roles(context, association.requestor.role_selection)
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
    """Accepts the connections of one port; ``take`` is given each, and where it comes from."""

    request_queue_size = _BACKLOG

    def __init__(
        self, ae: AE, address: tuple[str, int], admission: Admission, take: Callable[[socket.socket, Any], None]
    ) -> None:
        self._admission = admission
        self._take = take
        super().__init__(ae, address, ae.ae_title, [])
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
        return self._admission.has_room

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin an association; whatever one connection does, the port stays open."""
        try:
            self._take(request, client_address)
        except Exception:
            LOGGER.exception("A connection could not be served")
            self.shutdown_request(request)


class DimseServer:
    """The DICOM ports of one archive: the plain one, and the one for TLS if there is one.

    With a ``crew`` other processes serve a part of the connections that are accepted here.
    """

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        door: Door,
        tls: tuple[int, ssl.SSLContext] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._ae = ae
        self._door = door
        self._host = address[0]
        self._ports = [address[1], tls[0]] if tls else [address[1]]
        self._contexts = [None, tls[1]] if tls else [None]
        self._crew = crew
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
            for index, port in enumerate(self._ports):
                take = partial(self._take, index)
                listeners.append(_Listener(self._ae, (self._host, port), self._door.admission, take))
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
        """Stop accepting, and end what is open as ``end`` does; other processes are told to do the same."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop_sender.close()
        thread.join()
        self._stop_receiver.close()
        for listener in self._listeners:
            listener.server_close()
        if self._crew is not None:
            self._crew.close()
        self.end(grace_seconds)

    def end(self, grace_seconds: float) -> None:
        """Let open associations finish the operation under way, and end them within the grace.

        An association is aborted as soon as nothing is under way on it: only its requestor may release it (PS3.8
        7.2). What is still under way when the grace is over loses its connection, and so is never acknowledged.
        """
        deadline = time.monotonic() + grace_seconds
        while (associations := self._associations()) and time.monotonic() < deadline:
            _end_idle(associations)
            time.sleep(0.005)
        for association in associations:
            LOGGER.warning("%s cut off at the end of the grace period", association.name)
            association.close_connection()
        for association in self._associations():
            association.join(_ABORT_SECONDS)

    def create_association(self, connection: socket.socket, address: Any, port_index: int) -> Acceptor:
        """Return an association, not begun, of a connection from ``address`` to the port of this index, 1 for TLS."""
        door, ae = self._door, self._ae
        remote = AddressInformation.from_tuple(address)
        association = Acceptor(ae, door.store, door.services, door.timeouts, door.admission.end)
        association.name = f"Association with {remote.address}:{remote.port}"
        association.address = remote.address
        local = AddressInformation.from_tuple(connection.getsockname())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._contexts[port_index]
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        association.set_socket(PeerSocket(association, client_socket=connection))
        association.acceptor.maximum_length = ae.maximum_pdu_size
        association.acceptor.ae_title = ae.ae_title
        association.acceptor.address_info = local
        association.acceptor.implementation_class_uid = ae.implementation_class_uid
        association.acceptor.implementation_version_name = ae.implementation_version_name
        association.requestor.address_info = remote
        association.bind(evt.EVT_REQUESTED, door.consider)
        association.bind(evt.EVT_SOP_EXTENDED, negotiate_extended)
        association.bind(evt.EVT_C_ECHO, answer_echo)
        return association

    def begin(self, association: Acceptor) -> None:
        """Start the association's threads, or raise if there can be no more threads."""
        self._door.admission.begin(association)
        try:
            association.start()
        except BaseException:
            self._door.admission.end(association)
            raise

    def _take(self, port_index: int, connection: socket.socket, address: Any) -> None:
        """Have an accepted connection served, here or by another process."""
        if self._crew is None or not self._crew.hand_over(connection, address, port_index, len(self._associations())):
            self.begin(self.create_association(connection, address, port_index))

    def _associations(self) -> list[Acceptor]:
        """Return the connections that this process serves."""
        return [counted for counted in self._door.admission.connections if isinstance(counted, Acceptor)]

    def _accept(self) -> None:
        """Hand connections on until ``stop`` closes the other end of a pair; sleeps while there are none."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop_receiver, selectors.EVENT_READ)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ, listener.handle_request)
            if self._crew is not None:
                self._crew.attend(selector, self._door.admission)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    key.data()


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
    crew: Crew | None = None,
    admission: Admission | None = None,
) -> DimseServer:
    """Return a server that is not listening yet.

    Without ``peers`` anybody is admitted, and ``max_pdu_bytes`` is offered to all, 0 for no limit: then a peer decides
    how much memory one PDU takes. With ``require_called_ae_title`` an association for another title is rejected.
    ``tls`` is a second port, for TLS only. ``admission`` counts in place of one that knows ``max_associations``.
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
            admission=admission or Admission(max_associations),
        ),
        tls,
        crew,
    )
