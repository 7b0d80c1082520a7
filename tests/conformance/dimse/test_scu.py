"""What we ask of peers, against DCMTK's dcmqrscp and storescp, Debian's Orthanc, and pynetdicom."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, build_context, evt

from pacs.access import LOCAL
from pacs.dimse import scu
from pacs.dimse.calling import Caller
from pacs.dimse.messages import IDENTIFIER_LIMIT_BYTES
from pacs.dimse.peers import Peer
from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.routing.destinations import Unreachable
from tests.builders import as_part10, build_ct, build_mr
from tests.conformance.dimse.holding import build_study, destination, serve, store, store_file
from tests.conformance.dimse.orthanc import run_orthanc
from tests.conformance.dimse.receivers import data_set_of, run_dcmqrscp, run_receiver
from tests.conformance.dimse.scu import CT, EXPLICIT, IMPLICIT, VERIFICATION
from tests.reading import reading_ahead
from tests.scenarios.process import free_port

SAMPLES = Path(__file__).parents[3] / "sample_data"
CALLER = Caller("PACS")


@pytest.fixture
def dcmqrscp(dcmtk, tmp_path) -> Iterator[Peer]:
    """DCMTK's archive, empty, that knows us as PACS."""
    with run_dcmqrscp(dcmtk("dcmqrscp"), tmp_path / "qr", known={"PACS": free_port()}) as port:
        yield Peer("QRSCP", address="127.0.0.1", port=port)


def records_of(archive, *studies):
    return [record for study in studies for record in archive.retrieve.find_instances(LOCAL, study[0].StudyInstanceUID)]


def send(archive, peer, *studies):
    forwarding = scu.DicomDestination(CALLER, peer, archive.retrieve, LOCAL)
    return list(forwarding.send(records_of(archive, *studies)))


class TestEcho:
    def test_peer_that_is_there_answers(self, dcmqrscp):
        assert scu.echo(CALLER, dcmqrscp) >= 0

    def test_nobody_there_is_said_with_host_and_port(self):
        port = free_port()
        with pytest.raises(Unreachable, match=f"NOBODY at 127.0.0.1 port {port} cannot be reached: Connection refused"):
            scu.echo(CALLER, destination(port, "NOBODY"))

    def test_rejection_is_said_with_its_reason(self, dcmqrscp):
        with pytest.raises(Unreachable, match=r"WRONG rejects the association: Called AE title not recognised"):
            scu.echo(CALLER, Peer("WRONG", address="127.0.0.1", port=dcmqrscp.port))

    def test_peer_that_accepts_no_context_is_said_so(self):
        with run_receiver(classes=[CT]) as receiver, pytest.raises(Unreachable, match="accepts none"):
            scu.echo(CALLER, destination(receiver.port))

    def test_peer_that_hangs_up_is_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)

            def hang_up():
                connection, _ = listener.accept()
                connection.recv(10)
                connection.close()

            thread = threading.Thread(target=hang_up)
            thread.start()
            with pytest.raises(Unreachable, match="does not answer, or aborts"):
                scu.echo(CALLER, destination(listener.getsockname()[1]))
            thread.join()

    def test_tls_without_a_certificate_of_ours_is_refused_before_anything_is_sent(self):
        with pytest.raises(Unreachable, match="wants TLS"):
            scu.echo(CALLER, Peer("SAFE", address="127.0.0.1", port=9, tls=True))


