import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from dicomweb.errors import MultipartError
from dicomweb.stow import BATCH_BYTES, _feed
from dicomweb.stow_sinks import Receiver
from pacs.ingest.incoming import Expected
from pacs.model import Door, Origin

BATCH = bytes(BATCH_BYTES)


class Recording:
    """A sink that notes what it is fed, and may wait or fail in the midst."""

    is_heavy = False

    def __init__(self, before=lambda number: None) -> None:
        self.fed: list[int] = []
        self.is_busy = False
        self._before = before

    def feed(self, data: bytes) -> None:
        assert not self.is_busy, "only one batch is fed at a time"
        self.is_busy = True
        try:
            self._before(len(self.fed))
            self.fed.append(len(data))
        finally:
            self.is_busy = False

    def finish(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def receiver(archive) -> Receiver:
    return Receiver(archive.ingest, Origin(Door.STOW), Expected())


def test_next_batch_is_received_while_one_is_stored(receiver):
    has_come = threading.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BATCH
        has_come.set()
        yield BATCH
        yield b"rest"

    sink = Recording(lambda number: number or (has_come.wait(20) or pytest.fail("it was not received meanwhile")))
    asyncio.run(_feed(body(), receiver, sink))
    assert sink.fed == [BATCH_BYTES, BATCH_BYTES, 4]


def test_no_more_is_received_than_one_batch_ahead(receiver):
    received = []
    most = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(6):
            received.append(number)
            yield BATCH

    sink = Recording(lambda number: most.append(len(received) - number))
    asyncio.run(_feed(body(), receiver, sink))
    assert len(sink.fed) == 6
    assert max(most) <= 2


def test_what_the_sink_raises_ends_it_and_nothing_else_is_fed(receiver):
    def fail(number: int) -> None:
        if number == 1:
            raise MultipartError("broken")

    async def body() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield BATCH

    sink = Recording(fail)
    with pytest.raises(MultipartError):
        asyncio.run(_feed(body(), receiver, sink))
    assert sink.fed == [BATCH_BYTES]


def test_a_sender_that_hangs_up_waits_for_what_is_being_stored(receiver):
    is_gone = threading.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BATCH
        is_gone.set()
        raise ConnectionResetError

    sink = Recording(lambda _: is_gone.wait(20))
    with pytest.raises(ConnectionResetError):
        asyncio.run(_feed(body(), receiver, sink))
    assert sink.fed == [BATCH_BYTES]
    assert not sink.is_busy


def test_once_there_is_no_room_nothing_more_is_fed(receiver):
    def fill(number: int) -> None:
        receiver.is_exhausted = number == 1

    async def body() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield BATCH

    sink = Recording(fill)
    asyncio.run(_feed(body(), receiver, sink))
    assert sink.fed == [BATCH_BYTES] * 2
