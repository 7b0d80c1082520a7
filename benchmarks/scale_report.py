"""Figures of a growing archive as JSON, as a table, and as a picture with one panel for each kind of work."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.scale_clients import METADATA, STORE, Served
from benchmarks.selective_queries import QUESTIONS

RESULTS = Path(__file__).parent / "results"
AT_MOST, GOAL = 1.5, 1.1
_NOT_SELECTIVE = {f"QIDO {question.name}" for question in QUESTIONS if not question.is_selective}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one kind of work took: milliseconds, and steps of SQLite's virtual machine where they were counted."""

    p50_ms: float
    p95_ms: float
    steps_p95: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An archive of ``size`` instances beside the smallest one, asked in turns: figures of both by the kind of work."""

    size: int
    small: dict[str, Figures]
    large: dict[str, Figures]

    def ratio(self, work: str) -> float:
        """Return how many times longer the larger archive takes for 95 of 100 answers."""
        return self.large[work].p95_ms / self.small[work].p95_ms


def figures_of(archive: Served) -> dict[str, Figures]:
    """Return the figures of one archive by the kind of work."""
    steps = {f"QIDO {name}": int(_quantile(counted)) for name, counted in archive.steps.items()}
    return {
        work: Figures(round(statistics.median(milliseconds), 2), round(_quantile(milliseconds), 2), steps.get(work))
        for work, milliseconds in archive.milliseconds.items()
    }


def write(engine: str, smallest: int, comparisons: Sequence[Comparison]) -> None:
    """Write what was measured on one engine, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    result = {"engine": engine, "smallest": smallest, "comparisons": [asdict(one) for one in comparisons]}
    (RESULTS / f"scale-{engine}.json").write_text(json.dumps(result, indent=2) + "\n")
    table = tabulate(smallest, comparisons)
    (RESULTS / f"scale-{engine}.md").write_text(table)
    (RESULTS / f"scale-{engine}.svg").write_text(draw(engine, smallest, comparisons))
    print(table)


