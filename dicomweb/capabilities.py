"""Retrieve Capabilities (PS3.18 8.9): what this service can do, for machines, made of the routes that are mounted.

What a route takes and gives is said once, where it is made, by ``offers``; the OpenAPI document, the Capabilities
Description (PS3.18 Annex H: WADL, and the same as JSON) and the conformance statement are all read from that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import orjson
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from dicomweb.context import ReadingContext, accepted
from dicomweb.media_types import DICOM, JSON, PIXEL_SYNTAXES, ZIP, parse_media_type
from pacs.errors import NotAcceptable
from pacs.imaging.syntaxes import ACCEPTED_ORDER, SYNTAXES

WADL = "application/vnd.sun.wadl+xml"
_NAMESPACE = "http://wadl.dev.java.net/2009/02"
_LAST_SUCCESS = 299
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one resource. ``produces`` and ``consumes`` are media types, the default first."""

    method: str
    path: str
    operation_id: str
    summary: str
    service: str
    query: tuple[str, ...]
    produces: tuple[str, ...]
    consumes: tuple[str, ...]
    statuses: tuple[str, ...]

    @property
    def name(self) -> str:
        """What WADL calls it: RetrieveStudy, as PS3.18 names its transactions."""
        return "".join(word.capitalize() for word in self.operation_id.split("_"))


@dataclass(slots=True)
class Resource:
    """One step of the addresses, with what can be done there and what lies below."""

    operations: list[Operation] = field(default_factory=list)
    children: dict[str, "Resource"] = field(default_factory=dict)


