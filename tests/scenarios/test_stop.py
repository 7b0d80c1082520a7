"""Ctrl-C and SIGTERM: what is open finishes or is released, what was acknowledged stays."""

import os
import signal
import time
from pathlib import Path

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_the_kernel_gives_to_any_thread_stops_the_archive(tmp_path, number):
    with serving(tmp_path / "data") as archive:
        process = archive.process.pid
        others = [int(task.name) for task in Path(f"/proc/{process}/task").iterdir() if int(task.name) != process]
        time.sleep(1)  # what it did when it started is done, and its first thread sleeps
        os.kill(others[0], number)  # Linux: a process-directed signal for which this thread comes first
        assert archive.process.wait(60) == 0