def tabulate(smallest: int, comparisons: Sequence[Comparison]) -> str:
    """Return the milliseconds of the smallest archive and of each other one, and how many times longer that is."""
    heads = ["work", f"{smallest:,}: p50 / p95, ms"]
    heads += [f"{one.size:,}: p50 / p95, ms | ratio of p95" for one in comparisons]
    has_steps = any(figures.steps_p95 for figures in comparisons[-1].large.values())
    heads += [f"steps, {smallest:,} to {comparisons[-1].size:,}"] if has_steps else []
    columns = " | ".join(heads)
    lines = [f"| {columns} |", "| --- |" + " ---: |" * columns.count("|")]
    for work in sorted(comparisons[0].small, key=_rank):
        small, last = comparisons[0].small[work], comparisons[-1]
        cells = [f"{work} (not selective)" if work in _NOT_SELECTIVE else work, _cell(small)]
        for one in comparisons:
            cells += [_cell(one.large[work]), f"{one.ratio(work):.2f}"]
        if has_steps:
            counted = (last.small[work].steps_p95, last.large[work].steps_p95)
            cells.append(f"{counted[0]:,} to {counted[1]:,}" if counted[0] else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def draw(engine: str, smallest: int, comparisons: Sequence[Comparison]) -> str:
    """Return p50 and p95 against the size as SVG: a panel for each kind of work, its goal shaded."""
    works = [work for work in sorted(comparisons[0].small, key=_rank) if not work.startswith("C-FIND")]
    rows = math.ceil(len(works) / _PER_ROW)
    width, height = _PER_ROW * _WIDTH + 24, rows * _HEIGHT + 74
    title = f"Milliseconds against instances in the index ({_ENGINES[engine]})"
    shade = f"shaded: up to {AT_MOST} times the p95 of {smallest:,} instances"
    font = 'font-family="sans-serif" font-size="11" fill="#24292f"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="20" y="28" font-size="16" font-weight="bold">{title}</text>',
        f'<text x="20" y="48"><tspan fill="{_P95}">●</tspan> 95 of 100 answers,',
        f'<tspan fill="{_P50}">●</tspan> half of them; {shade}</text>',
    ]
    for number, work in enumerate(works):
        left, top = 12 + number % _PER_ROW * _WIDTH, 62 + number // _PER_ROW * _HEIGHT
        lines += [f'<g transform="translate({left} {top})">', *_panel(work, smallest, comparisons), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


_PER_ROW, _WIDTH, _HEIGHT = 4, 230, 158
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 218, 26, 126
_P50, _P95, _SHADE = "#6e7f91", "#0b5cad", "#e6f0fa"
_ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def _panel(work: str, smallest: int, comparisons: Sequence[Comparison]) -> list[str]:
    small = comparisons[0].small[work]
    # Each size was measured beside a small archive of its own: its ratio to that counts, and is drawn from the first.
    points = [(smallest, small.p50_ms, small.p95_ms)]
    for one in comparisons:
        half = small.p50_ms * one.large[work].p50_ms / one.small[work].p50_ms
        points.append((one.size, half, small.p95_ms * one.ratio(work)))
    top = max(AT_MOST * small.p95_ms, *(p95 for _, _, p95 in points)) * 1.08
    decades = math.log10(comparisons[-1].size / smallest) or 1.0

    def x(size: int) -> float:
        return round(_LEFT + 8 + (_RIGHT - _LEFT - 16) * math.log10(size / smallest) / decades, 1)

    def y(milliseconds: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * milliseconds / top, 1)

    shade = y(AT_MOST * small.p95_ms)
    lines = [
        f'<text x="{_LEFT - 30}" y="14" font-weight="bold" font-size="12">{work}</text>',
        f'<rect x="{_LEFT}" y="{shade}" width="{_RIGHT - _LEFT}" height="{_BOTTOM - shade}" fill="{_SHADE}"/>',
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" fill="none" stroke="#9aa5b1"/>',
    ]
    for mark in _marks(top):
        lines.append(f'<path d="M{_LEFT - 3} {y(mark)}h3" stroke="#9aa5b1"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y(mark) + 4}" text-anchor="end">{mark:g}</text>')
    for column, colour in ((1, _P50), (2, _P95)):
        line = " ".join(f"{x(point[0])},{y(point[column])}" for point in points)
        lines.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(point[0])}" cy="{y(point[column])}" r="3" fill="{colour}"/>' for point in points]
    lines += [
        f'<text x="{x(size)}" y="{_BOTTOM + 14}" text-anchor="middle">{_short(size)}</text>' for size, *_ in points
    ]
    return lines


def _marks(top: float) -> list[float]:
    """Return two to four round numbers below ``top``."""
    unit = 10 ** math.floor(math.log10(top / 2))
    step = next(unit * factor for factor in (1, 2, 5, 10) if top / (unit * factor) <= _MARKS)
    return [step * number for number in range(1, int(top / step) + 1)]


_MARKS = 4.5


def _short(size: int) -> str:
    return f"{size // 1_000_000} M" if size >= 1_000_000 else f"{size // 1000} k"


def _cell(figures: Figures) -> str:
    return f"{figures.p50_ms:.1f} / {figures.p95_ms:.1f}"


def _rank(work: str) -> tuple[bool, int, bool]:
    """Return the place of a kind of work: what is stored and retrieved, then searches, those that grow at the end."""
    fixed = [STORE, METADATA]
    names = [question.name for question in QUESTIONS]
    if work in fixed:
        return False, fixed.index(work), False
    door, _, name = work.partition(" ")
    return work in _NOT_SELECTIVE, len(fixed) + names.index(name), door == "C-FIND"


def _quantile(values: Sequence[float]) -> float:
    """Return the smallest value that is not below 95 of 100 of them."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]
