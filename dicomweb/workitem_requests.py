"""What requests about work items say (PS3.18 11): data sets in JSON or XML, UIDs in the query, keys of a search.

An error or a warning names a parameter, never its value: the value may be a patient's name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dicomweb.dicom_xml import ModelParser
from dicomweb.errors import InvalidAddress, RequestError, UnsupportedMediaType
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, parse_media_type
from dicomweb.params import divide, parse_count, parse_flag, parse_includes
from dicomweb.plain_json import parse_json, read_body
from pacs.errors import InvalidQuery
from pacs.query import DEFAULT_LIMIT, MAX_LIMIT
from pacs.tags import keyword_of, tag_of, vr_of

BODY_TYPES = (DICOM_JSON, DICOM_XML, JSON)
MAX_BODY_BYTES = 1024 * 1024
MAX_OFFSET = 100_000
SEARCH_PARAMETERS = (
    "emptyvaluematching", "fuzzymatching", "includefield", "limit", "multiplevaluematching", "offset",
    "ProcedureStepState", "ScheduledProcedureStepStartDateTime", "ScheduledStationNameCodeSequence.CodeValue",
    "ScheduledWorkitemCodeSequence.CodeValue", "WorklistLabel",
)  # fmt: skip
"""Some of the parameters: any attribute can be matched, by keyword, tag or path."""

_FUZZY_WARNING = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_MAX_XML_ELEMENTS = 100_000
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_NEXT_KEY = re.compile(r",(?=[A-Za-z0-9.]+=)")


@dataclass(frozen=True, slots=True)
class Search:
    """A parsed search: conditions by path, a page, and which attributes are returned beside the usual ones."""

    conditions: dict[str, str]
    limit: int
    offset: int
    included_tags: frozenset[str]
    includes_all: bool
    warnings: tuple[str, ...]


async def read_data_set(request: Request, *, is_optional: bool = False) -> Any:
    """Return the one data set of a body, None for an empty one that may be so; what it holds is not checked.

    JSON may have it in an array. Raises UnsupportedMediaType, ContentTooLarge or RequestError.
    """
    body = await read_body(request, MAX_BODY_BYTES)
    if is_optional and not body:
        return None
    parsed = parse_media_type(request.headers.get("content-type", ""))
    if parsed is None or parsed.media_type not in BODY_TYPES:
        raise UnsupportedMediaType(f"The body must be {DICOM_JSON} or {DICOM_XML}.")
    return await run_in_threadpool(_parse_body, parsed.media_type, body)


def _parse_body(media_type: str, body: bytes) -> Any:
    if media_type == DICOM_XML:
        parser = ModelParser(_MAX_XML_ELEMENTS)
        parser.feed(body)
        return parser.finish()
    content = parse_json(body)
    if isinstance(content, list):
        if len(content) != 1:
            raise RequestError("The body must be one data set.")
        return content[0]
    return content


def find_uid(fields: Iterable[tuple[str, str]], *names: str) -> str:
    """Return the UID that a query string gives under one of these names, or as it is: ``?1.2.3``; empty if none.

    The form without a name is that of PS3.18 11.4.1 and 11.6.1.
    """
    lower = {name.lower() for name in names}
    found = {value or name for name, value in fields if name.lower() in lower or (not value and name[:1].isdigit())}
    if len(found) > 1:
        raise InvalidAddress("The query gives more than one UID.")
    return next(iter(found), "")


def check_ae_title(text: str) -> str:
    """Return an AE title (PS3.5 6.2); raise InvalidAddress if it is none."""
    title = text.strip(" ")
    if not title or not _AE_TITLE.fullmatch(title):
        raise InvalidAddress("The AE title in the address is malformed.")
    return title


def parse_search(fields: Sequence[tuple[str, str]]) -> Search:
    """Return the search that a query string asks for (PS3.18 8.3.4); raise InvalidQuery for nonsense.

    A parameter that is no attribute is passed over with a warning.
    """
    general, matches = divide(fields)
    is_multiple = parse_flag(general, "multiplevaluematching")
    is_empty = parse_flag(general, "emptyvaluematching")
    warnings = [_FUZZY_WARNING] if parse_flag(general, "fuzzymatching") else []
    included, includes_all = parse_includes(general.get("includefield", []), warnings)
    conditions = _parse_keys(matches.items(), warnings, is_multiple=is_multiple, is_empty=is_empty)
    included.update(tag_of(path.split(".")[0]) for path in conditions)
    limit, offset = parse_count(general, "limit"), parse_count(general, "offset") or 0
    if offset > MAX_OFFSET:
        raise InvalidQuery(f"offset must be a number from 0 to {MAX_OFFSET}.")
    return Search(
        conditions,
        min(DEFAULT_LIMIT if limit is None else limit, MAX_LIMIT),
        offset,
        frozenset(included),
        includes_all,
        tuple(dict.fromkeys(warnings)),
    )


def parse_filter(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the conditions of a filtered subscription: ``filter=A=1,B=2``, or each as a parameter of its own.

    Raises InvalidQuery also for a key that is no attribute: a filter that says less than was meant tells too much.
    """
    keys: dict[str, list[str]] = {}
    for name, value in fields:
        if name.lower() == "filter":
            for key in _NEXT_KEY.split(value):
                inner, equals, text = key.partition("=")
                if not equals:
                    raise InvalidQuery("filter must be a list of keys with their values.")
                keys.setdefault(inner, []).append(text)
        elif name.lower() not in ("deletionlock", "accept", "charset"):
            keys.setdefault(name, []).append(value)
    warnings: list[str] = []
    conditions = _parse_keys(keys.items(), warnings, is_multiple=True, is_empty=True)
    if warnings:
        raise InvalidQuery("A key of the filter is no attribute that can be matched.")
    return {path: text for path, text in conditions.items() if text}


