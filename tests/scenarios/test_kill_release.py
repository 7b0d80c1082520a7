"""Power cuts while a release is made: in the end every instance is in it, once, and every byte of it was verified."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from pacs.app import open_archive
from pacs.config import DatabaseSettings, Settings
from pacs.database.release_tables import research_release_object
from pacs.database.tables import instance
from pacs.jobs import queue
from pacs.model import Level
from pacs.query import Query
from pacs.research.model import ReleaseState
from pacs.research.releases import building, contents
from pacs.retrieve import ANY
from tests.builders import build_ct, build_image, new_uid
from tests.releases import RESEARCHER, SLUG, STEWARD, make_project, store
from tests.scenarios.process import serving
from tests.scenarios.test_forwarding import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

PATIENTS, SLICES = 6, 35
INSTANCES = PATIENTS * SLICES


def build_slices():
    """Return slices each of which has pixels of its own."""
    number = 0
    for patient in range(PATIENTS):
        uids = {"StudyInstanceUID": new_uid(), "SeriesInstanceUID": new_uid()}
        for index in range(SLICES):
            dataset = build_ct(InstanceNumber=index + 1, PatientID=f"MRN{patient:07}", PatientName="TAZI^SALMA", **uids)
            dataset.update(build_image(rows=32, columns=32))
            dataset.PixelData = np.full((32, 32), number, "<u2").tobytes()
            number += 1
            yield dataset


def count_made(parts, release):
    columns = research_release_object.c
    made = select(func.count()).where(columns.release_row_id == release.id, columns.state == "released")
    with parts.database.read() as connection:
        return connection.execute(made).scalar_one()


def check(parts, release):
    """Whatever is said to be made is there."""
    with parts.database.read() as connection:
        assert not contents.has_gap(connection, release)


def end_lease(parts, release):
    """Let time pass: who was killed has its lease for a while."""
    key = str(release.id)

    def write(connection):
        job = queue.find_job(connection, building.KIND, key, key)
        queue.requeue(connection, datetime.now(UTC), ids=[job.id])

    parts.database.write(write)


def read_pixels(parts):
    reading = parts.research.releases.open_archive(RESEARCHER, SLUG)
    found = []
    for match in reading.search.search(RESEARCHER, Query(Level.STUDY)).matches:
        for record in reading.retrieve.find_instances(RESEARCHER, match.study_instance_uid):
            with reading.retrieve.open_instance(RESEARCHER, record, ANY) as opened:
                found.append(dcmread(BytesIO(b"".join(opened.iter_chunks()))).PixelData)
    return found


@pytest.mark.parametrize(
    ("database", "kills"), [("sqlite", 3), pytest.param("postgres", 1, marks=pytest.mark.postgres)]
)
def test_kills_while_a_release_is_made_leave_no_duplicate_and_no_gap(tmp_path, request, database, kills):
    url = request.getfixturevalue("postgres_url") if database == "postgres" else ""
    environment = os.environ | ({"PACS_DATABASE__URL": url} if url else {})
    settings = Settings(data_dir=tmp_path / "data", database=DatabaseSettings(url=url))
    datasets = list(build_slices())
    with open_archive(settings) as parts:
        store(parts, *datasets)
        release = parts.research.releases.start(STEWARD, SLUG, make_project(parts))
    command = [sys.executable, "-m", "pacs.cli.main", "research", "release", SLUG, "--data-dir", str(tmp_path / "data")]
    chance = random.Random(database)
    with open_archive(settings) as parts:
        for _ in range(kills):
            enough = min(count_made(parts, release) + chance.randrange(1, 40), INSTANCES - 1)
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            deadline = time.monotonic() + 60
            while count_made(parts, release) < enough and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.random() / 4)  # into the midst of the next turn
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            check(parts, release)
            if parts.build_releases.read(release.id).state is ReleaseState.BUILDING:
                end_lease(parts, release)
        # Whoever serves the archive goes on with it, too.
        with serving(tmp_path / "data", **({"PACS_DATABASE__URL": url} if url else {})):
            wait_until(lambda: parts.build_releases.read(release.id).state is ReleaseState.QUARANTINE)
        published = parts.research.releases.publish(STEWARD, SLUG, 1)
        assert (published.total, published.done, published.counts.instances) == (INSTANCES,) * 3
        in_partition = select(func.count()).where(instance.c.partition_id == published.partition_id)
        with parts.database.read() as connection:
            assert connection.execute(in_partition).scalar_one() == INSTANCES
        assert sorted(read_pixels(parts)) == sorted(dataset.PixelData for dataset in datasets)
    kept = [path for path in (tmp_path / "data" / "research-objects").rglob("*") if path.is_file()]
    assert len(kept) == INSTANCES + 1, "the objects, the manifest, and nothing else"
