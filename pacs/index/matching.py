"""Match conditions to SQL: the only place that knows wildcard, range, list and name matching (PS3.4 C.2.2.2).

Conditions of a level above are joined, those of a level below hold if one row below matches: all conditions on series
on the same series, all on a request item on the same item. Values are bound, never spelled into a statement.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, and_, exists, false, func, not_, or_, select, union_all
from sqlalchemy.sql.selectable import FromClause

from pacs.database.tables import instance, patient, person_name, person_name_sound, request_attribute, series, study
from pacs.errors import InvalidQuery
from pacs.index.ordering import Order
from pacs.model import Level
from pacs.names import fold_pattern
from pacs.normal import MAX_TEXT_LENGTH
from pacs.phonetics import fuzzy_pattern
from pacs.query import AnyOf, Condition, Equals, InMoments, InRange, IsEmpty, Query, Wildcard, texts_of
from pacs.tags import ATTRIBUTES, BY_KEYWORD, Attribute, Matching

_LAST_CHARACTER = "\U0010ffff"

EXACT = 1000
"""The rank of what matches as it is written; what only sounds like it ranks below."""

Test = ColumnElement[bool]


def build_select(partition_id: int, query: Query, ranks: FromClause | None = None) -> Select[Any]:
    """Return the row ids that match and their positions, newest study first.

    There is one more than the page holds, to tell whether more remain. With ``ranks``, a table of ``study_row_id`` and
    ``rank``, its studies match ``query.names_by_sound`` too. The higher rank comes first, ``EXACT`` before all others.
    """
    if ranks is None:
        groups = _group(query.conditions)
        statement = _from(query.level, partition_id).where(*_tests(query.level, groups, partition_id))
        order = Order(query.level, is_walked=not any(_is_sorted(one, query.level) for one in query.conditions))
    else:
        statement, rank = _select_ranked(partition_id, query, ranks)
        order = Order(query.level, is_walked=False, rank=rank)
    if query.after is not None:
        statement = statement.where(order.is_behind(query.after))
    statement = statement.add_columns(*order.columns).order_by(*order.terms)
    return statement.limit(query.page_size + 1).offset(query.offset)


def build_series_select(partition_id: int, conditions: Iterable[Condition]) -> Select[Any]:
    """Return the row ids of every series that matches, joined to their studies, for the caller to ask more of."""
    return _from(Level.SERIES, partition_id).where(*_tests(Level.SERIES, _group(conditions), partition_id))


def build_candidates(partition_id: int, query: Query, limit: int) -> Select[Any]:
    """Return the newest studies that may match ``query.names_by_sound`` without being equal to all of them.

    Everything else in the query holds. After the row id it is told of each of these conditions whether it holds as
    it is written.
    """
    names = query.names_by_sound
    equal = [study.c.id.in_(_studies_of([condition])) for condition in names]
    tests = _tests(Level.STUDY, _group(_without(query.conditions, names)), partition_id)
    for condition in names:
        sounding = _sounding_like(condition)
        same = [_studies_of([condition])] if len(names) > 1 else []
        tests.append(study.c.id.in_(union_all(*same, *sounding)) if same or sounding else false())
    statement = _from(Level.STUDY, partition_id).where(*tests, not_(and_(*equal)))
    flags = [test.label(f"is_equal_{number}") for number, test in enumerate(equal)]
    order = Order(Level.STUDY, is_walked=False)
    return statement.add_columns(*flags).order_by(*order.terms).limit(limit)


def _select_ranked(partition_id: int, query: Query, ranks: FromClause) -> tuple[Select[Any], ColumnElement[int]]:
    """Return the matches among the studies of ``ranks`` and those whose names are equal, and the rank of each."""
    names = query.names_by_sound
    groups = _group(_without(query.conditions, names))
    of_names = study.c.id.in_(union_all(_studies_of(names), select(ranks.c.study_row_id)))
    rank = func.coalesce(ranks.c.rank, EXACT)
    is_ranked = ranks.c.study_row_id == study.c.id
    if query.level is not Level.PATIENT:
        statement = _from(query.level, partition_id).outerjoin(ranks, is_ranked)
        return statement.where(of_names, *_tests(query.level, groups, partition_id)), rank
    studies = _from(Level.STUDY, partition_id).outerjoin(ranks, is_ranked)
    studies = studies.where(of_names, *_tests(Level.STUDY, groups, partition_id))
    best = studies.with_only_columns(study.c.patient_row_id, func.max(rank).label("rank"))
    best_of = best.group_by(study.c.patient_row_id).subquery()
    statement = _from(Level.PATIENT, partition_id).join(best_of, best_of.c.patient_row_id == patient.c.id)
    return statement, best_of.c.rank


def _without(conditions: Iterable[Condition], others: Sequence[Condition]) -> list[Condition]:
    return [condition for condition in conditions if condition not in others]


class _Groups:
    """A query's conditions by what they speak of."""

    def __init__(self) -> None:
        self.study: list[Condition] = []
        self.series: list[Condition] = []
        self.instance: list[Condition] = []
        self.modalities: list[Condition] = []
        self.requests: list[Condition] = []


