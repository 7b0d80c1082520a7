"""STOW-RS, the Store transaction (PS3.18 10.5): a body of any size goes through the one door, part by part.

The body is taken from the socket by async code and given in batches to a Receiver, which is plain synchronous code on a
pool thread: parse, spool, store. Nothing is held but one batch and the spool of the part under way, and a sender that
stalls holds no thread.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dicomweb import dicom_json, media_types
from dicomweb.context import Context
from dicomweb.errors import RETRY_AFTER_SECONDS, MultipartError, UnsupportedMediaType, problem_for
from dicomweb.multipart import MultipartParser, PartBegan, PartData, PartEnded
from dicomweb.params import check_uid
from pacs.errors import OutOfResources, Unavailable
from pacs.ingest.incoming import Expected, Incoming, IncomingSpool
from pacs.ingest.outcome import Outcome, Reason
from pacs.ingest.pipeline import Ingestor
from pacs.model import Attributes, Origin

BATCH_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)

_PROCESSING_FAILURE = 0x0110
_NO_ROOM = frozenset({Reason.OUT_OF_RESOURCES, Reason.UNAVAILABLE})


class Sink(Protocol):
    """Where bytes of a body go."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Say that there are no more."""


@dataclass(slots=True)
class Receiver:
    """Spools and stores one object after the other, and remembers what became of each.

    Once there is no room left it takes nothing more: ``is_exhausted``.
    """

    ingest: Ingestor
    origin: Origin
    expected: Expected
    outcomes: list[Outcome] = field(default_factory=list)
    is_exhausted: bool = False
    _spool: IncomingSpool | None = None

    def begin(self) -> None:
        """Start an object."""
        self.close()
        self._spool = self.ingest.open_spool()

    def write(self, data: bytes | memoryview) -> None:
        """Append to the object; raise Unavailable, or OutOfResources, when it cannot be held."""
        if self._spool is not None:
            self._spool.write(data)

    def store(self) -> None:
        """Store the object, which is whole now."""
        if self._spool is None:
            return
        outcome = self.ingest.store(Incoming(self._spool, self.origin, self.expected))
        self.outcomes.append(outcome)
        self.is_exhausted = outcome.reason in _NO_ROOM and not outcome.is_stored
        self.close()

    def close(self) -> None:
        """Drop the object under way, if any."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


@dataclass(slots=True)
class SingleSink:
    """A body that is one object: Content-Type application/dicom."""

    receiver: Receiver
    _has_begun: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if not self._has_begun:
            self._has_begun = True
            self.receiver.begin()
        self.receiver.write(data)

    def finish(self) -> None:
        """Store the object; raise MultipartError if there is none."""
        if not self._has_begun:
            raise MultipartError("The body is empty.")
        self.receiver.store()


@dataclass(slots=True)
class MultipartSink:
    """A multipart/related body. What its parts say of themselves is not looked at: their bytes do."""

    receiver: Receiver
    parser: MultipartParser

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raise MultipartError when they make no sense."""
        for event in self.parser.feed(data):
            match event:
                case PartData(view):
                    self.receiver.write(view)
                case PartBegan(headers):
                    _check_encoding(headers)
                    self.receiver.begin()
                case PartEnded():
                    self.receiver.store()
            if self.receiver.is_exhausted:
                return

    def finish(self) -> None:
        """Raise MultipartError unless the body came whole and had a part."""
        self.parser.finish()
        if not self.parser.parts:
            raise MultipartError("The body has no parts.")


def build_router(context: Context) -> APIRouter:
    """Return the two store resources of PS3.18 Table 10.5.1-1."""
    router = APIRouter(prefix=context.root, tags=["STOW-RS"])

    async def answer(request: Request, study: str = "") -> Response:
        origin = replace(context.origin, address=request.client.host if request.client else "")
        receiver = Receiver(context.archive.ingest, origin, Expected(study_instance_uid=study))
        try:
            sink = open_sink(request.headers.get("content-type", ""), request.headers.get("content-encoding"), receiver)
        except (MultipartError, UnsupportedMediaType) as error:
            await _drain(request)
            return problem_for(error)
        return await _receive(request, receiver, sink, StoreReport(context.base_url(request), study, receiver.outcomes))

    @router.post("/studies", summary="Store instances", operation_id="store_instances")
    async def store_instances(request: Request) -> Response:
        return await answer(request)

    @router.post("/studies/{study}", summary="Store instances of one study", operation_id="store_study_instances")
    async def store_study_instances(request: Request, study: str) -> Response:
        return await answer(request, check_uid(study))

    return router


def open_sink(content_type: str, content_encoding: str | None, receiver: Receiver) -> Sink:
    """Return what takes a body of this type; raise UnsupportedMediaType (415) or MultipartError (400)."""
    parsed = media_types.parse_media_type(content_type)
    if parsed is None or (content_encoding or "identity").strip().lower() != "identity":
        raise UnsupportedMediaType
    if parsed.media_type == media_types.DICOM:
        return SingleSink(receiver)
    if not parsed.is_multipart or not parsed.covers(media_types.DICOM):
        raise UnsupportedMediaType
    return MultipartSink(receiver, MultipartParser(parsed.parameters.get("boundary", "")))


