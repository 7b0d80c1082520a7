"""The worklist over HTTP, in the DICOM JSON model: what DICOM has no REST service for, filled by whoever schedules."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import Context
from dicomweb.media_types import DICOM_JSON, JSON
from dicomweb.plain_json import parse_id, parse_limit, parse_number, query_fields, read_json, respond
from pacs.errors import InvalidQuery, ScheduledStepNotFound
from pacs.model import Attributes
from pacs.query import DEFAULT_LIMIT, MAX_LIMIT
from pacs.tags import keyword_of, tag_of, vr_of
from pacs.worklist import ScheduledStep, StepState, WorklistQuery, parse_query
from pacs.worklist.keys import STEP_SEQUENCE, STEP_TAGS, TOP_TAGS

MAX_BODY_BYTES = 1024 * 1024
MAX_OFFSET = 100_000
ROOT = "/worklist"

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_MEDIA_TYPES = (JSON, DICOM_JSON)


def build_router(context: Context) -> APIRouter:
    """Return the resources of the worklist; a step is ``{"id", "state", "studies", "attributes"}``."""
    router = APIRouter(prefix=ROOT, tags=["Worklist"])
    worklist = context.archive.worklist

    def show(request: Request, step: ScheduledStep) -> dict[str, Any]:
        studies = worklist.find_studies(context.principal(request), step)
        return {
            "id": step.id,
            "state": step.state.value,
            "studies": studies,
            "is_from_folder": step.is_from_folder,
            "updated_at": step.updated_at.isoformat(),
            "attributes": step.attributes,
        }

    @router.get("", summary="List scheduled steps", operation_id="list_scheduled_steps")
    def list_steps(request: Request) -> Response:
        search = _parse_search(query_fields(request))
        found = worklist.find(context.principal(request), search.query, search.states)
        page = islice(found, search.offset, search.offset + search.limit)
        return respond([show(request, step) for step in page])

    @router.post("", summary="Add scheduled steps", operation_id="add_scheduled_steps")
    async def add_steps(request: Request) -> Response:
        attributes = await read_json(request, *_MEDIA_TYPES, max_bytes=MAX_BODY_BYTES)
        steps = await run_in_threadpool(worklist.add, context.principal(request), attributes)
        shown = [await run_in_threadpool(show, request, step) for step in steps]
        return respond(shown, 201, {"Location": f"{ROOT}/{steps[0].id}"})

    @router.get("/{step_id}", summary="Read a scheduled step", operation_id="read_scheduled_step")
    def read_step(request: Request, step_id: str) -> Response:
        return respond(
            show(request, worklist.get(context.principal(request), parse_id(step_id, ScheduledStepNotFound)))
        )

    @router.put("/{step_id}", summary="Replace a scheduled step", operation_id="replace_scheduled_step")
    async def replace_step(request: Request, step_id: str) -> Response:
        attributes = await read_json(request, *_MEDIA_TYPES, max_bytes=MAX_BODY_BYTES)
        number = parse_id(step_id, ScheduledStepNotFound)
        step = await run_in_threadpool(worklist.replace, context.principal(request), number, attributes)
        return respond(await run_in_threadpool(show, request, step))

    @router.put("/{step_id}/state", summary="Say how far a scheduled step is", operation_id="set_scheduled_step_state")
    async def set_state(request: Request, step_id: str) -> Response:
        body = await read_json(request, *_MEDIA_TYPES, max_bytes=MAX_BODY_BYTES)
        state = parse_state(body.get("state") if isinstance(body, dict) else None)
        step = await run_in_threadpool(
            worklist.set_state, context.principal(request), parse_id(step_id, ScheduledStepNotFound), state
        )
        return respond(await run_in_threadpool(show, request, step))

    @router.delete("/{step_id}", summary="Remove a scheduled step", operation_id="remove_scheduled_step")
    def remove_step(request: Request, step_id: str) -> Response:
        worklist.remove(context.principal(request), parse_id(step_id, ScheduledStepNotFound))
        return Response(status_code=204)

    return router


def parse_state(text: Any) -> StepState:
    """Return a state by its name; raise InvalidQuery if there is no such state."""
    try:
        return StepState(str(text).strip().upper())
    except ValueError:
        raise InvalidQuery(f"The state must be one of {', '.join(StepState)}.") from None


class _Search:
    """A parsed query string; ``states`` of None are those on the list that modalities see."""

    def __init__(self) -> None:
        self.query: WorklistQuery = parse_query({})
        self.states: Sequence[StepState] | None = None
        self.limit = DEFAULT_LIMIT
        self.offset = 0


def _parse_search(fields: Iterable[tuple[str, str]]) -> _Search:
    """Return the search of a query string: keys by keyword, tag or path as QIDO has them, state, limit and offset.

    A key of the step's item may be given with or without its sequence. Raises InvalidQuery for what is none of these.
    """
    search = _Search()
    identifier: Attributes = {}
    item: Attributes = {}
    for name, value in fields:
        match name.lower():
            case "state":
                search.states = tuple(StepState) if value == "*" else [parse_state(one) for one in value.split(",")]
            case "limit":
                search.limit = parse_limit(value, MAX_LIMIT)
            case "offset":
                search.offset = parse_number("offset", value, MAX_OFFSET)
            case _:
                tag, is_in_step = _find_key(name)
                (item if is_in_step else identifier)[tag] = _build_key(tag, value)
    if item:
        identifier[STEP_SEQUENCE] = {"vr": "SQ", "Value": [item]}
    search.query = parse_query(identifier)
    return search


def _find_key(name: str) -> tuple[str, bool]:
    """Return the tag of a key and whether it is one of the step's item."""
    try:
        tags = [step.upper() if _TAG.fullmatch(step) else tag_of(step) for step in name.split(".")]
    except KeyError:
        tags = []
    if len(tags) == 2 and tags[0] == STEP_SEQUENCE and tags[1] in STEP_TAGS:
        return tags[1], True
    if len(tags) == 1 and tags[0] != STEP_SEQUENCE and tags[0] in STEP_TAGS | TOP_TAGS:
        return tags[0], tags[0] in STEP_TAGS
    raise InvalidQuery("A parameter is no key of the worklist.")


def _build_key(tag: str, value: str) -> dict[str, Any]:
    vr = vr_of(keyword_of(tag))
    if vr == "SQ":
        raise InvalidQuery(f"{keyword_of(tag)} cannot be matched.")
    values = value.replace(",", "\\").split("\\") if vr in ("UI", "CS") else [value]
    return {"vr": vr, "Value": [{"Alphabetic": one} if vr == "PN" else one for one in values]}
