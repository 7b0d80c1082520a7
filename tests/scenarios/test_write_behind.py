"""Written behind: what a modality was told is stored survives a kill while S3 is away, and gets there afterwards."""

import os
import subprocess
import sys
import time

import httpx
import pytest

from storage.s3 import S3Store
from tests.contract.servers import find_closed_port
from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher, dataset_of

pytestmark = [pytest.mark.scenario, pytest.mark.s3]


@pytest.fixture
def environment(minio_server):
    return {
        "PACS_STORAGE__URL": f"s3://{minio_server.endpoint}/{minio_server.bucket}/behind?secure=false",
        "PACS_STORAGE__ACCESS_KEY": minio_server.access_key,
        "PACS_STORAGE__SECRET_KEY": minio_server.secret_key,
        "PACS_STORAGE__ACKNOWLEDGE": "journal",
    }


def push(archive, count: int) -> dict[str, bytes]:
    pusher = Pusher(archive.dicom_port)
    pusher.start()
    pusher.wait_for(count)
    pusher.finish()
    assert len(pusher.acknowledged) >= count
    return pusher.acknowledged


def fetch_all(archive, acknowledged: dict[str, bytes]) -> None:
    for found in httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}).json():
        study, series, instance = (found[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
        url = f"{archive.dicomweb}/studies/{study}/series/{series}/instances/{instance}"
        whole = httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
        assert dataset_of(whole.content) == acknowledged.pop(instance)
    assert not acknowledged


def test_acknowledged_while_s3_is_away_read_killed_and_uploaded_when_it_is_back(tmp_path, environment, minio_server):
    away = environment | {
        "PACS_STORAGE__URL": f"s3://127.0.0.1:{find_closed_port()}/{minio_server.bucket}?secure=false"
    }
    with serving(tmp_path / "data", until_ready=False, **away) as archive:
        acknowledged = push(archive, 20)
        answer = httpx.get(f"{archive.url}/readyz", timeout=30)
        assert answer.status_code == 503
        assert answer.json()["parts"] == {"index": "up", "store": "down", "waiting for store": len(acknowledged)}
        fetch_all(archive, dict(acknowledged))
        archive.kill()
    with serving(tmp_path / "data", **environment) as archive:
        deadline = time.monotonic() + 60
        while httpx.get(f"{archive.url}/readyz").json()["parts"]["waiting for store"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        fetch_all(archive, dict(acknowledged))
        acknowledged |= push(archive, 5)
        assert environment["PACS_STORAGE__SECRET_KEY"] not in archive.log.read_text()
    # Neither journal nor cache: what is there is there for good.
    command = [sys.executable, "-m", "pacs.cli.main", "verify", "--data-dir", str(tmp_path / "data")]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert f"{len(acknowledged)} objects verified, 0 with problems" in verified.stdout, verified.stderr
    distant = S3Store(**minio_server._asdict(), prefix="behind", secure=False)
    assert len(list(distant.iter_keys())) >= 20
