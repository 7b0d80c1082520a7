"""C-MOVE as SCP (PS3.4 C.4.2): levels, statuses, counts, cancel, and what arrives at the destination."""

import subprocess
import threading
import time
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate

from pacs.dimse.peers import Peer
from tests.builders import as_part10, build_ct, build_mr, new_uid
from tests.conformance.dimse.holding import (
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_MOVE,
    STUDY_ROOT_MOVE,
    build_identifier,
    build_study,
    counts,
    destination,
    failed_list,
    move,
    request_association,
    serve,
    store,
    store_file,
)
from tests.conformance.dimse.orthanc import run_orthanc
from tests.conformance.dimse.receivers import data_set_of, run_receiver, run_storescp
from tests.conformance.dimse.scu import CT, EXPLICIT, IMPLICIT
from tests.scenarios.process import free_port

SAMPLES = Path(__file__).parents[3] / "sample_data"
DCMTK_TAKES = {EXPLICIT, IMPLICIT, *(f"1.2.840.10008.1.2.{rest}" for rest in ("1.99", "2", "5", "4.50", "4.51"))} | {
    f"1.2.840.10008.1.2.4.{number}" for number in (70, 80, 81, 90, 91)
}


def of_study(dataset, **keys):
    return build_identifier("STUDY", StudyInstanceUID=dataset.StudyInstanceUID, **keys)


