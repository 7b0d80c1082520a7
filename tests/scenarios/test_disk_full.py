"""A disk that is full: a clear answer at every door, nothing half stored, and service again once there is room."""

import os
import subprocess

import httpx
import pytest

from tests.builders import as_part10, build_ct
from tests.scenarios.process import serving
from tests.scenarios.pushing import Pusher

pytestmark = pytest.mark.scenario

DISK_MB = 24
PIXELS = {"Rows": 1024, "Columns": 1024, "PixelData": bytes(2 * 1024 * 1024)}


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stow(archive, dataset):
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + as_part10(dataset) + b"\r\n--b--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    return httpx.post(f"{archive.dicomweb}/studies", content=body, headers=headers, timeout=30)


def listed(archive):
    answer = httpx.get(f"{archive.dicomweb}/instances", params={"limit": 5000})
    return {item["00080018"]["Value"][0] for item in answer.json()} if answer.status_code == 200 else set()


def test_full_disk_is_answered_with_a700_and_503_and_recovers_when_there_is_room(small_disk, tmp_path):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((DISK_MB // 2) * 1024 * 1024))
    with serving(small_disk / "data") as archive:
        pusher = Pusher(archive.dicom_port, changes=PIXELS)
        pusher.start()
        pusher.wait_for_status(0xA700)
        pusher.finish()
        assert pusher.acknowledged
        assert set(pusher.statuses) == {0x0000, 0xA700}

        refused = stow(archive, build_ct(**PIXELS))
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0

        assert listed(archive) == set(pusher.acknowledged)
        assert not list((small_disk / "data" / "objects" / "incoming").iterdir())

        ballast.unlink()
        again = Pusher(archive.dicom_port, changes=PIXELS)
        again.start()
        again.wait_for(2)
        again.finish()
        assert set(again.statuses) == {0x0000}
        assert stow(archive, build_ct(**PIXELS)).status_code == 200
        assert "Traceback" not in archive.log.read_text()
