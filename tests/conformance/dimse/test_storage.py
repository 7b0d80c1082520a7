"""C-STORE as an SCP (PS3.4 Annex B): the archive is given what came in, and its answer is what goes out."""

import errno
import hashlib
import os
import resource
import subprocess
import threading
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context

from pacs.dimse.peers import Peer, Peers
from pacs.errors import OutOfResources
from pacs.ingest.incoming import encode_file_meta
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.model import DuplicatePolicy
from storage.keys import blob_key
from tests.builders import as_dataset_bytes, build_dataset
from tests.conformance.dimse.scu import (
    ABORT,
    CT,
    IMPLICIT,
    NO_DATA_SET,
    VERIFICATION,
    BareSocket,
    associate,
    encode_data,
    encode_store_command,
    send_bytes,
)

MR = "1.2.840.10008.5.1.4.1.1.4"
DATA_SET = bytes(range(256)) * 64


def store_bare(port: int, *commands: bytes, data_set: bytes = DATA_SET) -> list[tuple[int, str]]:
    """Send each command with a data set on one association and return the statuses and comments."""
    with BareSocket(port) as peer:
        peer.associate(CT, VERIFICATION)
        answers = []
        for command in commands:
            peer.send_data(1, command, is_command=True)
            peer.send_data(1, data_set, is_command=False)
            answers.append(peer.receive_status())
        return answers


