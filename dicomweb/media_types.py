"""Content negotiation (PS3.18 8.7): from Accept to a list of forms to try, best first. Pure; knows no archive.

What cannot be understood in an Accept header is passed over, as PS3.18 8.7.7 wants; 406 only when nothing is left.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pacs.errors import NotAcceptable
from pacs.imaging.syntaxes import lookup

T = TypeVar("T")
Wanted = TypeVar("Wanted")

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/related"
ZIP = "application/zip"

MODEL_TYPES = (DICOM_JSON, JSON, f'{MULTIPART}; type="{DICOM_XML}"')
"""What metadata and matches are given as, the default first (PS3.18 Tables 8.7.3-2 and 10.6.1-3)."""
STORED_TYPES = (DICOM_JSON, JSON, DICOM_XML)
"""What the answer to a Store transaction is given as, the default first."""
METADATA_TYPES = tuple(f'{MULTIPART}; type="{content}"' for content in (DICOM_JSON, DICOM_XML))
"""What instances are taken as whose metadata and bulk data come apart (PS3.18 10.5.1)."""
INSTANCE_TYPES = (f'{MULTIPART}; type="{DICOM}"', DICOM, ZIP)
"""What instances are given as, the default first (PS3.18 Table 8.7.3-2)."""
BULK_TYPES = (OCTET_STREAM, f'{MULTIPART}; type="{OCTET_STREAM}"')
"""What bulk data is given as, the default first; a document also as what it says it is."""
SAFE_DOCUMENTS = frozenset({"application/pdf"})
"""What an encapsulated document may be given as: anything else goes out as octets, for a browser might run it."""

ANY_SYNTAX = "*"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
MAX_RANGES = 64
MAX_FIELD_LENGTH = 4096
"""Longer media types and Accept fields are not looked at: nobody means them, and a quote that never ends is costly."""

# PS3.18 Tables 8.7.3-4 and 8.7.3-5: the pixel media types and the syntaxes they may carry, the default first.
PIXEL_SYNTAXES: dict[str, tuple[str, ...]] = {
    "image/jpeg": (
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.57",
    ),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "image/jp2": ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "image/jpx": ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"),
    "image/jphc": ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
    "image/jxl": ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"),
    "video/mpeg": ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101"),
    "video/mp4": tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(102, 107)),
    "video/h265": ("1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"),
}

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(rf"(?:{_QUOTED}|[^,\"])+")
_PARAMETER = re.compile(rf"(?:{_QUOTED}|[^;\"])+")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]{1,64}/[A-Za-z0-9!#$&^_.+*-]{1,64}")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One media type or range with its parameters (names in lower case, values unquoted) and its weight."""

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def is_multipart(self) -> bool:
        """Whether it asks for multipart/related."""
        return self.media_type == MULTIPART

    @property
    def content(self) -> str:
        """The media type of what is carried: of the parts if multipart, which is any type if not said."""
        return self.parameters.get("type", "*/*").lower() if self.is_multipart else self.media_type

    @property
    def transfer_syntax_uids(self) -> tuple[str, ...]:
        """The transfer syntaxes named, or none; ``*`` is ``ANY_SYNTAX``."""
        return tuple(self.parameters.get("transfer-syntax", "").replace(",", " ").split())

    def covers(self, media_type: str) -> bool:
        """Whether ``media_type`` is what it carries, wildcards considered."""
        kind, _, subtype = self.content.partition("/")
        wanted_kind, _, wanted_subtype = media_type.partition("/")
        return kind in ("*", wanted_kind) and subtype in ("*", wanted_subtype)


@dataclass(frozen=True, slots=True)
class Form:
    """One form to try. ``media_type`` is the content's, empty if the content decides (``*/*`` or ``image/*``).

    ``transfer_syntax_uids`` empty means the default, ``ANY_SYNTAX`` alone means as stored. ``quality`` is its weight.
    """

    media_type: str
    is_multipart: bool
    transfer_syntax_uids: tuple[str, ...] = ()
    quality: float = field(default=1.0, compare=False)

    @property
    def takes_any_syntax(self) -> bool:
        """Whether the stored transfer syntax will do, whichever it is."""
        return ANY_SYNTAX in self.transfer_syntax_uids


RenderedForm = tuple[str, bool]
"""A media type that something is rendered to, and whether it goes out as parts."""


