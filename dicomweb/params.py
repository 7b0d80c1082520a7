"""From a search's query string (PS3.18 8.3.4) to a Query, the attributes to return, and what had to be passed over.

An error or a warning names a parameter, never its value: the value may be a patient's name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.query import Condition, Query, parse_key
from pacs.tags import BY_KEYWORD, Attribute, Matching, keyword_of, tag_of

MAX_FIELDS = 1000
MAX_INCLUDE_FIELDS = 5000

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_NAME_TO_SHOW = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# Parameters that mean the same for every resource (PS3.18 8.3.1 and 8.3.4); everything else is an attribute.
_ACCEPT, _CHARSET, _INCLUDE = "accept", "charset", "includefield"
_FUZZY, _EMPTY, _MULTIPLE = "fuzzymatching", "emptyvaluematching", "multiplevaluematching"
_LIMIT, _OFFSET = "limit", "offset"
_GENERAL = frozenset({_ACCEPT, _CHARSET, _INCLUDE, _FUZZY, _EMPTY, _MULTIPLE, _LIMIT, _OFFSET})

PARAMETERS = (
    *sorted(_GENERAL),
    *(".".join(filter(None, (one.sequence, one.keyword))) for one in BY_KEYWORD.values() if one.matching),
)
"""What a search understands; an attribute goes by its tag as well."""


@dataclass(frozen=True, slots=True)
class Search:
    """A parsed search; ``included_tags`` were asked for, by includefield or by being matched."""

    query: Query
    included_tags: frozenset[str] = frozenset()
    includes_all: bool = False
    warnings: tuple[str, ...] = ()


def parse_fields(query_string: str) -> list[tuple[str, str]]:
    """Return the fields of a query string, percent-decoded; raise InvalidQuery if it is not UTF-8 or far too long."""
    try:
        return parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidQuery("The query string is malformed.") from None


def parse_search(level: Level, address: Sequence[Condition], fields: Sequence[tuple[str, str]]) -> Search:
    """Return the search at ``level`` that ``fields`` ask for, within what the address fixes.

    Raises InvalidQuery for a value that its parameter cannot have. A parameter that is no attribute, or none that can
    be matched, is passed over with a warning (PS3.18 8.3.4.1). Attributes of a lower level match if anything below
    does, which is more than the standard asks for.
    """
    general, matches = divide(fields)
    empties = parse_flag(general, _EMPTY)
    multiples = parse_flag(general, _MULTIPLE)
    is_fuzzy = parse_flag(general, _FUZZY)
    warnings: list[str] = []
    conditions = list(address)
    included_tags, includes_all = parse_includes(general.get(_INCLUDE, []), warnings)
    for attribute, values in _group(matches, warnings).items():
        included_tags.add(tag_of(attribute.sequence or attribute.keyword))
        condition = _build_condition(attribute, values, empties=empties, multiples=multiples)
        if condition is not None:
            conditions.append(condition)
    limit, offset = parse_count(general, _LIMIT), parse_count(general, _OFFSET) or 0
    query = Query(level, tuple(conditions), limit=limit, offset=offset, is_fuzzy=is_fuzzy)
    return Search(query, frozenset(included_tags), includes_all, tuple(dict.fromkeys(warnings)))


def find_attribute(name: str) -> Attribute | None:
    """Return the indexed attribute that a keyword, a tag or a path of them names, or None."""
    steps = [keyword_of(step.upper()) if _TAG.fullmatch(step) else step for step in name.split(".")]
    attribute = BY_KEYWORD.get(steps[-1])
    if attribute is None or [attribute.sequence] * bool(attribute.sequence) != steps[:-1]:
        return None
    return attribute


def divide(fields: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the values of what means the same for every resource, by lower-case name, and of all else by name."""
    general: dict[str, list[str]] = {}
    matches: dict[str, list[str]] = {}
    for name, value in fields:
        if name.lower() in _GENERAL:
            general.setdefault(name.lower(), []).append(value)
        else:
            matches.setdefault(name, []).append(value)
    return general, matches


def _group(matches: dict[str, list[str]], warnings: list[str]) -> dict[Attribute, list[str]]:
    """Return the values for each attribute, however it was spelled."""
    groups: dict[Attribute, list[str]] = {}
    for name, values in matches.items():
        attribute = find_attribute(name)
        if attribute is None or attribute.matching is None:
            shown = f"The parameter {name}" if _NAME_TO_SHOW.fullmatch(name) else "A parameter"
            warnings.append(f"{shown} is not supported for matching and has been ignored.")
        else:
            groups.setdefault(attribute, []).extend(values)
    return groups


def _build_condition(attribute: Attribute, values: list[str], *, empties: bool, multiples: bool) -> Condition | None:
    values = list(dict.fromkeys(value for value in values if value.strip(" \0")))
    if attribute.matching in (Matching.UID, Matching.CODE):
        # Neither a UID nor a code string can hold a comma or a backslash, so either separates.
        values = [part for value in values for part in value.split(",")]
    elif len(values) > 1 and not multiples:
        raise InvalidQuery(f"{attribute.keyword} is given more than once.")
    return parse_key(attribute, "\\".join(values), empties=empties, multiples=multiples)


def parse_includes(values: Sequence[str], warnings: list[str]) -> tuple[set[str], bool]:
    """Return the tags that ``includefield`` names, and whether it names all; what it should not, warnings get."""
    tags: set[str] = set()
    includes_all = False
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names[:MAX_INCLUDE_FIELDS]:
        # Of a path the whole sequence is returned: an item cut down to one attribute would look like another item.
        step = name.split(".")[0]
        if step.lower() == "all":
            includes_all = True
        elif _TAG.fullmatch(step):
            tags.add(step.upper())
        elif step:
            try:
                tags.add(tag_of(step))
            except KeyError:
                warnings.append(f"The {_INCLUDE} parameter names something that is not an attribute; it was ignored.")
    return tags, includes_all


def parse_flag(general: dict[str, list[str]], name: str) -> bool:
    """Return whether a parameter is true; raise InvalidQuery if it is neither true nor false."""
    values = {value.strip().lower() for value in general.get(name, [])}
    if values - {"true", "false"} or len(values) > 1:
        raise InvalidQuery(f"{name} must be true or false, once.")
    return "true" in values


def parse_count(general: dict[str, list[str]], name: str) -> int | None:
    """Return a parameter's number, None if it is not given; raise InvalidQuery if it is none."""
    values = {value.strip() for value in general.get(name, [])}
    if not values:
        return None
    text = values.pop()
    if values or not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidQuery(f"{name} must be a number from 0 on, once.")
    return int(text)