def _group(conditions: Iterable[Condition]) -> _Groups:
    groups = _Groups()
    for condition in conditions:
        attribute = _attribute_of(condition)
        if attribute.keyword == "ModalitiesInStudy":
            groups.modalities.append(condition)
        elif attribute.sequence:
            groups.requests.append(condition)
        elif attribute.level is Level.SERIES:
            groups.series.append(condition)
        elif attribute.level is Level.INSTANCE:
            groups.instance.append(condition)
        else:
            groups.study.append(condition)
    return groups


def _is_selective(condition: Condition) -> bool:
    """Whether few rows match and an index finds them, so that sorting those beats walking along the order.

    No planner knows this from a statement with a LIMIT: SQLite would walk every study to find one accession number.
    """
    attribute = _attribute_of(condition)
    if attribute.keyword not in _FOUND_BY_INDEX:
        return False
    match condition:
        case Equals() | AnyOf():
            return True
        case Wildcard(_, pattern):
            return len(pattern.replace("*", "").replace("?", "")) >= _SELECTIVE_LENGTH
        case InRange(_, first, last):
            return first == last
    return False


def _is_sorted(condition: Condition, level: Level) -> bool:
    """Whether a selective condition's matches have to be sorted; some indexes find them in the order of studies."""
    return _is_selective(condition) and (level is Level.PATIENT or condition.keyword not in _FOUND_IN_ORDER)


_FOUND_IN_ORDER = {"PatientBirthDate", "StudyID"}
"""What can be one value for half an archive: nobody's birthday, "1". Their indexes go on with the order of studies."""

_FOUND_BY_INDEX = {
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "PatientID",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "ScheduledProcedureStepID",
    "RequestedProcedureID",
    *(attribute.keyword for attribute in ATTRIBUTES if attribute.matching is Matching.NAME),
}
_SELECTIVE_LENGTH = 2


def _from(level: Level, partition_id: int) -> Select[int]:
    # Every table says its partition, for every unique key starts with it.
    match level:
        case Level.PATIENT:
            return select(patient.c.id).where(patient.c.partition_id == partition_id)
        case Level.STUDY:
            return select(study.c.id).where(study.c.partition_id == partition_id)
        case Level.SERIES:
            joined = select(series.c.id).join_from(series, study, series.c.study_row_id == study.c.id)
            return joined.where(study.c.partition_id == partition_id, series.c.partition_id == partition_id)
    joined = select(instance.c.id).join_from(instance, series, instance.c.series_row_id == series.c.id)
    return joined.join(study, series.c.study_row_id == study.c.id).where(
        study.c.partition_id == partition_id,
        series.c.partition_id == partition_id,
        instance.c.partition_id == partition_id,
    )


def _tests(level: Level, groups: _Groups, partition_id: int) -> list[Test]:
    tests = _study_tests(groups)
    of_series = [*_all(groups.series, series), *_request_tests(groups.requests)]
    of_instance = _all(groups.instance, instance)
    if of_instance and level is not Level.INSTANCE:
        of_instance.append(instance.c.partition_id == partition_id)
        of_series.append(_holds_below(series.c.id, instance.c.series_row_id, of_instance, groups.instance))
    if level is Level.INSTANCE:
        return [*tests, *of_series, *of_instance]
    if level is Level.SERIES:
        return [*tests, *of_series]
    below = [*groups.series, *groups.instance, *groups.requests]
    if of_series:
        of_series.append(series.c.partition_id == partition_id)
        tests.append(_holds_below(study.c.id, series.c.study_row_id, of_series, below))
    if level is Level.PATIENT:  # with a condition or without: a patient whose studies are all elsewhere is not shown
        tests.append(study.c.partition_id == partition_id)
        return [_holds_below(patient.c.id, study.c.patient_row_id, tests, [*groups.study, *below])]
    return tests


