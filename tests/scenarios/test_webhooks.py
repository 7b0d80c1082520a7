"""Webhooks and the change feed as others live with them: power cuts, receivers that misbehave, and two processes."""

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.builders import build_ct
from tests.scenarios.process import free_port, serving
from tests.scenarios.pushing import Pusher
from tests.scenarios.test_forwarding import pacs, push, queue, wait_until, write_settings
from tests.unit.dicomweb.test_webhooks import is_genuine
from tests.webhook_receiver import answering, receiving

__all__ = ["is_genuine"]

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

SECRET = "CANARY-SECRET-OF-THE-HOOK"


def webhook(name, url, *kinds):
    return f'[[webhooks]]\nname = "{name}"\nurl = "{url}"\nsecret = "{SECRET}"\nkinds = {json.dumps(kinds)}\n'


def read_changes(archive, after=""):
    """Return the log from a cursor on, on all pages, and where it ends."""
    changes = []
    while True:
        query = {"limit": 50} | ({"after": after} if after else {})
        page = httpx.get(f"{archive.url}/changes", params=query).json()
        changes += page["changes"]
        after = page["after"]
        if not page["has_more"]:
            return changes, after


def test_power_cuts_while_a_receiver_fails_lose_no_change(tmp_path, is_genuine):
    """Killed while it stores and tells; the receiver hangs, fails, redirects and floods meanwhile, then behaves."""
    count = iter(range(10**6))
    answers = [
        lambda handler: receiver.stopping.wait(2),
        answering(500),
        answering(302, Location="http://127.0.0.1:1/"),
        flood,
        answering(204),
    ]
    acknowledged, seen, after = {}, [], ""

    def misbehave(handler):
        answers[next(count) % len(answers)](handler)

    with receiving() as receiver:
        receiver.answer = misbehave
        config = write_settings(tmp_path / "pacs.toml", webhook("HOOK", f"{receiver.url}/CANARY-PATH"))
        logs = []
        for kill_after in (5, 30):
            with serving(tmp_path / "data", config=config) as archive:
                pusher = Pusher(archive.dicom_port)
                pusher.start()
                pusher.wait_for(kill_after)
                wait_until(lambda: len(receiver.requests) > 0)
                changes, after = read_changes(archive, after)
                seen += changes
                archive.kill()
                pusher.finish()
                acknowledged |= pusher.acknowledged
                logs.append(archive.log.read_text())
        receiver.answer = answering(204)
        with serving(tmp_path / "data", config=config) as archive:
            wait_until(lambda: acknowledged.keys() <= receiver.uids())
            wait_until(lambda: not queue(archive, state="waiting", lane="HOOK"))
            seen += read_changes(archive, after)[0]
            assert queue(archive, state="dead") == []
            listed = json.dumps(queue(archive))
            logs.append(archive.log.read_text())
    told = {change["cursor"]: change for change in receiver.changes()}
    stored = [change for change in seen if change["kind"] == "instance-stored"]
    assert acknowledged.keys() <= {change["sop_instance_uid"] for change in stored}
    assert len({change["cursor"] for change in seen}) == len(seen)  # nothing twice, through every kill
    assert [change for change in seen if change["cursor"] not in told] == []
    assert all(is_genuine(SECRET, headers, body) for headers, body, _ in receiver.requests)
    by_name = {}
    for headers, body, _ in receiver.requests:
        assert by_name.setdefault(headers["X-PACS-Delivery"], body) == body
    assert len(receiver.requests) > len(by_name)
    shown = pacs(tmp_path / "data", config, "config")
    assert shown.returncode == 0, shown.stderr
    assert '"name": "HOOK"' in shown.stdout
    for text in (*logs, listed, shown.stdout, shown.stderr):
        assert "CANARY-SECRET" not in text
    for text in (*logs, listed):
        assert "CANARY-PATH" not in text


