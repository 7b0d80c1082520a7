"""WADO-RS, rendered resources and thumbnails (PS3.18 10.4.1.1.3 and 10.4.1.1.4): pictures a browser shows."""

import math
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomweb import media_types, multipart
from dicomweb.context import Context, accepted
from dicomweb.errors import InvalidAddress
from dicomweb.media_types import MediaRange
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part
from dicomweb.params import check_uid
from dicomweb.wado import parse_frame_list
from pacs.errors import NotAcceptable
from pacs.model import InstanceRecord
from pacs.retrieve import (
    DEFAULT_QUALITY,
    GIF,
    MAX_VIEWPORT_PIXELS,
    RENDERED_TYPES,
    Appearance,
    Shape,
    Viewport,
    Window,
)

THUMBNAIL = Viewport(256, 256)
"""The largest thumbnail, and what is made if nothing smaller is asked for."""

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

_SHAPES = {"linear": Shape.LINEAR, "linear-exact": Shape.LINEAR_EXACT, "sigmoid": Shape.SIGMOID}
_PROFILES = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb"})
_NOT_SUPPORTED = ("annotation", "iccprofile")
_SIZE = re.compile(r"[0-9]{1,5}")


def build_router(context: Context) -> APIRouter:
    """Return the rendered resources and thumbnails of PS3.18 Tables 10.4.1-3 and 10.4.1-4."""
    router = APIRouter(prefix=context.root, tags=["WADO-RS"])
    _add_rendered(router, context)
    _add_thumbnails(router, context)
    return router


def parse_window(text: str) -> Window:
    """Return ``center,width,shape`` (PS3.18 8.3.5.1.4); raise InvalidAddress for anything else."""
    parts = text.split(",")
    try:
        center, width = (float(part) for part in parts[:2])
        (shape,) = parts[2:] or ["linear"]  # which servers of before 2019 did not ask for
        return Window(center, width, _SHAPES[shape.strip().lower()])
    except (ValueError, KeyError):
        raise InvalidAddress(
            "The window must be a center, a width that shows something, and linear, linear-exact or sigmoid."
        ) from None


def parse_viewport(text: str) -> Viewport:
    """Return ``width,height`` and maybe ``,left,top,width,height`` of the source (PS3.18 8.3.5.1.3).

    What is left out of the region is 0, or reaches to the end. Raises InvalidAddress for anything else.
    """
    parts = text.split(",")
    if len(parts) not in (2, 6) or not all(_SIZE.fullmatch(part) for part in parts[:2]):
        raise InvalidAddress("The viewport must be a width and a height, and maybe a region of four numbers.")
    width, height = int(parts[0]), int(parts[1])
    if not 0 < width * height <= MAX_VIEWPORT_PIXELS:
        raise InvalidAddress("The viewport is empty, or larger than this archive renders.")
    left, top, source_width, source_height = (_parse_length(part) for part in (parts[2:] or [""] * 4))
    if (left or 0) < 0 or (top or 0) < 0 or 0 in (source_width, source_height):
        raise InvalidAddress("The viewport's region is empty, or begins outside the image.")
    return Viewport(width, height, left or 0.0, top or 0.0, source_width, source_height)


def parse_quality(text: str) -> int:
    """Return the quality from 1 to 100 (PS3.18 8.3.5.1.2); raise InvalidAddress for anything else."""
    if not _SIZE.fullmatch(text) or not 1 <= int(text) <= 100:
        raise InvalidAddress("The quality must be a whole number from 1 to 100.")
    return int(text)


def choose_rendered(ranges: Iterable[MediaRange]) -> tuple[str, bool]:
    """Return the media type of pictures, and whether multipart was asked for; raise NotAcceptable if neither fits."""
    for one in ranges:
        for media_type in RENDERED_TYPES:
            if one.covers(media_type):
                return media_type, one.is_multipart
    raise NotAcceptable(f"Images are rendered as {', '.join(RENDERED_TYPES)}, but as nothing that was asked for.")


def _parse_length(text: str) -> float | None:
    if not text:
        return None
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not abs(length) < 1e6:
        raise InvalidAddress("The viewport's region must be numbers.")
    return length


def _parse_appearance(request: Request, media_type: str) -> Appearance:
    given = request.query_params
    if given.get("iccprofile", "no") not in _PROFILES:
        raise InvalidAddress("The iccprofile must be no, yes, srgb, adobergb or rommrgb.")
    return Appearance(
        media_type,
        parse_window(given["window"]) if "window" in given else None,
        parse_viewport(given["viewport"]) if "viewport" in given else None,
        parse_quality(given["quality"]) if "quality" in given else DEFAULT_QUALITY,
    )


