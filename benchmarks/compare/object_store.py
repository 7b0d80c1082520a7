"""What an object store costs instead of a folder: this archive on MinIO beside this archive on its folder."""

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.compare import clients, goals, processes, servers
from benchmarks.compare.clients import NODELAY, Request
from benchmarks.compare.data import Series, build_slices
from benchmarks.compare.figures import Measured
from benchmarks.compare.servers import ARCHIVE, MINIO
from benchmarks.compare.serving import INSTANCES, QUIET_SECONDS
from benchmarks.compare.storing import check, fresh, push
from tests.contract.servers import S3Server, run_minio

Settings = Mapping[str, str]

WRITE_BEHIND = {"PACS_STORAGE__ACKNOWLEDGE": "journal"}
CACHES = ("cache", "blob-cache")


@contextmanager
def measuring(folder: Path, measured: Measured, instances: int) -> Iterator[Callable[[int], None]]:
    """Store a series of 1,000 on both, and give what runs a round."""
    few = build_slices(folder / "few", instances)
    thousand = build_slices(folder / "thousand", 1000)
    (folder / "minio").mkdir()
    with run_minio(folder / "minio") as minio:
        contenders = [(MINIO, folder / "on-minio", _bucket(minio)), (ARCHIVE, folder / "on-folder", {})]
        for name, home, settings in contenders:
            with servers.archive(home, name, **settings) as server:
                clients.push([thousand.files], server.dicom_port, server.aet, NODELAY)
                check(server, thousand, len(thousand.files))
                processes.settle(server.process, QUIET_SECONDS)

        def run_round(number: int) -> None:
            turn = 1 if number % 2 else -1
            for name, home, settings in contenders[::turn]:
                retrieve(home, name, settings, thousand, measured)
            for name, settings, work in (
                (MINIO, _bucket(minio), goals.S3_STORE),
                (ARCHIVE, {}, goals.S3_STORE),
                (ARCHIVE, {}, goals.S3_BEHIND),
                (MINIO, _bucket(minio) | WRITE_BEHIND, goals.S3_BEHIND),
            )[::turn]:
                with fresh(folder, partial(servers.archive, name=name, **settings)) as server:
                    push(measured, work, server, [few.files], few)

        yield run_round


def retrieve(home: Path, name: str, settings: Settings, series: Series, measured: Measured) -> None:
    """Read a whole series from an archive that begins with empty caches, and once more."""
    for cache in CACHES:
        shutil.rmtree(home / "archive" / cache, ignore_errors=True)
    request = Request([series.path], INSTANCES)
    with servers.archive(home, name, **settings) as server:
        processes.settle(server.process, 1)
        for work in (goals.S3_EMPTY, goals.S3_WARM):
            measured.time(work, server, partial(clients.read_whole, server.root, request))


def _bucket(minio: S3Server) -> dict[str, str]:
    """Return settings for a place in the bucket where nothing is yet."""
    return {
        "PACS_STORAGE__URL": f"s3://{minio.endpoint}/{minio.bucket}/{uuid.uuid4().hex}?secure=false",
        "PACS_STORAGE__ACCESS_KEY": minio.access_key,
        "PACS_STORAGE__SECRET_KEY": minio.secret_key,
    }
