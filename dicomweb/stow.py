"""STOW-RS, the Store transaction (PS3.18 10.5): a body of any size goes through the one door, part by part.

The body is taken from the socket by async code and given in batches to a Receiver, which is plain synchronous code on a
pool thread: parse, spool, store. Meanwhile the next batch comes in, and a few parts that are whole are stored aside.
Nothing is held but the two batches, the spool of the part under way and those aside, which are ``STORING_ASIDE`` of all
requests together; and a sender that stalls holds no thread.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dicomweb import media_types
from dicomweb.addresses import STUDY, check_uid
from dicomweb.capabilities import offers
from dicomweb.context import Context, accepted
from dicomweb.errors import ContentTooLarge, InvalidMetadata, MultipartError, UnsupportedMediaType, problem_for
from dicomweb.multipart import MultipartParser
from dicomweb.stow_metadata import MetadataSink
from dicomweb.stow_report import StoreReport
from dicomweb.stow_sinks import Aside, MultipartSink, Receiver, SingleSink, Sink
from pacs.errors import NotAcceptable, Unavailable
from pacs.ingest.incoming import Expected

BATCH_BYTES = 1024 * 1024

MAX_PIECES = 16

STORING_ASIDE = 2
"""How many parts of all bodies are stored while those behind them come in: each holds up to 16 MiB, and then a file."""

MAX_HEAVY_BODIES = 2
"""How many bodies of large metadata are read at once; the others wait, and no thread waits with them."""

_log = logging.getLogger(__name__)


def build_router(context: Context) -> APIRouter:
    """Return the two store resources of PS3.18 Table 10.5.1-1."""
    router = APIRouter(prefix=context.root, tags=["STOW-RS"], default_response_class=Response)
    consumes = (*media_types.INSTANCE_TYPES[:2], *media_types.METADATA_TYPES)
    offered = offers(*media_types.STORED_TYPES, consumes=consumes)

    heavy = CapacityLimiter(MAX_HEAVY_BODIES)
    aside = Aside(STORING_ASIDE)

    async def answer(request: Request, study: str = "") -> Response:
        origin = replace(context.origin, address=request.client.host if request.client else "")
        receiver = Receiver(context.archive.ingest, origin, Expected(study_instance_uid=study), aside)
        base = context.base_url(request)
        try:
            sink = open_sink(request.headers, receiver, f"{base}{request.url.path.removeprefix(context.root)}/")
        except (MultipartError, UnsupportedMediaType) as error:
            await _drain(request)
            return problem_for(error)
        report = StoreReport(base, _choose_answer(request), receiver.outcomes)
        return await _receive(request, receiver, sink, report, heavy)

    @router.post("/studies", summary="Store instances", operation_id="store_instances", openapi_extra=offered)
    async def store_instances(request: Request) -> Response:
        return await answer(request)

    @router.post(
        STUDY,
        summary="Store instances of one study",
        operation_id="store_study_instances",
        openapi_extra=offered,
    )
    async def store_study_instances(request: Request, study: str) -> Response:
        return await answer(request, check_uid(study))

    return router


def open_sink(headers: Mapping[str, str], receiver: Receiver, base: str) -> Sink:
    """Return what takes a body of this type; raise UnsupportedMediaType (415) or MultipartError (400).

    ``base`` is what addresses in a body of metadata and bulk data are relative to.
    """
    parsed = media_types.parse_media_type(headers.get("content-type", ""))
    if parsed is None or headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType
    if parsed.media_type == media_types.DICOM:
        return SingleSink(receiver)
    is_metadata = parsed.content in (media_types.DICOM_JSON, media_types.DICOM_XML)
    if not parsed.is_multipart or not (is_metadata or parsed.covers(media_types.DICOM)):
        raise UnsupportedMediaType
    parser = MultipartParser(parsed.parameters.get("boundary", ""))
    return MetadataSink(receiver, parser, base) if is_metadata else MultipartSink(receiver, parser)


def _choose_answer(request: Request) -> str:
    """Return the media type of the answer: what was stored is told in some form, whatever Accept says."""
    try:
        return media_types.choose_model(accepted(request))
    except NotAcceptable:
        return media_types.DICOM_JSON


async def _receive(
    request: Request, receiver: Receiver, sink: Sink, report: StoreReport, heavy: CapacityLimiter
) -> Response:
    body = request.stream()
    refusal: Response | None = None
    try:
        await _feed(body, receiver, sink)
        if not receiver.is_exhausted:
            await (run_sync(sink.finish, limiter=heavy) if sink.is_heavy else run_in_threadpool(sink.finish))
    except MultipartError as error:
        report.break_off(error)
    except (InvalidMetadata, ContentTooLarge) as error:
        # Bodies of metadata are stored once they are whole: so far nothing is.
        refusal = problem_for(error)
    except Unavailable as error:
        report.run_out(error)
    except ClientDisconnect:
        _log.info("A sender hung up after %d objects.", len(receiver.outcomes))
        raise
    finally:
        receiver.close()
        sink.close()
    async for _ in body:
        # Many clients read no answer before they have sent everything.
        pass
    if receiver.is_busy:
        await run_in_threadpool(receiver.settle)
    receiver.settle()
    return refusal or report.build()


async def _feed(body: AsyncIterator[bytes], receiver: Receiver, sink: Sink) -> None:
    """Give the body to the sink, while one batch is stored the next one being received; raise what the sink raises.

    Whatever happens, no thread is in the sink any more when this ends.
    """
    feeding: asyncio.Task[None] | None = None
    try:
        async with aclosing(_batches(body)) as batches:
            async for batch in batches:
                if feeding is not None:
                    await feeding
                if receiver.is_exhausted:
                    return
                feeding = asyncio.create_task(run_in_threadpool(_feed_batch, batch, receiver, sink))
        if feeding is not None:
            await feeding
    finally:
        if feeding is not None:
            await asyncio.gather(feeding, return_exceptions=True)


def _feed_batch(batch: list[bytes], receiver: Receiver, sink: Sink) -> None:
    for piece in batch:
        if receiver.is_exhausted:
            return
        sink.feed(piece)


async def _batches(body: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes], None]:
    """Yield the body's pieces in batches that are worth a change of threads."""
    pending: list[bytes] = []
    pending_bytes = 0
    async for piece in body:
        pending.append(piece)
        pending_bytes += len(piece)
        if pending_bytes >= BATCH_BYTES:
            yield _few(pending)
            pending, pending_bytes = [], 0
    if pending_bytes:
        yield _few(pending)


def _few(pieces: list[bytes]) -> list[bytes]:
    """Return pieces as they came, or one of them all if they are small: each is parsed by itself."""
    return pieces if len(pieces) <= MAX_PIECES else [b"".join(pieces)]


async def _drain(request: Request) -> None:
    async for _ in request.stream():
        pass
