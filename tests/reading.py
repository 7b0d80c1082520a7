"""An archive's retriever before a store that answers after a while, and who reads of that store."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import copy
from typing import Any

from pacs.archive import Archive
from pacs.retrieve import Retriever
from storage.ahead import ReadAhead


class _Noting:
    def __init__(self, store: Any, names: list[str]) -> None:
        self._store = store
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self._names.append(threading.current_thread().name)
        return self._store.read_range(key, start, end)


@contextmanager
def reading_ahead(archive: Archive) -> Iterator[tuple[Retriever, list[str]]]:
    """Give a retriever of the archive that reads ahead where it is told to, and the thread of each read."""
    names: list[str] = []
    retriever = copy(archive.retrieve)
    retriever._store = _Noting(retriever._store, names)
    with closing(ReadAhead(retriever._store)) as ahead:
        retriever._read_ahead = ahead
        yield retriever, names
