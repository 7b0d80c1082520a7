"""Several processes answer HTTP: each does all of it, none is missed when it is killed, and all end together.

A process that is stopped (SIGSTOP) accepts nothing: whoever connects then meets the other one.
"""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from pacs.app.processes import FIRST_PAUSE_SECONDS
from tests.builders import as_part10, build_ct, new_uid
from tests.conformance.dicomweb.service import BOUNDARY, multipart_body
from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher
from tests.work_items import build_change, build_workitem

pytestmark = pytest.mark.scenario

CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
DICOM_JSON = {"Content-Type": "application/dicom+json", "Accept": "application/dicom+json"}


def children_of(pid):
    with_tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in with_tasks for child in children.read_text().split()]


def beside(archive):
    """Return the processes beside the archive's own; those of the sandbox, which have another session, are none."""
    return [
        process
        for supervisor in children_of(archive.process.pid)
        if os.getpgid(supervisor) == archive.process.pid
        for process in children_of(supervisor)
        if os.getpgid(process) == archive.process.pid
    ]


def wait_until(holds):
    deadline = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def stopped(process):
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextmanager
def serving_two(tmp_path, **environment):
    """Run an archive with a process beside its own; yield it with that process."""
    with serving(tmp_path / "data", PACS_HTTP__PROCESSES="2", **environment) as archive:
        (process,) = wait_until(lambda: beside(archive))
        with stopped(archive.process.pid):
            wait_until(lambda: is_answering(archive))
        yield archive, process


def is_answering(archive):
    try:
        return httpx.get(f"{archive.url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def store(archive, *datasets):
    """Store over a new connection, whoever takes it; return the UIDs of what was acknowledged."""
    body = multipart_body(*(as_part10(dataset) for dataset in datasets))
    headers = {"Content-Type": CONTENT_TYPE, "Accept": "application/dicom+json"}
    answer = httpx.post(f"{archive.dicomweb}/studies", content=body, headers=headers, timeout=30)
    assert answer.status_code == httpx.codes.OK
    return {dataset.SOPInstanceUID for dataset in datasets}


def find(archive):
    found = httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}, timeout=30).json()
    return {instance["00080018"]["Value"][0] for instance in found}


def group_is_gone(archive):
    try:
        os.killpg(archive.process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_each_process_stores_and_finds_what_the_other_has_stored(tmp_path, request, database):
    environment = {}
    if database == "postgres":
        environment["PACS_DATABASE__URL"] = request.getfixturevalue("postgres_url")
    with serving_two(tmp_path, **environment) as (archive, process):
        with stopped(process):
            stored = store(archive, build_ct())
        with stopped(archive.process.pid):
            stored |= store(archive, build_ct())
            assert find(archive) == stored
        with stopped(process):
            assert find(archive) == stored


def test_a_process_that_is_killed_takes_nothing_acknowledged_along_and_is_started_again(tmp_path):
    acknowledged = set()
    stopping = threading.Event()

    def push(archive):
        while not stopping.is_set():
            try:
                acknowledged.update(store(archive, build_ct()))
            except httpx.TransportError:
                continue  # cut off with the process: never acknowledged

    with serving_two(tmp_path) as (archive, process):
        with ThreadPoolExecutor(4) as pool:
            pushing = [pool.submit(push, archive) for _ in range(4)]
            wait_until(lambda: len(acknowledged) >= 20)
            os.kill(process, signal.SIGKILL)
            reached = len(acknowledged)
            wait_until(lambda: len(acknowledged) >= reached + 20)
            (successor,) = wait_until(lambda: [one for one in beside(archive) if one != process])
            stopping.set()
            assert [one.result(60) for one in pushing] == [None] * 4
        with stopped(archive.process.pid):
            assert find(archive) >= acknowledged
        assert successor != process
        assert f"another takes its place in {FIRST_PAUSE_SECONDS:g} s" in archive.log.read_text()
        assert archive.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_and_lets_each_finish(tmp_path, number):
    with serving_two(tmp_path, PACS_DIMSE__GRACE_SECONDS="45") as (archive, process), ThreadPoolExecutor(2) as pool:
        waiting = []
        for other in (process, archive.process.pid):
            with stopped(other):
                waiting.append(pool.submit(httpx.get, f"{archive.url}/changes?wait=60", timeout=70))
                threading.Event().wait(1)
        assert archive.stop(number) == 0
        assert [one.result(10).status_code for one in waiting] == [httpx.codes.OK] * 2
        assert group_is_gone(archive)
        assert "Traceback" not in archive.log.read_text()
        assert "before its time" not in archive.log.read_text()


def test_a_stop_that_reaches_every_process_is_one_stop(tmp_path):
    """So a service manager does it, and a terminal's Ctrl-C."""
    with serving_two(tmp_path) as (archive, _):
        os.killpg(archive.process.pid, signal.SIGTERM)
        assert archive.process.wait(60) == 0
        assert group_is_gone(archive)
        assert "Traceback" not in archive.log.read_text()


@pytest.mark.parametrize("is_ready", [True, False])
def test_all_end_when_the_archive_is_killed(tmp_path, is_ready):
    with serving_two(tmp_path) as (archive, process):
        if not is_ready:
            os.kill(process, signal.SIGKILL)
            wait_until(lambda: process not in beside(archive))
        os.kill(archive.process.pid, signal.SIGKILL)
        archive.process.wait()
        wait_until(lambda: group_is_gone(archive))


def test_who_waits_at_one_process_is_told_what_happens_at_the_other(tmp_path):
    with serving_two(tmp_path) as (archive, process), ThreadPoolExecutor(1) as pool:
        with stopped(archive.process.pid):
            waiting = pool.submit(httpx.get, f"{archive.url}/changes?after=now&wait=60", timeout=70)
            threading.Event().wait(1)  # it has to wait already, or it would begin behind what it waits for
        pusher = Pusher(archive.dicom_port)
        pusher.start()
        pusher.wait_for(1)
        pusher.finish()
        assert waiting.result(70).json()["changes"][0]["sop_instance_uid"] in pusher.acknowledged
        assert beside(archive) == [process]


def test_who_listens_at_one_process_hears_of_work_items_of_the_other(tmp_path):
    with serving_two(tmp_path) as (archive, process):
        uid = new_uid()
        with stopped(archive.process.pid):
            channel = connect(f"{archive.dicomweb.replace('http', 'ws', 1)}/subscribers/DESK")
        with channel:
            with stopped(process):
                base = f"{archive.dicomweb}/workitems"
                httpx.post(f"{base}?{uid}", json=build_workitem(), headers=DICOM_JSON).raise_for_status()
                httpx.post(f"{base}/{uid}/subscribers/DESK").raise_for_status()
                change = build_change("IN PROGRESS", "1.7.7531")
                httpx.put(f"{base}/{uid}/state", json=change, headers=DICOM_JSON).raise_for_status()
            assert uid in str(channel.recv(timeout=30))