def parse_media_type(text: str) -> MediaRange | None:
    """Return one media type with its parameters, None if it is malformed."""
    if len(text) > MAX_FIELD_LENGTH:
        return None
    head, *rest = _PARAMETER.findall(text) or [""]
    media_type = head.strip().lower()
    if not _TYPE.fullmatch(media_type):
        return None
    parameters: dict[str, str] = {}
    for item in rest:
        name, _, value = item.partition("=")
        parameters.setdefault(name.strip().lower(), _unquote(value.strip()))
    try:
        quality = float(parameters.pop("q", "1") or "1")
    except ValueError:
        quality = 1.0
    return MediaRange(media_type, parameters, quality if 0 <= quality <= 1 else 1.0)


def parse_accept(texts: Iterable[str]) -> tuple[MediaRange, ...]:
    """Return the ranges of Accept fields, the best first and equals in their order; anything goes if there is none."""
    fields = [text for text in texts if text.strip(" ,")]
    if not fields:
        return (MediaRange("*/*"),)
    readable = [text for text in fields[:MAX_RANGES] if len(text) <= MAX_FIELD_LENGTH]
    items = [item for text in readable for item in _ITEM.findall(text) if item.strip()]
    ranges = [parsed for item in items[:MAX_RANGES] if (parsed := parse_media_type(item)) is not None]
    return tuple(sorted((one for one in ranges if one.quality > 0), key=lambda one: -one.quality))


def parse_accept_parameter(texts: Iterable[str]) -> tuple[MediaRange, ...]:
    """Return the ranges of the ``accept`` query parameter (PS3.18 8.3.3.1).

    A plus sign that was not escaped arrives as a space; no media type has one there.
    """
    return parse_accept(text.replace("dicom json", "dicom+json").replace("dicom xml", "dicom+xml") for text in texts)


def choose_model(ranges: Iterable[MediaRange]) -> str:
    """Return the media type for metadata and search answers: one of JSON, or of XML, which goes as multipart."""
    for one in ranges:
        if one.is_multipart:
            # multipart/related; type="application/dicom+json" is not in the standard, but there are clients that ask.
            if "type" in one.parameters and one.covers(DICOM_JSON):
                return DICOM_JSON
        elif one.covers(DICOM_JSON):
            return DICOM_JSON
        elif one.covers(JSON):
            return JSON
        if one.covers(DICOM_XML):
            return DICOM_XML
    raise NotAcceptable(f"This resource is given as {DICOM_JSON} or {DICOM_XML}, but in no form that was asked for.")


def choose_instances(ranges: Iterable[MediaRange], *, is_single: bool) -> tuple[Form, ...]:
    """Return the forms for PS3.10 instances; the single part one only where the resource is one instance.

    ``application/zip`` is given to who names it (PS3.18 Table 8.7.3-2), never to who takes any ``application/*``.
    """
    forms = []
    for one in ranges:
        if one.media_type == ZIP:
            forms.append(Form(ZIP, is_multipart=False, transfer_syntax_uids=one.transfer_syntax_uids))
            continue
        if not one.covers(DICOM):
            continue
        # The default is multipart, and */* means the default (PS3.18 8.7.7, Table 10.4.4-1).
        is_multipart = one.is_multipart or one.media_type == "*/*"
        if is_multipart or is_single:
            forms.append(Form(DICOM, is_multipart, one.transfer_syntax_uids))
    return _some(forms, f'multipart/related; type="{DICOM}"')


def choose_frames(ranges: Iterable[MediaRange], *, is_single: bool) -> tuple[Form, ...]:
    """Return the forms for frames; the single part ones only where one frame was asked for."""
    forms: list[Form] = []
    for one in ranges:
        is_multipart = one.is_multipart or one.media_type == "*/*"
        if is_multipart or is_single:
            form = _pixel_form(one, is_multipart=is_multipart)
            if form is not None:
                forms.append(replace(form, quality=one.quality))
    return _some(forms, f'multipart/related; type="{OCTET_STREAM}"')


def prefer_faithful(forms: Iterable[Form], stored_syntax_uid: str) -> tuple[Form, ...]:
    """Return the forms for frames of an instance with those first, among equally wanted ones, that spare its pixels.

    What is lossy already goes as it is, for decoding makes it larger and no better; what would be made with loss comes
    last: many clients list JPEG for what is stored in it, and mean no other.
    """
    stored = lookup(stored_syntax_uid)

    def rank(form: Form) -> int:
        asked = form.transfer_syntax_uids
        if not asked or form.takes_any_syntax or stored.uid in asked:
            return 1 if stored.is_lossless else 0
        return 1 if any(lookup(uid).can_encode for uid in asked) else 2

    return tuple(sorted(forms, key=lambda form: (-form.quality, rank(form))))


