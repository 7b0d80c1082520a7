"""Does the archive get slower as it grows? C-STORE, QIDO, C-FIND and metadata on indexes of 10 thousand to 10 million.

For each size an index is filled in bulk, without pixels, and served by a real ``pacs serve`` beside one of the smallest
size; both are asked the same in turns, so that load on the machine slows both, and the ratio of their times counts. On
SQLite the steps of its virtual machine are counted too, which no load changes. Page cache warm, pages of 50. One large
index at a time is on the disk; ten million take about 10 GB and a quarter of an hour.

Results go to ``benchmarks/results/scale-<engine>.{json,md,svg}``.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url, select

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bulk_load import check_space, fill
from benchmarks.scale_clients import Served, measure
from benchmarks.scale_report import Comparison, figures_of, write
from benchmarks.selective_queries import QUESTIONS, Sample, take_samples
from benchmarks.work import CountingDatabase, count_steps
from pacs.access import LOCAL
from pacs.database.opener import open_database
from pacs.database.tables import instance, instance_header, series, study
from pacs.model import CLINICAL_PARTITION
from pacs.search import Searcher
from tests.contract.postgres_server import run_postgres
from tests.scenarios.process import serving

SMALLEST = 10_000
SAMPLES = 40

Place = Callable[[Path], AbstractContextManager[str]]
"""Where an index may be: given a folder of its own, the URL of an empty database until the block ends."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100000,1000000", help="instances, with commas; 10,000 is always measured")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=3, help="how often each of 40 values is asked for")
    parser.add_argument("--stores", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the indexes are built and deleted")
    options = parser.parse_args()
    sizes = sorted({int(size) for size in options.sizes.split(",")} - {SMALLEST})
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary, ExitStack() as stack:
        folder = Path(temporary)
        check_space(folder, sum((SMALLEST, *sizes[-1:])))
        place = stack.enter_context(_postgresql_places() if options.engine == "postgresql" else _sqlite_places())
        comparisons = []
        for size in sizes:
            with filled(folder, place, SMALLEST) as small, filled(folder, place, size) as large:
                measure([small, large], rounds=options.rounds, stores=options.stores)
                comparisons.append(Comparison(size, figures_of(small), figures_of(large)))
            write(options.engine, SMALLEST, comparisons)


@contextmanager
def filled(folder: Path, place: Place, size: int) -> Iterator[Served]:
    """Fill an index of ``size`` and serve it until the block ends; then it is deleted."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary, place(Path(temporary)) as url:
        started = time.perf_counter()
        fill(url, size)
        print(f"{size:,} instances filled in {time.perf_counter() - started:.0f} s", flush=True)
        samples, series_path, steps = look_into(url)
        settings = {"PACS_DATABASE__URL": url, "PACS_IMAGING__THUMBNAILS": "false"}
        with serving(Path(temporary) / "data", **settings) as archive:
            yield Served(archive.dicomweb, archive.dicom_port, samples, series_path, steps)


def look_into(url: str) -> tuple[list[Sample], str, dict[str, list[int]]]:
    """Return studies to ask for, the path of the series with headers, and the steps each question takes on SQLite."""
    is_sqlite = url.startswith("sqlite")
    with closing(
        CountingDatabase(Path(url.removeprefix("sqlite:///"))) if is_sqlite else open_database(url)
    ) as database:
        with database.read() as connection:
            samples = take_samples(connection, SAMPLES)
            row = connection.execute(_SERIES_WITH_HEADERS).one()
        steps = {}
        if isinstance(database, CountingDatabase):
            searcher = Searcher(database, CLINICAL_PARTITION)
            steps = {
                question.name: [
                    count_steps(database, lambda: searcher.search(LOCAL, question.query(sample)))  # noqa: B023
                    for sample in samples
                ]
                for question in QUESTIONS
            }
    return samples, f"/studies/{row.study_instance_uid}/series/{row.series_instance_uid}", steps


@contextmanager
def _sqlite_places() -> Iterator[Place]:
    @contextmanager
    def place(folder: Path) -> Iterator[str]:
        yield f"sqlite:///{folder / 'index.sqlite'}"

    yield place


@contextmanager
def _postgresql_places() -> Iterator[Place]:
    with run_postgres() as server:

        @contextmanager
        def place(_: Path) -> Iterator[str]:
            url = server.create_database()
            yield url
            server.execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')

        yield place


_SERIES_WITH_HEADERS = (
    select(study.c.study_instance_uid, series.c.series_instance_uid)
    .join_from(instance_header, instance, instance.c.id == instance_header.c.instance_row_id)
    .join(series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .order_by(instance_header.c.instance_row_id)
    .limit(1)
)


if __name__ == "__main__":
    main()