def _holds_below(row_id: Column[int], parent: Column[int], tests: list[Test], conditions: Iterable[Condition]) -> Test:
    """Return a test that a row below passes all tests: looked for from below if few do, else from each row above."""
    if any(_is_selective(condition) for condition in conditions):
        return row_id.in_(select(parent).where(*tests))
    return exists().where(parent == row_id, *tests).correlate(row_id.table)


def _study_tests(groups: _Groups) -> list[Test]:
    tests = _all(groups.study, study)
    for condition in groups.study:
        if isinstance(condition, InRange) and condition.keyword == "StudyDate":
            # The order's index starts with the date: with its own range it serves the search as well as the order.
            tests.append(study.c.sort_key >= condition.first)
            if condition.last:
                tests.append(study.c.sort_key < condition.last + _LAST_CHARACTER)
    for condition in groups.modalities:  # each may hold of another series: CT and PT in one study
        other = series.alias()
        belongs = other.c.study_row_id == study.c.id
        if isinstance(condition, IsEmpty):
            tests.append(not_(exists().where(belongs, other.c.modality.is_not(None)).correlate(study)))
        else:
            test = _test_column(condition, other.c.modality, Matching.CODE)
            tests.append(exists().where(belongs, test).correlate(study))
    return tests


def _request_tests(conditions: Sequence[Condition]) -> list[Test]:
    tests: list[Test] = []
    belongs = request_attribute.c.series_row_id == series.c.id
    within = [condition for condition in conditions if not isinstance(condition, IsEmpty)]
    for condition in conditions:
        if isinstance(condition, IsEmpty):
            column = request_attribute.c[_attribute_of(condition).column]
            tests.append(not_(exists().where(belongs, column.is_not(None)).correlate(series)))
    if within:
        of_item = _all(within, request_attribute)
        tests.append(_holds_below(series.c.id, request_attribute.c.series_row_id, of_item, within))
    return tests


def _all(conditions: Iterable[Condition], table: FromClause) -> list[Test]:
    return [_test(condition, table) for condition in conditions]


def _test(condition: Condition, table: FromClause) -> Test:
    attribute = _attribute_of(condition)
    assert attribute.matching is not None, "_attribute_of lets no other through"
    if attribute.matching is Matching.NAME:
        return _test_name(condition, attribute)
    column = table.c[attribute.column]
    if isinstance(condition, IsEmpty):
        return column.is_(None)
    if isinstance(condition, InMoments):
        return _test_moments(condition, column, table.c[BY_KEYWORD[condition.time_keyword].column])
    return _test_column(condition, column, attribute.matching)


def _test_column(condition: Condition, column: ColumnElement[str], matching: Matching) -> Test:
    match condition:
        case Equals(_, value):
            return column == _bound(value, matching)
        case AnyOf(_, values) if any("*" in value or "?" in value for value in values):
            return or_(*(test_pattern(column, _normal(value, matching)) for value in values))
        case AnyOf(_, values):
            return column.in_([_bound(value, matching) for value in values])
        case Wildcard(_, pattern):
            return test_pattern(column, _normal(pattern, matching))
        case InRange():
            return _test_range(condition, column, matching)
    return column.is_(None)


def _test_range(condition: InRange, column: ColumnElement[str], matching: Matching) -> Test:
    first, last, pad = condition.first, condition.last, _PADDING.get(matching)
    if pad is None:
        raise InvalidQuery(f"{condition.keyword} cannot be matched by a range.")
    if first == last and matching is Matching.DATE:
        return column == first
    ends = [column >= first + pad[0][len(first) :]] if first else []
    return and_(*ends, *([column <= last + pad[1][len(last) :]] if last else []))


def _test_moments(condition: InMoments, day: ColumnElement[str], time: ColumnElement[str]) -> Test:
    """Return a test of both ends; where a time is not known, neither comparison with it holds."""
    (first_day, first_time), (last_day, last_time) = condition.first, condition.last
    earliest, latest = _PADDING[Matching.TIME]
    tests = []
    if first_day:
        first = first_time + earliest[len(first_time) :]
        tests.append(or_(day > first_day, and_(day == first_day, time >= first)))
    if last_day:
        last = last_time + latest[len(last_time) :]
        tests.append(or_(day < last_day, and_(day == last_day, time <= last)))
    return and_(*tests)


