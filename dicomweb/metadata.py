"""Retrieve Metadata (PS3.18 10.4.1.1.2): of a study, a series or an instance, as DICOM JSON or XML.

Viewers ask for series: their JSON is kept ready, in the index as one text and in memory as it was sent, both found by
the state that they show. All else is made while it is sent.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import caching, data_sets, media_types, multipart
from dicomweb.addresses import INSTANCE, SERIES, STUDY, check_uids, path_of, path_to
from dicomweb.caching import Entity, choose_coding, describer, is_known
from dicomweb.capabilities import offers
from dicomweb.context import ReadingContext, accepted
from dicomweb.media_types import DICOM_XML
from dicomweb.middleware import IS_HEAD, compress
from dicomweb.sending import not_modified, send, started
from pacs.retrieve.cache import MemoryFrameCache, frame_key
from pacs.retrieve.encoded import naming_video, with_bulk_base

KEPT_BYTES = 16 * 1024 * 1024
"""Of answers as they were sent, in this process: some hundreds of series in gzip."""

_VARY = "Accept, Accept-Encoding"


def add_resources(router: APIRouter, context: ReadingContext) -> None:
    """Add the three metadata resources."""
    offered = offers(*media_types.MODEL_TYPES, query=("accept",))
    made = _MadeWhileSent(context)
    ready = _KeptReady(context)

    @router.get(
        f"{STUDY}/metadata",
        summary="Retrieve a study's metadata",
        operation_id="retrieve_study_metadata",
        openapi_extra=offered,
    )
    def retrieve_study_metadata(request: Request, study: str) -> Response:
        return made.answer(request, check_uids(study))

    @router.get(
        f"{SERIES}/metadata",
        summary="Retrieve a series' metadata",
        operation_id="retrieve_series_metadata",
        openapi_extra=offered,
    )
    def retrieve_series_metadata(request: Request, study: str, series: str) -> Response:
        uids = check_uids(study, series)
        return ready.answer(request, study, series) or made.answer(request, uids)

    @router.get(
        f"{INSTANCE}/metadata",
        summary="Retrieve an instance's metadata",
        operation_id="retrieve_instance_metadata",
        openapi_extra=offered,
    )
    def retrieve_instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        return made.answer(request, check_uids(study, series, instance))


class _MadeWhileSent:
    """Answers with the metadata of any instances, however many: a page of them is in memory."""

    def __init__(self, context: ReadingContext) -> None:
        self._context = context
        self._retriever = context.archive.retrieve
        self._describe = describer(context)

    def answer(self, request: Request, uids: tuple[str, str, str]) -> Response:
        """Return the metadata, or that the client has them."""
        media_type = media_types.choose_model(accepted(request))
        principal = self._context.principal(request)
        records = self._retriever.find_instances(principal, *uids)
        coding = choose_coding(request.headers.getlist("accept-encoding"))
        entity = self._describe(request, principal, records, (media_type, coding), caching.REVALIDATE)
        if is_known(request.headers, entity):
            return not_modified(request, replace(entity, vary=_VARY))
        base = self._context.base_url(request)
        items: Iterator[bytes] = (
            with_bulk_base(naming_video(header, record.transfer_syntax_uid), f"{base}{path_of(record)}/bulkdata/")
            for record, header in self._retriever.iter_metadata_of(principal, records)
        )
        items = items if request.scope.get(IS_HEAD) else started(items)
        identity = ("metadata", *(record.sop_instance_uid for record in records))
        boundary = multipart.derive_boundary(self._context.boundary_key, identity)
        content_type, chunks = data_sets.write(items, media_type, boundary)
        return send(request, multipart.coalesce(chunks), content_type, entity.headers(is_repeatable=True))


class _KeptReady:
    """Answers with the metadata of a series in JSON: one look into the index, and bytes that are there already."""

    def __init__(self, context: ReadingContext) -> None:
        self._context = context
        self._texts = context.archive.series_metadata
        self._sent = MemoryFrameCache(KEPT_BYTES)

    def answer(self, request: Request, study: str, series: str) -> Response | None:
        """Return the metadata, or that the client has them; None for XML, and for what is too long to be kept."""
        media_type = media_types.choose_model(accepted(request))
        if media_type == DICOM_XML:
            return None
        principal = self._context.principal(request)
        address = self._context.base_url(request) + path_to(study, series)
        kept = self._texts.find(principal, study, series)
        if kept is None:
            made = self._texts.build(principal, study, series)
            return None if made is None else self._send(request, address, media_type, made.digest, lambda: made.text)
        if kept.is_too_long:
            return None
        return self._send(request, address, media_type, kept.digest, lambda: self._texts.read(principal, kept))

    def _send(
        self, request: Request, address: str, media_type: str, digest: str, read: Callable[[], bytes | None]
    ) -> Response | None:
        """Return the answer of a state; ``read`` gives its text if it was not sent before, or None if it is gone."""
        coding = choose_coding(request.headers.getlist("accept-encoding"))
        tag = caching.tag_of(self._context, request, digest, (media_type, coding))
        entity = Entity(tag, caching.REVALIDATE, _VARY)
        if is_known(request.headers, entity):
            return not_modified(request, entity)
        key = frame_key(digest, address, coding)
        body = self._sent.find(key)
        if body is None:
            text = read()
            if text is None:
                return None
            body = compress(with_bulk_base(text, address), coding)
            self._sent.put(key, body)
        headers = {**entity.headers(is_repeatable=True), "Content-Type": media_type}
        if coding:
            headers["Content-Encoding"] = coding
        return Response(body, headers=headers)
