"""The same archive over PostgreSQL and S3: pushed, found, fetched, verified, and one that is away is said to be."""

import os
import subprocess
import sys

import httpx
import pytest

from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher, dataset_of

pytestmark = [pytest.mark.scenario, pytest.mark.postgres, pytest.mark.s3]


@pytest.fixture
def environment(postgres_url, minio_server):
    return {
        "PACS_DATABASE__URL": postgres_url,
        "PACS_STORAGE__URL": f"s3://{minio_server.endpoint}/{minio_server.bucket}/clinical?secure=false",
        "PACS_STORAGE__ACCESS_KEY": minio_server.access_key,
        "PACS_STORAGE__SECRET_KEY": minio_server.secret_key,
    }


def test_push_find_fetch_and_verify_over_postgresql_and_s3(tmp_path, environment):
    with serving(tmp_path / "data", **environment) as archive:
        pusher = Pusher(archive.dicom_port)
        pusher.start()
        pusher.wait_for(20)
        pusher.finish()
        found = httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}).json()
        assert {item["00080018"]["Value"][0] for item in found} == set(pusher.acknowledged)
        study = found[0]["0020000D"]["Value"][0]
        series = found[0]["0020000E"]["Value"][0]
        for sop_instance_uid, data in pusher.acknowledged.items():
            url = f"{archive.dicomweb}/studies/{study}/series/{series}/instances/{sop_instance_uid}"
            whole = httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
            assert dataset_of(whole.content) == data
        assert environment["PACS_STORAGE__SECRET_KEY"] not in archive.log.read_text()
    command = [sys.executable, "-m", "pacs.cli.main", "verify", "--data-dir", str(tmp_path / "data")]
    verified = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert verified.returncode == 0, verified.stderr
    assert f"{len(pusher.acknowledged)} objects verified, 0 with problems" in verified.stdout


def test_store_that_is_away_makes_the_archive_not_ready_and_names_it(tmp_path, environment):
    with serving(tmp_path / "data", **environment) as archive:
        assert httpx.get(f"{archive.url}/readyz").status_code == 200
    away = environment | {"PACS_STORAGE__URL": "s3://127.0.0.1:9/pacs?secure=false"}
    with serving(tmp_path / "data", until_ready=False, **away) as archive:
        answer = httpx.get(f"{archive.url}/readyz", timeout=30)
        assert answer.status_code == 503
        assert answer.json()["parts"] == {"index": "up", "store": "down"}
        assert httpx.get(f"{archive.url}/healthz").status_code == 200