def flood(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


def test_a_dead_webhook_waits_and_is_seen_while_others_are_told(tmp_path):
    nowhere = free_port()
    image = build_ct()
    with receiving() as receiver:
        config = write_settings(
            tmp_path / "pacs.toml",
            webhook("DEAD", f"http://127.0.0.1:{nowhere}"),
            webhook("WELL", receiver.url, "instance-stored"),
            webhook("GONE", f"{receiver.url}/gone"),
        )
        receiver.answer = lambda handler: answering(410 if handler.path == "/gone" else 204)(handler)
        with serving(tmp_path / "data", config=config) as archive:
            push(archive, image)
            wait_until(lambda: any(headers["X-PACS-Webhook"] == "WELL" for headers, *_ in receiver.requests))
            wait_until(lambda: not queue(archive, lane="WELL"))
            wait_until(lambda: queue(archive, lane="GONE", state="dead"))
            wait_until(lambda: any(job["problem"] for job in queue(archive, lane="DEAD", state="waiting")))
            (dead,) = queue(archive, lane="DEAD")
            assert (dead["kind"], dead["problem"]) == (
                "webhook",
                "DEAD cannot be reached: ConnectionRefusedError.",
            )
        listed = pacs(tmp_path / "data", config, "queue", "list", "--to", "DEAD")
        assert dead["key"] in listed.stdout
        with receiving(nowhere) as late, serving(tmp_path / "data", config=config) as archive:
            wait_until(lambda: late.uids() == {image.SOPInstanceUID})
            ((headers, _, _),) = late.requests
            assert headers["X-PACS-Delivery"] == dead["key"]


@pytest.mark.postgres
def test_two_processes_tell_of_each_others_changes_and_wake_each_others_waiters(tmp_path, postgres_url):
    images = [build_ct() for _ in range(12)]
    with receiving() as receiver:
        config = write_settings(tmp_path / "pacs.toml", webhook("HOOK", receiver.url))
        shared = {"PACS_DATABASE__URL": postgres_url, "PACS_STORAGE__URL": f"file://{tmp_path / 'objects'}"}
        with (
            serving(tmp_path / "first", config=config, **shared) as first,
            serving(tmp_path / "second", config=config, **shared) as second,
            ThreadPoolExecutor(1) as pool,
        ):
            waiting = pool.submit(httpx.get, f"{second.url}/changes?after=now&wait=60", timeout=70)
            threading.Event().wait(0.5)  # it has to wait already, or it would begin behind what it waits for
            for one, other in zip(images[::2], images[1::2], strict=True):
                push(first, one)
                push(second, other)
            assert waiting.result(70).json()["changes"][0]["sop_instance_uid"] == images[0].SOPInstanceUID
            wait_until(lambda: len(receiver.uids()) == len(images))
            assert [change["cursor"] for change in read_changes(first)[0]] == [
                change["cursor"] for change in read_changes(second)[0]
            ]
            told = [change["cursor"] for change in receiver.changes()]
            assert len(set(told)) == len(told) == len(images)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_for_changes_is_answered_when_the_server_stops(tmp_path, number):
    """Not after a minute of its own, nor cut off when the server's time of grace is over."""
    with (
        serving(tmp_path / "data", PACS_DIMSE__GRACE_SECONDS="45") as archive,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(httpx.get, f"{archive.url}/changes?wait=60", timeout=70) for _ in range(2)]
        threading.Event().wait(0.5)
        assert archive.stop(number) == 0
        answers = [one.result(10) for one in waiting]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert "Traceback" not in archive.log.read_text()
        assert "timeout graceful shutdown exceeded" not in archive.log.read_text()


def test_kinds_that_nobody_knows_are_refused_at_start_in_one_sentence(tmp_path):
    config = write_settings(tmp_path / "pacs.toml", webhook("HOOK", "https://hook.example", "instance-stord"))
    refused = pacs(tmp_path / "data", config, "serve", "--http-port", "0", "--dicom-port", "0")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "webhooks.0.kinds" in refused.stderr
    assert SECRET not in refused.stderr