def test_bytes_arrive_behind_a_file_meta_that_names_them(server, keeper):
    data_set = b"\x08\x00\x60\x00CS\x02\x00CT"
    with associate(server.port, [build_context(CT, ExplicitVRLittleEndian)]) as association:
        response = send_bytes(association, association.accepted_contexts[0], "2.25.77", data_set)
    assert response.Status == 0x0000
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (CT, "2.25.77")
    (kept,) = keeper.kept
    assert kept.data_set == data_set
    meta = pydicom.dcmread(BytesIO(kept.file)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "2.25.77"
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (kept.expected.sop_class_uid, kept.expected.sop_instance_uid) == (CT, "2.25.77")


def test_same_data_set_becomes_the_same_file_every_time(server, keeper):
    for calling in ("ONE", "TWO"):
        with associate(server.port, [build_context(CT)], calling=calling) as association:
            send_bytes(association, association.accepted_contexts[0], "2.25.77", DATA_SET)
    assert keeper.kept[0].file == keeper.kept[1].file


def test_origin_is_who_sent_it(server, keeper):
    with associate(server.port, [build_context(CT)], calling="CT_1", called="STORE") as association:
        send_bytes(association, association.accepted_contexts[0], "2.25.77", DATA_SET)
    origin = keeper.kept[0].origin
    assert (origin.door, origin.address) == ("dimse", "127.0.0.1")
    assert (origin.calling_ae_title, origin.called_ae_title) == ("CT_1", "STORE")


@pytest.mark.parametrize("reason", [None, *Reason], ids=lambda reason: reason.name if reason else "SUCCESS")
def test_outcome_is_answered_with_its_status_and_comment(start_server, keeper, reason):
    stored = reason is None or reason.is_warning
    keeper.answer = lambda _: Outcome(Disposition.STORED if stored else Disposition.REJECTED, reason)
    ((status, comment),) = store_bare(start_server(keeper).port, encode_store_command())
    assert status == (reason.code if reason else 0x0000)
    assert comment == (reason.comment if reason else "")
    assert status in (0x0000, 0x0124, 0xB000, 0xB006, 0xB007) or status >> 8 in (0xA7, 0xA9) or status >> 12 == 0xC


def test_fault_in_the_archive_is_a_processing_failure_and_the_association_goes_on(start_server, keeper, caplog):
    faults = iter([True, False])

    def answer(_):
        if next(faults):
            raise ValueError("CANARY^PHI")
        return Outcome(Disposition.STORED)

    keeper.answer = answer
    command = encode_store_command()
    answers = store_bare(start_server(keeper).port, command, command)
    assert [status for status, _ in answers] == [0x0110, 0x0000]
    assert "CANARY" not in "".join(comment for _, comment in answers)
    assert "2.25.77" in caplog.messages[-1]
    assert not any("CANARY" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("sop_class_uid", "sop_instance_uid"),
    [
        (CT.encode(), b""),
        (CT.encode(), None),
        (CT.encode(), b"1." + b"2" * 63),
        (CT.encode(), b"1.2.3/../../etc"),
        (CT.encode(), b"DOE^JOHN"),
        (CT.encode(), b"1.2\\1.3"),
        (CT.encode(), b"\xff\xfe\x00\x01"),
        (CT.encode(), b"9" * 40_000),
        (b"", b"2.25.77"),
        (None, b"2.25.77"),
        (b"CT Image", b"2.25.77"),
    ],
)
def test_malformed_uid_in_the_command_is_an_answer_and_no_abort(
    server, keeper, caplog, sop_class_uid, sop_instance_uid
):
    bad, good = encode_store_command(sop_class_uid, sop_instance_uid), encode_store_command()
    answers = store_bare(server.port, bad, good)
    assert answers == [(0xA900, Reason.INVALID_UID.comment), (0x0000, "")]
    assert [kept.expected.sop_instance_uid for kept in keeper.kept] == ["2.25.77"]
    assert "DOE" not in caplog.text


@pytest.mark.parametrize("padding", [b"\0", b" ", b"  \0", b""])
def test_padding_of_a_uid_is_not_part_of_it(server, keeper, padding):
    assert store_bare(server.port, encode_store_command(sop_instance_uid=b"2.25.77" + padding)) == [(0x0000, "")]
    assert keeper.kept[0].expected.sop_instance_uid == "2.25.77"


def test_store_without_a_data_set_cannot_be_understood(server, keeper):
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.send_data(1, encode_store_command(data_set_type=NO_DATA_SET), is_command=True)
        assert peer.receive_status() == (0xC000, Reason.NOT_DICOM.comment)
        peer.send_data(1, encode_store_command(), is_command=True)
        peer.send_data(1, b"", is_command=False)
        assert peer.receive_status() == (0xC000, Reason.NOT_DICOM.comment)
    assert keeper.kept == []


def test_store_in_a_context_for_echo_is_refused(server, keeper):
    with BareSocket(server.port) as peer:
        peer.associate(CT, VERIFICATION)
        peer.send_data(3, encode_store_command(), is_command=True)
        peer.send_data(3, DATA_SET, is_command=False)
        assert peer.receive_status()[0] == 0x0122
    assert keeper.kept == []


def test_command_and_data_set_may_come_in_one_pdu_or_in_many_pieces(server, keeper):
    command = encode_store_command()
    with BareSocket(server.port) as peer:
        peer.associate()
        first, second = encode_data(1, command, is_command=True), encode_data(1, DATA_SET, is_command=False)
        peer.socket.sendall(b"\x04\0" + (len(first) + len(second) - 12).to_bytes(4, "big") + first[6:] + second[6:])
        assert peer.receive_status() == (0x0000, "")
        for offset in range(0, len(command), 7):
            piece = command[offset : offset + 7]
            peer.send_data(1, piece, is_command=True, is_last=offset + 7 >= len(command))
        for offset in range(0, len(DATA_SET), 1000):
            piece = DATA_SET[offset : offset + 1000]
            peer.send_data(1, piece, is_command=False, is_last=offset + 1000 >= len(DATA_SET))
        assert peer.receive_status() == (0x0000, "")
    assert [kept.data_set for kept in keeper.kept] == [DATA_SET] * 2


class _FullSpool:
    def __init__(self, spool, room_bytes: int, error: Exception) -> None:
        self._spool, self._room_bytes, self._error = spool, room_bytes, error
        self.is_closed = False

    def write(self, data) -> int:
        if self._spool.size_bytes + len(data) > self._room_bytes:
            raise self._error
        return self._spool.write(data)

    def close(self) -> None:
        self.is_closed = True
        self._spool.close()


@pytest.mark.parametrize("room_bytes", [0, 3_000], ids=["before the first byte", "in the midst"])
@pytest.mark.parametrize("error", [OutOfResources(), OSError(errno.EIO, "CANARY^PHI")], ids=["full", "broken"])
def test_full_disk_is_out_of_resources_and_the_association_goes_on(
    start_server, keeper, monkeypatch, room_bytes, error
):
    open_spool = keeper.open_spool
    full = _FullSpool(open_spool(), room_bytes, error)
    spools = iter([full])
    monkeypatch.setattr(keeper, "open_spool", lambda: next(spools, None) or open_spool())
    command = encode_store_command()
    with BareSocket(start_server(keeper).port) as peer:
        peer.associate()
        peer.send_data(1, command, is_command=True)
        for _ in range(4):
            peer.send_data(1, DATA_SET[:1500], is_command=False, is_last=False)
        peer.send_data(1, DATA_SET, is_command=False)
        status, comment = peer.receive_status()
        assert status == 0xA700
        assert "CANARY" not in comment
        assert full.is_closed
        peer.send_data(1, command, is_command=True)
        peer.send_data(1, DATA_SET, is_command=False)
        assert peer.receive_status() == (0x0000, "")
    assert len(keeper.kept) == 1


def test_large_data_set_is_in_a_file_and_not_in_memory(start_server, keeper):
    keeper.keeps_bytes = False
    piece = os.urandom(1024) * 250
    server = start_server(keeper)
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.send_data(1, encode_store_command(), is_command=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pdu = encode_data(1, piece, is_command=False, is_last=False)
        for _ in range(1200):
            peer.socket.sendall(pdu)
        peer.send_data(1, piece, is_command=False)
        assert peer.receive_status() == (0x0000, "")
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert keeper.kept[0].spool_path is not None
    assert grown_kib < 100 * 1024
    assert not list(Path(keeper.directory).iterdir())


def test_nothing_is_left_of_a_peer_that_vanishes_in_the_midst(start_server, keeper):
    server = start_server(keeper)
    with BareSocket(server.port) as peer:
        peer.associate()
        peer.send_data(1, encode_store_command(), is_command=True)
        for _ in range(100):
            peer.send_data(1, b"x" * 200_000, is_command=False, is_last=False)
        while not list(Path(keeper.directory).iterdir()):
            pass
    server.stop(grace_seconds=5)
    assert keeper.kept == []
    assert not list(Path(keeper.directory).iterdir())


def test_many_associations_store_at_once(server, keeper):
    failures: list[object] = []

    def send(number: int) -> None:
        with associate(server.port, [build_context(CT), build_context(MR)], calling=f"PEER_{number}") as association:
            for index in range(20):
                context = association.accepted_contexts[index % 2]
                uid = f"2.25.{number * 1000 + index}"
                response = send_bytes(association, context, uid, uid.encode() * 1000)
                if response.Status != 0x0000 or response.AffectedSOPInstanceUID != uid:
                    failures.append(response)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(keeper.kept) == 160
    assert all(kept.data_set == kept.expected.sop_instance_uid.encode() * 1000 for kept in keeper.kept)


def _write_files(directory: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        dataset = build_dataset(SOPClassUID=CT)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = directory / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_dcmtk_stores(start_server, keeper, dcmtk, tmp_path, program):
    (tmp_path / "files").mkdir()
    paths = _write_files(tmp_path / "files", 3)
    port = str(start_server(keeper).port)
    subprocess.run([dcmtk(program), "127.0.0.1", port, *map(str, paths)], check=True, timeout=60, capture_output=True)
    sent = {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths}
    assert {kept.expected.sop_instance_uid for kept in keeper.kept} == sent


def test_dcmtk_reports_a_refusal(start_server, keeper, dcmtk, tmp_path):
    keeper.answer = lambda _: Outcome(Disposition.REJECTED, Reason.SOP_INSTANCE_MISMATCH)
    (path,) = _write_files(tmp_path, 1)
    command = [dcmtk("storescu"), "-v", "127.0.0.1", str(start_server(keeper).port), str(path)]
    printed = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert "DataSetDoesNotMatchSOPClass" in printed.stdout + printed.stderr


def test_stored_under_a_context_that_was_not_accepted_aborts(server, keeper):
    with BareSocket(server.port) as peer:
        peer.associate(syntaxes=[IMPLICIT])
        peer.send_data(99, encode_store_command(), is_command=True)
        assert peer.receive()[0] == ABORT
    assert keeper.kept == []


def _encode(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    encoded = BytesIO()
    pydicom.dcmwrite(encoded, dataset, implicit_vr=syntax == IMPLICIT, little_endian=True)
    return encoded.getvalue()


class TestArchive:
    """The same port in front of a real archive."""

    @pytest.fixture
    def port(self, start_server, archive) -> int:
        return start_server(archive.ingest).port

    def send(self, port: int, *data_sets: tuple[str, bytes]) -> list[int]:
        with associate(port, [build_context(CT, ExplicitVRLittleEndian)]) as association:
            (context,) = association.accepted_contexts
            return [send_bytes(association, context, uid, data).Status for uid, data in data_sets]

    def test_data_set_is_kept_as_it_was_sent(self, port, parts):
        dataset = build_dataset(SOPClassUID=CT)
        uid, encoded = dataset.SOPInstanceUID, _encode(dataset)
        assert self.send(port, (uid, encoded)) == [0x0000]
        file = encode_file_meta(CT, uid, ExplicitVRLittleEndian) + encoded
        key = blob_key(hashlib.sha256(file).hexdigest())
        assert parts.store.read_range(key, 0, len(file) + 1) == file

    def test_second_sending_is_a_success_and_another_data_set_a_warning(self, port):
        dataset = build_dataset(SOPClassUID=CT)
        uid, first = dataset.SOPInstanceUID, _encode(dataset)
        dataset.PatientName = "OTHER^NAME"
        assert self.send(port, (uid, first), (uid, first), (uid, _encode(dataset))) == [0x0000, 0x0000, 0xB000]

    def test_uid_with_a_leading_zero_is_stored_with_a_warning(self, port, parts):
        encoded = as_dataset_bytes(build_dataset(SOPClassUID=CT, SOPInstanceUID="2.25.1234567"))
        encoded = encoded.replace(b"2.25.1234567", b"2.25.0234567")
        for _ in range(2):
            with BareSocket(port) as peer:
                peer.associate(syntaxes=[ExplicitVRLittleEndian])
                peer.send_data(1, encode_store_command(sop_instance_uid=b"2.25.0234567"), is_command=True)
                peer.send_data(1, encoded, is_command=False)
                code, comment = peer.receive_status()
                assert code == 0xB007
                assert 0 < len(comment) <= 64
        assert len(list(parts.store.iter_keys())) == 1

    def test_padding_of_uids_does_not_make_them_differ(self, port):
        encoded = as_dataset_bytes(build_dataset(SOPClassUID=CT, SOPInstanceUID="2.25.1234567"))
        padded = encoded.replace(b"2.25.1234567", b"2.25.123456 ")
        with BareSocket(port) as peer:
            peer.associate(syntaxes=[ExplicitVRLittleEndian])
            peer.send_data(1, encode_store_command(sop_instance_uid=b"2.25.123456"), is_command=True)
            peer.send_data(1, padded, is_command=False)
            assert peer.receive_status() == (0x0000, "")

    def test_same_uid_in_another_study_is_a_warning(self, port):
        first, second = (build_dataset(SOPClassUID=CT, SOPInstanceUID="2.25.77") for _ in range(2))
        assert self.send(port, ("2.25.77", _encode(first)), ("2.25.77", _encode(second))) == [0x0000, 0xB000]

    def test_policy_of_the_peer_decides_about_another_data_set(self, start_server, archive):
        rejecting = Peer("TESTER", duplicate_policy=DuplicatePolicy.REJECT)
        port = start_server(archive.ingest, peers=Peers((rejecting,))).port
        dataset = build_dataset(SOPClassUID=CT)
        uid, first = dataset.SOPInstanceUID, _encode(dataset)
        dataset.PatientName = "OTHER^NAME"
        with associate(port, [build_context(CT, ExplicitVRLittleEndian)]) as association:
            (context,) = association.accepted_contexts
            stored, refused = (send_bytes(association, context, uid, data) for data in (first, _encode(dataset)))
        assert stored.Status == 0x0000
        assert refused.Status >> 12 == 0xC
        assert 0 < len(refused.ErrorComment) <= 64
        assert "OTHER" not in refused.ErrorComment

    def test_uids_that_differ_from_the_command_are_refused(self, port):
        dataset = build_dataset(SOPClassUID=CT)
        other_class = build_dataset(SOPClassUID=MR)
        statuses = self.send(port, ("2.25.77", _encode(dataset)), (other_class.SOPInstanceUID, _encode(other_class)))
        assert statuses == [0xA900, 0xA900]

    def test_what_is_no_data_set_is_an_answer_and_the_association_goes_on(self, port):
        dataset = build_dataset(SOPClassUID=CT)
        uid, encoded = dataset.SOPInstanceUID, _encode(dataset)
        statuses = self.send(port, ("2.25.77", os.urandom(1000)), (uid, encoded[:-1]), (uid, encoded))
        assert [status >> 12 for status in statuses[:2]] == [0xC, 0xC]
        assert statuses[2] == 0x0000
