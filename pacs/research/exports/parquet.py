"""The index as a Parquet file, written a row group at a time.

The same rows give the same bytes with the same version of pyarrow: no time and no name of a machine is in the file, so
that every process that answers for a release gives the same ranges of the same file.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pacs.research.exports.columns import COLUMNS, Kind
from pacs.research.exports.extra import load

MEDIA_TYPE = "application/vnd.apache.parquet"

ROWS_IN_GROUP = 2_000
"""Some 6 MB in memory, and few enough groups that a reader's first request, for the footer, stays small."""

_COMPRESSION = "zstd"


def write_parquet(rows: Iterable[dict[str, Any]], target: BinaryIO) -> int:
    """Write rows, by the names of ``COLUMNS``, in their order; return how many there were.

    No more than a row group is held in memory. Raises NotInstalled without pyarrow.
    """
    arrow, parquet = load("pyarrow"), load("pyarrow.parquet")
    schema = _build_schema(arrow)
    count = 0
    with parquet.ParquetWriter(target, schema, compression=_COMPRESSION, version="2.6") as writer:
        for group in _groups(rows):
            writer.write_table(arrow.Table.from_pylist(group, schema), row_group_size=ROWS_IN_GROUP)
            count += len(group)
    return count


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an index that was written, a group in memory at a time."""
    with load("pyarrow.parquet").ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_IN_GROUP):
            yield from batch.to_pylist()


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while group := list(islice(iterator, ROWS_IN_GROUP)):
        yield group


def _build_schema(arrow: Any) -> Any:
    types = {
        Kind.TEXT: arrow.string(),
        Kind.INTEGER: arrow.int64(),
        Kind.NUMBER: arrow.float64(),
        Kind.BOOLEAN: arrow.bool_(),
        Kind.TEXTS: arrow.list_(arrow.string()),
        Kind.NUMBERS: arrow.list_(arrow.float64()),
    }
    fields = [
        arrow.field(column.name, types[column.kind], metadata={"description": column.description}) for column in COLUMNS
    ]
    return arrow.schema(fields)
