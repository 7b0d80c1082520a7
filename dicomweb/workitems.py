"""The Worklist Service, UPS-RS (PS3.18 11): work items created, searched, claimed, updated, ended and subscribed to."""

from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import data_sets, dicom_json, dicom_xml
from dicomweb.addresses import check_uid
from dicomweb.capabilities import offers
from dicomweb.context import Context, accepted
from dicomweb.cross_origin import check_origin
from dicomweb.errors import InvalidAddress, problem, status_of
from dicomweb.media_types import DICOM_XML, MODEL_TYPES, STORED_TYPES, choose_model
from dicomweb.multipart import derive_boundary
from dicomweb.plain_json import query_fields
from dicomweb.workitem_requests import (
    BODY_TYPES,
    SEARCH_PARAMETERS,
    Search,
    check_ae_title,
    find_uid,
    parse_filter,
    parse_lock,
    parse_search,
    read_data_set,
)
from pacs.model import Attributes
from pacs.tags import keyword_of, text_of, vr_of
from pacs.workitems import (
    FILTERED_WORKLIST,
    RETURNED,
    RETURNED_IF_PRESENT,
    WORKLIST,
    InvalidWorkitem,
    WorkitemProblem,
    parse_state,
    read_transaction_uid,
)

CREATED_WITH_MODIFICATIONS = "The Workitem was created with modifications."
UPDATED_WITH_MODIFICATIONS = "The Workitem was updated with modifications."
MORE_RESULTS = "There are additional results that can be requested."

_GLOBAL = (WORKLIST, FILTERED_WORKLIST)
_NO_STORE = {"Cache-Control": "no-store"}


def build_router(context: Context, cors_origins: Collection[str] = ()) -> APIRouter:
    """Return the resources of PS3.18 Table 11.1.1-1, but for the WebSocket."""
    router = APIRouter(prefix=context.root, tags=["UPS-RS"], default_response_class=Response)
    _add_items(router, context)
    _add_changes(router, context, cors_origins)
    _add_subscriptions(router, context, cors_origins)
    return router


def install(app: FastAPI, context: Context) -> None:
    """Make ``app`` answer what is wrong with the state of an item with the Warning that PS3.18 11.6 and 11.7 want."""

    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, WorkitemProblem)
        warning = {"Warning": _warn(context, request, error.warning)}
        return problem(status_of(error), type(error).__name__, str(error), warning)

    app.add_exception_handler(WorkitemProblem, answer)


def _add_items(router: APIRouter, context: Context) -> None:
    worklist = context.archive.workitems

    @router.post(
        "/workitems",
        summary="Create a work item",
        operation_id="create_workitem",
        status_code=201,
        openapi_extra=offers(query=("workitem",), consumes=BODY_TYPES),
    )
    async def create(request: Request) -> Response:
        given = find_uid(query_fields(request), "workitem", "AffectedSOPInstanceUID")
        payload = await read_data_set(request)
        uid, is_modified = await run_in_threadpool(worklist.create, context.principal(request), payload, given)
        address = f"{context.base_url(request)}/workitems/{uid}"
        response = Response(status_code=201, headers={"Location": address, "Content-Location": address})
        return _with_warnings(context, request, response, [CREATED_WITH_MODIFICATIONS] if is_modified else [])

    @router.get(
        "/workitems",
        summary="Search for work items",
        operation_id="search_for_workitems",
        openapi_extra=offers(*MODEL_TYPES, query=SEARCH_PARAMETERS),
    )
    def search(request: Request) -> Response:
        media_type = choose_model(accepted(request))
        wanted = parse_search(query_fields(request))
        page = worklist.search(context.principal(request), wanted.conditions, limit=wanted.limit, offset=wanted.offset)
        found = [_select(item, wanted) for item in page.items]
        response = _send_all(found, media_type, context) if found else Response(status_code=204)
        more = [MORE_RESULTS] if page.has_more else []
        return _with_warnings(context, request, response, [*wanted.warnings, *more])

    @router.get(
        "/workitems/{workitem}",
        summary="Retrieve a work item",
        operation_id="retrieve_workitem",
        openapi_extra=offers(*STORED_TYPES),
    )
    def retrieve(request: Request, workitem: str) -> Response:
        media_type = choose_model(accepted(request))
        item = worklist.get(context.principal(request), check_uid(workitem))
        encode = dicom_xml.encode if media_type == DICOM_XML else dicom_json.encode
        headers = {**_NO_STORE, "Content-Location": f"{context.base_url(request)}/workitems/{workitem}"}
        return Response(encode(item), 200, headers, media_type)


