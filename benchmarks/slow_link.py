"""A bad link between a browser and the archive: one rate for all connections together, and a delay each way.

It stands between them on the loopback interface, so nobody needs to be root. What it keeps: bytes leave in order, no
faster than the rate in each direction, whatever the number of connections, and arrive the delay later; a connection
costs the round trip that TCP's handshake takes. What it does not do: lose packets, or start slowly as TCP does.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK_BYTES = 4096
_IN_FLIGHT_CHUNKS = 64


@dataclass
class Direction:
    """One direction of the link. Its rate is shared by all connections: who comes first is sent first."""

    bits_per_second: float
    total_bytes: int = 0
    _free_at: float = 0.0

    def occupy(self, length_bytes: int) -> float:
        """Return when the last of these bytes will have left, in the loop's seconds."""
        self.total_bytes += length_bytes
        self._free_at = max(self._free_at, time.monotonic()) + length_bytes * 8 / self.bits_per_second
        return self._free_at


@dataclass
class SlowLink:
    """A listener on 127.0.0.1 that passes all it gets on to ``target_port``."""

    target_port: int
    bits_per_second: float = 512_000
    delay_seconds: float = 0.35
    """One way: two of them are the round trip."""
    rewrite: Callable[[bytes], bytes] = bytes
    """What becomes of a chunk on its way up; as it is if not said otherwise."""
    port: int = 0
    up: Direction = field(init=False)
    down: Direction = field(init=False)
    _transports: set[asyncio.WriteTransport] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.up = Direction(self.bits_per_second)
        self.down = Direction(self.bits_per_second)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_speed(self, bits_per_second: float, delay_seconds: float) -> None:
        """Change what the link is from the next byte on."""
        self.up.bits_per_second = self.down.bits_per_second = bits_per_second
        self.delay_seconds = delay_seconds

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut(self) -> None:
        """End every connection at once, whatever is still to be sent over it."""
        for transport in self._transports:
            transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer.transport)
        await asyncio.sleep(2 * self.delay_seconds)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.close()
            return
        self._transports.add(far_writer.transport)
        try:
            await asyncio.gather(self._carry(reader, far_writer, self.up), self._carry(far_reader, writer, self.down))
        except asyncio.CancelledError:
            pass  # the link is taken down: no error, and asyncio would report it as one
        finally:
            writer.close()
            far_writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction) -> None:
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT_CHUNKS)
        delivering = asyncio.create_task(self._deliver(arriving, sink))
        try:
            while chunk := await source.read(_CHUNK_BYTES):
                chunk = self.rewrite(chunk) if direction is self.up else chunk
                left_at = direction.occupy(len(chunk))
                await asyncio.sleep(max(0.0, left_at - time.monotonic()))
                await arriving.put((left_at + self.delay_seconds, chunk))
        except OSError:
            pass
        await arriving.put((time.monotonic() + self.delay_seconds, b""))
        await delivering

    async def _deliver(self, arriving: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter) -> None:
        try:
            while True:
                due_at, chunk = await arriving.get()
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))
                if not chunk:
                    break
                sink.write(chunk)
                await sink.drain()
        except OSError:
            while (await arriving.get())[1]:  # nobody is left to hear it, but the other end must not wait for room
                pass
        sink.close()


@contextmanager
def slow_link(target_port: int, bits_per_second: float = 512_000, delay_seconds: float = 0.35) -> Iterator[SlowLink]:
    """Run a link to ``target_port`` in a thread of its own until the block ends."""
    link = SlowLink(target_port, bits_per_second, delay_seconds)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow-link", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(link.listen(), loop).result(10)
    try:
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server, link), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(server: asyncio.Server, link: SlowLink) -> None:
    server.close()
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    link.cut()
    await asyncio.sleep(0.1)  # what was closed is let go of in a later turn of the loop
