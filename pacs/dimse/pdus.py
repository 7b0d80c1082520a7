"""P-DATA-TF (PS3.8 9.3.5) as it is received: cut into fragments without a copy, every length checked first."""

from pynetdicom.pdu_primitives import P_DATA


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


def parse_values(body: memoryview) -> list[tuple[int, memoryview]]:
    """Return context ID and message fragment, header byte included, of each value (PS3.8 9.3.5.1, Annex E).

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
