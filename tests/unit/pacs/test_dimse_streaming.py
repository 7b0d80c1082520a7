import pytest
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE

from pacs.dimse.streaming import find_data_set, iter_data_set, iter_fragments, iter_message
from tests.builders import as_dataset_bytes, as_part10, build_ct

CT = "1.2.840.10008.5.1.4.1.1.2"


def in_pieces(data, length_bytes):
    return [data[start : start + length_bytes] for start in range(0, len(data), length_bytes)]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 200, 1_000_000])
def test_data_set_is_what_follows_the_file_meta_however_the_file_is_cut(chunk_bytes):
    ct = build_ct()
    file = as_part10(ct)
    found = b"".join(iter_data_set(in_pieces(file, chunk_bytes)))
    assert found == as_dataset_bytes(ct, "1.2.840.10008.1.2.1")


META = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
LONG = b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\0\1"
DATA = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\x08\x00\x16\x00UI\x02\x001\0"


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM" + LONG + META,
        b"DICM" + META,
        META,
        b"\0" * 128 + b"DICM" + b"\x02\x00\0\0UL\x04\0\xff\xff\xff\x7f" + META,
        b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00\x14\0\0\x001.2.840.10008.1.2.1\0",
        b"\0" * 128 + b"DICM" + META + b"\0\0\0\0\x04\0\0\0\x0a\0\0\0" + b"\0\0\0\1\x02\0\0\0\1\0",
    ],
    ids=["bare", "preamble", "usual", "no preamble", "meta only", "wrong length", "implicit meta", "command set"],
)
def test_data_set_is_found_behind_what_devices_write_before_it(before):
    assert b"".join(iter_data_set([before + DATA])) == DATA
    assert b"".join(iter_data_set(in_pieces(before + DATA, 5))) == DATA


def test_file_that_is_only_meta_has_no_data_set():
    assert b"".join(iter_data_set([b"\0" * 128 + b"DICM" + META])) == b""


def test_more_of_the_file_is_asked_for_only_while_it_takes_more():
    head = b"\0" * 128 + b"DICM" + META
    assert find_data_set(head[:100], is_complete=False) is None
    assert find_data_set(head, is_complete=False) is None
    assert find_data_set(head + DATA, is_complete=False) == len(head)
    endless = b"\0" * 128 + b"DICM\x02\0\x01\0OB\0\0\xff\xff\xff\xff"
    assert find_data_set(endless, is_complete=False) is None


@pytest.mark.parametrize("chunk_bytes", [1, 3, 10, 64])
@pytest.mark.parametrize("length_bytes", [2, 10, 100])
@pytest.mark.parametrize("size", [0, 1, 10, 20, 55])
def test_fragments_are_full_but_for_the_last_which_says_so(size, length_bytes, chunk_bytes):
    data = bytes(range(size))
    fragments = list(iter_fragments(in_pieces(data, chunk_bytes), length_bytes))
    assert b"".join(fragment for fragment, _ in fragments) == data
    assert [is_last for _, is_last in fragments] == [False] * (len(fragments) - 1) + [True]
    assert all(len(fragment) == length_bytes for fragment, _ in fragments[:-1])
    assert 0 < len(fragments[-1][0]) <= length_bytes or not size


@pytest.mark.parametrize("max_pdu_bytes", [0, 7, 8, 100, 16384, 1_000_000])
def test_message_is_one_that_pynetdicom_reads(max_pdu_bytes):
    file = as_part10(build_ct())
    command = C_STORE()
    command.MessageID, command.Priority = 7, 2
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CT, "2.25.1"
    message = DIMSEMessage()
    lengths = []
    for primitive in iter_message(command, in_pieces(file, 500), 3, max_pdu_bytes):
        ((_, fragment),) = primitive.presentation_data_value_list
        lengths.append(len(fragment) + 5)
        is_complete = message.decode_msg(primitive)
    assert is_complete
    read = message.message_to_primitive()
    assert (read.MessageID, read.AffectedSOPInstanceUID) == (7, "2.25.1")
    assert read.DataSet.getvalue() == b"".join(iter_data_set([file]))
    assert max(lengths) <= max(max_pdu_bytes, 8) or not max_pdu_bytes
    assert all(length % 2 == 0 for length in lengths)


def test_no_more_of_a_file_is_read_than_is_sent():
    read = []

    def chunks():
        for number in range(100):
            read.append(number)
            yield b"\x08\x00" + b"x" * 1022

    command = C_STORE()
    command.MessageID, command.Priority = 7, 2
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CT, "2.25.1"
    message = iter_message(command, chunks(), 1, 1030)
    for _ in range(5):
        next(message)
    assert len(read) < 8
