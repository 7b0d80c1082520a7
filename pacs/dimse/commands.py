"""The command sets of C-STORE (PS3.7 9.3.1) read and written by hand: they come and go with every instance.

Any other command is pynetdicom's. A command set is in Implicit VR Little Endian (PS3.7 6.3.1), all of it in group 0000.
"""

import re
import struct
from dataclasses import dataclass

from pydicom.dataset import Dataset

_UID = re.compile(rb"[0-9.]{1,64}")
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<HHLH")
_AT = struct.Struct("<HHLHH")
_SOP_CLASS_UID, _COMMAND_FIELD, _MESSAGE_ID, _RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _OFFENDING_ELEMENT, _ERROR_COMMENT, _SOP_INSTANCE_UID = 0x0800, 0x0900, 0x0901, 0x0902, 0x1000
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101
_US_BYTES = 2


class InvalidCommand(ValueError):
    """A C-STORE-RQ without what an answer would have to refer to; the text holds nothing that the peer sent."""


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """What a C-STORE-RQ says. UIDs are without padding, and empty if the command has none or a malformed one."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def parse_store_command(command: bytes) -> StoreCommand | None:
    """Return what a C-STORE-RQ says, or None for any other command, and for one whose elements cannot be told apart.

    Raises InvalidCommand if there is no Message ID, or if it does not say whether a data set follows.
    """
    elements: dict[int, bytes] = {}
    position, end = 0, len(command)
    while position < end:
        if position + _ELEMENT.size > end:
            return None
        group, element, length = _ELEMENT.unpack_from(command, position)
        position += _ELEMENT.size
        if position + length > end:
            return None
        if not group:
            elements[element] = command[position : position + length]
        position += length
    if _read_number(elements, _COMMAND_FIELD) != _C_STORE_RQ:
        return None
    message_id, data_set_type = _read_number(elements, _MESSAGE_ID), _read_number(elements, _DATA_SET_TYPE)
    if message_id is None or data_set_type is None:
        raise InvalidCommand("a C-STORE without a Message ID or a Command Data Set Type")
    return StoreCommand(
        message_id=message_id,
        sop_class_uid=_read_uid(elements, _SOP_CLASS_UID),
        sop_instance_uid=_read_uid(elements, _SOP_INSTANCE_UID),
        has_data_set=data_set_type != _NO_DATA_SET,
    )


def encode_store_response(command: StoreCommand, status: Dataset) -> bytes:
    """Return the C-STORE-RSP to a request: its status, and the comment and the element if the status has them."""
    elements = [
        _encode_uid(_SOP_CLASS_UID, command.sop_class_uid),
        _US.pack(0, _COMMAND_FIELD, _US_BYTES, _C_STORE_RSP),
        _US.pack(0, _RESPONDED_TO, _US_BYTES, command.message_id),
        _US.pack(0, _DATA_SET_TYPE, _US_BYTES, _NO_DATA_SET),
        _US.pack(0, _STATUS, _US_BYTES, status.Status),
    ]
    if "OffendingElement" in status:
        tag = int(status.OffendingElement)
        elements.append(_AT.pack(0, _OFFENDING_ELEMENT, 4, tag >> 16, tag & 0xFFFF))
    if "ErrorComment" in status:
        elements.append(_encode_text(_ERROR_COMMENT, status.ErrorComment, b" "))
    elements.append(_encode_uid(_SOP_INSTANCE_UID, command.sop_instance_uid))
    body = b"".join(elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _read_number(elements: dict[int, bytes], element: int) -> int | None:
    value = elements.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == _US_BYTES else None


def _read_uid(elements: dict[int, bytes], element: int) -> str:
    value = elements.get(element, b"").rstrip(b" \0")
    return value.decode("ascii") if _UID.fullmatch(value) else ""


def _encode_uid(element: int, uid: str) -> bytes:
    return _encode_text(element, uid, b"\0") if uid else b""


def _encode_text(element: int, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    value += padding * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value
