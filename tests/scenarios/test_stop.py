"""Ctrl-C and SIGTERM: what is open finishes or is released, what was acknowledged stays."""

import signal

import httpx
import pytest

from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_during_a_push_is_clean_and_loses_nothing_acknowledged(tmp_path, number):
    with serving(tmp_path / "data", PACS_DIMSE__GRACE_SECONDS="2") as archive:
        pusher = Pusher(archive.dicom_port)
        pusher.start()
        pusher.wait_for(10)
        assert archive.stop(number) == 0
        pusher.finish()
        assert "Traceback" not in archive.log.read_text()
    with serving(tmp_path / "data") as archive:
        stored = httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}).json()
        assert {instance["00080018"]["Value"][0] for instance in stored} >= set(pusher.acknowledged)
