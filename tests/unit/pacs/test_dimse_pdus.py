import struct

import pytest

from pacs.dimse.pdus import DataPdu, ProtocolViolation, parse_values


def encode(context_id: int, fragment: bytes) -> bytes:
    return struct.pack(">LB", len(fragment) + 1, context_id) + fragment


def test_values_are_views_of_the_body_in_order():
    body = encode(1, b"\x03command") + encode(1, b"\x00data") + encode(3, b"\x02")
    values = parse_values(memoryview(body))
    assert [(context_id, bytes(fragment)) for context_id, fragment in values] == [
        (1, b"\x03command"),
        (1, b"\x00data"),
        (3, b"\x02"),
    ]
    assert all(fragment.obj is body for _, fragment in values)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\0\0\x02\x01",
        b"\0\0\0\0\x01\x03",
        b"\0\0\0\x01\x01\x03",
        b"\xff\xff\xff\xff\x01\x03",
        encode(1, b"\x03") + b"\0",
        encode(1, b"\x03abc")[:-1],
    ],
)
def test_values_that_do_not_fill_the_body_break_the_protocol(body):
    with pytest.raises(ProtocolViolation):
        parse_values(memoryview(body))


def test_every_cut_of_a_body_is_refused():
    body = encode(1, b"\x03command") + encode(1, b"\x02data")
    first_length = len(encode(1, b"\x03command"))
    for length in range(len(body)):
        if length != first_length:
            with pytest.raises(ProtocolViolation):
                parse_values(memoryview(body[:length]))


def test_primitive_holds_the_fragments():
    primitive = DataPdu(memoryview(encode(5, b"\x02data"))).to_primitive()
    assert [(number, bytes(fragment)) for number, fragment in primitive.presentation_data_value_list] == [
        (5, b"\x02data")
    ]
