"""Behind a slow link the first image costs fewer bytes than in a plain set-up: the order is tested, never a time.

The link is that of ``benchmarks/low_bandwidth.py``, which measures seconds; here it is fast, for bytes do not change.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from benchmarks import low_bandwidth
from benchmarks.slow_link import slow_link
from tests.scenarios.process import ArchiveProcess, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, viewer_directory: Path) -> Iterator[ArchiveProcess]:
    data_dir = tmp_path_factory.mktemp("archive") / "data"
    low_bandwidth.import_sample(data_dir)
    with serving(data_dir, PACS_HTTP__VIEWER_DIR=str(viewer_directory)) as process:
        yield process


def test_first_image_appears_behind_a_slow_link_and_costs_fewer_bytes_than_uncompressed(
    chromium: Browser, running: ArchiveProcess
):
    studies = low_bandwidth.find_studies(running.dicomweb)
    costs = {}
    for way in low_bandwidth.WAYS:
        with slow_link(running.http_port) as link:
            opening = low_bandwidth.measure(chromium, link, studies, way)
        assert opening.kinds["frames"] > 0
        costs[way] = opening
    assert costs["after"].whole_frame_bytes < costs["before"].whole_frame_bytes
    assert costs["after"].kinds["metadata"] < costs["before"].kinds["metadata"]
