"""Power cuts while instances are packed: each is whole at every moment, as it was received or packed."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import text

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings
from pacs.index import recompressed
from pacs.ingest.incoming import Incoming
from pacs.jobs import queue
from pacs.jobs.queue import NewJob
from pacs.maintenance.recompression import KIND, LANE, TARGET
from pacs.maintenance.verification import verify_copies
from pacs.model import CLINICAL_PARTITION, Door, Origin
from pacs.retrieve import Acceptable
from tests.builders import as_part10, build_ct, build_image
from tests.codestream import ct_slice
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

KILLS = 3
INSTANCES = 40
EXPLICIT = Acceptable(("1.2.840.10008.1.2.1",))


def build_slices():
    array, _ = ct_slice((256, 256))
    for number in range(INSTANCES):
        dataset = build_ct(InstanceNumber=number + 1)
        dataset.update(build_image(rows=256, columns=256, bits=16))
        dataset.PixelData = (array + np.uint16(number)).tobytes()
        yield dataset


def count_packed(parts):
    with parts.database.read() as connection:
        return connection.execute(
            text("SELECT count(*) FROM instance WHERE transfer_syntax_uid = :uid"), {"uid": TARGET}
        ).scalar_one()


def assert_everything_is_whole(parts, datasets):
    """Every instance has its pixels; what is packed has one original, and what is not has none."""
    for dataset in datasets:
        uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
        (record,) = parts.archive.retrieve.find_instances(LOCAL, *uids)
        with parts.archive.retrieve.open_frames(LOCAL, record, [1], EXPLICIT) as frames:
            assert list(frames) == [dataset.PixelData]
        with parts.database.read() as connection:
            originals = recompressed.find_originals(connection, CLINICAL_PARTITION, dataset.SOPInstanceUID)
        assert len(originals) == (1 if record.transfer_syntax_uid == TARGET else 0)
    assert not [one for one in verify_copies(parts.database, parts.store, CLINICAL_PARTITION) if one.problem]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_kills_while_instances_are_packed_lose_no_pixel(tmp_path, request, database):
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    environment = {"PACS_DATABASE__URL": url} if url else {}
    settings = Settings(data_dir=tmp_path / "data", database=DatabaseSettings(url=url))
    datasets = list(build_slices())
    with open_archive(settings) as parts:
        for dataset in datasets:
            with parts.archive.ingest.open_spool() as spool:
                spool.write(as_part10(dataset))
                assert parts.archive.ingest.store(Incoming(spool, Origin(Door.IMPORT))).is_stored
    chance = random.Random(database)
    command = [sys.executable, "-m", "pacs.cli.main", "recompress", "--data-dir", str(tmp_path / "data")]
    for _ in range(KILLS):
        with open_archive(settings) as parts:
            enough = count_packed(parts) + chance.randrange(1, 8)
            process = subprocess.Popen(command, env=os.environ | environment, start_new_session=True)
            deadline = time.monotonic() + 60
            while count_packed(parts) < enough and process.poll() is None and time.monotonic() < deadline:
                time.sleep(chance.random() / 20)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert count_packed(parts) >= enough
            assert_everything_is_whole(parts, datasets)
    with open_archive(settings) as parts:
        assert count_packed(parts) < INSTANCES
        jobs = [NewJob(KIND, LANE, dataset.SOPInstanceUID) for dataset in datasets]
        parts.database.write(lambda connection: queue.enqueue(connection, jobs, datetime.now(UTC)))
    with serving(tmp_path / "data", PACS_IMAGING__RECOMPRESS="htj2k-lossless", **environment):

        def all_packed():
            with open_archive(settings) as parts:
                return count_packed(parts) == INSTANCES

        wait_until(all_packed)
    with open_archive(settings) as parts:
        assert_everything_is_whole(parts, datasets)
