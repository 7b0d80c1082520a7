"""Threads of their own for requests that take long, so that those who wait for these hold up nobody else."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

P = ParamSpec("P")
T = TypeVar("T")

RENDERING_THREADS = 16


class OwnThreads:
    """At most ``count`` requests are answered here at once; the others wait in the event loop, without a thread."""

    def __init__(self, count: int) -> None:
        self._limiter = CapacityLimiter(count)

    def answer(self, endpoint: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Return an endpoint as a coroutine that runs in one of these threads: a decorator."""

        @wraps(endpoint)
        async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
            return await run_sync(partial(endpoint, *args, **kwargs), limiter=self._limiter)

        return answer
