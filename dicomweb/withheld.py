"""Withheld instances over HTTP: what was rejected or deleted, why and by whom, and how to restore it."""

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import Context
from dicomweb.errors import RequestError
from dicomweb.plain_json import parse_limit, parse_number, query_fields, read_json, respond
from pacs.errors import InvalidQuery
from pacs.ingest.rules import is_uid
from pacs.ingest.withholding import Withheld

MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100
_UIDS = {"study": "study_instance_uid", "note": "note_sop_instance_uid"}


def build_router(context: Context) -> APIRouter:
    """Return ``/withheld``: a list, by ``study`` or ``note`` and from ``after`` an id on, and one order."""
    router = APIRouter(prefix="/withheld", tags=["Withheld"])
    withholder = context.archive.withhold

    @router.get("", summary="List withheld instances", operation_id="list_withheld")
    def list_withheld(request: Request) -> Response:
        filters = _parse_filters(query_fields(request))
        return respond([describe(copy) for copy in withholder.find_page(context.principal(request), **filters)])

    @router.post(
        "/restore",
        summary="Restore an instance, or all that a rejection note withheld",
        operation_id="restore_withheld",
    )
    async def restore(request: Request) -> Response:
        uid = parse_order(await read_json(request))
        count = await run_in_threadpool(withholder.restore, context.principal(request), uid)
        return respond({"count": count})

    return router


def describe(copy: Withheld) -> dict[str, Any]:
    """Return a withheld instance as JSON has it; one that has not arrived has no ``stored_at``."""
    return {
        "id": copy.id,
        "study_instance_uid": copy.study_instance_uid,
        "series_instance_uid": copy.series_instance_uid,
        "sop_instance_uid": copy.sop_instance_uid,
        "sop_class_uid": copy.sop_class_uid,
        "reason": copy.reason.value,
        "by": copy.by,
        "note_sop_instance_uid": copy.note_sop_instance_uid,
        "is_note": copy.is_note,
        "stored_at": copy.stored_at.isoformat() if copy.location else None,
        "withheld_at": copy.withheld_at.isoformat(),
    }


def parse_order(body: Any) -> str:
    """Return which instance or note an order means; raise RequestError if it does not say so clearly."""
    match body:
        case {"sop_instance_uid": str(uid), **rest} if is_uid(uid) and not rest:
            return uid
    raise RequestError('The body must be {"sop_instance_uid": "..."}.')


def _parse_filters(fields: list[tuple[str, str]]) -> dict[str, Any]:
    filters: dict[str, Any] = {"limit": _DEFAULT_LIMIT}
    for name, value in fields:
        match name:
            case "study" | "note" if is_uid(value):
                filters[_UIDS[name]] = value
            case "study" | "note":
                raise InvalidQuery(f"{name} must be a UID.")
            case "after":
                filters["after"] = parse_number("after", value)
            case "limit":
                filters["limit"] = parse_limit(value, MAX_LIMIT)
            case _:
                raise InvalidQuery("The parameters are study, note, after and limit.")
    return filters
