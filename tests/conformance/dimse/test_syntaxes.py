"""Negotiation of presentation contexts (PS3.8 7.1.1.13, PS3.4 B.4): which classes, which syntaxes, in whose order."""

import hashlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.sop_class import (
    ColorPaletteInformationModelFind,
    MediaStorageDirectoryStorage,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
)

from pacs.imaging.syntaxes import ACCEPTED_ORDER
from pacs.ingest.incoming import encode_file_meta
from storage.keys import blob_key
from tests.conformance.dimse.scu import (
    CT,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    VERIFICATION,
    BareSocket,
    associate,
    decode_command,
    encode_store_command,
    send_bytes,
)

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_LOSSLESS, JPEG_BASELINE = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50"
HTJ2K = ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"]
JPEG_XL, HEVC, RLE = "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.5"
WITHOUT_PIXELS = [f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205)]  # JPIP: a URL stands for them
REAL_TIME = [f"1.2.840.10008.1.2.7.{number}" for number in (1, 2, 3)]

ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 0x03, 0x04


def test_syntaxes_that_a_file_can_hold_are_all_accepted():
    assert {*ALL_TRANSFER_SYNTAXES, *HTJ2K, JPEG_XL, HEVC, RLE} - {*WITHOUT_PIXELS, *REAL_TIME} <= {*ACCEPTED_ORDER}


@pytest.mark.parametrize("syntax", ACCEPTED_ORDER, ids=str)
def test_data_set_in_each_syntax_arrives_as_it_was_sent(server, keeper, syntax):
    data_set = syntax.encode() * 100
    with associate(server.port, [build_context(CT, syntax)]) as association:
        response = send_bytes(association, association.accepted_contexts[0], "2.25.77", data_set)
    assert response.Status == 0x0000
    assert keeper.kept[0].data_set == data_set
    assert pydicom.uid.UID(syntax).encode() in keeper.kept[0].file[:400]


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([IMPLICIT, DEFLATED], IMPLICIT),
        ([BIG_ENDIAN, DEFLATED], DEFLATED),
        ([IMPLICIT, EXPLICIT, JPEG_BASELINE], JPEG_BASELINE),
        ([EXPLICIT, JPEG_BASELINE, JPEG_LOSSLESS], JPEG_LOSSLESS),
        (["1.2.3.4", IMPLICIT], IMPLICIT),
    ],
)
def test_our_order_of_syntaxes_wins(server, proposed, chosen):
    with associate(server.port, [build_context(CT, proposed)]) as association:
        (context,) = association.accepted_contexts
        assert context.transfer_syntax == [chosen]


def test_contexts_of_one_class_are_chosen_each_for_itself(server):
    contexts = [build_context(CT, [IMPLICIT]), build_context(CT, [EXPLICIT, JPEG_LOSSLESS]), build_context(CT, "1.2.3")]
    with associate(server.port, contexts) as association:
        assert [c.transfer_syntax[0] for c in association.accepted_contexts] == [IMPLICIT, JPEG_LOSSLESS]
        assert [c.result for c in association.rejected_contexts] == [TRANSFER_SYNTAXES_NOT_SUPPORTED]


@pytest.mark.parametrize("max_pdu_bytes", [32, 64, 0, 0xFFFFFFFF])
def test_pdus_sent_are_no_longer_than_the_peer_asks_for(server, max_pdu_bytes):
    with BareSocket(server.port) as peer:
        peer.associate(syntaxes=[EXPLICIT], max_pdu_bytes=max_pdu_bytes)
        peer.send_data(1, encode_store_command(sop_instance_uid=b"1" * 64), is_command=True)
        peer.send_data(1, b"data", is_command=False)
        command, is_last = b"", False
        while not is_last:
            kind, body = peer.receive()
            assert kind == P_DATA
            assert len(body) <= (max_pdu_bytes or len(body))
            command, is_last = command + body[6:], bool(body[5] & 2)
    assert decode_command(command)[0x1000] == b"1" * 64
    assert decode_command(command)[0x0900] == b"\0\0"


def test_unknown_syntax_alone_is_refused(server):
    contexts = [build_context(VERIFICATION), build_context(CT, "1.2.3.4.5")]
    with associate(server.port, contexts) as association:
        assert association.is_established
        assert [c.result for c in association.rejected_contexts] == [TRANSFER_SYNTAXES_NOT_SUPPORTED]


