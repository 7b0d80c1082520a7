"""C-MOVE to destinations of every kind, of objects of every kind (PS3.4 C.4.2): what arrives, and what is answered."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.dsutils import decode

from pacs.dimse import retrieve, sending
from tests.builders import as_dataset_bytes, build_ct, build_dataset, build_image, new_uid
from tests.conformance.dimse.holding import (
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Serving,
    build_identifier,
    build_study,
    counts,
    destination,
    failed_list,
    move,
    request_association,
    serve,
    store,
)
from tests.conformance.dimse.receivers import Receiver, data_set_of, free_port, run_receiver
from tests.conformance.dimse.scu import CT, EXPLICIT, IMPLICIT, associate, send_bytes
from tests.scenarios.process import ArchiveProcess, serving

DEFLATED, BIG_ENDIAN, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
MIB = 1 << 20


def of_study(dataset: Dataset) -> Dataset:
    return build_identifier("STUDY", StudyInstanceUID=dataset.StudyInstanceUID)


def build_mixed_study() -> list[Dataset]:
    """Return a report, a document, a film loop and a slice of one study."""
    slice_ = build_ct()
    same = {keyword: slice_[keyword].value for keyword in ("PatientID", "StudyInstanceUID")}
    report = build_dataset(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", ValueType="CONTAINER", **same)
    document = build_dataset(Modality="DOC", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", **same)
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = b"%PDF-1.4 " + bytes(range(256)) + b"\0"
    loop = build_dataset(Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", **same)
    loop.update(build_image(16, 16, 10))
    return [report, document, loop, slice_]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_objects_with_and_without_pixels_reach_a_destination_of_one_syntax(archive, syntax):
    study = build_mixed_study()
    store(archive, *study)
    with run_receiver(syntaxes=[syntax]) as receiver, serve(archive, destination(receiver.port)) as server:
        status, _ = move(server, of_study(study[0]))[-1]
    assert (status.Status, counts(status)) == (0x0000, (None, 4, 0, 0))
    arrived = {one.sop_instance_uid: decode_as(one.data_set, syntax) for one in receiver.received}
    assert {uid: one.to_json_dict() for uid, one in arrived.items()} == {
        one.SOPInstanceUID: decode_as(as_dataset_bytes(one), EXPLICIT).to_json_dict() for one in study
    }


def decode_as(data_set: bytes, syntax: str) -> Dataset:
    return decode(BytesIO(data_set), syntax == IMPLICIT, syntax != BIG_ENDIAN, syntax == DEFLATED)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_objects_with_and_without_pixels_reach_who_gets_them_in_one_syntax(archive, syntax):
    study = build_mixed_study()
    store(archive, *study)
    arrived = {}

    def keep(event) -> int:
        arrived[str(event.request.AffectedSOPInstanceUID)] = decode_as(event.request.DataSet.getvalue(), syntax)
        return 0x0000

    classes = [one.SOPClassUID for one in study]
    with (
        serve(archive) as server,
        request_association(
            server.port, STUDY_ROOT_GET, classes, [syntax], handlers=[(evt.EVT_C_STORE, keep)]
        ) as association,
    ):
        *_, (status, _) = association.send_c_get(of_study(study[0]), STUDY_ROOT_GET)
    assert (status.Status, counts(status)) == (0x0000, (None, 4, 0, 0))
    assert {uid: one.to_json_dict() for uid, one in arrived.items()} == {
        one.SOPInstanceUID: decode_as(as_dataset_bytes(one), EXPLICIT).to_json_dict() for one in study
    }


def test_compressed_only_gets_the_pictures_and_is_told_of_the_rest(archive):
    study = build_mixed_study()
    store(archive, *study)
    with run_receiver(syntaxes=[RLE]) as receiver, serve(archive, destination(receiver.port)) as server:
        status, identifier = move(server, of_study(study[0]))[-1]
    report, document, loop, slice_ = (one.SOPInstanceUID for one in study)
    assert (status.Status, counts(status)) == (0xB000, (None, 2, 2, 0))
    assert set(receiver.data_sets) == {loop, slice_}
    assert set(failed_list(identifier)) == {report, document}


def test_big_endian_only_is_out_of_reach_and_every_uid_is_listed(archive):
    """It is retired, and nothing is written in it here."""
    study = build_mixed_study()
    store(archive, *study)
    with run_receiver(syntaxes=[BIG_ENDIAN]) as receiver, serve(archive, destination(receiver.port)) as server:
        status, identifier = move(server, of_study(study[0]))[-1]
    assert (status.Status, counts(status)) == (0xA702, (None, 0, 4, 0))
    assert set(failed_list(identifier)) == {one.SOPInstanceUID for one in study}


def test_archive_as_its_own_destination_keeps_what_it_has(archive):
    study = build_study(3)
    store(archive, *study)
    port = free_port()
    with serve(archive, destination(port, "PACS"), port=port) as server:
        for _ in range(2):
            status, _ = move(server, of_study(study[0]), to="PACS")[-1]
            assert (status.Status, counts(status)) == (0x0000, (None, 3, 0, 0))


def test_destination_that_falls_silent_fails_what_it_was_sent(archive, monkeypatch):
    monkeypatch.setattr(sending, "_RESPONSE_SECONDS", 0.5)
    study = build_study(3)
    store(archive, *study)
    silent = study[1].SOPInstanceUID
    is_over = threading.Event()

    def answer(one):
        if one.sop_instance_uid == silent:
            is_over.wait(20)
        return 0x0000

    with run_receiver(answer) as receiver, serve(archive, destination(receiver.port)) as server:
        status, identifier = move(server, of_study(study[0]))[-1]
        is_over.set()
    assert (status.Status, counts(status)) == (0xB000, (None, 2, 1, 0))
    assert failed_list(identifier) == [silent]


def test_each_answer_of_the_destination_is_counted_for_what_it_is(archive):
    study = build_study(4)
    store(archive, *study)
    answers = dict(zip((one.SOPInstanceUID for one in study), (0x0000, 0xB007, 0xA700, 0xC001), strict=True))
    with (
        run_receiver(lambda one: answers[one.sop_instance_uid]) as receiver,
        serve(archive, destination(receiver.port)) as server,
    ):
        *pending, (status, identifier) = move(server, of_study(study[0]))
    assert [counts(one) for one, _ in pending] == [(3, 1, 0, 0), (2, 1, 0, 1), (1, 1, 1, 1)]
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 2, 1))
    assert failed_list(identifier) == [uid for uid, code in answers.items() if code in (0xA700, 0xC001)]


def test_more_failures_than_an_element_of_64_kib_holds_are_all_listed(archive, monkeypatch):
    """In Explicit VR the list then goes out as UN (PS3.5 6.2.2), and without a character set (C.4.2.1.4.2)."""
    image = build_ct()
    store(archive, image)
    find_records = retrieve.find_records

    def find_many(*arguments):
        (record,) = find_records(*arguments)
        return [replace(record, row_id=number, sop_instance_uid=new_uid()) for number in range(2000)]

    monkeypatch.setattr(retrieve, "find_records", find_many)
    identifiers = []
    with serve(archive, destination(free_port())) as server:
        for syntax in (EXPLICIT, IMPLICIT):
            with associate(server.port, [build_context(STUDY_ROOT_MOVE, syntax)]) as association:
                ((status, identifier),) = association.send_c_move(of_study(image), "DEST", STUDY_ROOT_MOVE)
            assert (status.Status, counts(status)) == (0xA702, (None, 0, 2000, 0))
            assert list(identifier.keys()) == [0x00080058]
            value = identifier[0x00080058].value
            identifiers.append(len(value.split(b"\\") if isinstance(value, bytes) else value))
    assert identifiers == [2000, 2000]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[ArchiveProcess, Receiver, Receiver]]:
    """An archive as a process, with a destination that takes what is stored and one of Implicit VR only."""
    folder = tmp_path_factory.mktemp("served")
    with run_receiver(max_pdu_bytes=MIB) as plain, run_receiver(syntaxes=[IMPLICIT], max_pdu_bytes=MIB) as implicit:
        peers = {"PLAIN": plain.port, "IMPLICIT": implicit.port}
        table = '[[dimse.peers]]\nae_title = "{}"\naddress = "127.0.0.1"\nport = {}\n'
        (folder / "pacs.toml").write_text("".join(table.format(*peer) for peer in peers.items()))
        # No thumbnails, for the memory that they take is not what is measured here.
        quiet = {"PACS_IMAGING__THUMBNAILS": "false"}
        with serving(folder / "data", config=folder / "pacs.toml", **quiet) as archive:
            yield archive, plain, implicit


@contextmanager
def sending_to(archive: ArchiveProcess):
    """Give a function that stores a CT over one association."""
    with associate(archive.dicom_port, [build_context(CT, EXPLICIT)]) as association:
        (context,) = association.accepted_contexts

        def send(dataset: Dataset) -> None:
            response = send_bytes(association, context, dataset.SOPInstanceUID, as_dataset_bytes(dataset))
            assert response.Status == 0x0000

        yield send


def peak_bytes(archive: ArchiveProcess) -> int:
    """Return how much memory the archive has had at most so far."""
    status = Path(f"/proc/{archive.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.scenario
def test_large_object_is_moved_and_converted_in_bounded_memory(served):
    archive, plain, implicit = served
    small, large = build_ct(), build_ct(Rows=8192, Columns=8192, PixelData=bytes(range(256)) * (MIB // 2))
    with sending_to(archive) as send:
        send(small)
        move_there(archive, small, "PLAIN", "IMPLICIT")
        before = peak_bytes(archive)
        send(large)
    move_there(archive, large, "PLAIN", "IMPLICIT")
    assert peak_bytes(archive) - before < 64 * MIB
    assert plain.data_sets[large.SOPInstanceUID] == as_dataset_bytes(large)
    assert decode_as(implicit.data_sets[large.SOPInstanceUID], IMPLICIT).PixelData == large.PixelData


def move_there(archive: ArchiveProcess, dataset: Dataset, *titles: str) -> None:
    for title in titles:
        status, _ = move(Serving(archive.dicom_port), of_study(dataset), to=title)[-1]
        assert status.Status == 0x0000, title


@pytest.mark.scenario
def test_large_object_goes_to_who_gets_it_in_bounded_memory(served, dcmtk, tmp_path):
    archive, _, _ = served
    large = build_ct(Rows=8192, Columns=8192, PixelData=bytes(range(256)) * (MIB // 2))
    with sending_to(archive) as send:
        send(build_ct())
        before = peak_bytes(archive)
        send(large)
    # With +B it writes where it runs, whatever its output directory is.
    command = [dcmtk("getscu"), "-S", "-aec", "PACS", "+B", "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={large.StudyInstanceUID}", "127.0.0.1", str(archive.dicom_port)]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    (file,) = tmp_path.iterdir()
    assert data_set_of(file.read_bytes()) == as_dataset_bytes(large)
    assert peak_bytes(archive) - before < 64 * MIB


@pytest.mark.scenario
def test_study_that_is_still_being_stored_is_moved_as_far_as_it_is(served):
    archive, plain, _ = served
    study = build_study(40)
    done: list[str] = []

    def push() -> None:
        with sending_to(archive) as send:
            for one in study:
                send(one)
                done.append(one.SOPInstanceUID)

    pushing = threading.Thread(target=push)
    pushing.start()
    while pushing.is_alive():
        acknowledged = set(done)
        plain.received.clear()
        status, _ = move(Serving(archive.dicom_port), of_study(study[0]), to="PLAIN")[-1]
        assert status.Status == 0x0000
        # Whatever was acknowledged before the request is there, and nothing is sent twice.
        assert acknowledged <= set(plain.data_sets)
        assert len(plain.received) == len(plain.data_sets)
    pushing.join()
    plain.received.clear()
    move_there(archive, study[0], "PLAIN")
    assert set(plain.data_sets) == set(done) == {one.SOPInstanceUID for one in study}
