"""WADO-URI, the URI service (PS3.18 9): one instance, asked for by query parameters alone, as older viewers do.

It stands below the service's root and at ``/wado``, where viewers look for it. What it gives is what WADO-RS gives:
only how it is asked for differs. Parameters that mean nothing here are passed over (PS3.18 8.3).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import media_types
from dicomweb.addresses import check_uid, path_of
from dicomweb.appearance import parse_quality
from dicomweb.caching import REVALIDATE, describer, is_known
from dicomweb.capabilities import offers
from dicomweb.context import Context
from dicomweb.errors import InvalidParameter
from dicomweb.media_types import MediaRange, first_acceptable, parse_accept
from dicomweb.rendered_answer import RenderedAnswer, picture_describer
from dicomweb.sending import as_part, not_modified, send_single
from pacs.access import Principal
from pacs.errors import FrameNotFound, NotAcceptable
from pacs.model import InstanceRecord
from pacs.retrieve import (
    ANNOTATIONS,
    DEFAULT_QUALITY,
    HTML,
    MAX_VIEWPORT_PIXELS,
    PLAIN_TEXT,
    SHOWN_TYPES,
    Acceptable,
    Appearance,
    Viewport,
    Window,
    list_rendered_types,
)
from pacs.tags import text_of

_COUNT = re.compile(r"[0-9]{1,9}")
_TEXTS = (HTML, PLAIN_TEXT)
_FORMS = (*SHOWN_TYPES, media_types.DICOM)
_UTF_8 = frozenset({"utf-8", "iso_ir 192", "*"})

PARAMETERS = (
    "requestType", "studyUID", "seriesUID", "objectUID", "contentType", "charset", "anonymize", "transferSyntax",
    "frameNumber", "imageAnnotation", "imageQuality", "rows", "columns", "region", "windowCenter", "windowWidth",
    "presentationSeriesUID", "presentationUID",
)  # fmt: skip
"""PS3.18 Tables 9.1.2-1, 9.4.1-1 and 9.5.1-1; ``annotation`` is what imageAnnotation was called, and is taken too."""


def build_router(context: Context) -> APIRouter:
    """Return the one resource of the URI service, at the two addresses that it has."""
    router = APIRouter(tags=["WADO-URI"], default_response_class=Response)
    service = _Service(context)
    offered = offers(*_FORMS, query=PARAMETERS)

    @router.get(
        f"{context.root}/wado",
        summary="Retrieve an instance by URI",
        operation_id="retrieve_by_uri",
        openapi_extra=offered,
    )
    @context.rendering.answer
    def retrieve_by_uri(request: Request) -> Response:
        return service.answer(request)

    @router.get(
        "/wado",
        summary="Retrieve an instance by URI",
        operation_id="retrieve_by_uri_at_the_root",
        openapi_extra=offered,
    )
    @context.rendering.answer
    def retrieve_by_uri_at_the_root(request: Request) -> Response:
        return service.answer(request)

    return router


class _Service:
    """Answers requests that were parsed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._retrieve = context.archive.retrieve
        self._describe = describer(context)
        self._describe_picture = picture_describer(context)

    def answer(self, request: Request) -> Response:
        """Return the first form of the instance, in the client's order, that it can be given in."""
        given = _single(request)
        ranges = _parse_ranges(given, request)
        asked = _Asked.parse(given)
        principal = self._context.principal(request)
        (record,) = self._retrieve.find_instances(principal, *_parse_uids(given))
        forms = tuple(_choose(ranges, given, record))
        if not forms:
            raise NotAcceptable(f"An instance is given as {', '.join(_FORMS)}, if it can be.")

        def give(form: str) -> Response:
            if form == media_types.DICOM:
                return self._send_instance(request, principal, record, asked)
            return self._render(request, principal, record, form, asked)

        return first_acceptable(forms, give)[1]

    def _send_instance(
        self, request: Request, principal: Principal, record: InstanceRecord, asked: "_Asked"
    ) -> Response:
        shape = (media_types.DICOM, asked.transfer_syntax_uids)
        entity = self._describe(request, principal, [record], (record.sop_instance_uid, shape), REVALIDATE)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        representation = self._retrieve.open_instance(principal, record, Acceptable(asked.transfer_syntax_uids))
        address = self._context.base_url(request) + path_of(record)
        return send_single(request, as_part(representation, media_types.DICOM, address), entity)

    def _render(
        self, request: Request, principal: Principal, record: InstanceRecord, media_type: str, asked: "_Asked"
    ) -> Response:
        records = [record]
        if asked.state_uids:
            records += self._retrieve.find_instances(principal, record.study_instance_uid, *asked.state_uids)
        appearance = replace(asked.appearance, viewport=self._viewport(principal, record, asked))
        revision = self._retrieve.read_revision(principal, records)
        described = entity, _ = self._describe_picture(request, principal, records, revision, appearance)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        rendered = RenderedAnswer(self._context, request, principal, appearance, described)
        try:
            if asked.state_uids:
                shown = replace(appearance, media_type=media_type)
                picture = self._context.archive.render.render_presented(
                    principal, records[1], record, shown, asked.frame_number
                )
                return rendered.picture((media_type, False), "", picture)
            if asked.frame_number:
                return rendered.frames(record, (asked.frame_number,), (media_type, False))
            return rendered.one(record, (media_type, False))
        except FrameNotFound:
            # PS3.18 9.5.2: the parameter is wrong, not the address.
            raise InvalidParameter("The instance has no frame of that frameNumber.") from None

    def _viewport(self, principal: Principal, record: InstanceRecord, asked: "_Asked") -> Viewport | None:
        """Return where the picture has to fit, with the region in pixels; the request has it in parts of the image."""
        size = asked.appearance.viewport
        if asked.region is None:
            return size
        ((_, header),) = self._retrieve.iter_metadata_of(principal, [record])
        attributes = orjson.loads(header)
        rows, columns = (text_of(attributes, keyword) for keyword in ("Rows", "Columns"))
        if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
            raise NotAcceptable("The instance is no image, so it has no regions.")
        left, top, right, bottom = asked.region
        width, height = (right - left) * int(columns), (bottom - top) * int(rows)
        # As large as it is, if no size was asked for.
        size = size or Viewport(max(1, round(width)), max(1, round(height)))
        return Viewport(size.width, size.height, left * int(columns), top * int(rows), width, height)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the query parameters say of how the instance is to be given; ``state_uids`` are of a presentation state."""

    appearance: Appearance
    transfer_syntax_uids: tuple[str, ...] = ()
    frame_number: int | None = None
    region: tuple[float, float, float, float] | None = None
    state_uids: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "_Asked":
        """Return what is asked for; raise InvalidParameter, which names a parameter and never its value."""
        if given.get("anonymize", "no") != "no":
            raise InvalidParameter(
                "The anonymize parameter is not supported: nothing leaves without its identity here."
            )
        transfer_syntax = given.get("transferSyntax", "")
        if transfer_syntax not in ("", media_types.ANY_SYNTAX):
            check_uid(transfer_syntax)
        window = _parse_window(given)
        state_uids = tuple(given[name] for name in ("presentationSeriesUID", "presentationUID") if given.get(name))
        if state_uids and (window is not None or len(state_uids) < 2):
            raise InvalidParameter("presentationSeriesUID and presentationUID go together, and without a window.")
        return cls(
            Appearance(
                window=window,
                viewport=_parse_viewport(given),
                quality=parse_quality(given["imageQuality"]) if "imageQuality" in given else DEFAULT_QUALITY,
                annotations=_parse_annotations(given),
            ),
            (transfer_syntax,) if transfer_syntax else (),
            _parse_count(given, "frameNumber"),
            _parse_region(given.get("region", "")),
            tuple(map(check_uid, state_uids)),
        )


def _single(request: Request) -> dict[str, str]:
    """Return the parameters that are known; raise InvalidParameter for one that is given twice."""
    items = [(name, value) for name, value in request.query_params.multi_items() if name in (*PARAMETERS, "annotation")]
    given = dict(items)
    if len(given) < len(items):
        raise InvalidParameter("A parameter is given more than once.")
    if given.get("requestType") != "WADO":
        raise InvalidParameter("The requestType must be WADO.")
    return given


def _parse_uids(given: Mapping[str, str]) -> tuple[str, str, str]:
    study, series, instance = (given.get(name, "") for name in ("studyUID", "seriesUID", "objectUID"))
    return check_uid(study), check_uid(series), check_uid(instance)  # each has to be given


def _parse_ranges(given: Mapping[str, str], request: Request) -> tuple[MediaRange, ...]:
    """Return the media types of contentType, else of Accept, best first (PS3.18 9.1.2.2.1).

    Raises InvalidParameter where contentType names DICOM beside other media types (8.3.3.1).
    """
    asked = given.get("contentType", "")
    ranges = parse_accept([asked] if asked else request.headers.getlist("accept"))
    if asked and len({one.covers(media_types.DICOM) for one in ranges if one.content != "*/*"}) > 1:
        raise InvalidParameter("The contentType must be application/dicom, or else other media types alone.")
    return ranges


def _choose(ranges: Iterable[MediaRange], given: Mapping[str, str], record: InstanceRecord) -> Iterator[str]:
    """Yield the media types to try, best first.

    Of a wildcard that is the instance's default, which of an image is JPEG (PS3.18 9.3), and the instance itself where
    it cannot be rendered. Text is UTF-8: where charset has no room for that, there is none.
    """
    charsets = {item.strip(' "').lower() for item in given.get("charset", "utf-8").split(",")}
    offered = [form for form in list_rendered_types(record.sop_class_uid) if form not in _TEXTS or charsets & _UTF_8]
    for one in ranges:
        if one.is_multipart:
            continue
        covered = [form for form in offered if one.covers(form)]
        yield from covered[:1] if one.content.endswith("/*") else covered
        if one.covers(media_types.DICOM):
            yield media_types.DICOM


def _parse_annotations(given: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is to be burnt in (PS3.18 9.5.1.2.2), by the name that the parameter has, or had."""
    text = given.get("imageAnnotation", "") or given.get("annotation", "")
    words = {word.strip() for word in text.split(",") if word.strip()}
    if words - {*ANNOTATIONS}:
        raise InvalidParameter("The imageAnnotation must be patient, technique, or both.")
    return tuple(word for word in ANNOTATIONS if word in words)


