"""From the archive's errors to HTTP (PS3.18 8.5), as one table. A problem never repeats what was asked or stored."""

import logging
from collections.abc import Mapping

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from pacs.errors import (
    CannotCorrect,
    CorruptPixelData,
    InvalidEntry,
    InvalidProject,
    InvalidQuery,
    InvalidValue,
    NotAcceptable,
    NotFound,
    NotNow,
    NotPermitted,
    OutOfResources,
    PacsError,
    ProjectExists,
    ScheduledStepExists,
    Unavailable,
)
from pacs.identity.problems import AccountExists, LoginFailed, LoginRequired, TooManyAttempts
from pacs.workitems.problems import WorkitemEnded, WorkitemExists, WorkitemProblem

RETRY_AFTER_SECONDS = 30

_log = logging.getLogger(__name__)


class RequestError(PacsError):
    """The request cannot be understood."""


class MultipartError(RequestError):
    """The multipart body is broken."""


class InvalidMetadata(RequestError):
    """The metadata are no data sets of the DICOM JSON model."""


class InvalidXml(InvalidMetadata):
    """The XML is no data set of the Native DICOM Model."""


class InvalidAddress(RequestError):
    """A UID or a number in the address is malformed."""


class InvalidParameter(RequestError):
    """A query parameter has a value that it cannot have here."""


class ContentTooLarge(PacsError):
    """The body is longer than this resource takes."""


class UnsupportedMediaType(PacsError):
    """The body must be application/dicom, alone or as multipart/related, or metadata and bulk data as the latter."""


STATUS: tuple[tuple[type[PacsError], int], ...] = (
    (NotFound, 404),
    (NotPermitted, 403),
    (LoginRequired, 401),
    (LoginFailed, 401),
    (TooManyAttempts, 429),
    (AccountExists, 409),
    (InvalidQuery, 400),
    (InvalidValue, 400),
    (CannotCorrect, 409),
    (InvalidEntry, 400),
    (InvalidProject, 400),
    (ProjectExists, 409),
    (NotNow, 409),
    (ScheduledStepExists, 409),
    (WorkitemExists, 409),
    (WorkitemEnded, 400),  # PS3.18 11.6.2
    (WorkitemProblem, 409),
    (RequestError, 400),
    (ContentTooLarge, 413),
    (UnsupportedMediaType, 415),
    (NotAcceptable, 406),
    # The object is there, but this form of it cannot be made; transfer-syntax=* still gives it as it was received, and
    # 406 is what tells a client to ask for another form (PS3.18 8.7.5).
    (CorruptPixelData, 406),
    (OutOfResources, 503),
    (Unavailable, 503),
    (PacsError, 500),
)
"""The first row whose class fits decides."""

_UNEXPECTED = "The archive failed; its log says why."


def status_of(error: Exception) -> int:
    """Return the HTTP status for an error; 500 for what is nobody's but the archive's fault."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def problem(status: int, name: str, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem body (PS3.18 8.6.3): the fact's name and one sentence."""
    body = orjson.dumps({"status": status, "error": name, "message": sentence})
    fields = {"Cache-Control": "no-store", **(headers or {})}
    if status == 503:
        fields.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return Response(body, status, fields, "application/json")


def problem_for(error: PacsError) -> Response:
    """Return the answer to a request that ended in one of the archive's errors."""
    status = status_of(error)
    if status == 500:
        _log.error("An error without a place in the table reached the HTTP edge: %s.", type(error).__name__)
        return problem(500, "InternalError", _UNEXPECTED)
    return problem(status, type(error).__name__, str(error))


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error from the table."""
    app.add_exception_handler(PacsError, _answer_pacs_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unexpected)


def _answer_pacs_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PacsError)
    return problem_for(error)


def _answer_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "There is nothing here.", 405: "This resource does not know that method."}
    sentence = sentences.get(error.status_code, "The request cannot be answered.")
    return problem(error.status_code, "HttpError", sentence, error.headers)


def _answer_validation_error(_request: Request, _error: Exception) -> Response:
    # FastAPI's own answer repeats the input, which may be a patient's name.
    return problem(400, "RequestError", RequestError.__doc__ or "")


def _answer_nobody(_request: Request, _error: Exception) -> Response:
    # Nobody reads this; without it a hang-up would be logged as a failure of ours.
    return Response(status_code=400)


def _answer_unexpected(_request: Request, _error: Exception) -> Response:
    return problem(500, "InternalError", _UNEXPECTED)
