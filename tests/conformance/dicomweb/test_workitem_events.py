"""Event reports of work items over WebSocket (PS3.18 8.10.4, 8.10.5, 11.13), with the ``websockets`` client."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from dicomweb import connection, workitem_events
from dicomweb.app import create_app
from pacs.access import LOCAL
from pacs.database import watcher
from pacs.tags import text_of
from pacs.workitems import State
from tests.builders import new_uid
from tests.conformance.dicomweb.service import serving
from tests.scenarios import process
from tests.work_items import build_change, build_performed, build_workitem, data_set

JSON = {"Content-Type": "application/dicom+json"}
KEY = "1.7.7531"
ALL_ITEMS = "1.2.840.10008.5.1.4.34.5"

ALLOWED = "https://viewer.example"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A client of a real ``pacs serve``, which pages of one other site may call."""
    folder = tmp_path_factory.mktemp("served")
    config = folder / "pacs.toml"
    config.write_text(f'[http]\ncors_origins = ["{ALLOWED}"]\n')
    with (
        process.serving(folder / "data", config=config) as archive,
        httpx.Client(base_url=archive.dicomweb, timeout=30) as client,
    ):
        yield client


def listen(client, ae_title, **options):
    address = str(client.base_url).replace("http", "ws", 1)
    return connect(f"{address}subscribers/{ae_title}", **options)


def create(client, **overrides):
    uid = new_uid()
    assert client.post(f"/workitems?{uid}", json=build_workitem(**overrides), headers=JSON).status_code == 201
    return uid


def change(client, uid, state):
    assert client.put(f"/workitems/{uid}/state", json=build_change(state, KEY), headers=JSON).status_code == 200


def subscribe(client, uid, ae_title, **params):
    response = client.post(f"/workitems/{uid}/subscribers/{ae_title}", params=params)
    assert response.status_code == 201
    return response.headers["content-location"]


def receive(socket):
    """Return (UID, event type, state) of the next report."""
    message = socket.recv(timeout=20)
    assert isinstance(message, str)  # a text message, PS3.18 8.10.5.1.1
    report = json.loads(message)
    return report["00001000"]["Value"][0], report["00001002"]["Value"][0], text_of(report, "ProcedureStepState")


def test_subscriber_is_told_everything_in_order(running):
    uid = create(running)
    address = subscribe(running, uid, "DESK 1")
    with connect(address) as socket:
        subscribe(running, uid, "DESK 1")
        change(running, uid, "IN PROGRESS")
        assert running.post(f"/workitems/{uid}?{KEY}", json=build_performed(), headers=JSON).status_code == 200
        running.post(f"/workitems/{uid}/cancelrequest")
        change(running, uid, "COMPLETED")
        told = [receive(socket) for _ in range(4)]
    assert told == [(uid, 1, "SCHEDULED"), (uid, 1, "IN PROGRESS"), (uid, 2, ""), (uid, 1, "COMPLETED")]


def test_subscriber_of_all_is_told_of_new_items_and_nobody_else_is(running):
    subscribe(running, ALL_ITEMS, "ALL")
    with listen(running, "ALL") as one, listen(running, "ALL") as another, listen(running, "NOBODY") as other:
        uid = create(running)
        assert receive(one) == receive(another) == (uid, 1, "SCHEDULED")
        with pytest.raises(TimeoutError):
            other.recv(timeout=1)
    running.delete(f"/workitems/{ALL_ITEMS}/subscribers/ALL")


def test_what_happens_while_nobody_listens_is_not_kept(running):
    uid = create(running)
    subscribe(running, uid, "LATE")
    with listen(running, "LATE") as socket:
        change(running, uid, "IN PROGRESS")
        assert receive(socket) == (uid, 1, "IN PROGRESS")


