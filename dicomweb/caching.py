"""Validators, conditions and byte ranges (RFC 9110 8.8, 13, 14) and the choice of a content coding.

An entity tag is made of the state of the index that an answer is made of, and of everything in the request that shapes
it. It is strong where the bytes are those in the store, or text made of them by one rule; where a codec or a rewritten
header makes them anew, it is weak: they mean the same each time, and nobody promises that they are the same.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from importlib.metadata import version

from starlette.datastructures import Headers
from starlette.requests import Request

from dicomweb.context import ReadingContext
from dicomweb.multipart import derive_boundary
from pacs.access import Principal
from pacs.model import InstanceRecord
from pacs.retrieve import Revision

REVALIDATE = "private, no-cache"
"""For what carries a patient's name: kept, but asked for again each time, so that a correction or a rejection holds at
once. The answer is a 304 of a few hundred bytes."""

FRAME_MAX_AGE_SECONDS = 300
KEEP_FRAMES = f"private, max-age={FRAME_MAX_AGE_SECONDS}, must-revalidate"
"""For pixels: a link of 700 ms must not be asked about each of 500 slices again while somebody pages back and forth.
They carry no name, and what shows them comes from metadata, which is asked for each time. So short, because a copy
that replaces an instance could otherwise be shown with the pixels of the one before."""

MAX_TAGS_LENGTH = 16 * 1024

CODINGS = ("br", "gzip")
"""Content codings, the one that makes text smallest first."""

_ALIASES = {"x-gzip": "gzip"}
_VERSION = version("pacs")
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
_CODING = re.compile(r"([A-Za-z0-9*_-]{1,32})(?:;q=([01](?:\.[0-9]{0,3})?))?")


@dataclass(frozen=True, slots=True)
class Entity:
    """One representation, as a cache knows it. ``tag`` is quoted and strong; see ``field`` for how it is shown."""

    tag: str
    cache_control: str
    vary: str = "Accept"
    modified_at: datetime | None = None

    def headers(self, *, is_repeatable: bool) -> dict[str, str]:
        """Return the header fields of an answer; without ``is_repeatable`` its tag is weak."""
        fields = {
            "ETag": self.tag if is_repeatable else f"W/{self.tag}",
            "Cache-Control": self.cache_control,
            "Vary": self.vary,
        }
        if self.modified_at is not None:
            fields["Last-Modified"] = _format_date(self.modified_at)
        return fields


Describe = Callable[[Request, Principal, Sequence[InstanceRecord], object, str], Entity]


def describer(context: ReadingContext) -> Describe:
    """Return what gives the entity of an answer that is made of instances.

    It is called with the request, on whose behalf it acts, the instances, whatever shapes the answer beside them and
    the address (``repr`` of it must be the same in every process), and the Cache-Control.
    """

    def describe(
        request: Request, principal: Principal, records: Sequence[InstanceRecord], shape: object, cache_control: str
    ) -> Entity:
        revision = context.archive.retrieve.read_revision(principal, records)
        return entity_of(context, request, records, revision, shape=shape, cache_control=cache_control)

    return describe


def entity_of(
    context: ReadingContext,
    request: Request,
    records: Sequence[InstanceRecord],
    revision: Revision,
    *,
    shape: object,
    cache_control: str,
) -> Entity:
    """Return the entity of an answer that is made of instances in this state, as a ``describer`` does."""
    tag = tag_of(context, request, revision.digest, shape)
    # A correction that is undone leaves no date behind, and an instance that is taken away none in its series.
    is_dated = len(records) == 1 and not revision.is_corrected and "instance" in request.path_params
    return Entity(tag, cache_control, modified_at=records[0].stored_at if is_dated else None)


def tag_of(context: ReadingContext, request: Request, digest: str, shape: object) -> str:
    """Return the entity tag of an answer made of instances in a state, given by a digest, in a shape as above."""
    # A multipart answer is other bytes with another boundary.
    boundary = derive_boundary(context.boundary_key, ("etag",))
    return derive_tag(digest, context.base_url(request), request.url.path, repr(shape), boundary)


def derive_tag(*parts: str) -> str:
    """Return the entity tag of what these parts, and this release of the archive, make."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (_VERSION, *parts):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return f'"{digest.hexdigest()}"'


def is_known(headers: Headers, entity: Entity) -> bool:
    """Whether the client has this: If-None-Match names its tag, compared weakly (RFC 9110 13.1.2).

    ``*`` is not looked at: it says nothing of what the client has, so that it gets the answer in full. Without the
    field If-Modified-Since decides (13.1.3), but only the very date that we gave: who decides a conflict for the copy
    that came first makes an answer older, and a later date would hide that.
    """
    if "if-none-match" not in headers:
        date = headers.get("if-modified-since", "").strip()
        return bool(date) and entity.modified_at is not None and date == _format_date(entity.modified_at)
    fields = ",".join(headers.getlist("if-none-match"))
    return len(fields) <= MAX_TAGS_LENGTH and entity.tag in _TAG.findall(fields)


def choose_range(headers: Headers, tag: str, length_bytes: int) -> tuple[int, int] | None:
    """Return the bytes asked for, from start up to, not including, end; None for all of them, start at end for none.

    None is also the answer to several ranges, another unit and nonsense (RFC 9110 14.2), and where If-Range names
    another representation than this strong tag, or a date.
    """
    condition = headers.get("if-range")
    if condition is not None and condition.strip() != tag:
        return None
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start = max(length_bytes - int(match[2]), 0)
        return (start, length_bytes) if int(match[2]) else (length_bytes, length_bytes)
    start, last = int(match[1]), int(match[2] or length_bytes - 1)
    if match[2] and last < start:
        return None
    return min(start, length_bytes), min(last + 1, length_bytes)


def choose_coding(fields: Iterable[str]) -> str:
    """Return the content coding that Accept-Encoding fields want most, of those there are; nothing for none of them.

    Of those wanted alike it is the one that makes the body smallest, and any of them before the body as it is
    (RFC 9110 12.5.3).
    """
    weights: dict[str, float] = {}
    for item in ",".join(fields)[:1024].replace(" ", "").replace("\t", "").split(","):
        match = _CODING.fullmatch(item)
        if match is not None:
            weights[_ALIASES.get(match[1].lower(), match[1].lower())] = float(match[2] or 1)
    others = weights.get("*", 0)
    wanted = max(CODINGS, key=lambda coding: weights.get(coding, others))
    weight = weights.get(wanted, others)
    return wanted if weight > 0 and weight >= weights.get("identity", 0) else ""


def _format_date(at: datetime) -> str:
    return format_datetime(at.replace(microsecond=0), usegmt=True)
