"""WADO-RS, rendered resources and thumbnails (PS3.18 10.4.1.1.3 and 10.4.1.1.4): pictures a browser shows."""

from dataclasses import replace
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import FRAMES, INSTANCE, SERIES, STUDY, check_uids, parse_frame_list, path_of
from dicomweb.appearance import PARAMETERS, parse_appearance
from dicomweb.caching import is_known
from dicomweb.capabilities import offers
from dicomweb.context import ReadingContext, accepted
from dicomweb.media_types import choose_rendered, first_acceptable
from dicomweb.plain_route import PlainRoute
from dicomweb.rendered_answer import RenderedAnswer, picture_describer
from dicomweb.sending import not_modified
from pacs.imaging.video import VIDEO_SYNTAXES
from pacs.retrieve import (
    HTML,
    JPEG,
    MP4,
    PDF,
    RENDERED_TYPES,
    SHOWN_TYPES,
    THUMBNAIL,
    XML,
    Appearance,
    Viewport,
    list_rendered_types,
)

_DEFAULTS = (JPEG, HTML, PDF, XML)
"""What ``*/*`` means, of what there is."""


def build_router(context: ReadingContext) -> APIRouter:
    """Return the rendered resources and thumbnails of PS3.18 Tables 10.4.1-3 and 10.4.1-4."""
    router = APIRouter(prefix=context.root, tags=["WADO-RS"], default_response_class=Response, route_class=PlainRoute)
    _add_rendered(router, context)
    _add_thumbnails(router, context)
    return router


def _add_rendered(router: APIRouter, context: ReadingContext) -> None:
    archive = context.archive
    describe = picture_describer(context)
    offered = offers(*SHOWN_TYPES, query=PARAMETERS)

    def answer(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        appearance = parse_appearance(request)
        principal = context.principal(request)
        records, revision = archive.retrieve.find_with_revision(principal, *check_uids(study, series, instance))
        offers = {uid: list_rendered_types(uid) for uid in {record.sop_class_uid for record in records}}
        offered = [kind for kind in SHOWN_TYPES if any(kind in offer for offer in offers.values())]
        if all(record.transfer_syntax_uid in VIDEO_SYNTAXES for record in records):
            # A browser's video element asks for */* and takes nothing but a video.
            offered.sort(key=lambda kind: kind != MP4)
            forms = choose_rendered(accepted(request), offered, (MP4,))
        else:
            forms = choose_rendered(accepted(request), offered, _DEFAULTS)
        described = entity, _ = describe(request, principal, records, revision, appearance)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        rendered = RenderedAnswer(context, request, principal, appearance, described)
        if len(records) == 1:
            return first_acceptable(forms, partial(rendered.one, records[0]))[1]
        return first_acceptable(forms, partial(rendered.several, records))[1]

    @router.get(f"{STUDY}/rendered", summary="Render a study", operation_id="render_study", openapi_extra=offered)
    @context.rendering.answer
    def render_study(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(f"{SERIES}/rendered", summary="Render a series", operation_id="render_series", openapi_extra=offered)
    @context.rendering.answer
    def render_series(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(
        f"{INSTANCE}/rendered", summary="Render an instance", operation_id="render_instance", openapi_extra=offered
    )
    @context.rendering.answer
    def render_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)

    @router.get(f"{FRAMES}/rendered", summary="Render frames", operation_id="render_frames", openapi_extra=offered)
    @context.rendering.answer
    def render_frames(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        frame_numbers = parse_frame_list(frames)
        forms = choose_rendered(accepted(request), (*RENDERED_TYPES, MP4), _DEFAULTS)
        principal = context.principal(request)
        record, revision = archive.retrieve.find_instance(principal, *check_uids(study, series, instance))
        appearance = parse_appearance(request)
        described = entity, _ = describe(request, principal, [record], revision, appearance)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        rendered = RenderedAnswer(context, request, principal, appearance, described)
        return first_acceptable(forms, partial(rendered.frames, record, frame_numbers))[1]


def _add_thumbnails(router: APIRouter, context: ReadingContext) -> None:
    archive = context.archive
    describe = picture_describer(context)
    offered = offers(*RENDERED_TYPES, query=("accept", "viewport", "quality"))

    def answer(request: Request, study: str, series: str = "", instance: str = "", frames: str = "") -> Response:
        frame_numbers = parse_frame_list(frames) if frames else ()
        form = choose_rendered(accepted(request), RENDERED_TYPES, _DEFAULTS)[0]
        appearance = replace(_small(request), media_type=form[0])
        principal = context.principal(request)
        records, revision = archive.retrieve.find_with_revision(principal, *check_uids(study, series, instance))
        described = entity, _ = describe(request, principal, records, revision, appearance)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        if frame_numbers:
            (record,) = records
            picture = archive.render.render_instance(principal, record, appearance, frame_numbers, is_still=True)
        else:
            record, picture = archive.thumbnails.give(principal, records, appearance)
        address = context.base_url(request) + path_of(record) + (f"/frames/{frames}" if frames else "") + "/thumbnail"
        return RenderedAnswer(context, request, principal, appearance, described).picture(form, address, picture)

    @router.get(
        f"{STUDY}/thumbnail", summary="Thumbnail of a study", operation_id="study_thumbnail", openapi_extra=offered
    )
    @context.rendering.answer
    def study_thumbnail(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(
        f"{SERIES}/thumbnail", summary="Thumbnail of a series", operation_id="series_thumbnail", openapi_extra=offered
    )
    @context.rendering.answer
    def series_thumbnail(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(
        f"{INSTANCE}/thumbnail",
        summary="Thumbnail of an instance",
        operation_id="instance_thumbnail",
        openapi_extra=offered,
    )
    @context.rendering.answer
    def instance_thumbnail(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)

    @router.get(
        f"{FRAMES}/thumbnail", summary="Thumbnail of frames", operation_id="frames_thumbnail", openapi_extra=offered
    )
    @context.rendering.answer
    def frames_thumbnail(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        return answer(request, study, series, instance, frames)


def _small(request: Request) -> Appearance:
    """Return how a thumbnail shall look: as large and as good as those made ahead, or smaller, or of other quality."""
    asked = parse_appearance(request)
    largest = THUMBNAIL.viewport
    assert largest is not None
    size = asked.viewport or largest
    fitted = Viewport(min(size.width, largest.width), min(size.height, largest.height))
    quality = asked.quality if "quality" in request.query_params else THUMBNAIL.quality
    return replace(THUMBNAIL, viewport=fitted, quality=quality)
