"""Withheld instances over HTTP: what was rejected or deleted, why and by whom, and how to restore it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.context import Context
from dicomweb.errors import RequestError
from dicomweb.plain_json import parse_limit, parse_number, query_fields, read_json, respond
from pacs.access import Principal
from pacs.errors import InvalidQuery
from pacs.ingest.rules import is_uid
from pacs.ingest.withholding import Withheld, Withholder

MAX_LIMIT = 1000
_DEFAULT_LIMIT = 100
_UIDS = {"study": "study_instance_uid", "note": "note_sop_instance_uid"}


def build_router(context: Context) -> APIRouter:
    """Return ``/withheld``: a list, by ``study`` or ``note`` and from ``after`` an id on, and an order to restore."""
    router = APIRouter(prefix="/withheld", tags=["Withheld"])
    withholder = context.archive.withhold

    @router.get("", summary="List withheld instances", operation_id="list_withheld")
    def list_withheld(request: Request) -> Response:
        filters = _parse_filters(query_fields(request))
        return respond([describe(copy) for copy in withholder.find_page(context.principal(request), **filters)])

    @router.post(
        "/restore",
        summary="Restore an instance, all that a rejection note withheld, or a deleted study or series",
        operation_id="restore_withheld",
    )
    async def restore(request: Request) -> Response:
        obey = parse_order(withholder, await read_json(request))
        count = await run_in_threadpool(obey, context.principal(request))
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


def parse_order(withholder: Withholder, body: Any) -> Callable[[Principal], int]:
    """Return what obeys an order and counts what shows again; raise RequestError if it does not say clearly what."""
    if isinstance(body, dict) and all(isinstance(uid, str) and is_uid(uid) for uid in body.values()):
        match body:
            case {"sop_instance_uid": uid, **rest} if not rest:
                return partial(withholder.restore, sop_instance_uid=uid)
            case {"study_instance_uid": study, **rest} if rest.keys() <= {"series_instance_uid"}:
                return partial(withholder.restore_deleted, study_instance_uid=study, **rest)
    raise RequestError(
        'The body must be {"sop_instance_uid": "..."} or {"study_instance_uid": "..."}, the latter with '
        '"series_instance_uid" if that is all of it.'
    )


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
