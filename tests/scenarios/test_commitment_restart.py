"""A request for storage commitment that was acknowledged is answered, whatever happens to the archive meanwhile."""

import queue
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt

from tests.builders import build_ct, new_uid
from tests.scenarios.process import free_port, serving

pytestmark = pytest.mark.scenario

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
SECONDS = 30


@contextmanager
def modality(port, reports):
    """Take reports on a port of our own."""

    def take(event):
        reports.put((event.event_type, event.event_information))
        return 0x0000, None

    ae = AE("CT1")
    ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        yield
    finally:
        server.shutdown()


def ask(port, dataset) -> str:
    request = Dataset()
    request.TransactionUID = new_uid()
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    request.ReferencedSOPSequence = [item]
    ae = AE("CT1")
    ae.acse_timeout = ae.dimse_timeout = SECONDS
    association = ae.associate("127.0.0.1", port, [build_context(COMMITMENT)], "PACS")
    status, _ = association.send_n_action(request, 1, COMMITMENT, INSTANCE)
    association.release()
    assert status.Status == 0x0000
    return request.TransactionUID


def test_report_is_delivered_after_a_kill(tmp_path):
    port = free_port()
    config = tmp_path / "pacs.toml"
    config.write_text(
        f'[commitment]\nwait_seconds = 0\n[[dimse.peers]]\nae_title = "CT1"\naddress = "127.0.0.1"\nport = {port}\n'
    )
    with serving(tmp_path / "data", config=config) as archive:
        uid = ask(archive.dicom_port, build_ct())
        archive.kill()
    reports: queue.Queue = queue.Queue()
    with modality(port, reports), serving(tmp_path / "data", config=config):
        event_type, information = reports.get(timeout=SECONDS)
    assert (event_type, information.TransactionUID) == (2, uid)
    assert information.FailedSOPSequence[0].FailureReason == 0x0112