def choose_bulk(ranges: Iterable[MediaRange], stored_type: str = "") -> tuple[Form, ...]:
    """Return the forms for one bulk value; ``stored_type`` is the media type the object gives it, if any."""
    forms: list[Form] = []
    for one in ranges:
        # One bulk value is one representation: here */* is the single part, which a hyperlink can show.
        if one.content != "*/*" and stored_type and one.covers(stored_type):
            forms.append(Form(stored_type, one.is_multipart))
        elif one.covers(OCTET_STREAM):
            forms.append(Form(OCTET_STREAM, one.is_multipart, one.transfer_syntax_uids))
    return _some(forms, OCTET_STREAM)


def choose_rendered(
    ranges: Iterable[MediaRange], offered: Sequence[str], defaults: Sequence[str]
) -> list[RenderedForm]:
    """Return the media types to try, the best first, and whether multipart was asked for; raise NotAcceptable for none.

    Of ``*/*`` these are the ``defaults`` that are offered, of ``image/*`` the first one that is offered.
    """
    forms: list[RenderedForm] = []
    for one in ranges:
        covered = [media_type for media_type in offered if one.covers(media_type)]
        if one.content == "*/*":
            covered = [media_type for media_type in covered if media_type in defaults]
        elif one.content.endswith("/*"):
            covered = covered[:1]
        forms += [(media_type, one.is_multipart) for media_type in covered]
    if not forms:
        raise NotAcceptable(f"This is rendered as {', '.join(offered)}, but as nothing that was asked for.")
    return list(dict.fromkeys(forms))


def first_acceptable(forms: Iterable[Wanted], give: Callable[[Wanted], T]) -> tuple[Wanted, T]:
    """Return the first form that something can be given in, and what was given; raise what the first one was refused.

    ``give`` raises NotAcceptable for a form that cannot be given.
    """
    refusal: NotAcceptable | None = None
    for form in forms:
        try:
            return form, give(form)
        except NotAcceptable as error:
            refusal = refusal or error
    raise refusal or NotAcceptable()


def content_type(media_type: str, transfer_syntax_uid: str) -> str:
    """Return a part's Content-Type, naming its transfer syntax."""
    return f"{media_type}; transfer-syntax={transfer_syntax_uid}" if transfer_syntax_uid else media_type


def frame_types() -> tuple[str, ...]:
    """Return what frames are given as, the default first: as parts of a multipart answer, or one alone."""
    contents = (OCTET_STREAM, *PIXEL_SYNTAXES)
    return (*(f'{MULTIPART}; type="{content}"' for content in contents), *contents)


def multipart_type(media_type: str, boundary: str) -> str:
    """Return the Content-Type of a multipart/related answer whose parts have this media type."""
    return f'{MULTIPART}; type="{media_type}"; boundary={boundary}'


def _pixel_form(one: MediaRange, *, is_multipart: bool) -> Form | None:
    asked = one.transfer_syntax_uids
    if one.content == "*/*":
        return Form("", is_multipart, asked)
    if one.covers(OCTET_STREAM):
        return Form(OCTET_STREAM, is_multipart, asked)
    # Of image/* and video/* every registered syntax will do, unless some are named.
    covered = [media_type for media_type in PIXEL_SYNTAXES if one.covers(media_type)]
    allowed = tuple(syntax for media_type in covered for syntax in _allowed(PIXEL_SYNTAXES[media_type], asked))
    if not allowed:
        return None
    return Form(covered[0] if len(covered) == 1 else "", is_multipart, allowed)


def _allowed(syntaxes: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    if not asked:
        return syntaxes[:1]
    if ANY_SYNTAX in asked:
        return syntaxes
    return tuple(syntax for syntax in asked if syntax in syntaxes)


def _some(forms: list[Form], supported: str) -> tuple[Form, ...]:
    if not forms:
        raise NotAcceptable(f"This resource is given as {supported}, among others, but in no form that was asked for.")
    return tuple(dict.fromkeys(forms))


def _unquote(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value