@pytest.mark.parametrize("half", [slice(0, 128), slice(128, None)])
def test_every_storage_class_is_accepted_as_many_as_fit_an_association(server, half):
    contexts = AllStoragePresentationContexts[half]
    with associate(server.port, contexts) as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
    assert accepted == {context.abstract_syntax for context in contexts}


@pytest.mark.parametrize(
    "sop_class_uid",
    [
        "1.2.276.0.7230010.3.1.0.1",  # private, DCMTK's
        "1.3.12.2.1107.5.9.1",  # private, Siemens' CSA non-image
        "2.25.1234567890",
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine, retired
        "1.2.840.10008.5.1.4.1.1.9999",  # newer than every table
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image, retired
    ],
)
def test_private_retired_and_unknown_classes_are_stored(server, keeper, sop_class_uid):
    with associate(server.port, [build_context(sop_class_uid)]) as association:
        response = send_bytes(association, association.accepted_contexts[0], "2.25.77", b"private")
    assert response.Status == 0x0000
    assert keeper.kept[0].expected.sop_class_uid == sop_class_uid


@pytest.mark.parametrize(
    "abstract_syntax",
    [
        StorageCommitmentPushModel,
        ModalityPerformedProcedureStep,
        MediaStorageDirectoryStorage,
        ColorPaletteInformationModelFind,
        "1.2.840.10008.5.1.1.27",  # Stored Print Storage, retired
        "1.2.840.10008.3.1.2.1.1",  # Detached Patient Management, retired
        EXPLICIT,
    ],
)
def test_class_of_another_service_is_refused(server, abstract_syntax):
    contexts = [build_context(VERIFICATION), build_context(abstract_syntax)]
    with associate(server.port, contexts) as association:
        assert [c.result for c in association.rejected_contexts] == [ABSTRACT_SYNTAX_NOT_SUPPORTED]


def _find_corpus() -> list[Path]:
    return sorted(path for path in CORPUS.rglob("*") if path.is_file() and _is_dicom(path))


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_corpus() -> dict[UID, list[tuple[str, str, bytes]]]:
    """Return SOP class, SOP instance and encoded data set of every object, by transfer syntax."""
    objects: dict[UID, list[tuple[str, str, bytes]]] = {}
    for path in _find_corpus():
        try:
            meta = pydicom.filereader.read_file_meta_info(path)
            key, uid, syntax = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
        except Exception:  # noqa: BLE001 - a broken file meta is no C-STORE; STOW and import have these files
            continue
        if not (uid and len(uid) <= 64 and syntax in ACCEPTED_ORDER and key != MediaStorageDirectoryStorage):
            continue
        data = path.read_bytes()
        offset = 144 + int.from_bytes(data[140:144], "little")
        objects.setdefault(syntax, []).append((key, uid, data[offset:]))
    return objects


def _send_corpus(port: int, corpus: dict[UID, list[tuple[str, str, bytes]]]) -> list[int]:
    statuses = []
    for syntax, objects in corpus.items():
        contexts = [build_context(key, syntax) for key in {key for key, _, _ in objects}]
        with associate(port, contexts) as association:
            by_class = {context.abstract_syntax: context for context in association.accepted_contexts}
            for key, uid, data_set in objects:
                statuses.append(send_bytes(association, by_class[key], uid, data_set).Status)
    return statuses


def test_corpus_arrives_byte_for_byte(server, keeper):
    corpus = _read_corpus()
    assert set(_send_corpus(server.port, corpus)) <= {0x0000}
    assert [kept.data_set for kept in keeper.kept] == [
        data_set for objects in corpus.values() for _, _, data_set in objects
    ]


@pytest.mark.slow
def test_archive_answers_the_whole_corpus_and_keeps_what_it_accepts(start_server, parts):
    corpus = _read_corpus()
    statuses = iter(_send_corpus(start_server(parts.archive.ingest).port, corpus))
    for syntax, objects in corpus.items():
        for key, uid, data_set in objects:
            status = next(statuses)
            assert status in (0x0000, 0xB000, 0xB007, 0xA900) or status >> 12 == 0xC
            if status >> 12 in (0x0, 0xB):
                file = encode_file_meta(key, uid, syntax) + data_set
                assert parts.store.stat(blob_key(hashlib.sha256(file).hexdigest())).size_bytes == len(file)
