"""Commits as an event loop notices them: by an event that another thread sets, without looking for them itself."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

Watch = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Calls a function at once and soon after every commit, from any thread, until the block ends."""


@contextmanager
def ringing(watch: Watch, bell: asyncio.Event) -> Iterator[None]:
    """Set ``bell``, an event of the running loop, at once and soon after every commit, until the block ends."""
    loop = asyncio.get_running_loop()

    def ring() -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody in it waits any more
            loop.call_soon_threadsafe(bell.set)

    with watch(ring):
        yield