class TestWhatIsFound:
    @pytest.fixture
    def held(self, archive):
        """Two studies of one patient, two series in the first, and a study of somebody else."""
        first = build_study(2)
        second = build_study(2, PatientID=first[0].PatientID, StudyInstanceUID=first[0].StudyInstanceUID)
        third = build_study(1, PatientID=first[0].PatientID)
        other = build_study(1, PatientID="OTHER")
        store(archive, *first, *second, *third, *other)
        return {"first": first, "second": second, "third": third, "other": other}

    @pytest.mark.parametrize("model", [PATIENT_ROOT_MOVE, PATIENT_STUDY_MOVE])
    def test_patient_is_all_its_studies(self, archive, held, model):
        identifier = build_identifier("PATIENT", PatientID=held["first"][0].PatientID)
        assert self.moved(archive, identifier, model) == uids_of(*held["first"], *held["second"], *held["third"])

    @pytest.mark.parametrize("model", [PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE, PATIENT_STUDY_MOVE])
    def test_study_is_all_its_series(self, archive, held, model):
        identifier = of_study(held["first"][0], PatientID=held["first"][0].PatientID)
        assert self.moved(archive, identifier, model) == uids_of(*held["first"], *held["second"])

    @pytest.mark.parametrize("model", [PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE])
    def test_series_and_instance_are_found_below_their_study(self, archive, held, model):
        one = held["second"][1]
        above = {"PatientID": one.PatientID, "StudyInstanceUID": one.StudyInstanceUID}
        series = build_identifier("SERIES", SeriesInstanceUID=one.SeriesInstanceUID, **above)
        assert self.moved(archive, series, model) == uids_of(*held["second"])
        above["SeriesInstanceUID"] = one.SeriesInstanceUID
        instance = build_identifier("IMAGE", SOPInstanceUID=one.SOPInstanceUID, **above)
        assert self.moved(archive, instance, model) == uids_of(one)

    def test_lists_of_uids_are_each_found_once(self, archive, held):
        studies = [held["first"][0].StudyInstanceUID, held["other"][0].StudyInstanceUID] * 2
        identifier = build_identifier("STUDY", StudyInstanceUID=studies)
        assert self.moved(archive, identifier) == uids_of(*held["first"], *held["second"], *held["other"])
        wanted = [held["first"][0], held["second"][1]]
        identifier = build_identifier("IMAGE", SOPInstanceUID=[one.SOPInstanceUID for one in wanted])
        assert self.moved(archive, identifier) == uids_of(*wanted)

    def test_relational_retrieve_needs_no_level_above(self, archive, held):
        identifier = build_identifier("SERIES", SeriesInstanceUID=held["second"][0].SeriesInstanceUID)
        assert self.moved(archive, identifier) == uids_of(*held["second"])

    def test_level_above_that_contradicts_finds_nothing(self, archive, held):
        identifier = of_study(held["first"][0], PatientID="OTHER")
        assert self.moved(archive, identifier, PATIENT_ROOT_MOVE) == set()

    def test_instances_come_in_the_order_of_their_numbers(self, archive):
        study = build_study(5)
        store(archive, *reversed(study))
        with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
            move(server, of_study(study[0]))
        assert [one.sop_instance_uid for one in receiver.received] == [one.SOPInstanceUID for one in study]

    def moved(self, archive, identifier, model=STUDY_ROOT_MOVE):
        with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
            assert move(server, identifier, model=model)[-1][0].Status == 0x0000
        assert len(receiver.received) == len(receiver.data_sets)
        return set(receiver.data_sets)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("model", "identifier"),
        [
            (STUDY_ROOT_MOVE, build_identifier("PATIENT", PatientID="1")),
            (PATIENT_STUDY_MOVE, build_identifier("SERIES", SeriesInstanceUID="1.2")),
            (PATIENT_STUDY_MOVE, build_identifier("IMAGE", SOPInstanceUID="1.2")),
            (STUDY_ROOT_MOVE, build_identifier("STUDY")),
            (STUDY_ROOT_MOVE, build_identifier("STUDY", StudyInstanceUID="")),
            (STUDY_ROOT_MOVE, build_identifier("SERIES", StudyInstanceUID="1.2")),
            (STUDY_ROOT_MOVE, build_identifier("FRAME", StudyInstanceUID="1.2")),
            (STUDY_ROOT_MOVE, build_identifier("", StudyInstanceUID="1.2")),
        ],
    )
    def test_identifier_that_its_model_does_not_know_is_0xa900(self, archive, model, identifier):
        with serve(archive, destination(9)) as server:
            (status, _), *others = move(server, identifier, model=model)
        assert (status.Status, others) == (0xA900, [])
        assert status.ErrorComment

    def test_unknown_destination_is_0xa801(self, archive):
        study = build_study(1)
        store(archive, *study)
        with serve(archive, Peer("MUTE", address="127.0.0.1")) as server:
            for title in ("NOBODY", "MUTE"):
                (status, _), *others = move(server, of_study(study[0]), to=title)
                assert (status.Status, others) == (0xA801, [])

    def test_no_match_is_success_with_zero_counts(self, archive):
        with serve(archive, destination(9)) as server:
            (status, identifier), *others = move(server, build_identifier("STUDY", StudyInstanceUID=new_uid()))
        assert (status.Status, counts(status), identifier, others) == (0x0000, (None, 0, 0, 0), None, [])

    def test_relational_retrieve_is_agreed_to_in_one_byte(self, archive):
        with serve(archive) as server:
            for asked, answered in ((b"\1", b"\1"), (b"\0", b"\0"), (b"\1\1", b"\1")):
                with request_association(server.port, STUDY_ROOT_MOVE, extended=asked) as association:
                    assert association.acceptor.sop_class_extended == {STUDY_ROOT_MOVE: answered}