def _add_changes(router: APIRouter, context: Context, cors_origins: Collection[str]) -> None:
    worklist = context.archive.workitems

    @router.post(
        "/workitems/{workitem}",
        summary="Update a work item",
        operation_id="update_workitem",
        openapi_extra=offers(query=("transaction-uid",), consumes=BODY_TYPES),
    )
    async def update(request: Request, workitem: str) -> Response:
        given = find_uid(query_fields(request), "transaction-uid", "transaction", "TransactionUID")
        payload = await read_data_set(request)
        key = read_transaction_uid(payload, given)
        is_modified = await run_in_threadpool(
            worklist.update, context.principal(request), check_uid(workitem), key, payload
        )
        address = f"{context.base_url(request)}/workitems/{workitem}"
        response = Response(status_code=200, headers={"Content-Location": address})
        return _with_warnings(context, request, response, [UPDATED_WITH_MODIFICATIONS] if is_modified else [])

    @router.put(
        "/workitems/{workitem}/state",
        summary="Claim, complete or cancel a work item",
        operation_id="change_workitem_state",
        openapi_extra=offers(consumes=BODY_TYPES),
    )
    async def change_state(request: Request, workitem: str) -> Response:
        payload = await read_data_set(request)
        state = parse_state(_state_of(payload))
        key = read_transaction_uid(payload)
        is_changed = await run_in_threadpool(
            worklist.change_state, context.principal(request), check_uid(workitem), state, key
        )
        already = f"The UPS is already in the requested state of {state.value}."
        return _with_warnings(context, request, Response(status_code=200), [] if is_changed else [already])

    @router.post(
        "/workitems/{workitem}/cancelrequest",
        summary="Request that a work item be canceled",
        operation_id="request_workitem_cancellation",
        status_code=202,
        openapi_extra=offers(consumes=BODY_TYPES),
    )
    async def request_cancel(request: Request, workitem: str) -> Response:
        check_origin(request, cors_origins, context.public_url)
        payload = await read_data_set(request, is_optional=True)
        is_open = await run_in_threadpool(
            worklist.request_cancel, context.principal(request), check_uid(workitem), payload
        )
        already = "The UPS is already in the requested state of CANCELED."
        return _with_warnings(context, request, Response(status_code=202), [] if is_open else [already])


def _add_subscriptions(router: APIRouter, context: Context, cors_origins: Collection[str]) -> None:
    subscriptions = context.archive.workitems.subscriptions
    path = "/workitems/{workitem}/subscribers/{aetitle}"

    @router.post(
        path,
        summary="Subscribe to a work item, or to the worklist by its well-known UID",
        operation_id="subscribe_to_workitem",
        status_code=201,
        openapi_extra=offers(query=("deletionlock", "filter")),
    )
    def subscribe(request: Request, workitem: str, aetitle: str) -> Response:
        check_origin(request, cors_origins, context.public_url)
        principal, title, fields = context.principal(request), check_ae_title(aetitle), query_fields(request)
        has_lock = parse_lock(fields)
        if workitem in _GLOBAL:
            conditions = parse_filter(fields) if workitem == FILTERED_WORKLIST else None
            subscriptions.subscribe_to_worklist(principal, title, has_lock=has_lock, conditions=conditions)
        else:
            subscriptions.subscribe(principal, check_uid(workitem), title, has_lock=has_lock)
        address = context.base_url(request).replace("http", "ws", 1)
        return Response(status_code=201, headers={"Content-Location": f"{address}/subscribers/{quote(title)}"})

    @router.delete(
        path,
        summary="Unsubscribe from a work item, or from all",
        operation_id="unsubscribe_from_workitem",
    )
    def unsubscribe(request: Request, workitem: str, aetitle: str) -> Response:
        principal, title = context.principal(request), check_ae_title(aetitle)
        if workitem in _GLOBAL:
            subscriptions.unsubscribe_from_worklist(principal, workitem, title)
        else:
            subscriptions.unsubscribe(principal, check_uid(workitem), title)
        return Response(status_code=200)

    @router.post(
        f"{path}/suspend",
        summary="Subscribe to no more new work items",
        operation_id="suspend_worklist_subscription",
    )
    def suspend(request: Request, workitem: str, aetitle: str) -> Response:
        check_origin(request, cors_origins, context.public_url)
        if workitem not in _GLOBAL:
            raise InvalidAddress("Only a subscription to the worklist can be suspended.")
        subscriptions.suspend(context.principal(request), workitem, check_ae_title(aetitle))
        return Response(status_code=200)


def _state_of(payload: Any) -> str:
    """Return the state that a payload asks for, whatever else it is."""
    element = payload.get("00741000") if isinstance(payload, dict) else None
    if not isinstance(element, dict) or not isinstance(element.get("Value"), list):
        raise InvalidWorkitem("ProcedureStepState is missing.")
    return text_of({"00741000": element}, "ProcedureStepState")


def _select(item: Attributes, wanted: Search) -> Attributes:
    """Return what a search returns of an item; what it always returns is there without a value, too."""
    if wanted.includes_all:
        return item
    chosen: Attributes = {tag: item.get(tag, {"vr": vr_of(keyword_of(tag))}) for tag in RETURNED}
    more = RETURNED_IF_PRESENT | wanted.included_tags | {"00080005"}
    chosen |= {tag: item[tag] for tag in more if tag in item}
    return dict(sorted(chosen.items()))


def _send_all(items: Iterable[Attributes], media_type: str, context: Context) -> Response:
    encoded = [dicom_json.encode(item) for item in items]
    boundary = derive_boundary(context.boundary_key, (one.decode() for one in encoded))
    content_type, chunks = data_sets.write(encoded, media_type, boundary)
    return Response(b"".join(chunks), 200, _NO_STORE, content_type)


def _with_warnings(context: Context, request: Request, response: Response, warnings: Iterable[str]) -> Response:
    for warning in warnings:
        response.headers.append("Warning", _warn(context, request, warning))
    return response


def _warn(context: Context, request: Request, text: str) -> str:
    """Return a Warning field as PS3.18 11 spells it."""
    return f"299 {quote(context.base_url(request), safe=':[].-/')}: {text}"
