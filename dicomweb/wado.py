"""WADO-RS, the Retrieve transaction (PS3.18 10.4): instances, metadata, frames and bulk data, streamed.

An endpoint finds and negotiates, so that every error is still a status. What remains is a synchronous generator whose
every step is one change of threads: between two steps a slow client holds neither a thread nor a connection.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import caching, dicom_json, media_types, multipart
from dicomweb.archive_zip import name_of, write_zip
from dicomweb.caching import Entity, accepts_gzip, derive_tag, is_known
from dicomweb.context import Context, accepted
from dicomweb.errors import InvalidAddress
from dicomweb.media_types import Form
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part
from dicomweb.params import check_uid
from dicomweb.sending import not_modified, send, send_multipart, send_single, started
from pacs.access import Principal
from pacs.errors import NotAcceptable
from pacs.imaging.dicomdir import Directory
from pacs.model import InstanceRecord
from pacs.retrieve import Acceptable, Frames, Representation, Retriever
from pacs.tags import text_of

T = TypeVar("T")

MAX_FRAMES = 20_000

_FRAME_LIST = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
_BULK_PATH = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,9}/[0-9A-Fa-f]{8})*")

_DOCUMENT = "00420011"
_SAFE_DOCUMENTS = frozenset({"application/pdf"})

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"


def build_router(context: Context) -> APIRouter:
    """Return the retrieve resources of PS3.18 Tables 10.4.1-1 to 10.4.1-4."""
    router = APIRouter(prefix=context.root, tags=["WADO-RS"])
    _add_instances(router, context)
    _add_metadata(router, context)
    _add_frames(router, context)
    _add_bulk_data(router, context)
    return router


def parse_frame_list(text: str) -> tuple[int, ...]:
    """Return the 1-based frame numbers of an address in their order; raise InvalidAddress for nonsense."""
    if not _FRAME_LIST.fullmatch(text):
        raise InvalidAddress("The frame list must be frame numbers separated by commas.")
    frame_numbers = tuple(map(int, text.split(",")))
    if 0 in frame_numbers:
        raise InvalidAddress("Frame numbers start at 1.")
    if len(frame_numbers) > MAX_FRAMES:
        raise InvalidAddress(f"No more than {MAX_FRAMES} frames can be asked for at once.")
    return frame_numbers


def _add_instances(router: APIRouter, context: Context) -> None:
    retriever = context.archive.retrieve
    describe = _describer(context)

    def answer(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        forms = media_types.choose_instances(accepted(request), is_single=bool(instance))
        principal = context.principal(request)
        records = retriever.find_instances(principal, *_checked(study, series, instance))
        base = context.base_url(request)

        def open_part(record: InstanceRecord, form: Form) -> Part:
            representation = retriever.open_instance(principal, record, Acceptable(form.transfer_syntax_uids))
            return _part(representation, media_types.DICOM, base + _path_of(record))

        entity = describe(request, principal, records, forms, caching.REVALIDATE)
        if is_known(request.headers, entity.tag):
            return not_modified(request, entity)
        form, first = _first_acceptable(forms, lambda form: _open_first(records, form, open_part))
        if form.media_type == media_types.ZIP:
            first.close()
            return _send_zip(request, _iter_files(retriever, principal, records, form), entity)
        if not form.is_multipart:
            return send_single(request, first, entity)
        identity = (*form.transfer_syntax_uids, *(record.sop_instance_uid for record in records))
        boundary = multipart.derive_boundary(context.boundary_key, identity)
        parts: Iterable[Part] = chain((first,), (open_part(record, form) for record in records[1:]))
        if all(_goes_as_stored(record, form) for record in records):
            # Opening these costs nothing, and tells the length of the whole.
            parts = list(parts)
        return send_multipart(request, boundary, media_types.DICOM, parts, entity)

    @router.get(_STUDY, summary="Retrieve a study", operation_id="retrieve_study")
    def retrieve_study(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(_SERIES, summary="Retrieve a series", operation_id="retrieve_series")
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(_INSTANCE, summary="Retrieve an instance", operation_id="retrieve_instance")
    def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)


def _add_metadata(router: APIRouter, context: Context) -> None:
    retriever = context.archive.retrieve
    describe = _describer(context)

    def answer(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        media_type = media_types.choose_json(accepted(request))
        principal = context.principal(request)
        records = retriever.find_instances(principal, *_checked(study, series, instance))
        is_compressed = accepts_gzip(request.headers.getlist("accept-encoding"))
        entity = describe(request, principal, records, (media_type, is_compressed), caching.REVALIDATE)
        if is_known(request.headers, entity.tag):
            return not_modified(request, replace(entity, vary="Accept, Accept-Encoding"))
        base = context.base_url(request)
        items: Iterator[bytes] = (
            dicom_json.with_bulk_base(header, f"{base}{_path_of(record)}/bulkdata/")
            for record, header in retriever.iter_metadata_of(principal, records)
        )
        items = items if request.scope.get(IS_HEAD) else started(items)
        chunks = multipart.coalesce(dicom_json.join_array(items))
        return send(request, chunks, media_type, entity.headers(is_repeatable=True))

    @router.get(f"{_STUDY}/metadata", summary="Retrieve a study's metadata", operation_id="retrieve_study_metadata")
    def retrieve_study_metadata(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(f"{_SERIES}/metadata", summary="Retrieve a series' metadata", operation_id="retrieve_series_metadata")
    def retrieve_series_metadata(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(
        f"{_INSTANCE}/metadata", summary="Retrieve an instance's metadata", operation_id="retrieve_instance_metadata"
    )
    def retrieve_instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)


def _add_frames(router: APIRouter, context: Context) -> None:
    retriever = context.archive.retrieve
    describe = _describer(context)

    @router.get(f"{_INSTANCE}/frames/{{frames}}", summary="Retrieve frames", operation_id="retrieve_frames")
    def retrieve_frames(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        frame_numbers = parse_frame_list(frames)
        forms = media_types.choose_frames(accepted(request), is_single=len(frame_numbers) == 1)
        principal = context.principal(request)
        (record,) = retriever.find_instances(principal, *_checked(study, series, instance))
        entity = describe(request, principal, [record], (forms, frames), caching.KEEP_FRAMES)
        if is_known(request.headers, entity.tag):
            return not_modified(request, entity)
        address = f"{context.base_url(request)}{_path_of(record)}/frames/"
        if len(frame_numbers) == 1:
            return answer_one(request, record, forms, frame_numbers[0], address=address, entity=entity)
        form, opened = _first_acceptable(
            forms,
            lambda form: retriever.open_frames(principal, record, frame_numbers, Acceptable(form.transfer_syntax_uids)),
        )
        media_type = form.media_type or opened.media_type
        content_type = media_types.content_type(media_type, opened.transfer_syntax_uid)
        with ExitStack() as stack:
            stack.callback(opened.close)
            # The first frame is read before anything is promised.
            parts = started(_frame_parts(opened, frame_numbers, content_type, address))
            stack.pop_all()
        identity = (record.sop_instance_uid, opened.transfer_syntax_uid, frames)
        boundary = multipart.derive_boundary(context.boundary_key, identity)
        return send_multipart(request, boundary, media_type, parts, entity)

    def answer_one(
        request: Request, record: InstanceRecord, forms: Iterable[Form], number: int, *, address: str, entity: Entity
    ) -> Response:
        form, opened = _first_acceptable(
            forms,
            lambda form: retriever.open_frame(
                context.principal(request), record, number, Acceptable(form.transfer_syntax_uids)
            ),
        )
        media_type = form.media_type or opened.media_type
        part = _part(opened, media_type, f"{address}{number}")
        if not form.is_multipart:
            return send_single(request, part, entity)
        identity = (record.sop_instance_uid, opened.transfer_syntax_uid, str(number))
        boundary = multipart.derive_boundary(context.boundary_key, identity)
        return send_multipart(request, boundary, media_type, [part], entity)


def _add_bulk_data(router: APIRouter, context: Context) -> None:
    retriever = context.archive.retrieve
    describe = _describer(context)

    @router.get(f"{_INSTANCE}/bulkdata/{{path:path}}", summary="Retrieve bulk data", operation_id="retrieve_bulk_data")
    def retrieve_bulk_data(request: Request, study: str, series: str, instance: str, path: str) -> Response:
        if not _BULK_PATH.fullmatch(path):
            raise InvalidAddress("The path of the bulk data is malformed.")
        principal = context.principal(request)
        (record,) = retriever.find_instances(principal, *_checked(study, series, instance))
        # A document carries names: it is asked for again as metadata is.
        entity = describe(request, principal, [record], accepted(request), caching.REVALIDATE)
        if is_known(request.headers, entity.tag):
            return not_modified(request, entity)
        representation = retriever.open_bulk(principal, record, path)
        try:
            media_type = representation.media_type
            if path == _DOCUMENT:
                (header,) = (header for _, header in retriever.iter_metadata(principal, *_uids_of(record)))
                media_type = _document_type(header) or media_type
            form = media_types.choose_bulk(accepted(request), media_type)[0]
        except BaseException:
            representation.close()
            raise
        address = f"{context.base_url(request)}{_path_of(record)}/bulkdata/{path}"
        part = _part(representation, form.media_type, address)
        if not form.is_multipart:
            return send_single(request, part, entity)
        boundary = multipart.derive_boundary(context.boundary_key, (record.sop_instance_uid, path))
        return send_multipart(request, boundary, form.media_type, [part], entity)


def _checked(study: str, series: str, instance: str) -> tuple[str, str, str]:
    return check_uid(study), series and check_uid(series), instance and check_uid(instance)


def _first_acceptable(forms: Iterable[Form], open_form: Callable[[Form], T]) -> tuple[Form, T]:
    """Return the first form that can be given, opened; raise NotAcceptable if there is none."""
    refusal = NotAcceptable()
    for form in forms:
        try:
            return form, open_form(form)
        except NotAcceptable as error:
            refusal = error
    raise refusal


def _open_first(records: list[InstanceRecord], form: Form, open_part: Callable[[InstanceRecord, Form], Part]) -> Part:
    """Return the first part opened; raise NotAcceptable if one of the instances is in no syntax that was asked for."""
    acceptable = Acceptable(form.transfer_syntax_uids)
    is_convertible = acceptable.is_default or acceptable.takes(media_types.EXPLICIT_VR_LITTLE_ENDIAN)
    if not is_convertible and not all(acceptable.takes(record.transfer_syntax_uid) for record in records):
        raise NotAcceptable
    return open_part(records[0], form)


def _goes_as_stored(record: InstanceRecord, form: Form) -> bool:
    acceptable = Acceptable(form.transfer_syntax_uids)
    is_default = acceptable.is_default and record.transfer_syntax_uid == media_types.EXPLICIT_VR_LITTLE_ENDIAN
    return is_default or acceptable.takes(record.transfer_syntax_uid)


def _part(representation: Representation, media_type: str, address: str) -> Part:
    def iter_chunks() -> Iterator[bytes]:
        with representation:
            yield from representation.iter_chunks()

    transfer_syntax_uid = "" if media_type in _SAFE_DOCUMENTS else representation.transfer_syntax_uid
    content_type = media_types.content_type(media_type, transfer_syntax_uid)
    length_bytes, close, iter_range = representation.length_bytes, representation.close, representation.iter_range
    return Part(content_type, address, length_bytes, iter_chunks, close, iter_range)


def _frame_parts(opened: Frames, frame_numbers: Iterable[int], content_type: str, address: str) -> Iterator[Part]:
    with opened:
        for number, frame in zip(frame_numbers, opened, strict=True):
            yield Part(content_type, f"{address}{number}", len(frame), partial(iter, (frame,)))


def _document_type(header: bytes) -> str:
    """Return the media type that an encapsulated document says it has, if a browser may be told so.

    Anything could be in there; what a browser would run in our name goes out as octets.
    """
    media_type = text_of(orjson.loads(header), "MIMETypeOfEncapsulatedDocument").lower()
    return media_type if media_type in _SAFE_DOCUMENTS else ""


def _uids_of(record: InstanceRecord) -> tuple[str, str, str]:
    return record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid


def _path_of(record: InstanceRecord) -> str:
    return (
        f"/studies/{record.study_instance_uid}/series/{record.series_instance_uid}/instances/{record.sop_instance_uid}"
    )


def _iter_files(
    retriever: Retriever, principal: Principal, records: list[InstanceRecord], form: Form
) -> Iterator[tuple[str, Part]]:
    """Yield names and instances, each opened when its turn comes, and last the DICOMDIR that lists them."""
    acceptable = Acceptable(form.transfer_syntax_uids)
    directory = Directory()
    for index, (record, header) in enumerate(retriever.iter_metadata_of(principal, records)):
        representation = retriever.open_instance(principal, record, acceptable)
        directory.add(name_of(index), orjson.loads(header), representation.transfer_syntax_uid)
        yield name_of(index), _part(representation, media_types.DICOM, "")
    content = directory.encode()
    yield "DICOMDIR", Part(media_types.DICOM, "", len(content), partial(iter, (content,)))


def _send_zip(request: Request, files: Iterable[tuple[str, Part]], entity: Entity) -> Response:
    """Return files as a ZIP file of a name that says nothing of a patient."""
    headers = {**entity.headers(is_repeatable=False), "Content-Disposition": 'attachment; filename="dicom.zip"'}
    if request.scope.get(IS_HEAD):
        files = ()
    return send(request, multipart.coalesce(write_zip(files)), media_types.ZIP, headers)


def _describer(context: Context) -> Callable[..., Entity]:
    """Return what gives the entity of an answer: from its instances' revision and what shapes it in the request."""

    def describe(
        request: Request, principal: Principal, records: list[InstanceRecord], shape: object, cache_control: str
    ) -> Entity:
        revision = context.archive.retrieve.read_revision(principal, records)
        # A multipart answer is other bytes with another boundary.
        boundary = multipart.derive_boundary(context.boundary_key, ("etag",))
        tag = derive_tag(revision.digest, context.base_url(request), request.url.path, repr(shape), boundary)
        # A correction that is undone leaves no date behind, and an instance that is taken away none in its series.
        is_dated = len(records) == 1 and not revision.is_corrected and "/instances/" in request.url.path
        return Entity(tag, cache_control, modified_at=records[0].stored_at if is_dated else None)

    return describe
