"""One connection, guarded: uvicorn's fast parser bounds neither a request's head nor the time it may take.

Nor does its WebSocket get rid of a client that stops reading.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_HEAD_BYTES = 256 * 1024
HEAD_SECONDS = 20.0
"""How long a client may take to send a request's head, from its connection or from the head's first byte on."""
BODY_SECONDS = 60.0
"""How long a client may be silent in the midst of a body that we are ready to read."""
MAX_UNREAD_BYTES = 256 * 1024
"""Of a body, beyond which no more is read until the application takes it: as much as one read of the loop gives."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Of what a client says over a WebSocket, which nobody here listens to."""
UNREAD_SECONDS = 60.0
"""How long a WebSocket client may take nothing of what was sent to it."""


SEND_FILE = "http.response.zerocopysend"
"""The ASGI extension by which a part of a file is sent without being read into memory."""


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not end: a head too long or too slow, a body that has fallen silent.

    A body may be as long as it likes, and a request that is being answered may take its time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reads_head = True
        self._head_bytes = 0
        self._last_read = 0.0
        self._guard: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._watch(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and refuse it if it is a head without end."""
        self._last_read = self.loop.time()
        if self._guard is None:
            self._watch(HEAD_SECONDS)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._reads_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        """Begin to wait for the body, and let the answer have files in it where nothing is encrypted."""
        self._reads_head = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scheme == "http":
            self.scope["extensions"] = {SEND_FILE: {}}
            self.cycle.send = partial(_send, self.cycle, self.loop)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body as it came: uvicorn would copy it twice, and stop reading after each."""
        cycle = self.cycle
        if (self.parser.should_upgrade() and self._should_upgrade()) or cycle.response_complete:
            return
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]
        else:
            # Of pieces that came together many may be a byte long, so that they are not to be copied with each.
            if not isinstance(cycle.body, bytearray):
                cycle.body = bytearray(cycle.body)
            cycle.body += body
        if len(cycle.body) > MAX_UNREAD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Wait for nothing: it is the archive's turn."""
        self._reads_head, self._head_bytes = True, 0
        self._rest()
        super().on_message_complete()

    def _watch(self, seconds: float) -> None:
        self._guard = self.loop.call_later(seconds, self._look)

    def _rest(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _look(self) -> None:
        """Cut the connection off, unless its body has moved, or waits for us."""
        silent = 0.0 if self.flow.read_paused else self.loop.time() - self._last_read
        if self._reads_head or silent >= BODY_SECONDS:
            self._rest()
            self.transport.abort()
        else:
            self._watch(BODY_SECONDS - silent)


async def _send(cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop, message: Any) -> None:
    """Send a message as uvicorn does; of a file its bytes, which the kernel takes from where it has them.

    Those count as a piece of a body of known length. Raises what a connection says that was closed meanwhile.
    """
    if message["type"] != SEND_FILE:
        await RequestResponseCycle.send(cycle, message)
        return
    if cycle.chunked_encoding is not False or message["count"] > cycle.expected_content_length:
        raise RuntimeError("A file is sent only in a body of known length.")
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if not (cycle.disconnected or cycle.transport.is_closing()):
        try:
            sent = await loop.sendfile(cycle.transport, message["file"], message["offset"], message["count"])
        except OSError:
            sent = 0
        cycle.expected_content_length -= sent
        if sent != message["count"]:  # the client is gone; nobody shortens a stored file
            cycle.disconnected = True
            cycle.transport.abort()
            return
        if not message["more_body"]:
            await RequestResponseCycle.send(cycle, {"type": "http.response.body", "body": b"", "more_body": False})


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """Closes a connection whose client takes nothing more: a polite end would wait for it to take that.

    Nor does it log every connection, with whatever its address says.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger(f"{__name__}.websocket")
        self.logger.setLevel(logging.WARNING)
        self._guard: asyncio.TimerHandle | None = None

    async def send(self, message: Any) -> None:
        """Do what the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # uvicorn takes a connection that was refused with a body for one that was forgotten, and logs an error.
            self.handshake_complete = True

    def pause_writing(self) -> None:
        """Begin to wait for the client."""
        super().pause_writing()
        self._guard = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait for nothing: it reads again."""
        self._rest()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._rest()
        super().connection_lost(exc)

    def _rest(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None