class TestDestination:
    def test_what_is_sent_to_dcmqrscp_is_found_there(self, archive, dcmqrscp):
        study = build_study(3, PatientName="DOE^JANE")
        stored = store(archive, *study)
        sent = send(archive, dcmqrscp, study)
        assert [(one.sop_instance_uid, one.is_delivered, one.problem) for one in sent] == [
            (uid, True, "") for uid in stored
        ]
        answers = list(scu.find(CALLER, dcmqrscp, Level.STUDY, {"PatientName": "DOE*", "StudyInstanceUID": ""}))
        assert [answer["StudyInstanceUID"] for answer in answers] == [study[0].StudyInstanceUID]

    def test_duplicates_at_the_destination_are_delivered(self, archive):
        study = build_study(2)
        store(archive, *study)
        with run_receiver(lambda _: 0x0111) as receiver:
            assert [one.is_delivered for one in send(archive, destination(receiver.port), study)] == [True, True]

    @pytest.mark.parametrize(("status", "is_final"), [(0xA700, False), (0x0110, False), (0xA900, True), (0xC000, True)])
    def test_failure_says_whether_sending_again_can_help(self, archive, status, is_final):
        study = build_study(1)
        store(archive, *study)
        with run_receiver(lambda _: status) as receiver:
            (sent,) = send(archive, destination(receiver.port), study)
        assert (sent.is_delivered, sent.is_final, sent.problem) == (
            False,
            is_final,
            f"The peer answered 0x{status:04X}.",
        )

    def test_class_that_the_destination_does_not_take_is_final(self, archive):
        study = [build_mr()]
        store(archive, *study)
        with run_receiver(classes=[CT]) as receiver, pytest.raises(Unreachable, match="accepts none"):
            send(archive, destination(receiver.port), study)
        other = [build_ct()]
        store(archive, *other)
        with run_receiver(classes=[CT]) as receiver:
            sent = send(archive, destination(receiver.port), study, other)
        assert [(one.is_delivered, one.is_final) for one in sent] == [(False, True), (True, False)]

    def test_while_one_instance_is_sent_the_next_are_read(self, archive):
        study = build_study(12)
        store(archive, *study)
        with run_receiver() as receiver, reading_ahead(archive) as (retriever, readers):
            forwarding = scu.DicomDestination(CALLER, destination(receiver.port), retriever, LOCAL)
            assert all(one.is_delivered for one in forwarding.send(records_of(archive, study)))
        assert len(readers) == 12, "each is read once"
        assert sum(name.startswith("read-ahead") for name in readers) == 11, "only the first is waited for"

    def test_destination_that_goes_away_is_unreachable_after_what_it_took(self, archive):
        study = build_study(5)
        store(archive, *study)
        taken = []

        def answer(one):
            taken.append(one)
            return 0x0000 if len(taken) < 3 else None

        results = []
        with run_receiver(answer) as receiver:
            forwarding = scu.DicomDestination(CALLER, destination(receiver.port), archive.retrieve, LOCAL)
            with pytest.raises(Unreachable, match="ends every association"):
                results.extend(forwarding.send(records_of(archive, study)))
        assert len(taken) == 5

    def test_deflated_and_compressed_instances_are_converted_for_an_implicit_only_peer(self, archive):
        files = [(SAMPLES / "syntaxes" / f"{name}.dcm").read_bytes() for name in ("deflated", "rle", "j2k-lossless")]
        for file in files:
            store_file(archive, file)
        study = [pydicom.dcmread(SAMPLES / "syntaxes" / "deflated.dcm")]
        with run_receiver(syntaxes=[IMPLICIT]) as receiver:
            assert all(one.is_delivered for one in send(archive, destination(receiver.port), study))
        assert {one.transfer_syntax_uid for one in receiver.received} == {IMPLICIT}

    @pytest.mark.parametrize("syntax", ["80", "90", "201", "202"])
    def test_lossless_compression_is_made_for_a_peer_that_takes_nothing_else(self, archive, syntax):
        study = build_study(1)
        store(archive, *study)
        wanted = f"1.2.840.10008.1.2.4.{syntax}"
        with run_receiver(syntaxes=[wanted]) as receiver:
            assert [one.is_delivered for one in send(archive, destination(receiver.port), study)] == [True]
        assert [one.transfer_syntax_uid for one in receiver.received] == [wanted]


