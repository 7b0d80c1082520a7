"""A connection whose request does not end is closed; one that makes headway is left alone."""

import asyncio

import pytest
import uvicorn

from dicomweb import connection
from dicomweb.connection import GuardedProtocol


async def answer(_scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def echo(_scope, receive, send):
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def talk(*pieces, pause=0.05, app=answer):
    """Send the pieces, a pause after each, and return what is answered until the connection ends or 2 s are over."""

    async def run():
        config = uvicorn.Config(app, http=GuardedProtocol, log_config=None, lifespan="off", timeout_keep_alive=1)
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: GuardedProtocol(config, state, {}), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        try:
            return await asyncio.wait_for(reader.read(), 2)
        except ConnectionError:
            return b""
        finally:
            writer.close()
            server.close()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connection, "BODY_SECONDS", 1)


@pytest.mark.parametrize(
    "start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"]
)
def test_a_request_that_stops_is_cut_off(start):
    assert talk(start) == b""


def test_a_head_that_comes_byte_by_byte_is_cut_off():
    assert talk(*[b"GET / HTTP/1.1\r\n", *[b"a"] * 8]) == b""


def test_a_head_without_end_is_refused():
    # Not much longer than it may be: what is never read would reset the connection, and the answer might be lost.
    lines = b"a: b\r\n" * (connection.MAX_HEAD_BYTES // 6 + 1)
    assert talk(b"GET / HTTP/1.1\r\n" + lines).startswith(b"HTTP/1.1 400 ")


def test_a_slow_body_that_moves_is_taken():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 8\r\n\r\n"
    assert talk(head, *[b"a"] * 8, pause=0.15).startswith(b"HTTP/1.1 204 ")


def test_a_body_in_pieces_of_a_byte_comes_as_it_was_sent():
    body = bytes(range(256)) * 8
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert talk(head + chunks + b"0\r\n\r\n", app=echo).endswith(b"\r\n\r\n" + body)


def test_a_body_that_the_application_does_not_take_is_not_read_on():
    kept = []

    async def stall(scope, receive, send):
        await asyncio.sleep(0.3)
        message = await receive()
        kept.append(len(message["body"]))
        await answer(scope, receive, send)

    length = 8 * 1024 * 1024
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length
    assert talk(head + bytes(length), app=stall).startswith(b"HTTP/1.1 204 ")
    assert connection.MAX_UNREAD_BYTES < kept[0] <= 2 * connection.MAX_UNREAD_BYTES


def sender(file, *, has_length=True):
    """Return an application that answers with a file between two words."""

    async def send_file(scope, receive, send):
        assert connection.SEND_FILE in scope["extensions"]
        size = file.stat().st_size
        headers = [(b"content-length", b"%d" % (size + 6))] if has_length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<<<", "more_body": True})
        with file.open("rb", buffering=0) as opened:
            part = {"file": opened, "offset": 2, "count": size - 2, "more_body": True}
            await send({"type": connection.SEND_FILE, **part})
            await send({"type": connection.SEND_FILE, "file": opened, "offset": 0, "count": 2, "more_body": True})
        await send({"type": "http.response.body", "body": b">>>"})

    return send_file


def test_a_file_is_sent_in_its_place_and_the_connection_goes_on(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 20_000)
    body = b"<<<" + file.read_bytes()[2:] + b"\0\1>>>"
    answers = talk(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2, app=sender(file))
    assert answers.count(body) == 2
    assert answers.count(b"HTTP/1.1 200") == 2


def test_a_file_in_a_body_of_unknown_length_is_a_mistake_that_ends_the_connection(tmp_path, caplog):
    file = tmp_path / "file"
    file.write_bytes(b"content")
    assert b"content" not in talk(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", app=sender(file, has_length=False))
    assert "Exception in ASGI application" in caplog.text