def _add_rendered(router: APIRouter, context: Context) -> None:
    archive = context.archive

    def answer(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        media_type, is_multipart = choose_rendered(accepted(request))
        appearance = _parse_appearance(request, media_type)
        principal = context.principal(request)
        records = archive.retrieve.find_instances(principal, *_checked(study, series, instance))
        base = context.base_url(request)
        if len(records) == 1:
            (record,) = records
            address = base + _path_of(record)
            if is_multipart and media_type != GIF:
                pictures = archive.render.iter_frames(principal, record, (), appearance)
                addressed = ((f"{address}/frames/{number}", picture) for number, picture in enumerate(pictures, 1))
                return _send_parts(request, context, media_type, addressed)
            picture = archive.render.render_instance(principal, record, appearance)
            if is_multipart:
                return _send_parts(request, context, media_type, iter([(address, picture)]))
            return _send_one(request, media_type, f"{address}/rendered", picture)
        rendered = archive.render.iter_instances(principal, records, appearance)
        addressed = ((f"{base}{_path_of(record)}/rendered", picture) for record, picture in rendered)
        return _send_parts(request, context, media_type, addressed)

    @router.get(f"{_STUDY}/rendered", summary="Render a study", operation_id="render_study")
    def render_study(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(f"{_SERIES}/rendered", summary="Render a series", operation_id="render_series")
    def render_series(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(f"{_INSTANCE}/rendered", summary="Render an instance", operation_id="render_instance")
    def render_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)

    @router.get(f"{_FRAMES}/rendered", summary="Render frames", operation_id="render_frames")
    def render_frames(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        frame_numbers = parse_frame_list(frames)
        media_type, is_multipart = choose_rendered(accepted(request))
        appearance = _parse_appearance(request, media_type)
        principal = context.principal(request)
        (record,) = archive.retrieve.find_instances(principal, *_checked(study, series, instance))
        address = f"{context.base_url(request)}{_path_of(record)}/frames/"
        if not is_multipart and (media_type == GIF or len(frame_numbers) == 1):
            picture = archive.render.render_instance(principal, record, appearance, frame_numbers)
            return _send_one(request, media_type, f"{address}{frames}/rendered", picture)
        pictures = archive.render.iter_frames(principal, record, frame_numbers, appearance)
        numbered = zip(frame_numbers, pictures, strict=True)
        return _send_parts(
            request, context, media_type, ((f"{address}{number}/rendered", picture) for number, picture in numbered)
        )


def _add_thumbnails(router: APIRouter, context: Context) -> None:
    archive = context.archive

    def answer(request: Request, study: str, series: str = "", instance: str = "", frames: str = "") -> Response:
        frame_numbers = parse_frame_list(frames) if frames else ()
        media_type, is_multipart = choose_rendered(accepted(request))
        asked = _parse_appearance(request, media_type)
        viewport = asked.viewport or THUMBNAIL
        size = Viewport(min(viewport.width, THUMBNAIL.width), min(viewport.height, THUMBNAIL.height))
        appearance = Appearance(media_type, None, size, asked.quality)
        principal = context.principal(request)
        records = archive.retrieve.find_instances(principal, *_checked(study, series, instance))
        if frame_numbers:
            (record,) = records
            picture = archive.render.render_instance(principal, record, appearance, frame_numbers, is_still=True)
        else:
            record, picture = archive.render.render_thumbnail(principal, records, appearance)
        address = context.base_url(request) + _path_of(record) + (f"/frames/{frames}" if frames else "") + "/thumbnail"
        if is_multipart:
            return _send_parts(request, context, media_type, iter([(address, picture)]))
        return _send_one(request, media_type, address, picture)

    @router.get(f"{_STUDY}/thumbnail", summary="Thumbnail of a study", operation_id="study_thumbnail")
    def study_thumbnail(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(f"{_SERIES}/thumbnail", summary="Thumbnail of a series", operation_id="series_thumbnail")
    def series_thumbnail(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(f"{_INSTANCE}/thumbnail", summary="Thumbnail of an instance", operation_id="instance_thumbnail")
    def instance_thumbnail(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)

    @router.get(f"{_FRAMES}/thumbnail", summary="Thumbnail of frames", operation_id="frames_thumbnail")
    def frames_thumbnail(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        return answer(request, study, series, instance, frames)


def _checked(study: str, series: str, instance: str) -> tuple[str, str, str]:
    return check_uid(study), series and check_uid(series), instance and check_uid(instance)


def _path_of(record: InstanceRecord) -> str:
    return (
        f"/studies/{record.study_instance_uid}/series/{record.series_instance_uid}/instances/{record.sop_instance_uid}"
    )


def _send_one(request: Request, media_type: str, address: str, picture: bytes) -> Response:
    return Response(picture, headers={**_headers(request, media_type), "Content-Location": address})


def _send_parts(request: Request, context: Context, media_type: str, pictures: Iterator[tuple[str, bytes]]) -> Response:
    """Return the pictures as parts, made while they are sent; the first before anything is promised."""
    first = next(pictures, None)
    if first is None:
        raise NotAcceptable("There is nothing that could be rendered.")
    boundary = multipart.derive_boundary(context.boundary_key, (str(request.url), media_type))
    parts = (
        Part(media_type, address, len(picture), partial(iter, (picture,)))
        for address, picture in chain((first,), pictures)
    )
    chunks = () if request.scope.get(IS_HEAD) else multipart.coalesce(multipart.write(boundary, parts))
    return StreamingResponse(chunks, headers=_headers(request, media_types.multipart_type(media_type, boundary)))


def _headers(request: Request, content_type: str) -> dict[str, str]:
    headers = {"Cache-Control": "private", "Vary": "Accept", "Content-Type": content_type}
    passed_over = [name for name in _NOT_SUPPORTED if request.query_params.get(name, "no") != "no"]
    if passed_over:
        agent = quote(request.url.netloc, safe=":[].-")
        headers["Warning"] = f'299 {agent} "The {" and the ".join(passed_over)} parameter has been ignored."'
    return headers