_PADDING = {
    Matching.DATE: ("00000000", "99999999"),
    Matching.TIME: ("000000.000000", "235960.999999"),  # a minute may have a leap second (PS3.5 6.2, TM)
}
"""What completes the start and the end of a range that is given to the hour, minute or second."""


def _bound(value: str, matching: Matching) -> str | int:
    if matching is Matching.NUMBER:
        try:
            return int(value)
        except ValueError:
            raise InvalidQuery("A number is expected where the query has something else.") from None
    return _normal(value, matching)


def _normal(value: str, matching: Matching) -> str:
    """Return a value as the match columns hold it."""
    value = value.strip(" ").replace("\0", "")[:MAX_TEXT_LENGTH]
    return value.upper() if matching is Matching.CODE else value


def test_pattern(column: ColumnElement[str], pattern: str) -> Test:
    """Return a test for ``*`` and ``?``; what stands before the first of them becomes a range of the index."""
    prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if prefix == pattern:
        return column == pattern
    in_range = [column >= prefix, column < prefix + _LAST_CHARACTER] if prefix else []
    if pattern == prefix + "*":
        return and_(*in_range) if in_range else column.is_not(None)
    return and_(*in_range, column.like(_like(pattern), escape="\\"))


def _like(pattern: str) -> str:
    """Return a DICOM pattern as a LIKE pattern with backslash as its escape."""
    return re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%").replace("?", "_")


def _test_name(condition: Condition, attribute: Attribute) -> Test:
    belongs = and_(person_name.c.study_row_id == study.c.id, person_name.c.keyword == attribute.keyword)
    match condition:
        case IsEmpty():
            return not_(exists().where(belongs).correlate(study))
        case Equals(_, text) | Wildcard(_, text):
            return _test_name_text(text, attribute.keyword)
        case AnyOf(_, values):
            return or_(false(), *(_test_name_text(value, attribute.keyword) for value in values))
    raise InvalidQuery(f"{attribute.keyword} cannot be matched by a range.")


def _test_name_text(text: str, keyword: str) -> Test:
    """Return a test that every component group given matches some component group of one of the names.

    Not correlated: the names that match are few and found by the index, the studies are many.
    """
    tests = []
    for pattern in fold_pattern(text):
        found = select(person_name.c.study_row_id).where(
            person_name.c.keyword == keyword, _test_name_pattern(person_name.c.key, pattern)
        )
        tests.append(study.c.id.in_(found))
    return and_(*tests) if tests else false()


def _test_name_pattern(key: Column[str], pattern: str) -> Test:
    """Return a test of a key; ``benali^*`` finds ``benali`` too, whose empty components the key has not kept."""
    bare = re.sub(r"\^[\^*]*$", "", pattern)
    test = test_pattern(key, pattern)
    if bare == pattern or not bare:
        return test
    return or_(test, test_pattern(key, bare))


def _studies_of(names: Iterable[Condition]) -> Select[int]:
    """Return the studies for which conditions on names hold as they are written, whatever encloses this."""
    return select(study.c.id).where(*_all(names, study)).correlate(None)


def _sounding_like(condition: Condition) -> list[Select[int]]:
    """Return the studies that have a sound of every word, for each component group of each name of a condition."""
    return [
        _having_sounds(condition.keyword, words)
        for text in texts_of(condition)
        for words in fuzzy_pattern(text)
        if words
    ]


def _having_sounds(keyword: str, words: Sequence[Sequence[str]]) -> Select[int]:
    found: Select[int] | None = None
    for sounds in words:
        one = select(person_name_sound.c.study_row_id).where(
            person_name_sound.c.keyword == keyword, person_name_sound.c.sound.in_(sounds)
        )
        found = one if found is None else one.where(person_name_sound.c.study_row_id.in_(found))
    assert found is not None, "there is a word"
    return found


def _attribute_of(condition: Condition) -> Attribute:
    attribute = BY_KEYWORD.get(condition.keyword)
    if attribute is None or attribute.matching is None:
        raise InvalidQuery("An attribute of the query cannot be matched.")
    return attribute