async def _receive(request: Request, receiver: Receiver, sink: Sink, report: "StoreReport") -> Response:
    body = request.stream()
    try:
        async with aclosing(_batches(body)) as batches:
            async for batch in batches:
                await run_in_threadpool(sink.feed, batch)
                if receiver.is_exhausted:
                    break
            else:
                await run_in_threadpool(sink.finish)
    except MultipartError as error:
        report.break_off(error)
    except Unavailable as error:
        report.run_out(error)
    except ClientDisconnect:
        _log.info("A sender hung up after %d objects.", len(receiver.outcomes))
        raise
    finally:
        receiver.close()
    async for _ in body:
        # Many clients read no answer before they have sent everything.
        pass
    return report.build()


async def _batches(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces that are worth a change of threads."""
    pending: list[bytes] = []
    pending_bytes = 0
    async for chunk in body:
        pending.append(chunk)
        pending_bytes += len(chunk)
        if pending_bytes >= BATCH_BYTES:
            yield b"".join(pending)
            pending, pending_bytes = [], 0
    if pending_bytes:
        yield b"".join(pending)


async def _drain(request: Request) -> None:
    async for _ in request.stream():
        pass


def _check_encoding(headers: dict[str, str]) -> None:
    if headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit", "7bit"):
        raise MultipartError("A part has a Content-Transfer-Encoding other than binary.")


@dataclass(slots=True)
class StoreReport:
    """The Store Instances Response (PS3.18 I.2) and its status."""

    base: str
    study: str
    outcomes: list[Outcome]
    _broken: bool = False
    _is_out_of_room: bool = False
    _others: list[Attributes] = field(default_factory=list)

    def break_off(self, error: MultipartError) -> None:
        """Note that the body made no sense from somewhere on."""
        self._broken = True
        self._others.append(_failure(_PROCESSING_FAILURE, str(error)))

    def run_out(self, error: Unavailable) -> None:
        """Note that the rest of the body could not be held."""
        self._is_out_of_room = True
        reason = Reason.OUT_OF_RESOURCES if isinstance(error, OutOfResources) else Reason.UNAVAILABLE
        self._others.append(_failure(reason.code, reason.comment))

    def build(self) -> Response:
        """Return the answer."""
        stored = [outcome for outcome in self.outcomes if outcome.is_stored]
        failed = [outcome for outcome in self.outcomes if not outcome.is_stored]
        named = [outcome for outcome in failed if outcome.sop_instance_uid and outcome.sop_class_uid]
        others = [*self._others, *(_describe_failure(outcome) for outcome in failed if outcome not in named)]
        module: list[Attributes] = [self._study_url(stored)]
        if stored:
            module.append(dicom_json.element("ReferencedSOPSequence", *(self._describe(one) for one in stored)))
        if named:
            module.append(dicom_json.element("FailedSOPSequence", *(_describe_failure(one) for one in named)))
        if others:
            module.append(dicom_json.element("OtherFailuresSequence", *others))
        status = self._status(stored, failed)
        headers = {"Cache-Control": "no-store"}
        if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return Response(dicom_json.encode(dicom_json.item(*module)), status, headers, media_types.DICOM_JSON)

    def _status(self, stored: list[Outcome], failed: list[Outcome]) -> int:
        if self._is_out_of_room or any(outcome.reason in _NO_ROOM for outcome in failed):
            return 503
        if self._broken:
            return 400
        if failed:
            return 202 if stored else 409
        return 202 if any(outcome.reason is not None for outcome in stored) else 200

    def _study_url(self, stored: list[Outcome]) -> Attributes:
        studies = {outcome.study_instance_uid for outcome in stored}
        if len(studies) != 1:
            return dicom_json.element("RetrieveURL")
        return dicom_json.element("RetrieveURL", f"{self.base}/studies/{studies.pop()}")

    def _describe(self, outcome: Outcome) -> Attributes:
        address = f"/studies/{outcome.study_instance_uid}/series/{outcome.series_instance_uid}"
        warning = dicom_json.element("WarningReason", outcome.reason.code) if outcome.reason else {}
        return dicom_json.item(
            _reference(outcome),
            dicom_json.element("RetrieveURL", f"{self.base}{address}/instances/{outcome.sop_instance_uid}"),
            warning,
        )


def _describe_failure(outcome: Outcome) -> Attributes:
    reason = outcome.reason or Reason.INTERNAL_ERROR
    reference = _reference(outcome) if outcome.sop_instance_uid and outcome.sop_class_uid else {}
    return dicom_json.item(reference, _failure(reason.code, reason.comment))


def _reference(outcome: Outcome) -> Attributes:
    return dicom_json.item(
        dicom_json.element("ReferencedSOPClassUID", outcome.sop_class_uid),
        dicom_json.element("ReferencedSOPInstanceUID", outcome.sop_instance_uid),
    )


def _failure(code: int, comment: str) -> Attributes:
    # Error Comment is no attribute of this module, but the only place where a person can read what a code means here.
    return dicom_json.item(dicom_json.element("FailureReason", code), dicom_json.element("ErrorComment", comment[:64]))
