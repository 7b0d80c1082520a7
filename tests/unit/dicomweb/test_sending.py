"""How bodies go out: in steps that bound what is held for a client, and given back however that ends."""

import asyncio
import threading

import pytest
from starlette.requests import Request

from dicomweb import sending
from dicomweb.caching import Entity
from dicomweb.multipart import Part
from dicomweb.sending import STEP_BYTES, THREADS, send, send_single
from dicomweb.threads import OwnThreads

LARGE = 256 * 1024


class Body:
    """A body of so many chunks that notes which were read and whether it was given back."""

    def __init__(self, *chunks):
        self.chunks, self.read, self.closed = chunks, 0, 0

    def __iter__(self):
        for chunk in self.chunks:
            self.read += 1
            yield chunk

    def close(self):
        self.closed += 1


class Client:
    """The other end: takes everything, or the first piece and the rest once it is ``ready``; hangs up if told so."""

    def __init__(self, *, takes_all=True):
        self.messages, self.has_begun, self.ready, self.gone = [], *(asyncio.Event() for _ in range(3))
        if takes_all:
            self.ready.set()

    async def take(self, message):
        if self.has_begun.is_set():
            await self.ready.wait()
        self.messages.append(message)
        if self.bodies:
            self.has_begun.set()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def bodies(self):
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]


def request():
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], THREADS: OwnThreads(1)}
    return Request(scope)


def answer(body):
    return send(request(), iter(body), "application/octet-stream", {}, close=body.close)


async def deliver(response, client):
    await response({"type": "http"}, client.receive, client.take)


def test_a_large_chunk_is_sent_as_it_is_and_small_neighbours_as_one():
    large = bytes(LARGE)

    async def run():
        client = Client()
        await deliver(answer(Body(b"a", b"b", large, b"c", b"d")), client)
        assert [message.get("more_body") for message in client.messages] == [None, True, True, False]
        first, second, third = client.bodies
        assert (first, third) == (b"ab", b"cd")
        assert second is large

    asyncio.run(run())


def test_no_more_than_a_step_is_read_for_a_client_that_takes_nothing():
    async def run():
        client, body = Client(takes_all=False), Body(*[bytes(LARGE)] * 100)
        task = asyncio.create_task(deliver(answer(body), client))
        await client.has_begun.wait()
        await asyncio.sleep(0.05)
        assert body.read <= 2 * STEP_BYTES // LARGE
        client.ready.set()
        await task
        assert sum(map(len, client.bodies)) == 100 * LARGE
        assert body.closed == 1

    asyncio.run(run())


def test_who_hangs_up_ends_the_reading_and_the_body_is_given_back():
    async def run():
        client, body = Client(), Body(*[bytes(LARGE)] * 1000)
        client.gone.set()
        await deliver(answer(body), client)
        assert body.read < 10 * STEP_BYTES // LARGE
        assert body.closed == 1
        assert client.messages[-1]["more_body"]

    asyncio.run(run())


def test_what_takes_long_to_make_is_sent_as_it_comes(monkeypatch):
    monkeypatch.setattr(sending, "STEP_SECONDS", -1.0)

    async def run():
        client = Client()
        await deliver(answer(Body(b"a", b"b", b"c")), client)
        assert client.bodies == [b"a", b"b", b"c", b""]

    asyncio.run(run())


def test_what_fails_in_the_midst_gives_the_body_back():
    def fail():
        yield bytes(STEP_BYTES)
        raise OSError("gone")

    async def run():
        client, closed = Client(), []
        with pytest.raises(OSError, match="gone"):
            await deliver(send(request(), fail(), "x/y", {}, close=lambda: closed.append(1)), client)
        assert closed == [1]

    asyncio.run(run())


def test_a_body_shorter_than_it_was_said_to_be_is_refused_before_anything_is_promised():
    body = Body(b"short")
    part = Part("application/octet-stream", "", 6, lambda: iter(body), body.close)
    with pytest.raises(EOFError):
        send_single(request(), part, Entity('"tag"', "no-cache"))
    assert body.closed == 1


def test_a_body_of_one_step_is_given_back_before_it_is_sent():
    body = Body(b"whole")
    part = Part("application/octet-stream", "", 5, lambda: iter(body), body.close)
    response = send_single(request(), part, Entity('"tag"', "no-cache"))
    assert body.closed == 1

    async def run():
        client = Client()
        await deliver(response, client)
        assert client.bodies == [b"whole"]

    asyncio.run(run())


def test_a_cancelled_call_ends_no_sooner_than_its_thread():
    began, may_end, ended = threading.Event(), threading.Event(), []

    def work():
        began.set()
        assert may_end.wait(10)
        ended.append(True)

    async def run():
        task = asyncio.create_task(OwnThreads(1).run(work))
        assert await asyncio.to_thread(began.wait, 10)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(run())
