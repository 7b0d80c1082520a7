"""The change feed over HTTP: every change once and in order, nothing of a patient, and waiting that costs nobody."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request

from dicomweb import changes as resource
from dicomweb.app import create_app
from dicomweb.changes import Waiters
from pacs.ingest.incoming import Incoming
from pacs.model import Cursor, Door, Origin
from tests.builders import as_part10, build_ct, build_series
from tests.key_objects import QUALITY, build_key_objects


@pytest.fixture
def waiters(archive):
    return Waiters(archive.changes.watch)


@pytest.fixture
def service(server, archive, waiters):
    """The address of a service whose waiting requests the test can see."""
    switch, address = server
    switch.app = create_app(archive, is_ready=dict, waiters=waiters)
    return f"{address}/dicom-web"


def read(root, **query):
    answer = root.get("/changes", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_empty_log_has_an_end_to_read_on_from(root, store):
    page = read(root)
    assert (page["changes"], page["has_more"]) == ([], False)
    image = build_ct()
    store(image)
    (change,) = read(root, after=page["after"])["changes"]
    assert change.pop("at").endswith("+00:00")
    assert change.pop("cursor") == read(root, after="now")["after"]
    assert change == {
        "kind": "instance-stored",
        "study_instance_uid": image.StudyInstanceUID,
        "series_instance_uid": image.SeriesInstanceUID,
        "sop_instance_uid": image.SOPInstanceUID,
        "facts": {"door": "stow"},
    }


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_pages_put_together_are_the_whole_log_in_the_order_of_storing(root, store, limit):
    images = build_series(7)
    for image in images:  # of one request, several are stored at once
        store(image)
    seen, after = [], None
    while True:
        page = read(root, limit=limit, **({"after": after} if after else {}))
        seen += page["changes"]
        after = page["after"]
        assert len(page["changes"]) <= limit
        if not page["has_more"]:
            break
    assert [change["sop_instance_uid"] for change in seen] == [image.SOPInstanceUID for image in images]
    assert after == seen[-1]["cursor"]
    assert read(root, after=after) == {"changes": [], "after": after, "has_more": False}


def test_now_is_behind_everything_stored_and_before_everything_to_come(root, store):
    first, second = build_series(2)
    store(first)
    now = read(root, after="now")
    assert (now["changes"], now["has_more"]) == ([], False)
    store(second)
    (change,) = read(root, after=now["after"])["changes"]
    assert change["sop_instance_uid"] == second.SOPInstanceUID


def test_no_patient_no_address_and_no_name_of_a_person_is_told(root, archive):
    image = build_ct(PatientName="CANARY^PHI", PatientID="CANARY-ID", AccessionNumber="CANARY")
    note = build_key_objects(QUALITY, [image])
    origin = Origin(
        Door.DIMSE, "192.0.2.77", "SECRET_CT", "SECRET_PACS", issuer_of_patient_id="SECRET", may_reject=True
    )
    for dataset in (image, note):
        with archive.ingest.open_spool() as spool:
            spool.write(as_part10(dataset))
            archive.ingest.store(Incoming(spool, origin))
    root.post("/withheld/restore", json={"sop_instance_uid": note.SOPInstanceUID})
    text = root.get("/changes").text
    assert [change["kind"] for change in json.loads(text)["changes"]] == [
        "instance-stored",
        "instance-withheld",
        "note-stored",
        "instance-restored",
    ]
    assert json.loads(text)["changes"][1]["facts"] == {"reason": "quality", "note": note.SOPInstanceUID}
    for secret in ("CANARY", "SECRET", "192.0.2.77"):
        assert secret not in text


@pytest.mark.parametrize(
    "query",
    [
        "after=", "after=x", "after=1", "after=0-0", f"after={0:016x}-{1:016x}%00", f"after={0:016x}-{10:016X}",
        f"after={2**64 - 1:016x}-{0:016x}", f"after={0:016x}-{2**63:016x}", "after=" + "9" * 5000, "limit=-1",
        "limit=x", "wait=-1", "wait=1.5", "wait=x", "kinds=all", f"after={0:016x}-" + "%D9%A1" * 16,
    ],
)  # fmt: skip
def test_a_bad_cursor_and_other_nonsense_are_refused(root, query):
    assert root.get(f"/changes?{query}").status_code == 400


def test_a_cursor_that_the_log_has_not_come_to_is_refused_and_not_waited_for(root, store):
    store(build_ct())
    ahead = read(root)["after"].split("-")[0] + f"-{2**32:016x}"
    assert root.get("/changes", params={"after": ahead, "wait": 60}).status_code == 400


def test_no_more_than_a_thousand_come_at_once_and_a_limit_of_none_gives_none(root, store, monkeypatch):
    monkeypatch.setattr("pacs.changes.MAX_PAGE", 2)
    store(*build_series(3))
    assert len(read(root, limit=10**9)["changes"]) == 2
    page = read(root, limit=0, wait=60)
    assert (page["changes"], page["has_more"]) == ([], True)


def test_nothing_of_it_is_cached(root):
    assert root.get("/changes").headers["cache-control"] == "no-store"
    assert root.head("/changes").status_code == 200


class TestWaiting:
    def test_what_is_there_already_is_not_waited_for(self, root, store, waiters, monkeypatch):
        monkeypatch.setattr(waiters, "wait", None)
        store(build_ct())
        assert len(read(root, wait=60)["changes"]) == 1

    def test_whoever_waits_is_told_of_what_comes_then(self, service, root, store, waiters):
        image = build_ct()
        now = read(root, after="now")["after"]
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(read, root, after=now, wait=60) for _ in range(3)]
            wait_until(lambda: len(waiters._waiting) == 3)
            store(image)
            for page in waiting:
                (change,) = page.result(30)["changes"]
                assert change["sop_instance_uid"] == image.SOPInstanceUID
        wait_until(lambda: waiters._poller is None)

    def test_waiting_from_now_on_and_for_nothing_ends_in_an_empty_page(self, root, store):
        store(build_ct())
        page = read(root, after="now", wait=1)
        assert page == {"changes": [], "after": page["after"], "has_more": False}

    def test_more_waiters_than_pool_threads_hold_up_nobody(self, service, root, store, waiters):
        count = 60  # the pool has 40 threads
        now = read(root, after="now")["after"]

        async def wait_all():
            async with httpx.AsyncClient(base_url=str(root.base_url), timeout=60, limits=httpx.Limits()) as client:
                asked = [client.get("/changes", params={"after": now, "wait": 60}) for _ in range(count)]
                return await asyncio.gather(*asked)

        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(asyncio.run, wait_all())
            wait_until(lambda: len(waiters._waiting) == count)
            store(build_ct())
            assert {len(answer.json()["changes"]) for answer in answers.result(60)} == {1}

    def test_those_beyond_the_bound_are_told_to_come_later(self, root, waiters, monkeypatch):
        monkeypatch.setattr(resource, "MAX_WAITERS", 1)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(read, root, wait=60)
            wait_until(lambda: len(waiters._waiting) == 1)
            answer = root.get("/changes?wait=60")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
            assert root.get("/changes").status_code == 200
            waiters.end()
            assert first.result(30)["changes"] == []

    def test_whoever_hangs_up_is_forgotten(self, service, root, waiters):
        with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=root.base_url, timeout=0.5) as client:
            client.get("/changes?wait=60")
        wait_until(lambda: not waiters._waiting)
        assert waiters._poller is None

    def test_at_the_end_of_the_server_all_go_and_nobody_waits_any_more(self, root, waiters):
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(read, root, wait=60) for _ in range(2)]
            wait_until(lambda: len(waiters._waiting) == 2)
            waiters.end()  # in another thread than the loop's: the poller wakes the loop up within its half second
            assert [page.result(30)["changes"] for page in waiting] == [[], []]
        assert read(root, wait=60)["changes"] == []


def request_that_stays():
    """Return a request whose client never hangs up."""

    async def receive():
        await asyncio.Event().wait()

    return Request({"type": "http", "method": "GET", "headers": []}, receive)


@contextmanager
def restless(wake):
    """Watch a database in which something is committed all the time."""
    stopping = threading.Event()

    def run():
        while not stopping.wait(0.01):
            wake()

    wake()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()


class TestWaiters:
    """In a loop of the test's own."""

    def test_a_log_that_cannot_be_read_for_a_while_is_looked_at_again(self, monkeypatch):
        monkeypatch.setattr(resource, "AFTER_FAILURE_SECONDS", 0.01)
        ends = iter([OSError("gone"), Cursor(0, 1), Cursor(0, 2)])

        def read_end():
            end = next(ends)
            if isinstance(end, OSError):
                raise end
            return end

        asyncio.run(Waiters(restless).wait(request_that_stays(), read_end, Cursor(0, 1), 60))
        assert list(ends) == []

    def test_who_waits_while_the_last_look_is_still_under_way_is_looked_for_too(self):
        slow, is_slow = threading.Event(), threading.Event()

        def read_slowly():
            is_slow.set()
            slow.wait(10)
            return Cursor()

        async def one_after_the_other():
            waiters = Waiters(restless)
            first = asyncio.create_task(waiters.wait(request_that_stays(), read_slowly, Cursor(), 60))
            await asyncio.to_thread(is_slow.wait, 10)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await waiters.wait(request_that_stays(), lambda: Cursor(0, 1), Cursor(), 60)
            slow.set()

        asyncio.run(one_after_the_other())

    def test_a_disconnect_is_told_apart_from_a_change(self):
        async def receive():
            return {"type": "http.disconnect"}

        request = Request({"type": "http", "method": "GET", "headers": []}, receive)
        with pytest.raises(ClientDisconnect):
            asyncio.run(Waiters(restless).wait(request, Cursor, Cursor(), 60))
