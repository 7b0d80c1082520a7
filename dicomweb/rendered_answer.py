"""The answers of rendered resources (PS3.18 10.4.1.1.3): a picture, pictures as parts, a document or a video."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from dicomweb import media_types, multipart
from dicomweb.addresses import is_uid, path_of, path_to
from dicomweb.caching import KEEP_FRAMES, REVALIDATE, Entity, entity_of
from dicomweb.context import ReadingContext, accepted
from dicomweb.media_types import RenderedForm
from dicomweb.multipart import Part
from dicomweb.sending import as_part, send, warning
from pacs.access import Principal
from pacs.errors import CorruptPixelData, InvalidHeader, NotAcceptable
from pacs.model import InstanceRecord
from pacs.retrieve import (
    ANNOTATIONS,
    CONTENT_SECURITY_POLICY,
    DOCUMENT_TYPES,
    GIF,
    HTML,
    MP4,
    PLAIN_TEXT,
    RENDERED_TYPES,
    XML,
    Appearance,
    Profile,
    Reference,
    Representation,
    Revision,
    is_presentation_state,
    list_rendered_types,
)

_UNPROFILED = (GIF, MP4)
_UTF_8 = (HTML, PLAIN_TEXT)
_SAFETY = {
    HTML: {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "same-origin"},
    # What a browser would run in our name is kept, not shown: XML may bring scripts and style sheets of its own.
    XML: {"Content-Security-Policy": "sandbox", "Content-Disposition": 'attachment; filename="document.xml"'},
}
_UNRENDERABLE = (NotAcceptable, CorruptPixelData, InvalidHeader)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rendered answer is made of: the instances that were found, and the state they were in."""

    records: Sequence[InstanceRecord]
    revision: Revision


def picture_describer(
    context: ReadingContext,
) -> Callable[[Request, Principal, Sequence[InstanceRecord], Revision, Appearance], tuple[Entity, Subject]]:
    """Return what gives the entity of an answer that is rendered, and what all of it is made of."""

    def describe_picture(
        request: Request,
        principal: Principal,
        records: Sequence[InstanceRecord],
        revision: Revision,
        appearance: Appearance,
    ) -> tuple[Entity, Subject]:
        used = Subject(records, revision)
        if any(is_presentation_state(record.sop_class_uid) for record in records):
            # What it shows lies in other instances of its study (PS3.3 C.11.11).
            used = Subject(*context.archive.retrieve.find_with_revision(principal, records[0].study_instance_uid))
        is_nameless = not appearance.annotations and all(
            RENDERED_TYPES[0] in list_rendered_types(record.sop_class_uid) for record in records
        )
        shape = (request.url.query, accepted(request))
        cache_control = KEEP_FRAMES if is_nameless else REVALIDATE
        entity = entity_of(context, request, used.records, used.revision, shape=shape, cache_control=cache_control)
        return entity, used

    return describe_picture


