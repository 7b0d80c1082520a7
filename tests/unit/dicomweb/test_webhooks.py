"""Posting to a webhook: signed, never for longer than it may take, and whatever the receiver does."""

import logging
import re
import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from dicomweb.webhooks import WebhookReceiver
from pacs.model import Change, ChangeKind, Cursor
from pacs.routing.destinations import Unreachable
from pacs.routing.webhooks import Delivery
from tests.conformance.dimse.authority import make_authority
from tests.contract.database import STORED_AT
from tests.webhook_receiver import answering, receiving

SECRET = "known to both sides"
CHANGE = Change(
    Cursor(47, 420), ChangeKind.INSTANCE_STORED, STORED_AT, "1.2", "1.2.3", "1.2.3.4", {"door": "stow", "address": "x"}
)
DELIVERY = Delivery("d41d8cd98f00b204e9800998ecf8427e", (CHANGE,))


@pytest.fixture
def is_genuine():
    """The example of the documentation, as it stands there."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    return scope["is_genuine"]


@pytest.fixture
def receiver():
    with receiving() as running:
        yield running


def webhook(url, answer_seconds=20.0):
    return WebhookReceiver("HOOK", url, SECRET, answer_seconds=answer_seconds)


def test_a_delivery_carries_its_changes_its_name_and_a_signature_that_verifies(receiver, is_genuine):
    assert webhook(f"{receiver.url}/path?token=abc")(DELIVERY) == ""
    ((headers, body, path),) = receiver.requests
    assert path == "/path?token=abc"
    assert (headers["Content-Type"], headers["X-PACS-Webhook"]) == ("application/json", "HOOK")
    assert headers["X-PACS-Delivery"] == DELIVERY.id
    assert is_genuine(SECRET, headers, body)
    assert receiver.changes() == [
        {
            "cursor": "000000000000002f-00000000000001a4",
            "kind": "instance-stored",
            "at": STORED_AT.isoformat(),
            "study_instance_uid": "1.2",
            "series_instance_uid": "1.2.3",
            "sop_instance_uid": "1.2.3.4",
            "facts": {"door": "stow"},
        }
    ]


@pytest.mark.parametrize("what", ["secret", "body", "name", "time", "age"])
def test_nothing_of_it_can_be_changed(receiver, is_genuine, what):
    webhook(receiver.url)(DELIVERY)
    ((headers, body, _),) = receiver.requests
    stated = headers["X-PACS-Signature"]
    seconds = int(stated.partition(",")[0].removeprefix("t="))
    changed = {
        "secret": (SECRET + "x", headers, body),
        "body": (SECRET, headers, body + b" "),
        "name": (SECRET, headers | {"X-PACS-Delivery": "another"}, body),
        "time": (SECRET, headers | {"X-PACS-Signature": stated.replace(str(seconds), str(seconds - 1))}, body),
        "age": (SECRET, headers | {"X-PACS-Signature": stated.replace(str(seconds), str(seconds - 301))}, body),
    }
    assert not is_genuine(*changed[what])


def test_the_name_stays_and_the_signature_is_made_anew_when_it_is_tried_again(receiver, is_genuine):
    receiver.answer = answering(500)
    for _ in range(2):
        with pytest.raises(Unreachable):
            webhook(receiver.url)(DELIVERY)
    (first, body, _), (second, same, _) = receiver.requests
    assert (first["X-PACS-Delivery"], body) == (second["X-PACS-Delivery"], same)
    assert is_genuine(SECRET, second, same)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(receiver, status):
    receiver.answer = answering(status)
    assert webhook(receiver.url)(DELIVERY) == ""


@pytest.mark.parametrize("status", [304, 400, 401, 404, 408, 413, 429, 500, 503])
def test_what_is_not_taken_is_tried_again(receiver, status):
    receiver.answer = answering(status)
    with pytest.raises(Unreachable, match=f"HOOK answers HTTP {status}"):
        webhook(receiver.url)(DELIVERY)


def test_gone_is_final(receiver):
    receiver.answer = answering(410)
    assert "410" in webhook(receiver.url)(DELIVERY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver, status):
    with receiving() as elsewhere:
        receiver.answer = answering(status, Location=elsewhere.url)
        with pytest.raises(Unreachable, match=f"HTTP {status}"):
            webhook(receiver.url)(DELIVERY)
        assert elsewhere.requests == []


def test_an_answer_without_end_is_not_read(receiver):
    sent = []
    stopped = threading.Event()

    def flood(handler):
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 65536)
                sent.append(65536)
        stopped.set()

    receiver.answer = flood
    assert webhook(receiver.url)(DELIVERY) == ""
    assert stopped.wait(20)
    assert sum(sent) < 64 * 1024 * 1024  # what sockets hold, and no more


def drip(handler, receiver, head):
    """Send a head and then one byte after the other, for ever."""
    with suppress(OSError):
        handler.wfile.write(head)
        while not receiver.stopping.wait(0.02):
            handler.wfile.write(b"a")
            handler.wfile.flush()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n" * 3])
def test_a_receiver_that_never_comes_to_an_answer_is_given_up(receiver, head):
    """It lets a byte drip now and then: a timeout between two bytes would never come."""
    receiver.answer = lambda handler: drip(handler, receiver, head)
    with pytest.raises(Unreachable, match="in time"):
        webhook(receiver.url, answer_seconds=0.3)(DELIVERY)


def test_a_receiver_that_says_nothing_is_given_up(receiver):
    receiver.answer = lambda _: receiver.stopping.wait(20)
    with pytest.raises(Unreachable, match="in time"):
        webhook(receiver.url, answer_seconds=0.3)(DELIVERY)


def test_one_that_takes_its_time_within_what_it_has_is_waited_for(receiver):
    def slowly(handler):
        receiver.stopping.wait(0.3)
        answering(200)(handler)

    receiver.answer = slowly
    assert webhook(receiver.url)(DELIVERY) == ""


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"\xff" * 70000 + b"\r\n"]
)
def test_what_speaks_no_http_is_unreachable(receiver, answer):
    receiver.answer = lambda handler: handler.wfile.write(answer)
    with pytest.raises(Unreachable):
        webhook(receiver.url)(DELIVERY)


def test_nobody_there_is_unreachable():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="HOOK cannot be reached: ConnectionRefusedError"):
        webhook(f"http://127.0.0.1:{port}")(DELIVERY)


def test_neither_address_nor_secret_is_in_what_went_wrong(receiver, caplog):
    receiver.answer = answering(500)
    with caplog.at_level(logging.DEBUG):
        for url in (f"{receiver.url}/TOKEN", "http://user:TOKEN@127.0.0.1:1/TOKEN"):
            with pytest.raises(Unreachable) as raised:
                webhook(url)(DELIVERY)
            for hidden in ("TOKEN", SECRET, "127.0.0.1"):
                assert hidden not in str(raised.value)
                assert hidden not in caplog.text


@contextmanager
def over_tls(folder):
    """A receiver behind TLS, with the certificate in ``folder``; yields it with its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with receiving(tls=context) as running:
        yield running


def test_over_tls_the_certificate_is_verified(tmp_path, monkeypatch, is_genuine):
    folder = make_authority(tmp_path / "tls")
    with over_tls(folder) as receiver:
        with pytest.raises(Unreachable, match="SSLCertVerificationError"):
            webhook(receiver.url)(DELIVERY)
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.crt"))
        assert webhook(receiver.url)(DELIVERY) == ""
        ((headers, body, _),) = receiver.requests
        assert is_genuine(SECRET, headers, body)


def test_over_tls_the_name_is_verified_too(tmp_path, monkeypatch):
    folder = make_authority(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.crt"))
    with over_tls(folder) as receiver, pytest.raises(Unreachable, match="SSLCertVerificationError"):
        webhook(receiver.url.replace("127.0.0.1", "127.1"))(DELIVERY)


def test_a_handshake_that_does_not_end_is_given_up():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unreachable, match="in time"):
            webhook(f"https://127.0.0.1:{port}", answer_seconds=0.3)(DELIVERY)