class TestCounts:
    def test_each_sub_operation_is_counted_and_the_last_response_has_none_remaining(self, archive):
        study = build_study(3)
        store(archive, *study)
        with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
            responses = move(server, of_study(study[0]))
        assert [(status.Status, counts(status)) for status, _ in responses] == [
            (0xFF00, (2, 1, 0, 0)),
            (0xFF00, (1, 2, 0, 0)),
            (0x0000, (None, 3, 0, 0)),
        ]

    def test_some_failed_is_0xb000_with_their_uids_in_the_final_response_only(self, archive):
        study = build_study(4)
        store(archive, *study)
        bad = study[1].SOPInstanceUID, study[2].SOPInstanceUID
        with (
            run_receiver(lambda one: 0xA700 if one.sop_instance_uid in bad else 0x0000) as receiver,
            serve(archive, destination(receiver.port)) as server,
        ):
            *pending, (status, identifier) = move(server, of_study(study[0]))
        assert [(one.Status, found) for one, found in pending] == [(0xFF00, None)] * 3
        assert (status.Status, counts(status)) == (0xB000, (None, 2, 2, 0))
        assert failed_list(identifier) == list(bad)

    def test_all_failed_is_0xa702_with_their_uids(self, archive):
        study = build_study(2)
        store(archive, *study)
        with run_receiver(lambda _: 0xA700) as receiver, serve(archive, destination(receiver.port)) as server:
            status, identifier = move(server, of_study(study[0]))[-1]
        assert (status.Status, counts(status)) == (0xA702, (None, 0, 2, 0))
        assert set(failed_list(identifier)) == uids_of(*study)

    @pytest.mark.parametrize("warning", [0xB000, 0xB007, 0x0111])
    def test_warning_or_duplicate_at_the_destination_is_delivered(self, archive, warning):
        study = build_study(2)
        store(archive, *study)
        with run_receiver(lambda _: warning) as receiver, serve(archive, destination(receiver.port)) as server:
            status, identifier = move(server, of_study(study[0]))[-1]
        assert (status.Status, counts(status), failed_list(identifier)) == (0xB000, (None, 0, 0, 2), [])

    def test_destination_that_does_not_answer_fails_everything(self, archive):
        study = build_study(2)
        store(archive, *study)
        with run_receiver() as receiver:
            port = receiver.port
        with serve(archive, destination(port)) as server:
            status, identifier = move(server, of_study(study[0]))[-1]
            assert (status.Status, counts(status)) == (0xA702, (None, 0, 2, 0))
            assert set(failed_list(identifier)) == uids_of(*study)

    def test_instance_of_a_class_the_destination_does_not_take_is_listed(self, archive):
        ct = build_ct()
        mr = build_mr(StudyInstanceUID=ct.StudyInstanceUID, PatientID=ct.PatientID)
        store(archive, ct, mr)
        with run_receiver(classes=[CT]) as receiver, serve(archive, destination(receiver.port)) as server:
            status, identifier = move(server, of_study(ct))[-1]
        assert (status.Status, counts(status)) == (0xB000, (None, 1, 1, 0))
        assert failed_list(identifier) == [mr.SOPInstanceUID]

    def test_cancel_is_0xfe00_with_counts_and_stops_sending(self, archive):
        study = build_study(6)
        store(archive, *study)
        is_heard = threading.Event()

        def answer(_):
            is_waiting = len(receiver.received) == 1
            assert not is_waiting or is_heard.wait(20)
            return 0x0000

        with (
            run_receiver(answer) as receiver,
            serve(archive, destination(receiver.port)) as server,
            request_association(server.port, STUDY_ROOT_MOVE) as association,
        ):
            responses = association.send_c_move(of_study(study[0]), "DEST", STUDY_ROOT_MOVE, msg_id=7)
            assert next(responses)[0].Status == 0xFF00
            association.send_c_cancel(7, query_model=STUDY_ROOT_MOVE)
            wait_until(lambda: server.associations[0].is_cancelled(7))
            is_heard.set()
            (status, identifier) = list(responses)[-1]
        assert (status.Status, counts(status), failed_list(identifier)) == (0xFE00, (4, 2, 0, 0), [])
        assert len(receiver.received) == 2