def _parse_count(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if not _COUNT.fullmatch(text) or not int(text):
        raise InvalidParameter(f"{name} must be a whole number from 1 on.")
    return int(text)


def _parse_number(given: Mapping[str, str], name: str) -> float | None:
    text = given.get(name, "")
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not abs(number) < 1e12:
        raise InvalidParameter(f"{name} must be a number.")
    return number


def _parse_window(given: Mapping[str, str]) -> Window | None:
    center, width = (_parse_number(given, name) for name in ("windowCenter", "windowWidth"))
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise InvalidParameter("windowCenter and windowWidth go together.")
    try:
        return Window(center, width)
    except ValueError:
        raise InvalidParameter("The windowWidth must be one that shows something.") from None


def _parse_viewport(given: Mapping[str, str]) -> Viewport | None:
    """Return the size to fit into; where one side is left out it is as long as the other one needs."""
    rows, columns = (_parse_count(given, name) for name in ("rows", "columns"))
    if rows is None and columns is None:
        return None
    height = rows or MAX_VIEWPORT_PIXELS // (columns or 1)
    width = columns or MAX_VIEWPORT_PIXELS // (rows or 1)
    if not 0 < width * height <= MAX_VIEWPORT_PIXELS:
        raise InvalidParameter("rows and columns are more than this archive renders.")
    return Viewport(width, height)


def _parse_region(text: str) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom, from 0 to 1, of the image that is 1 wide and 1 high (PS3.18 9.5.1.2.5)."""
    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left, top, right, bottom = 1.0, 1.0, 0.0, 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise InvalidParameter("The region must be left, top, right and bottom, each from 0 to 1.")
    return left, top, right, bottom