class RenderedAnswer:
    """Answers one request in a form that was asked for; each method raises NotAcceptable if it cannot be given so."""

    def __init__(
        self,
        context: ReadingContext,
        request: Request,
        principal: Principal,
        appearance: Appearance,
        described: tuple[Entity, Subject],
    ) -> None:
        self._context = context
        self._request = request
        self._principal = principal
        self._appearance = appearance
        self._entity, self._subject = described
        self._base = context.base_url(request)
        self._render = context.archive.render

    def one(self, record: InstanceRecord, form: RenderedForm) -> Response:
        """Return one instance: its picture, its document or its video; of an image every frame if as parts."""
        media_type, is_multipart = form
        address = self._base + path_of(record)
        if media_type in (*DOCUMENT_TYPES, MP4):
            made = self._open(record, media_type)
            if is_multipart:
                return self._send_parts(
                    media_type, iter([as_part(made, _content_type(media_type), f"{address}/rendered")])
                )
            return self._send_made(made, f"{address}/rendered")
        appearance = _as(media_type, self._appearance)
        if is_multipart and media_type != GIF:
            pictures = self._render.iter_frames(self._principal, record, (), appearance)
            return self._send_parts(media_type, _number(media_type, f"{address}/frames/", enumerate(pictures, 1)))
        return self.picture(form, f"{address}/rendered", self._find_or_render(record, appearance))

    def several(self, records: Sequence[InstanceRecord], form: RenderedForm) -> Response:
        """Return a part an instance, of those that can be given so; presentation states only where no images are."""
        media_type = form[0]
        fitting = [record for record in records if media_type in list_rendered_types(record.sop_class_uid)]
        plain = [record for record in fitting if not is_presentation_state(record.sop_class_uid)]
        if media_type in (*DOCUMENT_TYPES, MP4):
            return self._send_parts(media_type, self._iter_made(plain, media_type))
        appearance = _as(media_type, self._appearance)
        pictures = self._render.iter_instances(self._principal, plain or fitting, appearance)
        return self._send_parts(
            media_type,
            (_picture_part(media_type, f"{self._base}{path_of(record)}/rendered", body) for record, body in pictures),
        )

    def frames(self, record: InstanceRecord, frame_numbers: Sequence[int], form: RenderedForm) -> Response:
        """Return frames, a part each unless it is one picture that was asked for, or one that moves."""
        media_type, is_multipart = form
        address = f"{self._base}{path_of(record)}/frames/"
        whole = f"{address}{','.join(map(str, frame_numbers))}/rendered"
        appearance = _as(media_type, self._appearance)
        if media_type == MP4:
            return self._send_made(self._render.render_video(self._principal, record, appearance, frame_numbers), whole)
        if not is_multipart and (media_type == GIF or len(frame_numbers) == 1):
            return self.picture(form, whole, self._find_or_render(record, appearance, frame_numbers))
        pictures = self._render.iter_frames(self._principal, record, frame_numbers, appearance)
        numbered = zip(frame_numbers, pictures, strict=True)
        return self._send_parts(media_type, _number(media_type, address, numbered))

    def picture(self, form: RenderedForm, address: str, picture: bytes) -> Response:
        """Return a picture that was made, alone or as the only part; ``address`` may be empty."""
        media_type, is_multipart = form
        if is_multipart:
            return self._send_parts(media_type, iter([_picture_part(media_type, address, picture)]))
        located = {"Content-Location": address} if address else {}
        return Response(picture, headers={**self._headers(media_type), **located})

    def _find_or_render(
        self, record: InstanceRecord, appearance: Appearance, frame_numbers: Sequence[int] = ()
    ) -> bytes:
        """Return one picture, as it was made for an equal request if nothing has changed since.

        The entity tag names all that the picture is made of, so that what is kept under it is never another's.
        """
        key = f"{self._entity.tag} {appearance.media_type}"
        kept = self._context.pictures.find(key)
        if kept is not None:
            return kept
        picture = self._render.render_instance(self._principal, record, appearance, frame_numbers)
        seen = self._subject
        # What changed meanwhile may be changed back: then this picture would lie under a name that is right again.
        if self._context.archive.retrieve.read_revision(self._principal, seen.records) == seen.revision:
            self._context.pictures.put(key, picture)
        return picture

    def _open(self, record: InstanceRecord, media_type: str) -> Representation:
        if media_type == MP4:
            return self._render.render_video(self._principal, record, _as(media_type, self._appearance))
        return self._render.render_document(self._principal, record, media_type, self._link)

    def _iter_made(self, records: Iterable[InstanceRecord], media_type: str) -> Iterator[Part]:
        """Yield documents or videos as parts, each made when its turn comes; what cannot be made is passed over."""
        for record in records:
            try:
                made = self._open(record, media_type)
            except _UNRENDERABLE:
                continue
            yield as_part(made, _content_type(media_type), f"{self._base}{path_of(record)}/rendered")

    def _link(self, reference: Reference) -> str:
        """Return where a report's reference is rendered, as a path on this host; nothing if its study is not named."""
        uids = reference.study_instance_uid, reference.series_instance_uid, reference.sop_instance_uid
        if not all(is_uid(uid) for uid in uids):
            return ""
        frames = f"/frames/{reference.frame_numbers[0]}" if reference.frame_numbers else ""
        return f"{urlsplit(self._base).path}{path_to(*uids)}{frames}/rendered"

    def _headers(self, media_type: str) -> dict[str, str]:
        headers = {
            **self._entity.headers(is_repeatable=False),
            "Content-Type": _content_type(media_type),
            **_SAFETY.get(media_type, {}),
        }
        names = ("annotation", "iccprofile")
        passed_over = [name for name in names if _is_passed_over(self._request, name, media_type)]
        if passed_over:
            text = f"The {' and the '.join(passed_over)} parameter has been ignored."
            headers["Warning"] = warning(self._request, text)
        return headers

    def _send_made(self, made: Representation, address: str) -> Response:
        headers = {**self._headers(made.media_type), "Content-Location": address}
        content_type = headers.pop("Content-Type")
        return send(
            self._request,
            made.iter_chunks(),
            content_type,
            headers,
            length_bytes=made.length_bytes,
            close=made.close,
        )

    def _send_parts(self, media_type: str, parts: Iterator[Part]) -> Response:
        """Return parts, made while they are sent; the first before anything is promised."""
        first = next(parts, None)
        if first is None:
            raise NotAcceptable("There is nothing that could be rendered.")
        boundary = multipart.derive_boundary(self._context.boundary_key, (str(self._request.url), media_type))
        chunks = multipart.write(boundary, chain((first,), parts))
        content_type = media_types.multipart_type(media_type, boundary)
        return send(self._request, chunks, content_type, self._headers(media_type))


def _as(media_type: str, appearance: Appearance) -> Appearance:
    """Return the appearance in a media type; what cannot carry a profile is sRGB, as whoever shows it will think."""
    is_converted = media_type in _UNPROFILED and appearance.profile is not Profile.NO
    return replace(appearance, media_type=media_type, profile=Profile.SRGB if is_converted else appearance.profile)


def _number(media_type: str, address: str, pictures: Iterable[tuple[int, bytes]]) -> Iterator[Part]:
    """Yield frames as parts; ``address`` is all but the number."""
    for number, picture in pictures:
        yield _picture_part(media_type, f"{address}{number}/rendered", picture)


def _picture_part(media_type: str, address: str, picture: bytes) -> Part:
    return Part(media_type, address, len(picture), partial(iter, (picture,)))


def _content_type(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type in _UTF_8 else media_type


def _is_passed_over(request: Request, name: str, media_type: str) -> bool:
    """Whether a parameter was given of which the answer, or a part of it, shows nothing."""
    given = request.query_params.get(name, "").lower()
    if name == "annotation":
        words = [word.strip() for word in given.split(",") if word.strip()]
        return any(word not in ANNOTATIONS or media_type in DOCUMENT_TYPES for word in words)
    return given not in ("", Profile.NO) and media_type in (*DOCUMENT_TYPES, *_UNPROFILED)
