"""Threads for requests: those that take long have their own, so that those who wait for these hold up nobody else.

A change of threads is the dearest part of a short answer. An executor's costs half of what anyio's does, which looks
for its limits, scopes and context anew each time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

RENDERING_THREADS = 16
REQUEST_THREADS = 40
"""For everything else: few of them ever run, for most of these wait for the index or the store."""


class OwnThreads:
    """At most ``count`` calls run here at once; the others wait in a queue, without a thread."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, "request")

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises; if cancelled, not before it has ended or never began.

        So whoever is cancelled may give back what ``work`` was using.
        """
        running = self._executor.submit(work)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if not running.cancelled():
                await asyncio.wait([asyncio.wrap_future(running)])
            raise

    def answer(self, endpoint: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Return an endpoint as a coroutine that runs in one of these threads: a decorator."""

        @wraps(endpoint)
        async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(partial(endpoint, *args, **kwargs))

        return answer
