"""Associations that we ask for: to C-MOVE destinations, for forwarding, for reports, and for the command line."""

import queue
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import T_CONNECT, AddressInformation

from pacs.dimse.library import configure_library
from pacs.dimse.messages import IDENTIFIER_LIMIT_BYTES
from pacs.dimse.peers import Peer
from pacs.dimse.tls import read_certificate_sha256
from pacs.dimse.transport import LINGER_SECONDS, PeerSocket, UpperLayer
from pacs.ingest.incoming import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacs.routing.destinations import Unreachable

_CONNECT_SECONDS = 10.0
_NEGOTIATE_SECONDS = 30.0
_ANSWER_SECONDS = 60.0
_RELEASE_SECONDS = 5.0
_SILENCE_SECONDS = 60.0


class Caller:
    """Calls peers in our name. Any number of threads may use it at once.

    ``tls`` is what peers that want TLS are called with; without one they cannot be called.
    """

    def __init__(self, ae_title: str, tls: ssl.SSLContext | None = None) -> None:
        configure_library()
        self.ae_title = ae_title
        self._tls = tls

    @contextmanager
    def associate(
        self,
        peer: Peer,
        contexts: Sequence[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    ) -> Iterator["Requestor"]:
        """Give an established association with ``peer``, released at the end of the block, aborted if it raises.

        Raises Unreachable if the peer does not answer, rejects us, or accepts no context; its text says which.
        """
        association = Requestor(self._build_ae(), self._connect(peer))
        try:
            association.negotiate(peer, contexts, roles)
            yield association
        except BaseException:
            association.cut_off()
            raise
        association.finish()

    def _build_ae(self) -> AE:
        ae = AE(self.ae_title)
        ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.acse_timeout = _NEGOTIATE_SECONDS
        ae.dimse_timeout = ae.network_timeout = _ANSWER_SECONDS
        return ae

    def _connect(self, peer: Peer) -> socket.socket:
        host = peer.address or "127.0.0.1"
        if peer.tls and self._tls is None:
            raise Unreachable(f"{peer.ae_title} wants TLS, for which there is no certificate in the settings.")
        try:
            connection = socket.create_connection((host, peer.port), _CONNECT_SECONDS)
        except OSError as error:
            reason = error.strerror or "it does not answer"
            raise Unreachable(f"{peer.ae_title} at {host} port {peer.port} cannot be reached: {reason}.") from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if peer.tls and self._tls is not None:
                connection = secured = self._tls.wrap_socket(connection, server_hostname=host)
                if not peer.is_shown_by(read_certificate_sha256(secured)):
                    raise ssl.SSLError(ssl.SSL_ERROR_SSL, "it shows another certificate than that of its settings")
            connection.settimeout(_SILENCE_SECONDS)
        except OSError as error:
            connection.close()
            reason = getattr(error, "reason", None) or error.strerror or "the connection was lost"
            raise Unreachable(
                f"{peer.ae_title} at {host} port {peer.port} does not speak TLS with us: {reason}."
            ) from error
        return connection


class Requestor(Association):
    """An association that we asked for, and that one thread uses.

    It has no thread of its own but the upper layer's: whoever sends waits for the answer. pynetdicom's ``send_``
    methods work, for all they want of the thread that there is not is that it does not run.
    """

    dul: UpperLayer

    def __init__(self, ae: AE, connection: socket.socket) -> None:
        super().__init__(ae, MODE_REQUESTOR)
        self.on_report: Callable[[Any, int], None] | None = None
        self._is_paused = True
        self.dul = UpperLayer(self, _SILENCE_SECONDS)
        self.dimse = _Messages(self)
        # These live in the timers of the upper layer, which is a new one.
        self.acse_timeout = ae.acse_timeout
        self.network_timeout = ae.network_timeout
        self.set_socket(_OpenSocket(self, connection))

    def negotiate(
        self,
        peer: Peer,
        contexts: Sequence[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    ) -> None:
        """Establish the association; raise Unreachable with what the peer has against it."""
        self.name = f"Association to {peer.ae_title}"
        connection = cast("socket.socket", cast("PeerSocket", self.dul.socket).socket)
        self.acceptor.ae_title = peer.ae_title
        try:
            self.acceptor.address_info = AddressInformation(connection.getpeername()[0], peer.port)
            self.requestor.address_info = AddressInformation(*connection.getsockname()[:2])
        except OSError as error:  # who refuses our certificate hangs up when TLS already looks established
            raise Unreachable(f"{peer.ae_title} closed the connection at once.") from error
        self.requestor.ae_title = self.ae.ae_title
        self.requestor.maximum_length = peer.max_pdu_bytes
        self.requestor.implementation_class_uid = self.ae.implementation_class_uid
        self.requestor.implementation_version_name = self.ae.implementation_version_name
        for role in roles:
            self.requestor.add_negotiation_item(role)
        self.requestor.requested_contexts = _number(contexts)
        self.request()
        if not self.is_established:
            raise Unreachable(f"{peer.ae_title} {self._explain()}")
        self.acse_timeout = _RELEASE_SECONDS

    @property
    def is_usable(self) -> bool:
        """Whether there is an association still, as far as one can know before sending."""
        return self.is_established and not self.dul.has_ended

    def await_response(self, timeout_seconds: float) -> Any:
        """Return the response to the request that was sent; None if none came, for then there is no association."""
        try:
            _, message = self.dimse.msg_queue.get(timeout=timeout_seconds if self.is_established else 0)
        except queue.Empty:
            message = None
        if message is None:
            self.is_established = False
        return message

    def finish(self) -> None:
        """Release the association, or what is left of it, and free what it holds."""
        if not self.is_usable:
            self.cut_off()
            return
        self.release()
        self._free()

    def cut_off(self) -> None:
        """Abort the association, if it is one, and free what it holds; never waits for a peer that does not read."""
        if self.dul.is_alive() and not self.dul.has_ended:
            self.acse.send_abort(0x00)
            self.dul.join(2 * LINGER_SECONDS)
        self._free()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """Take an N-EVENT-REPORT, for which pynetdicom starts a thread as soon as it has arrived."""
        if self.on_report is not None and msg.is_valid_request:
            self.on_report(msg, context_id)
        else:
            super()._serve_request(msg, context_id)

    def _handle_no_response(self) -> None:
        self.is_established = False

    def _explain(self) -> str:
        # pynetdicom does not look at an answer that came and ended the connection before it has begun to wait for it.
        answers = [self.acceptor.primitive, *self.dul.to_user_queue.queue]
        for answer in answers:
            if isinstance(answer, A_ASSOCIATE) and answer.result:
                return f"rejects the association: {answer.reason_str}."
        if isinstance(answers[0], A_ASSOCIATE):
            return "accepts none of what we propose."
        return "does not answer, or aborts, when asked for an association."

    def _free(self) -> None:
        self.is_established = False
        self.dul.end()


class _OpenSocket(PeerSocket):
    """A connection that stands already when the association is asked for."""

    def __init__(self, association: Association, connection: socket.socket) -> None:
        super().__init__(association, client_socket=connection)
        # pynetdicom takes it for one that a peer has opened (Evt5).
        with suppress(queue.Empty):
            self.event_queue.get_nowait()

    def connect(self, primitive: T_CONNECT) -> None:
        """Report that there is a connection."""
        primitive.result = "Evt2"
        self.provider_queue.put(primitive)


class _Messages(DIMSEServiceProvider):
    """pynetdicom's message exchange, with a limit to what one message of a peer may hold."""

    dul: UpperLayer
    _received_bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in fragments; a message that does not end is aborted."""
        values = primitive.presentation_data_value_list
        before = 0 if self.message is None else self._received_bytes
        self._received_bytes = before + sum(len(fragment) for _, fragment in values)
        if self._received_bytes > IDENTIFIER_LIMIT_BYTES:
            self.dul.refuse()
            return
        super().receive_primitive(primitive)

    def call_away(self) -> None:
        """Wake whoever waits for a message: the upper layer has something else to say."""
        self.msg_queue.put((None, None))


def _number(contexts: Sequence[PresentationContext]) -> list[PresentationContext]:
    """Return the contexts with IDs; copies, for the caller's may be used for several associations."""
    numbered = []
    for index, context in enumerate(contexts):
        copy = build_context(cast("UID", context.abstract_syntax), cast("Any", context.transfer_syntax))
        copy.context_id = 2 * index + 1
        numbered.append(copy)
    return numbered
