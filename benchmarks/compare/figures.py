"""Medians and ratios of what was measured, as JSON and as Markdown tables."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.compare import goals, plot, processes
from benchmarks.compare.clients import Done
from benchmarks.compare.goals import Work
from benchmarks.compare.servers import PACKAGED, Server

HEADINGS = {
    goals.STORE: "Storing",
    goals.SERVE: "Serving",
    goals.S3: "MinIO against the folder",
    goals.FOOTPRINT: "Memory and idling",
}


@dataclass
class Measured:
    """What was measured: work -> who -> a figure a round; and the processor's milliseconds for each that was done."""

    figures: dict[Work, dict[str, list[float]]] = field(default_factory=dict)
    processor_ms: dict[Work, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, work: Work, name: str, figure: float) -> None:
        """Add a round's figure."""
        self.figures.setdefault(work, {}).setdefault(name, []).append(figure)

    def time(self, work: Work, server: Server, do: Callable[[], Done]) -> None:
        """Note how fast something is done, and what it takes of the processor in the server's own processes."""
        before = processes.cpu_seconds(server.process)
        done = do()
        self.note(work, server.name, done.rate)
        milliseconds = (processes.cpu_seconds(server.process) - before) / done.count * 1000
        self.processor_ms.setdefault(work, {}).setdefault(server.name, []).append(milliseconds)

    def rows(self) -> list["Row"]:
        """Return the rows that have been measured, in the order of the goals."""
        return [
            Row(work, self.figures[work], self.processor_ms.get(work, {})) for work in goals.ALL if work in self.figures
        ]


@dataclass(frozen=True)
class Row:
    """The figures of one kind of work."""

    work: Work
    rounds: dict[str, list[float]]
    processor_ms: dict[str, list[float]]

    @cached_property
    def medians(self) -> dict[str, float]:
        """The median of everybody's rounds."""
        return {name: statistics.median(figures) for name, figures in self.rounds.items()}

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios of subject and baseline; None where there is none to compare with."""
        return self.ratio_to(self.work.baseline)

    def ratio_to(self, name: str) -> float | None:
        """Return the median of the rounds' ratios to somebody else: the two took turns, so noise falls on both."""
        pairs = list(zip(self.rounds.get(self.work.subject, ()), self.rounds.get(name, ()), strict=False))
        return statistics.median(ours / theirs for ours, theirs in pairs) if pairs else None

    @property
    def value(self) -> float | None:
        """What the bounds are about: a ratio or a cost."""
        return self.medians.get(self.work.subject) if self.work.is_cost else self.ratio

    @property
    def limits(self) -> list[str]:
        """Who shows a limit of the machine in this row."""
        return [name for name in self.medians if name not in (self.work.subject, self.work.baseline, PACKAGED)]


def write(measured: Measured, folder: Path) -> None:
    """Write ``compare.json``, ``compare.md`` and ``compare.svg``."""
    rows = measured.rows()
    folder.mkdir(exist_ok=True)
    content = {"machine": _machine(), "rows": [_as_json(row) for row in rows]}
    (folder / "compare.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "compare.md").write_text(as_markdown(rows))
    (folder / "compare.svg").write_text(plot.as_svg(rows))


def as_markdown(rows: Sequence[Row]) -> str:
    """Return a table for each group of rows that there are."""
    rounds = max((len(figures) for row in rows for figures in row.rounds.values()), default=0)
    machine = _machine()
    heading = (
        f"Medians of {rounds} rounds on {machine['cores']} cores, Python {machine['python']}; ratios are medians of "
        "the rounds' ratios, in brackets ours to theirs. Written by `make bench`; how each row is measured: "
        "[performance](../../docs/performance.md).\n"
    )
    parts = [heading]
    for group, heading in HEADINGS.items():
        if found := [row for row in rows if row.work.group == group]:
            parts.append(f"## {heading}\n\n{_as_table(found)}")
    return "\n".join(parts)


def _as_table(rows: Sequence[Row]) -> str:
    is_cost = rows[0].work.is_cost
    subject, baseline = rows[0].work.subject, rows[0].work.baseline
    limits = [] if is_cost else list(dict.fromkeys(name for row in rows for name in row.limits))
    heads = ["work", "", subject]
    heads += ["at most", "goal"] if is_cost else [baseline, "ratio", "at least", "goal", "CPU ms each"]
    has_packaged = any(PACKAGED in row.medians for row in rows)
    heads += ["as packaged", *limits] if has_packaged else limits
    lines = ["| " + " | ".join([*heads, ""]) + " |", "| --- | ---" + " | ---:" * (len(heads) - 2) + " | --- |"]
    for row in rows:
        work = row.work
        cells = [work.name, work.unit, _median(row, subject)]
        bounds = [_bound(work, work.at_least), _bound(work, work.goal)]
        if is_cost:
            cells += bounds
        else:
            cells += [_median(row, baseline), f"**{_times(row.ratio)}**", *bounds, _processor(row)]
        if has_packaged:
            cells.append(_median(row, PACKAGED) + _share(row, PACKAGED))
        cells += [_median(row, name) + _share(row, name) for name in limits]
        lines.append("| " + " | ".join([*cells, _verdict(row)]) + " |")
    return "\n".join(lines) + "\n"


def _median(row: Row, name: str) -> str:
    return plot.as_number(row.medians[name]) if name in row.medians else ""


def _processor(row: Row) -> str:
    """Return what each one done takes of the processor, ours and theirs: a busy machine changes that little."""
    found = [row.processor_ms.get(name, ()) for name in (row.work.subject, row.work.baseline)]
    return " : ".join(plot.as_number(statistics.median(figures)) for figures in found if figures)


def _share(row: Row, name: str) -> str:
    """Return our ratio to somebody in brackets."""
    return f" ({_times(row.ratio_to(name))})" if name in row.medians else ""


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{plot.as_number(ratio)} x"


def _bound(work: Work, bound: float | None) -> str:
    return "" if bound is None else f"{bound:g}" if work.is_cost else f"{bound:g} x"


def _verdict(row: Row) -> str:
    if row.value is None or row.work.at_least is None or row.work.goal is None:
        return ""
    if row.work.is_reached(row.value, row.work.goal):
        return "goal reached"
    return "reached" if row.work.is_reached(row.value, row.work.at_least) else "not reached"


def _as_json(row: Row) -> dict[str, Any]:
    work = row.work
    return {
        "work": work.name,
        "unit": work.unit,
        "subject": work.subject,
        "baseline": work.baseline,
        "at_least": work.at_least,
        "goal": work.goal,
        "ratio": row.ratio,
        "medians": row.medians,
        "rounds": row.rounds,
        "processor_ms": row.processor_ms,
    }


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version()}
