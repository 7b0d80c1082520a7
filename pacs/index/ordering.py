"""The total order of a level's matches, and where to go on in it."""

from typing import Any

from sqlalchemy import Column, ColumnElement, and_, literal, or_, tuple_

from pacs.database.tables import instance, patient, series, study
from pacs.model import Level
from pacs.query import Position

Test = ColumnElement[bool]


class Order:
    """The total order of a level, by ``columns``: sort keys repeat, row ids do not. A row's values are its position.

    Unless it ``is_walked`` an expression in its place keeps the planner off the order's index. A ``rank`` comes before
    everything else, the highest first.
    """

    def __init__(self, level: Level, *, is_walked: bool, rank: ColumnElement[int] | None = None) -> None:
        self._level = level
        self._ranks = () if rank is None else (rank,)
        self._study = (*self._ranks, study.c.sort_key if is_walked else study.c.sort_key + literal(""), study.c.id)
        self._patient = (*self._ranks, patient.c.id if is_walked else patient.c.id + 0)

    @property
    def columns(self) -> tuple[ColumnElement[Any], ...]:
        """What is compared, the most significant first."""
        ranks = tuple(rank.label("rank") for rank in self._ranks)
        match self._level:
            case Level.PATIENT:
                return (*ranks, patient.c.id.label("position"))
            case Level.STUDY:
                return (*ranks, *_BY_STUDY)
            case Level.SERIES:
                return (*ranks, *_BY_STUDY, *_BY_SERIES)
        return (*ranks, *_BY_STUDY, *_BY_SERIES, *_BY_INSTANCE)

    @property
    def terms(self) -> tuple[ColumnElement[Any], ...]:
        """The terms of ORDER BY: newest study first, then by number, those without a number last."""
        if self._level is Level.PATIENT:
            return tuple(term.desc() for term in self._patient)
        by_study = tuple(term.desc() for term in self._study)
        by_series = (series.c.series_number.nulls_last(), series.c.id)
        match self._level:
            case Level.STUDY:
                return by_study
            case Level.SERIES:
                return (*by_study, *by_series)
        return (*by_study, *by_series, instance.c.instance_number.nulls_last(), instance.c.id)

    def is_behind(self, position: Position) -> Test:
        """Return a test that a row comes after a position."""
        if self._level is Level.PATIENT:
            return tuple_(*self._patient) < tuple_(*position)
        split = len(self._study)
        of_study, of_series, of_instance = position[:split], position[split : split + 2], position[split + 2 :]
        if self._level is Level.STUDY:
            return tuple_(*self._study) < tuple_(*of_study)
        behind = _is_behind(series.c.series_number, series.c.id, *of_series)
        if self._level is Level.INSTANCE:
            in_series = _is_behind(instance.c.instance_number, instance.c.id, *of_instance)
            behind = or_(behind, and_(series.c.id == of_series[1], in_series))
        # The first test alone leaves the rest of this study, and is one range of the order's index.
        return and_(tuple_(*self._study) <= tuple_(*of_study), or_(study.c.id != of_study[-1], behind))


_BY_STUDY = (study.c.sort_key, study.c.id.label("study_row_id"))
_BY_SERIES = (series.c.series_number, series.c.id.label("series_row_id"))
_BY_INSTANCE = (instance.c.instance_number, instance.c.id.label("instance_row_id"))


def _is_behind(number: Column[Any], row_id: Column[int], last_number: int | None, last_row_id: int) -> Test:
    if last_number is None:
        return and_(number.is_(None), row_id > last_row_id)
    return or_(number > last_number, number.is_(None), and_(number == last_number, row_id > last_row_id))
