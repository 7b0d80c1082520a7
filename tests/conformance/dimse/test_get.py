"""C-GET as SCP (PS3.4 C.4.3): back over the contexts that were offered for it, and over no other way."""

import subprocess
import threading
from pathlib import Path

import pydicom
import pytest
from pynetdicom import evt

from tests.builders import build_ct, build_mr, new_uid
from tests.conformance.dimse.holding import (
    PATIENT_ROOT_GET,
    PATIENT_STUDY_GET,
    STUDY_ROOT_GET,
    build_identifier,
    build_study,
    counts,
    failed_list,
    request_association,
    serve,
    store,
    store_file,
)
from tests.conformance.dimse.receivers import data_set_of
from tests.conformance.dimse.scu import CT, EXPLICIT, IMPLICIT
from tests.conformance.dimse.test_move import uid_of, uids_of, wait_until

MR = "1.2.840.10008.5.1.4.1.1.4"
JPEG_LS, JPEG_BASELINE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50"
SAMPLES = Path(__file__).parents[3] / "sample_data"


class Getter:
    """Takes what comes back, by pynetdicom."""

    def __init__(self, answer=lambda _: 0x0000):
        self.received = {}
        self.syntaxes = set()
        self._answer = answer

    def get(self, server, identifier, model=STUDY_ROOT_GET, classes=(CT,), syntaxes=(EXPLICIT, IMPLICIT), roles=True):
        handlers = [(evt.EVT_C_STORE, self._keep)]
        with request_association(server.port, model, classes, syntaxes, roles=roles, handlers=handlers) as association:
            return list(association.send_c_get(identifier, model, msg_id=5))

    def _keep(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self._answer(uid)
        self.received[uid] = event.request.DataSet.getvalue()
        self.syntaxes.add(str(event.context.transfer_syntax))
        return status


def of_study(dataset):
    return build_identifier("STUDY", StudyInstanceUID=dataset.StudyInstanceUID)


@pytest.mark.parametrize(
    ("model", "level", "keyword"),
    [
        (PATIENT_ROOT_GET, "PATIENT", "PatientID"),
        (PATIENT_ROOT_GET, "STUDY", "StudyInstanceUID"),
        (STUDY_ROOT_GET, "STUDY", "StudyInstanceUID"),
        (STUDY_ROOT_GET, "SERIES", "SeriesInstanceUID"),
        (PATIENT_STUDY_GET, "PATIENT", "PatientID"),
    ],
)
def test_each_level_of_each_model_is_retrieved(archive, model, level, keyword):
    study = build_study(3, PatientID="GOT")
    stored = store(archive, *study, build_ct())
    getter = Getter()
    with serve(archive) as server:
        responses = getter.get(server, build_identifier(level, **{keyword: study[0][keyword].value}), model)
    assert [(status.Status, counts(status)) for status, _ in responses] == [
        (0xFF00, (2, 1, 0, 0)),
        (0xFF00, (1, 2, 0, 0)),
        (0x0000, (None, 3, 0, 0)),
    ]
    assert getter.received == {uid: stored[uid] for uid in uids_of(*study)}


def test_one_instance_is_retrieved(archive):
    study = build_study(3)
    store(archive, *study)
    getter = Getter()
    with serve(archive) as server:
        getter.get(server, build_identifier("IMAGE", SOPInstanceUID=study[1].SOPInstanceUID))
    assert set(getter.received) == uids_of(study[1])


def test_no_match_is_success_with_zero_counts(archive):
    with serve(archive) as server:
        ((status, _),) = Getter().get(server, build_identifier("STUDY", StudyInstanceUID=new_uid()))
    assert (status.Status, counts(status)) == (0x0000, (None, 0, 0, 0))


def test_level_that_the_model_does_not_have_is_0xa900(archive):
    with serve(archive) as server:
        ((status, _),) = Getter().get(server, build_identifier("SERIES", SeriesInstanceUID="1.2"), PATIENT_STUDY_GET)
    assert status.Status == 0xA900


def test_class_without_a_context_is_counted_failed_and_listed(archive):
    ct = build_ct()
    mr = build_mr(StudyInstanceUID=ct.StudyInstanceUID, PatientID=ct.PatientID)
    store(archive, ct, mr)
    getter = Getter()
    with serve(archive) as server:
        status, identifier = getter.get(server, of_study(ct))[-1]
    assert (status.Status, counts(status)) == (0xB000, (None, 1, 1, 0))
    assert failed_list(identifier) == [mr.SOPInstanceUID]
    assert set(getter.received) == uids_of(ct)


def test_context_offered_without_scp_role_is_not_used(archive):
    study = build_study(2)
    store(archive, *study)
    getter = Getter()
    with serve(archive) as server:
        status, identifier = getter.get(server, of_study(study[0]), roles=False)[-1]
    assert (status.Status, counts(status)) == (0xA702, (None, 0, 2, 0))
    assert set(failed_list(identifier)) == uids_of(*study)
    assert getter.received == {}


def test_requestor_that_refuses_some_gets_the_others(archive):
    study = build_study(3)
    store(archive, *study)
    bad = study[0].SOPInstanceUID
    with serve(archive) as server:
        *_, (status, identifier) = Getter(lambda uid: 0xA700 if uid == bad else 0x0000).get(server, of_study(study[0]))
    assert (status.Status, counts(status), failed_list(identifier)) == (0xB000, (None, 2, 1, 0), [bad])


def test_stored_syntax_that_was_accepted_goes_out_untouched(archive):
    sample = (SAMPLES / "syntaxes" / "jpeg-ls.dcm").read_bytes()
    data_set = store_file(archive, sample)
    getter = Getter()
    with serve(archive) as server:
        getter.get(server, build_identifier("IMAGE", SOPInstanceUID=uid_of(sample)), syntaxes=[JPEG_LS])
    assert getter.received == {uid_of(sample): data_set}


def test_native_syntax_is_chosen_where_one_is_offered_for_anything_can_be_sent_in_it(archive):
    sample = (SAMPLES / "syntaxes" / "jpeg-ls.dcm").read_bytes()
    store_file(archive, sample)
    getter = Getter()
    with serve(archive) as server:
        status, _ = getter.get(
            server,
            build_identifier("IMAGE", SOPInstanceUID=uid_of(sample)),
            syntaxes=[JPEG_BASELINE, IMPLICIT],
        )[-1]
    assert (status.Status, getter.syntaxes) == (0x0000, {IMPLICIT})


def test_cancel_is_0xfe00_with_counts_and_stops_sending(archive):
    study = build_study(6)
    store(archive, *study)
    is_cancelling = threading.Event()

    def answer(_):
        if len(getter.received) == 1:
            association.send_c_cancel(5, query_model=STUDY_ROOT_GET)
            wait_until(lambda: server.associations[0].is_cancelled(5))
            is_cancelling.set()
        return 0x0000

    getter = Getter(answer)
    with (
        serve(archive) as server,
        request_association(
            server.port, STUDY_ROOT_GET, [CT], [EXPLICIT], handlers=[(evt.EVT_C_STORE, getter._keep)]
        ) as association,
    ):
        *_, (status, _) = association.send_c_get(of_study(study[0]), STUDY_ROOT_GET, msg_id=5)
    assert is_cancelling.is_set()
    assert (status.Status, counts(status)) == (0xFE00, (4, 2, 0, 0))
    assert len(getter.received) == 2


def test_requestor_that_goes_away_ends_it(archive):
    study = build_study(50)
    store(archive, *study)
    getter = Getter()
    with serve(archive) as server:
        with request_association(
            server.port, STUDY_ROOT_GET, [CT], [EXPLICIT], handlers=[(evt.EVT_C_STORE, getter._keep)]
        ) as association:
            next(association.send_c_get(of_study(study[0]), STUDY_ROOT_GET))
            association.abort()
        wait_until(lambda: not server.associations[0].is_alive())
    assert len(getter.received) < 50


def test_getscu_receives_the_stored_bytes(archive, dcmtk, tmp_path):
    study = build_study(3)
    stored = store(archive, *study)
    folder = tmp_path / "got"
    folder.mkdir()
    command = [dcmtk("getscu"), "-S", "-aec", "PACS", "+B", "-od", str(folder)]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].StudyInstanceUID}"]
    with serve(archive) as server:
        subprocess.run([*command, "127.0.0.1", str(server.port)], check=True, timeout=60, cwd=folder)
    received = [file.read_bytes() for file in folder.iterdir()]
    assert {uid_of(file): data_set_of(file) for file in received} == stored


def test_getscu_receives_a_compressed_study_decoded(archive, dcmtk, tmp_path):
    sample = SAMPLES / "syntaxes" / "jpeg-ls.dcm"
    store_file(archive, sample.read_bytes())
    folder = tmp_path / "got"
    folder.mkdir()
    command = [dcmtk("getscu"), "-S", "-aec", "PACS", "-od", str(folder), "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={pydicom.dcmread(sample).StudyInstanceUID}"]
    with serve(archive) as server:
        subprocess.run([*command, "127.0.0.1", str(server.port)], check=True, timeout=60, cwd=folder)
    (arrived,) = [pydicom.dcmread(file) for file in folder.iterdir()]
    assert arrived.PixelData == pydicom.dcmread(SAMPLES / "syntaxes" / "explicit-le.dcm").PixelData
