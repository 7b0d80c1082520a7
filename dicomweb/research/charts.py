"""Facets as bars: made on the server, and always beside the numbers that they show, which every reader can have."""

from collections.abc import Iterable
from dataclasses import dataclass

from pacs.research.model import Facet, Shown

FULL = 100
FEW = 3
"""How long a bar is, of 100, whose number may not be told: it is there, and that is all."""

TITLES = {
    "modality": "Modality",
    "body_part": "Body part",
    "sex": "Sex",
    "age": "Age",
    "manufacturer": "Manufacturer",
    "contrast": "Contrast agent",
    "field_strength": "Field strength (tesla)",
}
LABELS = {"sex": {"F": "female", "M": "male"}}


@dataclass(frozen=True, slots=True)
class Bar:
    """One value of an attribute; ``width`` is of 100, the longest bar of its chart."""

    label: str
    shown: Shown
    width: int


@dataclass(frozen=True, slots=True)
class Chart:
    """One attribute, by the bars of its values."""

    title: str
    bars: tuple[Bar, ...]


def draw(facets: Iterable[Facet]) -> list[Chart]:
    """Return a chart of each facet that has values."""
    return [_draw_one(facet) for facet in facets if facet.values]


def _draw_one(facet: Facet) -> Chart:
    longest = max((shown.number or 0 for _, shown in facet.values), default=0) or 1
    labels = LABELS.get(facet.name, {})
    return Chart(
        TITLES.get(facet.name, facet.name),
        tuple(Bar(labels.get(value, value), shown, _width(shown, longest)) for value, shown in facet.values),
    )


def _width(shown: Shown, longest: int) -> int:
    return FEW if shown.number is None else max(FEW, round(FULL * shown.number / longest))