def parse_lock(fields: Iterable[tuple[str, str]]) -> bool:
    """Return whether a subscription asks for a deletion lock; raise InvalidQuery if it does not say so clearly."""
    values = {value.strip().lower() for name, value in fields if name.lower() == "deletionlock"}
    if values - {"true", "false"} or len(values) > 1:
        raise InvalidQuery("deletionlock must be true or false, once.")
    return "true" in values


def _parse_keys(
    keys: Iterable[tuple[str, list[str]]], warnings: list[str], *, is_multiple: bool, is_empty: bool
) -> dict[str, str]:
    """Return conditions by path of keywords; those without a value match anything, and are returned all the same."""
    found: dict[str, list[str]] = {}
    for name, values in keys:
        path = _find_path(name)
        if path:
            found.setdefault(path, []).extend(value for value in values if value.strip(" \0"))
        else:
            shown = f"The parameter {name}" if _NAME.fullmatch(name) else "A parameter"
            warnings.append(f"{shown} is not supported for matching and has been ignored.")
    return {
        path: _join_values(path, list(dict.fromkeys(values)), is_multiple=is_multiple, is_empty=is_empty)
        for path, values in found.items()
    }


def _join_values(path: str, values: list[str], *, is_multiple: bool, is_empty: bool) -> str:
    if any(value.strip() == '""' for value in values) and not is_empty:
        raise InvalidQuery(f"{path} can be matched for emptiness only with emptyvaluematching=true.")
    if vr_of(path.rsplit(".", maxsplit=1)[-1]) in ("UI", "CS"):
        # Neither a UID nor a code string can hold a comma or a backslash, so either separates.
        return "\\".join(part for value in values for part in re.split(r"[,\\]", value) if part.strip())
    if not is_multiple and (len(values) > 1 or any("\\" in value for value in values)):
        raise InvalidQuery(f"{path} is given more than once; that takes multiplevaluematching=true.")
    return "\\".join(values)


def _find_path(name: str) -> str:
    """Return the keywords that a keyword, a tag or a path of them names, with dots between; empty if it names none."""
    steps = [keyword_of(step.upper()) if _TAG.fullmatch(step) else step for step in name.split(".")]
    try:
        return ".".join(steps) if all(steps) and all(tag_of(step) for step in steps) else ""
    except KeyError:
        return ""
