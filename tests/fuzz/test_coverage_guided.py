"""The parsers of what comes over HTTP, fuzzed with coverage as the guide, for seconds here and for hours by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.amount import FACTOR

TARGETS = Path(__file__).with_name("targets.py")
SECONDS = 6 * FACTOR
NAMES = ("accept", "appearance", "deidentify", "frame_list", "header", "json", "multipart", "query", "range", "xml")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("name", NAMES)
def test_bytes_from_outside_are_taken_or_refused_in_the_one_way_that_is_meant(name, tmp_path):
    options = [f"-max_total_time={SECONDS}", "-max_len=2048", "-timeout=10", "-rss_limit_mb=0", "-seed=20260101"]
    run = subprocess.run(
        [sys.executable, str(TARGETS), name, *options, f"-artifact_prefix={tmp_path}/"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "Done" in run.stderr


def test_every_target_is_run():
    source = TARGETS.read_text(encoding="utf-8")
    assert all(f'    "{name}": (' in source for name in NAMES)
    assert source.count("def fuzz_") == len(NAMES)
