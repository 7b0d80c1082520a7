"""A file's data set as P-DATA (PS3.8 9.3.5, Annex E): read in chunks, sent in fragments, never held as a whole."""

from collections.abc import Iterable, Iterator
from io import BytesIO

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

_MAX_FRAGMENT_BYTES = 256 * 1024
_MIN_FRAGMENT_BYTES = 2
_VALUE_HEADER_BYTES = 6

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_META_GROUP = b"\x02\x00"
_COMMAND_SET = b"\0\0\0\0\x04\0\0\0"
_ELEMENT_BYTES = 12
_SHORT_VRS = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_16)
_LONG_VRS = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
_MAX_META_BYTES = 1024 * 1024


def iter_message(command: C_STORE, chunks: Iterable[bytes], context_id: int, max_pdu_bytes: int) -> Iterator[P_DATA]:
    """Yield a C-STORE-RQ as P-DATA: its command, then the data set of the file that the chunks make.

    No PDU is longer than ``max_pdu_bytes``, counted without its first six bytes, 0 for no limit; nor than 256 KiB.
    """
    command.DataSet = BytesIO()  # none to pynetdicom, but the command says that one follows
    message = C_STORE_RQ()
    message.primitive_to_message(command)
    limit = min(max_pdu_bytes or _MAX_FRAGMENT_BYTES, _MAX_FRAGMENT_BYTES)
    length_bytes = max((limit - _VALUE_HEADER_BYTES) // 2 * 2, _MIN_FRAGMENT_BYTES)
    yield from message.encode_msg(context_id, length_bytes + _VALUE_HEADER_BYTES)
    for fragment, is_last in iter_fragments(iter_data_set(chunks), length_bytes):
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, (b"\x02" if is_last else b"\x00") + fragment))
        yield primitive


def iter_fragments(chunks: Iterable[bytes], length_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the bytes in pieces of ``length_bytes``, the last one shorter, and whether it is the last; at least one."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        offset = 0
        # The last piece stays back: only what follows tells whether it is the last of all.
        while len(data) - offset > length_bytes:
            yield data[offset : offset + length_bytes], False
            offset += length_bytes
        rest = data[offset:]
    yield rest, True


def iter_data_set(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a file without what stands before its data set: preamble, file meta information, a stray command set."""
    source = iter(chunks)
    head = b""
    start = None
    while start is None:
        chunk = next(source, b"")
        head += chunk
        start = find_data_set(head, is_complete=not chunk or len(head) > _MAX_META_BYTES)
    yield head[start:]
    yield from source


def find_data_set(head: bytes, *, is_complete: bool) -> int | None:
    """Return where the data set begins, as ingest reads it; None if it takes more of the file to tell.

    Element by element, for the length that group 0002 gives of itself is often absent or wrong.
    """
    if len(head) < _PREAMBLE_BYTES + len(_MAGIC) and not is_complete:
        return None
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_MAGIC)] == _MAGIC:
        position = _PREAMBLE_BYTES + len(_MAGIC)
    else:
        position = len(_MAGIC) if head.startswith(_MAGIC) else 0
    first_vr = head[position + 4 : position + 6]
    is_implicit_vr = not (first_vr.isalpha() and first_vr.isupper())
    while head[position : position + 2] == _META_GROUP:
        if len(head) < position + _ELEMENT_BYTES and not is_complete:
            return None
        position = _end_of_element(head, position, is_implicit_vr=is_implicit_vr)
    if len(head) < position + _ELEMENT_BYTES and not is_complete:
        return None
    if head[position : position + len(_COMMAND_SET)] == _COMMAND_SET:
        length_bytes = int.from_bytes(head[position + 8 : position + 12], "little")
        position += _ELEMENT_BYTES + length_bytes
    return position if position <= len(head) or is_complete else None


def _end_of_element(head: bytes, position: int, *, is_implicit_vr: bool) -> int:
    element = head[position : position + _ELEMENT_BYTES]
    if not is_implicit_vr and element[4:6] in _LONG_VRS:
        return position + 12 + int.from_bytes(element[8:12], "little")
    if not is_implicit_vr and element[4:6] in _SHORT_VRS:
        return position + 8 + int.from_bytes(element[6:8], "little")
    return position + 8 + int.from_bytes(element[4:8], "little")
