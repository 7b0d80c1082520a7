"""P-DATA-TF (PS3.8 9.3.5): as received, cut into fragments without a copy, every length checked; and as sent."""

import struct
from collections.abc import Iterator

from pynetdicom.pdu_primitives import P_DATA

Values = list[tuple[int, memoryview]]
"""Context ID and message fragment, header byte included, of each presentation data value."""

_VALUE_HEADER_BYTES = 6
_IS_COMMAND, _IS_LAST = 1, 2


class ProtocolViolation(Exception):
    """The peer broke the protocol; the text says how and holds nothing that it sent."""


class DataPdu:
    """A received P-DATA-TF whose fragments are views into the bytes of the PDU."""

    def __init__(self, body: memoryview) -> None:
        self._values = parse_values(body)

    def to_primitive(self) -> P_DATA:
        """Return the fragments in the form that the state machine hands on."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)  # type: ignore[arg-type]
        return primitive


def parse_values(body: memoryview) -> Values:
    """Return the values of a P-DATA-TF (PS3.8 9.3.5.1, Annex E), views into its body.

    Raises ProtocolViolation unless the values fill the body exactly and each has its header byte.
    """
    values = []
    offset = 0
    while offset < len(body):
        start = offset + 5
        if start >= len(body):
            raise ProtocolViolation("a presentation data value ends before its header")
        end = offset + 4 + int.from_bytes(body[offset : offset + 4], "big")
        if not start < end <= len(body):
            raise ProtocolViolation("a presentation data value has an impossible length")
        values.append((body[offset + 4], body[start:end]))
        offset = end
    if not values:
        raise ProtocolViolation("a P-DATA-TF has no presentation data value")
    return values


def iter_command_fragments(command: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield a command set in fragments, header byte included, for PDUs no longer than the peer takes; 0 is no limit."""
    length = max(max_pdu_bytes - _VALUE_HEADER_BYTES, 1) if max_pdu_bytes else len(command)
    for start in range(0, len(command), length):
        is_last = start + length >= len(command)
        yield bytes([_IS_COMMAND | (_IS_LAST if is_last else 0)]) + command[start : start + length]


def encode_value(context_id: int, fragment: bytes) -> bytes:
    """Return a P-DATA-TF with one value."""
    return struct.pack(">BBLLB", 0x04, 0, len(fragment) + 5, len(fragment) + 1, context_id) + fragment
