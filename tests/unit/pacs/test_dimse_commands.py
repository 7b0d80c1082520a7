import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE

from pacs.dimse import status
from pacs.dimse.commands import InvalidCommand, StoreCommand, encode_store_response, parse_store_command
from pacs.ingest.outcome import Reason

CT = "1.2.840.10008.5.1.4.1.1.2"


def encode(*elements: tuple[int, bytes], group: int = 0) -> bytes:
    return b"".join(struct.pack("<HHL", group, element, len(value)) + value for element, value in elements)


def encode_by_pynetdicom(message: C_STORE_RQ | C_STORE_RSP, primitive: C_STORE) -> bytes:
    message.primitive_to_message(primitive)
    (data,) = message.encode_msg(1, 0)
    return data.presentation_data_value_list[0][1][1:]


REQUEST = (
    (0x0002, CT.encode() + b"\0"),
    (0x0100, b"\x01\0"),
    (0x0110, b"\x05\0"),
    (0x0700, b"\x02\0"),
    (0x0800, b"\x01\0"),
    (0x1000, b"2.25.1"),
)


def test_request_that_pynetdicom_sends_is_read():
    request = C_STORE()
    request.MessageID, request.Priority = 65535, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(CT), UID("2.25.123")
    request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = "STORE", 7
    assert parse_store_command(encode_by_pynetdicom(C_STORE_RQ(), request)) == StoreCommand(
        65535, CT, "2.25.123", has_data_set=False
    )


def test_request_says_whether_a_data_set_follows():
    command = parse_store_command(encode(*REQUEST))
    assert command == StoreCommand(5, CT, "2.25.1", has_data_set=True)


def test_elements_in_any_order_and_of_other_groups_do_not_matter():
    odd = encode((0x1000, b"9.9"), group=8)
    assert parse_store_command(odd + encode(*reversed(REQUEST))) == parse_store_command(encode(*REQUEST))


@pytest.mark.parametrize(
    "command",
    [b"", b"\0", encode((0x0100, b"\x30\0")), encode(*REQUEST)[:-1], encode(*REQUEST, (0x0100, b"\1\0\1\0"))],
)
def test_what_is_no_readable_store_request_is_left_to_others(command):
    assert parse_store_command(command) is None


def test_no_cut_of_a_request_is_taken_for_more_than_it_is():
    whole = encode(*REQUEST)
    for length in range(len(whole)):
        try:
            command = parse_store_command(whole[:length])
        except InvalidCommand:
            continue
        assert command is None or command.sop_instance_uid == ""


@pytest.mark.parametrize("element", [0x0110, 0x0800])
@pytest.mark.parametrize("value", [None, b"", b"\1", b"\1\0\2\0"])
def test_request_that_no_answer_can_refer_to_is_invalid(element, value):
    elements = [pair for pair in REQUEST if pair[0] != element]
    with pytest.raises(InvalidCommand):
        parse_store_command(encode(*elements, *([] if value is None else [(element, value)])))


@pytest.mark.parametrize("uid", ["2.25.1", "2.25.12", ""])
@pytest.mark.parametrize(
    "answer",
    [
        status.build_code(status.SUCCESS),
        status.build_refusal(Reason.OUT_OF_RESOURCES),
        status.build_refusal(Reason.SOP_INSTANCE_MISMATCH),
        status.build_refusal(Reason.STUDY_MISMATCH),
        status.build_refusal(Reason.CONFLICT),
    ],
    ids=lambda answer: f"{answer.Status:04X}",
)
def test_response_is_what_pynetdicom_would_send(answer: Dataset, uid: str):
    response = C_STORE()
    response.MessageIDBeingRespondedTo = 300
    response.AffectedSOPClassUID = UID(CT)
    response.AffectedSOPInstanceUID = UID(uid) if uid else None
    for element in answer:
        setattr(response, element.keyword, element.value)
    command = StoreCommand(300, CT, uid, has_data_set=True)
    assert encode_store_response(command, answer) == encode_by_pynetdicom(C_STORE_RSP(), response)
