"""Plain JSON over HTTP, in and out: for the resources that DICOM has no service for, which all behave alike.

A body must be of a JSON type (415), not too large (413), and JSON (400). A query string has names that the resource
knows and values that they can have (400). A number in an address that no row can have is not found (404).
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.errors import ContentTooLarge, RequestError, UnsupportedMediaType
from dicomweb.media_types import JSON
from dicomweb.params import parse_fields
from pacs.errors import InvalidQuery, NotFound

MAX_BODY_BYTES = 64 * 1024
MAX_ID = 2**63 - 1

_NO_STORE = {"Cache-Control": "no-store"}


async def read_json(request: Request, *media_types: str, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """Return what a body holds, of ``application/json`` unless other types are named.

    Raises UnsupportedMediaType, ContentTooLarge, or RequestError if it is not JSON.
    """
    # Also what keeps other sites out: a browser asks us first before their pages may send such a type anywhere.
    allowed = media_types or (JSON,)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in allowed:
        raise UnsupportedMediaType(f"The body must be {' or '.join(allowed)}.")
    return parse_json(await read_body(request, max_bytes))


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return a whole body; raise ContentTooLarge if it is longer than ``max_bytes``."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ContentTooLarge(f"The body is longer than {max_bytes} bytes.")
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Return what a body holds; raise RequestError if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError("The body must be JSON.") from None


def respond(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON that no cache keeps."""
    return Response(orjson.dumps(content), status, _NO_STORE | (headers or {}), JSON)


def query_fields(request: Request) -> list[tuple[str, str]]:
    """Return names and values of a request's query string; raise InvalidQuery if it is malformed."""
    return parse_fields(request.scope["query_string"].decode("latin-1"))


def parse_number(name: str, text: str, maximum: int = MAX_ID) -> int:
    """Return a parameter's number, from 0 to ``maximum``; raise InvalidQuery if it is none."""
    number = _read_number(text)
    if number is None or number > maximum:
        raise InvalidQuery(f"{name} must be a number from 0 to {maximum}.")
    return number


def parse_limit(text: str, maximum: int) -> int:
    """Return how many a page may have: what is asked for, but never more than ``maximum``."""
    return min(parse_number("limit", text), maximum)


def parse_id(text: str, missing: type[NotFound]) -> int:
    """Return the number in an address; raise ``missing`` if it is none."""
    number = _read_number(text)
    if number is None:
        raise missing
    return number


def _read_number(text: str) -> int | None:
    # isdecimal alone would let in the digits of other scripts; a length first, for int() takes its time over long ones.
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    number = int(text)
    return number if number <= MAX_ID else None