def test_what_a_client_says_is_passed_over(running):
    uid = create(running)
    with listen(running, "TALKER") as socket:
        for message in ("hello", b"\x00" * 1000, "{}"):
            socket.send(message)
        subscribe(running, uid, "TALKER")
        assert receive(socket) == (uid, 1, "SCHEDULED")
        socket.send("x" * (connection.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[", ALLOWED + ".example"])
def test_page_of_another_site_is_refused(running, origin):
    with pytest.raises(InvalidStatus) as refused, listen(running, "DESK", origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert b"cors_origins" in refused.value.response.body


def test_page_of_ours_and_of_an_allowed_site_may_listen(running):
    for origin in (str(running.base_url.copy_with(path="/")).rstrip("/"), ALLOWED):
        with listen(running, "DESK", origin=origin):
            pass


@pytest.mark.parametrize(
    ("path", "status"), [("subscribers/CANARYCANARYCANARY", 400), ("nonsense", 404), ("studies", 404), ("../x", 404)]
)
def test_websocket_to_nowhere_is_refused_in_a_sentence(running, path, status):
    address = str(running.base_url).replace("http", "ws", 1)
    with pytest.raises(InvalidStatus) as refused, connect(address + path):
        pass
    assert refused.value.response.status_code == status
    assert b"CANARY" not in refused.value.response.body


def test_log_says_nothing_of_who_listens_or_is_refused(tmp_path):
    with process.serving(tmp_path / "data") as archive, httpx.Client(base_url=archive.dicomweb) as client:
        for path in ("DESK?PatientName=CANARY", "CANARYCANARYCANARY"):
            with suppress(InvalidStatus), listen(client, path):
                pass
        archive.stop()
    log = archive.log.read_text()
    assert "CANARY" not in log
    assert "ERROR" not in log


def test_server_that_stops_lets_its_listeners_go(tmp_path):
    with process.serving(tmp_path / "data") as archive:
        with httpx.Client(base_url=archive.dicomweb) as client, listen(client, "DESK") as socket:
            stopping = threading.Thread(target=archive.stop)
            stopping.start()
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=30)
            stopping.join()
        assert closed.value.rcvd.code == 1012
        assert archive.process.returncode == 0


def test_every_process_tells_its_own_listeners_what_another_one_did(tmp_path, postgres_url):
    with (
        process.serving(tmp_path / "one", PACS_DATABASE__URL=postgres_url) as one,
        process.serving(tmp_path / "two", PACS_DATABASE__URL=postgres_url) as two,
        httpx.Client(base_url=one.dicomweb, timeout=30) as near,
        httpx.Client(base_url=two.dicomweb, timeout=30) as far,
        listen(far, "DESK") as socket,
    ):
        uid = create(near)
        subscribe(near, uid, "DESK")
        assert receive(socket) == (uid, 1, "SCHEDULED")
        change(near, uid, "IN PROGRESS")
        assert receive(socket) == (uid, 1, "IN PROGRESS")


# What cannot be seen from outside in a short time


@contextmanager
def served(archive):
    app = create_app(archive, is_ready=dict)
    with (
        serving(app, ws=connection.GuardedWebSocket, http=connection.GuardedProtocol) as address,
        httpx.Client(base_url=f"{address}/dicom-web", timeout=30) as client,
    ):
        yield client


def test_open_channel_is_not_cut_off_for_its_silence(archive, monkeypatch):
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "UNREAD_SECONDS"):
        monkeypatch.setattr(connection, name, 0.2)
    with served(archive) as client, listen(client, "QUIET") as socket:
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1)
        uid = create(client)
        subscribe(client, uid, "QUIET")
        assert receive(socket) == (uid, 1, "SCHEDULED")


def fill(archive, uid, count):
    """Let much happen to an item: every report is nearly a megabyte."""
    for number in range(count):
        item = data_set(ProcedureStepProgressDescription=f"{number % 10}" * 900_000)
        payload = data_set(ProcedureStepProgressInformationSequence=[item])
        archive.workitems.update(LOCAL, uid, KEY, payload)


def drain(socket):
    """Read to the end and return how the channel was closed."""
    try:
        while True:
            socket.recv(timeout=30)
    except ConnectionClosed as closed:
        return closed.rcvd


def claim(client, archive, ae_title):
    uid = create(client)
    archive.workitems.change_state(LOCAL, uid, State.IN_PROGRESS, KEY)
    subscribe(client, uid, ae_title)
    return uid


def test_client_for_whom_too_much_waits_is_told_to_come_back(archive, monkeypatch):
    monkeypatch.setattr(workitem_events, "MAX_WAITING_CHARACTERS", 1_000_000)
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 2)  # so that two reports come at once
    with served(archive) as client:
        uid = claim(client, archive, "SLOW")
        with listen(client, "SLOW", max_size=None) as socket:
            fill(archive, uid, 10)
            assert drain(socket).code == 1013


def test_client_that_reads_nothing_is_cut_off(archive, monkeypatch):
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(workitem_events, "MAX_WAITING_CHARACTERS", 10**9)
    monkeypatch.setattr(workitem_events, "MAX_LISTENERS", 1)
    with served(archive) as client:
        uid = claim(client, archive, "SLEEPER")
        options = {"max_size": None, "max_queue": 1, "ping_interval": None, "compression": None}
        with listen(client, "SLEEPER", **options) as socket:
            fill(archive, uid, 30)  # more than the buffers between the two hold
            assert has_room(client)
            assert drain(socket) is None  # nobody said goodbye


def has_room(client):
    """Wait until the server has given the connection up: then another one may listen, though only one may."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with listen(client, "PROBE"):
                return True
        except InvalidStatus:
            time.sleep(0.1)
    return False


def test_listeners_are_bounded(archive, monkeypatch):
    monkeypatch.setattr(workitem_events, "MAX_LISTENERS", 2)
    with served(archive) as client, listen(client, "A"), listen(client, "B"):
        with pytest.raises(InvalidStatus) as refused, listen(client, "C"):
            pass
        assert refused.value.response.status_code == 503


def test_nothing_is_read_while_nobody_listens(archive):
    listeners = workitem_events.Listeners(archive.workitems)

    async def run():
        with listeners.listening("A"):
            await listeners.begin(LOCAL)
            assert listeners._poller is not None
        assert listeners._poller is None

    asyncio.run(run())


def test_sending_to_who_has_gone_ends_the_channel(archive):
    class Gone:
        async def send_text(self, _):
            raise WebSocketDisconnect

        async def receive(self):
            await asyncio.sleep(30)

    listeners = workitem_events.Listeners(archive.workitems)

    async def run():
        with listeners.listening("A") as listener:
            listener.offer("{}")
            await asyncio.wait_for(workitem_events._serve(Gone(), listener), 5)

    asyncio.run(run())
