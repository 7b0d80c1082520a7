"""A power cut during a push: nothing acknowledged is lost, nothing is left broken."""

import os
import subprocess
import sys

import httpx
import pytest

from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher, dataset_of

pytestmark = pytest.mark.scenario

KILLS = (5, 40)


def verify(data_dir, environment):
    command = [sys.executable, "-m", "pacs.cli.main", "verify", "--data-dir", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def fetch(archive, sop_instance_uid):
    found = httpx.get(f"{archive.dicomweb}/instances", params={"SOPInstanceUID": sop_instance_uid}).json()
    assert len(found) == 1
    study, series = (found[0][tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    url = f"{archive.dicomweb}/studies/{study}/series/{series}/instances/{sop_instance_uid}"
    return httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}).content


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_kill_during_a_push_loses_nothing_acknowledged(tmp_path, request, database):
    environment = {}
    if database == "postgres":
        environment["PACS_DATABASE__URL"] = request.getfixturevalue("postgres_url")
    data_dir = tmp_path / "data"
    acknowledged = {}
    for kill_after in KILLS:
        with serving(data_dir, **environment) as archive:
            pushers = [Pusher(archive.dicom_port) for _ in range(3)]
            for pusher in pushers:
                pusher.start()
            pushers[0].wait_for(kill_after)
            archive.kill()
            for pusher in pushers:
                pusher.finish()
                acknowledged |= pusher.acknowledged
    assert len(acknowledged) >= sum(KILLS)

    with serving(data_dir, **environment) as archive:
        for sop_instance_uid, dataset in acknowledged.items():
            assert dataset_of(fetch(archive, sop_instance_uid)) == dataset
        studies = httpx.get(f"{archive.dicomweb}/studies").json()
        counted = sum(study["00201208"]["Value"][0] for study in studies)
        listed = len(httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000}).json())
        assert counted == listed >= len(acknowledged)
        assert not list((data_dir / "objects" / "incoming").iterdir())
        again = Pusher(archive.dicom_port)
        again.start()
        again.wait_for(3)
        again.finish()
        assert set(again.statuses) == {0}
    verified = verify(data_dir, os.environ | environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
