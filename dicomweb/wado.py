"""WADO-RS, the Retrieve transaction (PS3.18 10.4): instances, metadata, frames and bulk data, streamed.

An endpoint finds and negotiates, so that every error is still a status. What remains is a synchronous generator whose
every step is one change of threads: between two steps a slow client holds neither a thread nor a connection.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import caching, media_types, metadata, multipart
from dicomweb.addresses import FRAMES, INSTANCE, SERIES, STUDY, check_uids, parse_frame_list, path_of
from dicomweb.caching import Entity, describer, is_known
from dicomweb.capabilities import offers
from dicomweb.context import ReadingContext, accepted
from dicomweb.errors import InvalidAddress
from dicomweb.media_types import Form, first_acceptable
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part
from dicomweb.plain_route import PlainRoute
from dicomweb.sending import as_part, not_modified, send, send_multipart, send_single, started
from pacs.access import Principal
from pacs.errors import NotAcceptable
from pacs.imaging.archive_zip import File, name_of, write_zip
from pacs.imaging.dicomdir import Directory
from pacs.imaging.syntaxes import lookup
from pacs.model import InstanceRecord
from pacs.retrieve import CODECS_VERSION, Acceptable, Frames, Representation, Retriever
from pacs.tags import text_of

_BULK_PATH = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,9}/[0-9A-Fa-f]{8})*")

_DOCUMENT = "00420011"

_ACCEPT = ("accept",)


def build_router(context: ReadingContext) -> APIRouter:
    """Return the retrieve resources of PS3.18 Tables 10.4.1-1 to 10.4.1-4."""
    router = APIRouter(prefix=context.root, tags=["WADO-RS"], default_response_class=Response, route_class=PlainRoute)
    _add_instances(router, context)
    metadata.add_resources(router, context)
    _add_frames(router, context)
    _add_bulk_data(router, context)
    return router


def _add_instances(router: APIRouter, context: ReadingContext) -> None:
    retriever = context.archive.retrieve
    offered = offers(*media_types.INSTANCE_TYPES, query=_ACCEPT)

    def answer(request: Request, study: str, series: str = "", instance: str = "") -> Response:
        forms = media_types.choose_instances(accepted(request), is_single=bool(instance))
        principal = context.principal(request)
        records, revision = retriever.find_with_revision(principal, *check_uids(study, series, instance))
        base = context.base_url(request)

        ahead = retriever.ahead_of(records, revision)

        def open_part(record: InstanceRecord, form: Form) -> Part:
            representation = _open(ahead, principal, record, form, is_alone=len(records) == 1)
            return as_part(representation, media_types.DICOM, base + path_of(record))

        entity = caching.entity_of(context, request, records, revision, shape=forms, cache_control=caching.REVALIDATE)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        form, first = first_acceptable(forms, lambda form: _open_first(records, form, open_part))
        if form.media_type == media_types.ZIP:
            first.close()
            return _send_zip(request, _iter_files(ahead, principal, records, form), entity)
        if not form.is_multipart:
            return send_single(request, first, entity)
        identity = (*form.transfer_syntax_uids, *(record.sop_instance_uid for record in records))
        boundary = multipart.derive_boundary(context.boundary_key, identity)
        parts: Iterable[Part] = chain((first,), (open_part(record, form) for record in records[1:]))
        if all(_goes_as_stored(record, form) for record in records):
            # Opening these costs nothing, and tells the length of the whole.
            parts = list(parts)
        return send_multipart(request, boundary, media_types.DICOM, parts, entity)

    @router.get(STUDY, summary="Retrieve a study", operation_id="retrieve_study", openapi_extra=offered)
    def retrieve_study(request: Request, study: str) -> Response:
        return answer(request, study)

    @router.get(SERIES, summary="Retrieve a series", operation_id="retrieve_series", openapi_extra=offered)
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        return answer(request, study, series)

    @router.get(INSTANCE, summary="Retrieve an instance", operation_id="retrieve_instance", openapi_extra=offered)
    def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return answer(request, study, series, instance)


def _add_frames(router: APIRouter, context: ReadingContext) -> None:
    retriever = context.archive.retrieve
    offered = offers(*media_types.frame_types(), query=_ACCEPT)

    @router.get(
        FRAMES,
        summary="Retrieve frames",
        operation_id="retrieve_frames",
        openapi_extra=offered,
    )
    def retrieve_frames(request: Request, study: str, series: str, instance: str, frames: str) -> Response:
        frame_numbers = parse_frame_list(frames)
        forms = media_types.choose_frames(accepted(request), is_single=len(frame_numbers) == 1)
        principal = context.principal(request)
        record, revision = retriever.find_instance(principal, *check_uids(study, series, instance))
        forms = media_types.prefer_faithful(forms, record.transfer_syntax_uid)
        shape = (forms, frames, CODECS_VERSION)
        entity = caching.entity_of(context, request, [record], revision, shape=shape, cache_control=caching.KEEP_FRAMES)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        address = f"{context.base_url(request)}{path_of(record)}/frames/"
        if len(frame_numbers) == 1:
            return answer_one(request, record, forms, frame_numbers[0], address=address, entity=entity)
        form, opened = first_acceptable(
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
        form, opened = first_acceptable(
            forms,
            lambda form: retriever.open_frame(
                context.principal(request), record, number, Acceptable(form.transfer_syntax_uids)
            ),
        )
        media_type = form.media_type or opened.media_type
        part = as_part(opened, media_type, f"{address}{number}")
        if not form.is_multipart:
            return send_single(request, part, entity)
        identity = (record.sop_instance_uid, opened.transfer_syntax_uid, str(number))
        boundary = multipart.derive_boundary(context.boundary_key, identity)
        return send_multipart(request, boundary, media_type, [part], entity)


def _add_bulk_data(router: APIRouter, context: ReadingContext) -> None:
    retriever = context.archive.retrieve
    offered = offers(*media_types.BULK_TYPES, query=_ACCEPT)
    describe = describer(context)

    @router.get(
        f"{INSTANCE}/bulkdata/{{path:path}}",
        summary="Retrieve bulk data",
        operation_id="retrieve_bulk_data",
        openapi_extra=offered,
    )
    def retrieve_bulk_data(request: Request, study: str, series: str, instance: str, path: str) -> Response:
        if not _BULK_PATH.fullmatch(path):
            raise InvalidAddress("The path of the bulk data is malformed.")
        principal = context.principal(request)
        (record,) = retriever.find_instances(principal, *check_uids(study, series, instance))
        # A document carries names: it is asked for again as metadata is.
        entity = describe(request, principal, [record], accepted(request), caching.REVALIDATE)
        if is_known(request.headers, entity):
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
        address = f"{context.base_url(request)}{path_of(record)}/bulkdata/{path}"
        part = as_part(representation, form.media_type, address)
        if not form.is_multipart:
            return send_single(request, part, entity)
        boundary = multipart.derive_boundary(context.boundary_key, (record.sop_instance_uid, path))
        return send_multipart(request, boundary, form.media_type, [part], entity)


def _open_first(records: list[InstanceRecord], form: Form, open_part: Callable[[InstanceRecord, Form], Part]) -> Part:
    """Return the first part opened; raise NotAcceptable if one of the instances is in no syntax that was asked for.

    Of one instance that is found out by trying. Of several, what is lossy or not decoded is not even tried: it would
    be too late to say so.
    """
    acceptable = Acceptable(form.transfer_syntax_uids)
    is_native = acceptable.is_default or acceptable.takes(media_types.EXPLICIT_VR_LITTLE_ENDIAN)
    if not is_native and len(records) > 1 and not all(_is_convertible(record, acceptable) for record in records):
        raise NotAcceptable
    return open_part(records[0], form)


def _open(
    retriever: Retriever, principal: Principal, record: InstanceRecord, form: Form, *, is_alone: bool
) -> Representation:
    """Return an instance in a syntax that was asked for.

    One of several that cannot be had in any, such as a report among images in JPEG-LS, is given in the default, which
    its part names: it is too late for another answer.
    """
    try:
        return retriever.open_instance(principal, record, Acceptable(form.transfer_syntax_uids))
    except NotAcceptable:
        if is_alone:
            raise
        return retriever.open_instance(principal, record)


def _is_convertible(record: InstanceRecord, acceptable: Acceptable) -> bool:
    stored = lookup(record.transfer_syntax_uid)
    is_made = any(lookup(uid).can_encode for uid in acceptable.transfer_syntax_uids)
    return acceptable.takes(stored.uid) or (is_made and stored.is_lossless and stored.can_decode)


def _goes_as_stored(record: InstanceRecord, form: Form) -> bool:
    acceptable = Acceptable(form.transfer_syntax_uids)
    is_default = acceptable.is_default and record.transfer_syntax_uid == media_types.EXPLICIT_VR_LITTLE_ENDIAN
    return is_default or acceptable.takes(record.transfer_syntax_uid)


def _frame_parts(opened: Frames, frame_numbers: Iterable[int], content_type: str, address: str) -> Iterator[Part]:
    with opened:
        for number, frame in zip(frame_numbers, opened, strict=True):
            yield Part(content_type, f"{address}{number}", len(frame), partial(iter, (frame,)))


def _document_type(header: bytes) -> str:
    """Return the media type that an encapsulated document says it has, if a browser may be told so.

    Anything could be in there; what a browser would run in our name goes out as octets.
    """
    media_type = text_of(orjson.loads(header), "MIMETypeOfEncapsulatedDocument").lower()
    return media_type if media_type in media_types.SAFE_DOCUMENTS else ""


def _uids_of(record: InstanceRecord) -> tuple[str, str, str]:
    return record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid


def _iter_files(
    retriever: Retriever, principal: Principal, records: list[InstanceRecord], form: Form
) -> Iterator[File]:
    """Yield instances under their names, each opened when its turn comes, and last the DICOMDIR that lists them."""
    directory = Directory()
    for index, (record, header) in enumerate(retriever.iter_metadata_of(principal, records)):
        representation = _open(retriever, principal, record, form, is_alone=len(records) == 1)
        directory.add(name_of(index), orjson.loads(header), representation.transfer_syntax_uid)
        part = as_part(representation, media_types.DICOM, "")
        yield File(name_of(index), part, representation.transfer_syntax_uid)
    content = directory.encode()
    yield File("DICOMDIR", Part(media_types.DICOM, "", len(content), partial(iter, (content,))))


def _send_zip(request: Request, files: Iterable[File], entity: Entity) -> Response:
    """Return files as a ZIP file of a name that says nothing of a patient."""
    headers = {**entity.headers(is_repeatable=False), "Content-Disposition": 'attachment; filename="dicom.zip"'}
    if request.scope.get(IS_HEAD):
        files = ()
    return send(request, write_zip(files), media_types.ZIP, headers)
