"""The notebook does what it says: run as it is, against an archive that serves a release, with a token."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.clinical_patients import build_patients, build_studies, known_values
from tests.leaks import Scanner
from tests.research_site import SLUG, build_site
from tests.scenarios.process import serving
from tests.scenarios.releasing import publish_release

pytestmark = [pytest.mark.scenario, pytest.mark.slow]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "research.ipynb"

# In a process of its own: what a kernel's client warns of is no business of the archive's tests.
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def outputs_of(notebook, start: str) -> list:
    """Return what the cell shows whose source begins with this, or has it at the start of a line."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and start in cell.source]
    return cell.outputs


def test_it_is_kept_without_what_it_showed_somebody():
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_it_goes_from_a_question_to_a_table_and_a_slice(tmp_path):
    patients = build_patients()
    datasets = [dataset for patient in patients for dataset in build_studies(patient)]
    site = build_site(tmp_path / "data", datasets)
    with serving(site.data_dir) as archive:
        publish_release(site, archive.url, {"Modality": "CT"}, seen=lambda _: None)
        environment = {"PACS_URL": archive.url, "PACS_TOKEN": site.tokens["rania"], "PACS_PROJECT": SLUG}
        command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(tmp_path / "done.ipynb")]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=240
        )
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = nbformat.read(tmp_path / "done.ipynb", 4)
    table = outputs_of(notebook, "bands = pd.cut")[0]["data"]["text/plain"]
    assert "mean" in table
    assert "[60, 70)" in table
    for plot in ("axes.scatter", "axes.imshow"):
        assert outputs_of(notebook, plot)[-1]["data"]["image/png"]
    assert "6 patients" in outputs_of(notebook, "report.text")[0]["text"]
    found = Scanner(known_values(patients, datasets)).scan("notebook", nbformat.writes(notebook))
    assert not found
