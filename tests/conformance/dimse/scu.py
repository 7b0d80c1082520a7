"""Two kinds of peers: pynetdicom's SCU, sending bytes as they are, and a bare socket that may break every rule."""

import queue
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Self

from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

ASSOCIATE_ACCEPT, ASSOCIATE_REJECT, P_DATA, RELEASE_RESPONSE, ABORT = 0x02, 0x03, 0x04, 0x06, 0x07
C_STORE_RQ, C_FIND_RQ, C_ECHO_RQ = 0x0001, 0x0020, 0x0030
DATA_SET, NO_DATA_SET = 0x0001, 0x0101


@contextmanager
def associate(
    port: int,
    contexts: Sequence[PresentationContext],
    calling: str = "TESTER",
    called: str = "PACS",
    *,
    negotiation: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """Return an established or refused association; released at the end if it still is.

    ``negotiation`` are roles and extended negotiation, ``handlers`` what pynetdicom calls ``evt_handlers``.
    """
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    association = ae.associate(
        "127.0.0.1", port, list(contexts), called, ext_neg=list(negotiation) or None, evt_handlers=list(handlers)
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextmanager
def established(*arguments: Any, **keywords: Any) -> Iterator[Association]:
    """Return an association as ``associate`` does, which must not be refused."""
    with associate(*arguments, **keywords) as association:
        assert association.is_established
        yield association


def build_extended(sop_class_uid: str, information: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = UID(sop_class_uid), information
    return item


def send_bytes(
    association: Association, context: PresentationContext, sop_instance_uid: str, data_set: bytes, message_id: int = 1
) -> C_STORE:
    """Send an encoded data set as it is and return the response."""
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = context.abstract_syntax
    request.AffectedSOPInstanceUID = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    # pynetdicom pauses the association's thread to wait for an answer itself, and sometimes that thread is quicker;
    # here it is left to take the answer.
    responses: queue.SimpleQueue[C_STORE] = queue.SimpleQueue()
    association._serve_request = lambda message, _: responses.put(message)
    association.dimse.send_msg(request, context.context_id)
    return responses.get(timeout=20)


class BareSocket:
    """A TCP connection that speaks as much of the upper layer as it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def associate(
        self, *classes: str, syntaxes: Sequence[str] = (IMPLICIT,), max_pdu_bytes: int = 16384
    ) -> tuple[int, bytes]:
        """Ask for an association, context 1 for the first class, 3 for the second, and return the answer."""
        self.socket.sendall(encode_association_request(classes or (CT,), syntaxes, max_pdu_bytes))
        return self.receive()

    def receive(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") at the end of the connection."""
        header = self._receive_exactly(6)
        if not header:
            return 0, b""
        kind, _, length_bytes = struct.unpack(">BBL", header)
        return kind, self._receive_exactly(length_bytes)

    def send_data(self, context_id: int, fragment: bytes, *, is_command: bool, is_last: bool = True) -> None:
        """Send one P-DATA-TF with one value."""
        self.socket.sendall(encode_data(context_id, fragment, is_command=is_command, is_last=is_last))

    def receive_status(self) -> tuple[int, str]:
        """Return Status and Error Comment of the response that comes next."""
        kind, body = self.receive()
        assert kind == P_DATA, f"PDU of type {kind}"
        elements = decode_command(body[6:])
        return int.from_bytes(elements[0x0900], "little"), elements.get(0x0902, b"").decode().strip()

    def _receive_exactly(self, length_bytes: int) -> bytes:
        data = b""
        while len(data) < length_bytes:
            piece = self.socket.recv(length_bytes - len(data))
            if not piece:
                return b""
            data += piece
        return data


def echo_works(port: int) -> bool:
    """Whether a new association can be had and answers an echo."""
    with BareSocket(port) as peer:
        if peer.associate(VERIFICATION)[0] != ASSOCIATE_ACCEPT:
            return False
        peer.send_data(1, encode_echo_command(), is_command=True)
        return peer.receive_status() == (0x0000, "")


def encode_association_request(classes: Sequence[str], syntaxes: Sequence[str], max_pdu_bytes: int = 16384) -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT_NAME
    request.calling_ae_title, request.called_ae_title = "BARE", "PACS"
    contexts = [build_context(uid, list(syntaxes)) for uid in classes]
    for index, context in enumerate(contexts):
        context.context_id = 2 * index + 1
    request.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation.implementation_class_uid = UID("2.25.1")
    request.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(request).encode()


def encode_data(context_id: int, fragment: bytes, *, is_command: bool, is_last: bool = True) -> bytes:
    value = bytes([context_id, is_command | is_last << 1]) + fragment
    return struct.pack(">BBLL", P_DATA, 0, len(value) + 4, len(value)) + value


def encode_echo_command() -> bytes:
    return encode_request(VERIFICATION, C_ECHO_RQ, NO_DATA_SET)


def encode_request(sop_class_uid: str, command_field: int, data_set_type: int) -> bytes:
    """Return a request of any service that has no more than what all have."""
    elements = [
        (0x0002, sop_class_uid.encode()),
        (0x0100, struct.pack("<H", command_field)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", data_set_type)),
    ]
    return encode_command(elements)


def encode_store_command(
    sop_class_uid: bytes | None = CT.encode(),
    sop_instance_uid: bytes | None = b"2.25.77",
    message_id: int = 7,
    data_set_type: int = 0x0001,
) -> bytes:
    """Return a C-STORE-RQ; a UID of None is left out, any other is written as it is."""
    elements = [
        (0x0002, sop_class_uid),
        (0x0100, struct.pack("<H", C_STORE_RQ)),
        (0x0110, struct.pack("<H", message_id)),
        (0x0700, struct.pack("<H", 2)),
        (0x0800, struct.pack("<H", data_set_type)),
        (0x1000, sop_instance_uid),
    ]
    return encode_command(elements)


def encode_command(elements: Sequence[tuple[int, bytes | None]]) -> bytes:
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value) + len(value) % 2) + value + b"\0" * (len(value) % 2)
        for element, value in elements
        if value is not None
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def decode_command(data: bytes) -> dict[int, bytes]:
    elements = {}
    offset = 0
    while offset < len(data):
        _, element, length_bytes = struct.unpack_from("<HHL", data, offset)
        elements[element] = data[offset + 8 : offset + 8 + length_bytes]
        offset += 8 + length_bytes
    return elements
