"""What the side-by-side benchmark makes of its figures."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.compare import figures, goals
from benchmarks.compare.figures import Measured
from benchmarks.compare.servers import ARCHIVE, NGINX, ORTHANC, PACKAGED


def measure(work, **rounds):
    measured = Measured()
    for name, values in rounds.items():
        for value in values:
            measured.note(work, name, value)
    return measured.rows()


def test_ratio_is_of_those_who_took_turns_in_one_round():
    (row,) = measure(goals.FRAME_1, **{ARCHIVE: [100, 10, 30], ORTHANC: [50, 5, 60]})
    assert row.ratio == 2


@pytest.mark.parametrize(
    ("work", "figure", "verdict"),
    [
        (goals.C_STORE_1, 119, "not reached"),
        (goals.C_STORE_1, 120, "reached"),
        (goals.C_STORE_1, 200, "goal reached"),
        (goals.IDLE_MEMORY, 301, "not reached"),
        (goals.IDLE_MEMORY, 300, "reached"),
        (goals.IDLE_MEMORY, 200, "goal reached"),
    ],
)
def test_verdict_compares_ratios_upwards_and_costs_downwards(work, figure, verdict):
    rows = measure(work, **({ARCHIVE: [figure]} if work.is_cost else {ARCHIVE: [figure], ORTHANC: [100]}))
    assert figures.as_markdown(rows).rstrip().endswith(f"| {verdict} |")


def test_every_line_of_a_table_has_as_many_cells_as_its_head():
    rows = measure(goals.C_STORE_1, **{ARCHIVE: [1], ORTHANC: [2], PACKAGED: [3], NGINX: [4]})
    rows += measure(goals.STOW, **{ARCHIVE: [1], ORTHANC: [2]})
    lines = [line.count("|") for line in figures.as_markdown(rows).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len(set(lines)) == 1


def test_results_are_written_with_a_plot_that_names_each_ratio(tmp_path):
    measured = Measured()
    for name, value in ((ARCHIVE, 3.0), (ORTHANC, 2.0)):
        measured.note(goals.QIDO_1, name, value)
    measured.note(goals.IDLE_CPU, ARCHIVE, 0.0)
    figures.write(measured, tmp_path)
    texts = [element.text for element in ET.parse(tmp_path / "compare.svg").iter() if element.text]
    assert "1.50 x" in texts
    assert goals.QIDO_1.name in texts
    assert goals.IDLE_CPU.name not in texts
    assert {file.name for file in tmp_path.iterdir()} == {"compare.json", "compare.md", "compare.svg"}
