"""Rows into an empty index in bulk, by executemany on SQLite and by COPY on PostgreSQL: for benchmarks only."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Table, make_url

from benchmarks.generated_index import generate
from pacs.database.opener import open_database
from pacs.database.tables import metadata

BYTES_PER_INSTANCE = 1200
"""More than the index takes on the disk for an instance without its header, with the log while it is loaded."""

_BATCH = 10_000
_CACHE_KIB = 2 * 1024 * 1024

Insert = Callable[[Table, list[dict[str, Any]]], None]


def fill(url: str, instances: int, *, series_with_headers: int = 1) -> None:
    """Bring the empty database at ``url`` to this version's schema and fill it with ``instances`` instances."""
    database = open_database(url)
    database.migrate()
    database.close()
    with _copying(url) if url.startswith("postgresql") else _inserting(url) as insert:
        batches = _Batches(insert)
        generate(instances, batches.add, series_with_headers=series_with_headers)
        batches.flush()


def check_space(folder: Path, instances: int) -> None:
    """Raise OSError with a sentence that says so if an index of this size does not fit into ``folder``."""
    needed, free = instances * BYTES_PER_INSTANCE, shutil.disk_usage(folder).free
    if needed > free:
        message = f"{instances:,} instances need {needed / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB are free."
        raise OSError(message)


class _Batches:
    """Rows by table, loaded some thousands at a time."""

    def __init__(self, insert: Insert) -> None:
        self._insert = insert
        self._rows: dict[Table, list[dict[str, Any]]] = {}

    def add(self, table: Table, row: dict[str, Any]) -> None:
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = []
        rows.append(row)
        if len(rows) >= _BATCH:
            self._insert(table, rows)
            rows.clear()

    def flush(self) -> None:
        for table, rows in self._rows.items():
            if rows:
                self._insert(table, rows)


@contextmanager
def _inserting(url: str) -> Iterator[Insert]:
    path = str(make_url(url).database)
    with closing(sqlite3.connect(path, isolation_level=None)) as driver:
        # Whoever loads begins anew after a crash; the archive opens the file with its own settings.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            driver.execute(f"PRAGMA {pragma}")
        driver.execute("BEGIN")

        def insert(table: Table, rows: list[dict[str, Any]]) -> None:
            names = list(rows[0])
            values = ", ".join(f":{name}" for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            driver.executemany(f'INSERT INTO "{table.name}" ({columns}) VALUES ({values})', rows)

        yield insert
        driver.execute("COMMIT")
    with Path(path).open("rb") as file:  # else the system writes it back while others are measured
        os.fsync(file.fileno())


@contextmanager
def _copying(url: str) -> Iterator[Insert]:
    with psycopg.connect(url) as driver:
        driver.execute("SET session_replication_role = replica")  # levels come in batches, not in order

        def insert(table: Table, rows: list[dict[str, Any]]) -> None:
            names = list(rows[0])
            columns = ", ".join(f'"{name}"' for name in names)
            with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
                for row in rows:
                    copy.write_row([row[name] for name in names])

        yield insert
        for table in metadata.tables.values():
            key = table.autoincrement_column
            if key is not None:
                last = f'(SELECT coalesce(max("{key.name}"), 0) + 1 FROM "{table.name}")'
                driver.execute(f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key.name}'), {last}, false)")
        driver.commit()
        driver.autocommit = True
        driver.execute("VACUUM ANALYZE")  # as autovacuum has done in an archive that grew