def offers(*produces: str, query: Iterable[str] = (), consumes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a route says of itself in OpenAPI: media types of its answer, query parameters, and of its body.

    The first media type is the default. A value of the parameters is checked by who reads them, as anything is.
    """
    said: dict[str, Any] = {
        "responses": {"200": {"description": "Success", "content": {media_type: {} for media_type in produces}}},
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in query],
    }
    if consumes:
        said["requestBody"] = {"content": {media_type: {} for media_type in consumes}}
    return said


def read_operations(app: FastAPI) -> tuple[Operation, ...]:
    """Return every operation that an application has mounted, in the order of its OpenAPI document."""
    return tuple(
        Operation(
            method.upper(),
            path,
            operation["operationId"],
            operation.get("summary", ""),
            next(iter(operation.get("tags", ())), ""),
            tuple(one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"),
            tuple(dict.fromkeys(one for _, answer in _successes(operation) for one in _content_of(answer))),
            tuple(_content_of(operation.get("requestBody", {}))),
            tuple(status for status, _ in _successes(operation)),
        )
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    )


def build_router(context: ReadingContext) -> APIRouter:
    """Return the transaction's one resource, the root of the service, with and without a slash."""
    router = APIRouter(tags=["Capabilities"], default_response_class=Response)

    def answer(request: Request) -> Response:
        media_type = _choose(request)
        resources = build_tree(read_operations(request.app), context.root)
        base = context.base_url(request)
        body = _as_json(resources, base) if media_type == JSON else _as_wadl(resources, base)
        return Response(body, headers={"Content-Type": media_type, "Vary": "Accept", "Allow": "OPTIONS"})

    @router.options(
        context.root or "/",
        summary="Retrieve capabilities",
        operation_id="retrieve_capabilities",
        openapi_extra=offers(WADL, JSON),
    )
    def retrieve_capabilities(request: Request) -> Response:
        return answer(request)

    @router.options(f"{context.root}/", include_in_schema=False)
    def retrieve_capabilities_as_of_a_folder(request: Request) -> Response:
        return answer(request)

    return router


class AnswerOptions:
    """Answers OPTIONS at every other address with what its resource allows and takes (RFC 9110 9.3.7)."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            methods = _methods_at(self._routes, scope)
            if methods and "OPTIONS" not in methods:
                headers = {"Allow": ", ".join(sorted({*methods, "OPTIONS"})), **self._bodies_at(scope)}
                await Response(status_code=204, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _bodies_at(self, scope: Scope) -> dict[str, str]:
        """Return which bodies the resource takes, by the fields of RFC 5789 and of the Linked Data Platform."""
        fields: dict[str, str] = {}
        for route in self._routes:
            body = (getattr(route, "openapi_extra", None) or {}).get("requestBody", {})
            if body and route.matches(scope)[0] is not Match.NONE:
                for method in {"POST", "PATCH"} & (getattr(route, "methods", None) or set()):
                    fields[f"Accept-{method.capitalize()}"] = ", ".join(_content_of(body))
        return fields


def build_tree(operations: Iterable[Operation], root: str) -> Resource:
    """Return the resources below the service's root as they lie below one another."""
    top = Resource()
    for operation in operations:
        if operation.path != root and not operation.path.startswith(f"{root}/"):
            continue
        resource = top
        for step in operation.path.removeprefix(root).strip("/").split("/"):
            resource = resource.children.setdefault(step, Resource()) if step else resource
        resource.operations.append(operation)
    return top


def methods_of(routes: Iterable[BaseRoute]) -> tuple[str, ...]:
    """Return the methods that there are at all, with what is answered wherever there is GET or anything."""
    found = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return tuple(sorted({*found, "HEAD", "OPTIONS"}))


def _methods_at(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    methods: set[str] = set()
    for route in routes:
        if getattr(route, "methods", None) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods  # type: ignore[attr-defined]
    return methods | ({"HEAD"} if "GET" in methods else set())


def _choose(request: Request) -> str:
    for one in accepted(request):
        for media_type in (WADL, JSON):
            if one.covers(media_type) and not one.is_multipart:
                return media_type
    raise NotAcceptable(f"The capabilities are given as {WADL} or {JSON}.")


def _successes(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for status, answer in operation.get("responses", {}).items():
        if status.isdecimal() and int(status) <= _LAST_SUCCESS:
            yield status, answer


def _content_of(described: Mapping[str, Any]) -> Iterator[str]:
    yield from described.get("content", {})


def _forms_of(media_type: str) -> Iterator[str]:
    """Yield a media type, and after it what it can be with a transfer syntax, where it carries instances or frames."""
    yield media_type
    parsed = parse_media_type(media_type)
    content = parsed.content if parsed is not None else ""
    if content in (DICOM, ZIP):
        syntaxes: Iterable[str] = ("*", *(uid for uid in ACCEPTED_ORDER if SYNTAXES[uid].can_encode))
    else:
        syntaxes = PIXEL_SYNTAXES.get(content, ())
    for uid in syntaxes:
        yield f"{media_type}; transfer-syntax={uid}"


def _as_wadl(top: Resource, base: str) -> bytes:
    application = ET.Element("application", xmlns=_NAMESPACE)
    _write_resource(ET.SubElement(application, "resources", base=base), top)
    ET.indent(application)
    text: str = ET.tostring(application, "unicode")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


def _write_resource(parent: ET.Element, resource: Resource) -> None:
    for operation in resource.operations:
        _write_method(parent, operation)
    for step, child in resource.children.items():
        element = ET.SubElement(parent, "resource", path=step)
        for name in _VARIABLE.findall(step):
            ET.SubElement(element, "param", name=name, style="template", required="true")
        _write_resource(element, child)


def _write_method(parent: ET.Element, operation: Operation) -> None:
    method = ET.SubElement(parent, "method", name=operation.method, id=operation.name)
    ET.SubElement(method, "doc", title=operation.summary)
    request = ET.SubElement(method, "request")
    _write_header(request, "Accept", [form for one in operation.produces for form in _forms_of(one)])
    _write_header(request, "Content-Type", operation.consumes)
    for name in operation.query:
        ET.SubElement(request, "param", name=name, style="query")
    for media_type in operation.consumes:
        ET.SubElement(request, "representation", mediaType=media_type)
    for status in operation.statuses:
        response = ET.SubElement(method, "response", status=status)
        for media_type in operation.produces:
            ET.SubElement(response, "representation", mediaType=media_type)


def _write_header(request: ET.Element, name: str, media_types: Sequence[str]) -> None:
    if media_types:
        param = ET.SubElement(request, "param", name=name, style="header", default=media_types[0])
        for media_type in media_types:
            ET.SubElement(param, "option", value=media_type)


def _as_json(top: Resource, base: str) -> bytes:
    return orjson.dumps({"application": {"resources": [{"base": base, **_describe(top)}]}})


def _describe(resource: Resource) -> dict[str, Any]:
    return {
        "method": [_describe_method(operation) for operation in resource.operations],
        "resource": [{"path": step, **_describe(child)} for step, child in resource.children.items()],
    }


def _describe_method(operation: Operation) -> dict[str, Any]:
    forms = [form for media_type in operation.produces for form in _forms_of(media_type)]
    params: list[dict[str, Any]] = [
        {"name": name, "style": "header", "default": media_types[0], "option": media_types}
        for name, media_types in (("Accept", forms), ("Content-Type", operation.consumes))
        if media_types
    ]
    return {
        "name": operation.method,
        "id": operation.name,
        "doc": operation.summary,
        "request": {"param": params + [{"name": name, "style": "query"} for name in operation.query]},
        "response": [{"status": status, "mediaType": operation.produces} for status in operation.statuses],
    }
