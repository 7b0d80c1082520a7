"""The ratios as bars on a logarithmic scale, each with what it must reach and what it shall."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Protocol

from benchmarks.compare.goals import Work

_LABELS, _WIDTH, _MARGIN = 300, 460, 90
_ROW, _HEIGHT, _TOP = 30, 14, 66
_VALUES = _LABELS + _WIDTH + _MARGIN - 12
_GOOD, _FAIR, _POOR, _PLAIN, _INK = "#15803d", "#ca8a04", "#b91c1c", "#64748b", "#1e293b"
_LEGEND = (
    ("not reached", _POOR, False),
    ("reached", _FAIR, False),
    ("goal reached", _GOOD, False),
    ("goal", _INK, True),
    ("at least", "#ffffff", True),
)
_TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def as_number(figure: float) -> str:
    """Return three digits that count, without an exponent."""
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    return f"{figure:,.{digits}f}"


class Ratio(Protocol):
    """What is drawn: a kind of work, and how many times as fast it is done."""

    @property
    def work(self) -> Work: ...

    @property
    def ratio(self) -> float | None: ...


def as_svg(rows: Sequence[Ratio]) -> str:
    """Return bars from 1 x to each row's ratio; to the left is slower. Rows without a ratio are left out."""
    drawn = [(row.work, row.ratio) for row in rows if row.ratio]
    values = [1.0] + [value for work, ratio in drawn for value in (ratio, work.at_least, work.goal) if value]
    low, high = math.log2(min(values) * 0.8), math.log2(max(values) * 1.25)

    def across(value: float) -> float:
        return round(_LABELS + (math.log2(value) - low) / (high - low) * _WIDTH, 1)

    width, bottom = _LABELS + _WIDTH + _MARGIN, _TOP + _ROW * len(drawn)
    parts = [*_frame(width, bottom)]
    for tick in _TICKS:
        if low < math.log2(tick) < high:
            parts += _tick(across(tick), bottom, tick)
    for index, (work, ratio) in enumerate(drawn):
        parts += _bar(work, ratio, _TOP + _ROW * index, across)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(width: int, bottom: int) -> list[str]:
    height = bottom + 34
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="24" font-size="16" font-weight="600">Times as fast as the baseline</text>',
        f'<text x="12" y="43" fill="{_PLAIN}">Orthanc with TCP_NODELAY; for MinIO, the folder</text>',
        *_legend(width),
    ]


def _tick(x: float, bottom: int, value: float) -> list[str]:
    is_one = value == 1
    stroke = '"#475569" stroke-width="1.5"' if is_one else '"#e2e8f0"'
    return [
        f'<line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom + 4}" stroke={stroke}/>',
        f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" fill="{_PLAIN}">{value:g} x</text>',
    ]


def _bar(work: Work, ratio: float, y: int, across: Callable[[float], float]) -> list[str]:
    """Draw a row: its name, its bar, an open mark at what it must reach and a filled one at its goal."""
    start, end = sorted((across(1), across(ratio)))
    middle = y + _HEIGHT / 2
    area = f'x="{start}" y="{y}" width="{max(end - start, 1):.1f}" height="{_HEIGHT}" rx="2"'
    parts = [
        f'<text x="{_LABELS - 14}" y="{middle + 4}" text-anchor="end">{escape(work.name)}</text>',
        f'<rect {area} fill="{_colour(work, ratio)}"/>',
    ]
    for bound, fill in ((work.at_least, "#ffffff"), (work.goal, _INK)):
        if bound is not None:
            x = across(bound)
            parts.append(_diamond(x, middle, fill))
    at = f'x="{_VALUES}" y="{middle + 4}" text-anchor="end"'
    parts.append(f'<text {at} font-weight="600">{as_number(ratio)} x</text>')
    return parts


def _diamond(x: float, y: float, fill: str) -> str:
    return f'<polygon points="{x},{y - 6} {x + 5},{y} {x},{y + 6} {x - 5},{y}" fill="{fill}" stroke="{_INK}"/>'


def _legend(right: int) -> list[str]:
    """Name the marks and the colours, from right to left."""
    parts, x = [], right
    for text, colour, is_mark in _LEGEND:
        x -= 7 * len(text)
        parts.append(f'<text x="{x}" y="43" fill="{_PLAIN}">{text}</text>')
        x -= 12
        parts.append(_diamond(x, 39, colour) if is_mark else f'<circle cx="{x}" cy="39" r="5" fill="{colour}"/>')
        x -= 12
    return parts


def _colour(work: Work, ratio: float) -> str:
    if work.at_least is None or work.goal is None:
        return _PLAIN
    if work.is_reached(ratio, work.goal):
        return _GOOD
    return _FAIR if work.is_reached(ratio, work.at_least) else _POOR