class TestFindAndMove:
    def test_answers_are_texts_by_keyword_in_any_script(self):
        found = build_ct(PatientName="محمد", SpecificCharacterSet="ISO_IR 192")
        identifier = pydicom.Dataset()
        identifier.SpecificCharacterSet = "ISO_IR 192"
        identifier.PatientName, identifier.ModalitiesInStudy = found.PatientName, ["CT", "MR"]
        asked = []

        def answer(event):
            asked.append(event.identifier)
            yield 0xFF00, identifier

        with run_scp("1.2.840.10008.5.1.4.1.2.2.1", evt.EVT_C_FIND, answer) as peer:
            (got,) = scu.find(CALLER, peer, Level.STUDY, {"PatientName": "محمد*", "ModalitiesInStudy": ""})
        assert (got["PatientName"], got["ModalitiesInStudy"]) == ("محمد", "CT\\MR")
        assert (asked[0].PatientName, asked[0].QueryRetrieveLevel) == ("محمد*", "STUDY")

    def test_query_is_cancelled_at_its_limit(self):
        is_cancelled = []

        def answer(event):
            for number in range(10_000):
                if event.is_cancelled:
                    is_cancelled.append(number)
                    yield 0xFE00, None
                    return
                identifier = pydicom.Dataset()
                identifier.StudyID = str(number)
                yield 0xFF00, identifier

        with run_scp("1.2.840.10008.5.1.4.1.2.2.1", evt.EVT_C_FIND, answer) as peer:
            got = list(scu.find(CALLER, peer, Level.STUDY, {"StudyID": ""}, limit=3))
        assert [answer["StudyID"] for answer in got] == ["0", "1", "2"]
        assert is_cancelled

    def test_failure_is_raised_with_its_status(self):
        with (
            run_scp("1.2.840.10008.5.1.4.1.2.2.1", evt.EVT_C_FIND, lambda _: iter([(0xA700, None)])) as peer,
            pytest.raises(scu.PeerRefused, match="SCP answered the C-FIND with 0xA700"),
        ):
            list(scu.find(CALLER, peer, Level.STUDY, {}))

    def test_key_that_is_no_keyword_is_named(self):
        with pytest.raises(InvalidQuery, match="no attribute PatientNmae"):
            list(scu.find(CALLER, destination(9), Level.STUDY, {"PatientNmae": "X"}))

    def test_move_from_orthanc_into_us(self, archive, tmp_path):
        study = build_study(3)
        port = free_port()
        with run_orthanc(tmp_path, {"us": ("PACS", "127.0.0.1", port)}) as orthanc:
            for one in study:
                orthanc.upload(as_part10(one))
            peer = destination(orthanc.dicom_port, "ORTHANC")
            with serve(archive, peer, port=port):
                keys = {"StudyInstanceUID": study[0].StudyInstanceUID}
                *_, last = scu.move(CALLER, peer, "PACS", Level.STUDY, keys)
                assert (last.completed, last.failed, last.is_final) == (3, 0, True)
                assert len(records_of(archive, study)) == 3

    def test_move_to_nobody_is_refused(self, archive):
        with serve(archive, Peer("PACS")) as server, pytest.raises(scu.PeerRefused, match="0xA801"):
            list(scu.move(CALLER, destination(server.port), "NOBODY", Level.STUDY, {"StudyInstanceUID": "1.2.3"}))


class TestFiles:
    def test_files_are_sent_as_they_are(self, tmp_path):
        ct = build_ct()
        path = tmp_path / "one"
        path.write_bytes(as_part10(ct))
        item = scu.read_file_item(lambda: path.open("rb"))
        with run_receiver() as receiver:
            (result,) = scu.send_files(CALLER, destination(receiver.port), [item])
        assert result.code == 0x0000
        assert receiver.data_sets == {ct.SOPInstanceUID: data_set_of(path.read_bytes())}
        assert receiver.received[0].originator is None


class TestHostilePeer:
    def test_answer_that_does_not_end_is_aborted(self):
        def answer(_):
            identifier = pydicom.Dataset()
            identifier.TextValue = "x" * IDENTIFIER_LIMIT_BYTES
            yield 0xFF00, identifier

        with (
            run_scp("1.2.840.10008.5.1.4.1.2.2.1", evt.EVT_C_FIND, answer) as peer,
            pytest.raises(scu.PeerRefused, match="did not answer the C-FIND"),
        ):
            list(scu.find(CALLER, peer, Level.STUDY, {}))


def run_scp(model, event, handler):
    """Run pynetdicom as an SCP of one service; give it as a peer."""
    return _Scp(model, event, handler)


class _Scp:
    def __init__(self, model, event, handler):
        self.ae = AE("SCP")
        self.ae.supported_contexts = [build_context(model, [EXPLICIT, IMPLICIT]), build_context(VERIFICATION)]
        self.handlers = [(event, handler)]

    def __enter__(self):
        self.server = self.ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handlers)
        return destination(self.server.server_address[1], "SCP")

    def __exit__(self, *_):
        self.server.shutdown()