class TestSubOperations:
    def test_they_carry_originator_message_id_and_priority(self, archive):
        study = build_study(1)
        store(archive, *study)
        with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
            move(server, of_study(study[0]), message_id=4711)
        (received,) = receiver.received
        assert (received.originator.strip(), received.originator_message_id, received.priority) == ("TESTER", 4711, 2)

    @pytest.mark.parametrize("max_pdu_bytes", [4096, 16384, 200_000, 0])
    def test_pdus_are_as_long_as_the_destination_takes(self, archive, max_pdu_bytes):
        ct = build_ct(Rows=500, Columns=400, PixelData=bytes(400_000))
        stored = store(archive, ct)
        with (
            run_receiver(max_pdu_bytes=max_pdu_bytes) as receiver,
            serve(archive, destination(receiver.port)) as server,
        ):
            assert move(server, of_study(ct))[-1][0].Status == 0x0000
        assert receiver.data_sets == stored
        longest = min(max_pdu_bytes or 262144, 262144)
        assert longest - 8 < receiver.longest_pdu_bytes <= longest

    def test_instance_that_breaks_the_association_does_not_keep_back_the_others(self, archive):
        study = build_study(4)
        store(archive, *study)
        poison = study[1].SOPInstanceUID

        with (
            run_receiver(lambda one: None if one.sop_instance_uid == poison else 0x0000) as receiver,
            serve(archive, destination(receiver.port)) as server,
        ):
            status, identifier = move(server, of_study(study[0]))[-1]
        assert (status.Status, counts(status)) == (0xB000, (None, 3, 1, 0))
        assert failed_list(identifier) == [poison]

    def test_destination_that_ends_every_association_is_given_up(self, archive):
        study = build_study(5)
        store(archive, *study)
        with run_receiver(lambda _: None) as receiver, serve(archive, destination(receiver.port)) as server:
            status, identifier = move(server, of_study(study[0]))[-1]
        assert (status.Status, counts(status)) == (0xA702, (None, 0, 5, 0))
        assert failed_list(identifier) == [one.SOPInstanceUID for one in study]
        assert receiver.associations == 2

    def test_several_moves_run_at_once(self, archive):
        studies = [build_study(3, PatientID=f"P{number}") for number in range(3)]
        for study in studies:
            store(archive, *study)
        together = threading.Barrier(3)

        def answer(one):
            if one.sop_instance_uid in uids_of(*(study[0] for study in studies)):
                together.wait(20)  # each move's first instance waits for those of the others
            return 0x0000

        finals = []
        with run_receiver(answer) as receiver, serve(archive, destination(receiver.port)) as server:
            threads = [
                threading.Thread(target=lambda one=study: finals.append(move(server, of_study(one[0]))[-1][0].Status))
                for study in studies
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert finals == [0x0000] * 3
        assert len(receiver.received) == 9


class TestTransferSyntaxes:
    def test_stored_bytes_arrive_untouched_whatever_they_are_in(self, archive, dcmtk, tmp_path):
        files = [file.read_bytes() for file in sorted((SAMPLES / "syntaxes").iterdir())]
        stored = {uid_of(file): store_file(archive, file) for file in files}
        assert len(stored) > 5
        identifier = build_identifier("IMAGE", SOPInstanceUID=list(stored))
        with (
            run_storescp(dcmtk("storescp"), tmp_path / "got", "+xa") as port,
            serve(archive, destination(port)) as server,
        ):
            status, failed = move(server, identifier)[-1]
        received = [file.read_bytes() for file in (tmp_path / "got").iterdir()]
        arrived = {uid_of(file): data_set_of(file) for file in received}
        kept = {uid for uid in arrived if arrived[uid] == stored[uid]}
        # What DCMTK does not know it cannot take, and gets converted.
        assert {uid_of(file) for file in files if syntax_of(file) in DCMTK_TAKES} <= kept
        assert arrived.keys() | set(failed_list(failed)) == stored.keys()
        assert status.Status == (0xB000 if failed_list(failed) else 0x0000)

    def test_destination_without_the_stored_syntax_gets_the_decoded_instance(self, archive, tmp_path, dcmtk):
        sample = SAMPLES / "syntaxes" / "jpeg-ls.dcm"
        store_file(archive, sample.read_bytes())
        original = pydicom.dcmread(sample)
        with (
            run_storescp(dcmtk("storescp"), tmp_path / "got", "+xi") as port,
            serve(archive, destination(port)) as server,
        ):
            assert move(server, of_study(original))[-1][0].Status == 0x0000
        (arrived,) = [pydicom.dcmread(file) for file in (tmp_path / "got").iterdir()]
        assert arrived.file_meta.TransferSyntaxUID == IMPLICIT
        expected = pydicom.dcmread(SAMPLES / "syntaxes" / "explicit-le.dcm")  # the same picture
        assert arrived.PixelData == expected.PixelData
        assert arrived.PatientName == original.PatientName

    def test_what_no_syntax_of_the_destination_can_hold_is_listed(self, archive):
        video = build_ct(PixelData=encapsulate([b"\0\0\0\1" * 8]))
        video["PixelData"].VR = "OB"
        video["PixelData"].is_undefined_length = True
        store(archive, video, transfer_syntax_uid="1.2.840.10008.1.2.4.102")
        with run_receiver() as receiver, serve(archive, destination(receiver.port)) as server:
            status, identifier = move(server, of_study(video))[-1]
        assert (status.Status, failed_list(identifier)) == (0xA702, [video.SOPInstanceUID])


class TestPeers:
    def test_movescu_receives_itself(self, archive, dcmtk, tmp_path):
        study = build_study(3)
        stored = store(archive, *study)
        folder = tmp_path / "got"
        folder.mkdir()
        port = free_port()
        with serve(archive, destination(port, "MOVESCU")) as server:
            command = [dcmtk("movescu"), "-S", "-aec", "PACS", "+xa", "+B", "+P", str(port)]
            command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].StudyInstanceUID}"]
            # With +B it writes where it runs, whatever its output directory is.
            subprocess.run([*command, "127.0.0.1", str(server.port)], check=True, timeout=60, cwd=folder)
        received = [file.read_bytes() for file in folder.iterdir()]
        assert {uid_of(file): data_set_of(file) for file in received} == stored

    def test_from_us_to_orthanc(self, archive, tmp_path):
        study = build_study(3)
        stored = store(archive, *study)
        with run_orthanc(tmp_path) as orthanc, serve(archive, destination(orthanc.dicom_port, "ORTHANC")) as server:
            status, _ = move(server, of_study(study[0]), to="ORTHANC")[-1]
            assert status.Status == 0x0000
            assert {uid: data_set_of(file) for uid, file in orthanc.files().items()} == stored

    def test_orthanc_stores_into_us_and_retrieves_again(self, archive, tmp_path):
        study = build_study(3)
        port = free_port()
        with run_orthanc(tmp_path, {"us": ("PACS", "127.0.0.1", port)}) as orthanc:
            peer = destination(orthanc.dicom_port, "ORTHANC")
            with serve(archive, peer, port=port):
                names = [orthanc.upload(as_part10(one)) for one in study]
                sent = orthanc.files()
                orthanc.post("/modalities/us/store", names)
                for name in names:
                    orthanc.http.delete(f"/instances/{name}")
                assert orthanc.files() == {}
                wanted = {"StudyInstanceUID": study[0].StudyInstanceUID}
                orthanc.post("/modalities/us/move", {"Level": "Study", "Resources": [wanted], "TargetAet": "ORTHANC"})
                assert {uid: data_set_of(file) for uid, file in orthanc.files().items()} == {
                    uid: data_set_of(file) for uid, file in sent.items()
                }


def uid_of(file):
    return str(pydicom.dcmread(BytesIO(file), stop_before_pixels=True).SOPInstanceUID)


def syntax_of(file):
    return str(pydicom.dcmread(BytesIO(file), stop_before_pixels=True).file_meta.TransferSyntaxUID)


def uids_of(*datasets):
    return {one.SOPInstanceUID for one in datasets}


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()
