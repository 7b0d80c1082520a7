"""What is to be delivered, over HTTP: what waits, what arrived, what was given up, and what to do about it."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import Context
from dicomweb.errors import RequestError
from dicomweb.plain_json import MAX_ID, parse_limit, parse_number, query_fields, read_json, respond
from pacs.errors import InvalidQuery
from pacs.routing.keeper import MAX_PAGE, Job, JobState

MAX_OFFSET = 1_000_000
_DEFAULT_LIMIT = 100


def build_router(context: Context) -> APIRouter:
    """Return ``/queue``: a list of jobs, and two orders that take ``{"ids": [...]}`` or ``{"lane": "..."}``."""
    router = APIRouter(prefix="/queue", tags=["Queue"])
    keeper = context.archive.queue

    @router.get("", summary="List deliveries: waiting, finished and dead ones", operation_id="list_jobs")
    def list_jobs(request: Request) -> Response:
        filters = _parse_filters(query_fields(request))
        return respond([describe(job) for job in keeper.find_page(context.principal(request), **filters)])

    @router.post("/requeue", summary="Try dead letters again", operation_id="requeue_jobs")
    async def requeue(request: Request) -> Response:
        return await _order(request, keeper.requeue)

    @router.post("/drop", summary="Give deliveries up for good", operation_id="drop_jobs")
    async def drop(request: Request) -> Response:
        return await _order(request, keeper.drop)

    async def _order(request: Request, obey: Callable[..., int]) -> Response:
        chosen = parse_choice(await read_json(request))
        count = await run_in_threadpool(obey, context.principal(request), **chosen)
        return respond({"count": count})

    return router


def describe(job: Job) -> dict[str, Any]:
    """Return a job as JSON has it, without its payload, which is nobody's business."""
    return {
        "id": job.id,
        "kind": job.kind,
        "lane": job.lane,
        "key": job.key,
        "state": job.state.value,
        "due_at": job.due_at.isoformat(),
        "attempts": job.attempts,
        "problem": job.problem,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at and job.finished_at.isoformat(),
    }


def parse_choice(body: Any) -> dict[str, Any]:
    """Return which jobs an order means; raise RequestError if it does not say so clearly."""
    match body:
        case {"lane": str(lane), **rest} if lane and not rest:
            return {"lane": lane}
        case {"ids": list(ids), **rest} if ids and len(ids) <= MAX_PAGE and not rest and all(map(_is_id, ids)):
            return {"ids": ids}
    raise RequestError(f'The body must be {{"lane": "..."}} or {{"ids": [...]}} with at most {MAX_PAGE} numbers.')


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID


def _parse_filters(fields: list[tuple[str, str]]) -> dict[str, Any]:
    filters: dict[str, Any] = {"limit": _DEFAULT_LIMIT}
    for name, text in fields:
        match name:
            case "state" if text in set(JobState):
                filters["state"] = JobState(text)
            case "state":
                raise InvalidQuery(f"state must be one of {', '.join(JobState)}.")
            case "lane":
                filters["lane"] = text
            case "limit":
                filters["limit"] = parse_limit(text, MAX_PAGE)
            case "offset":
                filters["offset"] = parse_number("offset", text, MAX_OFFSET)
            case _:
                raise InvalidQuery("The parameters are state, lane, limit and offset.")
    return filters
