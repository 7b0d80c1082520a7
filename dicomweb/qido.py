"""QIDO-RS, the Search transaction (PS3.18 10.6)."""

from collections.abc import Iterable
from functools import lru_cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb import data_sets, dicom_json, multipart
from dicomweb.addresses import SERIES, STUDY, check_uid, path_to
from dicomweb.capabilities import offers
from dicomweb.context import ReadingContext, accepted
from dicomweb.media_types import MODEL_TYPES, choose_model
from dicomweb.params import PARAMETERS, parse_fields, parse_search
from dicomweb.plain_route import PlainRoute
from dicomweb.sending import warning
from pacs.model import Level
from pacs.query import Equals
from pacs.search import Match
from pacs.tags import ATTRIBUTES, DERIVED, keyword_of, tag_of, vr_of

_MORE_WARNING = "There are additional results that can be requested."
_CUT_WARNING = "Too many names sound alike: those of older studies have been matched literally only."

# PS3.18 Tables 10.6.3-3 to 10.6.3-5, condition "shall be present if known"; what else is returned unasked is
# there even without a value. ModalitiesInStudy is not of that condition, but made here, of a Modality that is Type 1:
# where no object has one there is nothing to make it of, and OHIF opens no study in which it is there without a value.
_CONDITIONAL = frozenset(
    tag_of(keyword)
    for keyword in (
        "SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyDescription", "SeriesDescription",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence",
        "Rows", "Columns", "BitsAllocated", "NumberOfFrames", "ModalitiesInStudy",
    )
)  # fmt: skip
# What all three of the tables list: how the text was encoded, and which zone dates and times are in.
_AT_EVERY_LEVEL = frozenset({tag_of("SpecificCharacterSet"), tag_of("TimezoneOffsetFromUTC")})
_ADDED_HERE = frozenset({tag_of("RetrieveURL"), tag_of("InstanceAvailability")})
_KEYS = {
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    Level.INSTANCE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
_SELECTIONS = 64
_ORDER = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)


def build_router(context: ReadingContext) -> APIRouter:
    """Return the six search resources of PS3.18 Table 10.6.1-1."""
    router = APIRouter(prefix=context.root, tags=["QIDO-RS"], default_response_class=Response, route_class=PlainRoute)
    offered = offers(*MODEL_TYPES, query=PARAMETERS)

    def answer(request: Request, level: Level, returned_from: Level, **uids: str) -> Response:
        media_type = choose_model(accepted(request))
        address = [Equals(keyword, check_uid(uid)) for keyword, uid in uids.items()]
        search = parse_search(level, address, parse_fields(request.scope["query_string"].decode("latin-1")))
        selection = _selection_of(search.query.level, returned_from, search.included_tags, search.includes_all)
        page = context.archive.search.search(
            context.principal(request), search.query, with_header=selection.needs_header
        )
        warnings = [*search.warnings, *([_MORE_WARNING] if page.has_more else [])]
        warnings += [_CUT_WARNING] if page.is_cut else []
        boundary = multipart.derive_boundary(context.boundary_key, ("matches", str(request.url)))
        response = _build_response(page.matches, selection, context.base_url(request), media_type, boundary)
        for text in warnings:
            response.headers.append("Warning", warning(request, text))
        return response

    @router.get("/studies", summary="Search for studies", operation_id="search_for_studies", openapi_extra=offered)
    def search_for_studies(request: Request) -> Response:
        return answer(request, Level.STUDY, Level.PATIENT)

    @router.get("/series", summary="Search for series", operation_id="search_for_series", openapi_extra=offered)
    def search_for_series(request: Request) -> Response:
        return answer(request, Level.SERIES, Level.PATIENT)

    @router.get(
        "/instances", summary="Search for instances", operation_id="search_for_instances", openapi_extra=offered
    )
    def search_for_instances(request: Request) -> Response:
        return answer(request, Level.INSTANCE, Level.PATIENT)

    @router.get(
        f"{STUDY}/series",
        summary="Search a study's series",
        operation_id="search_for_study_series",
        openapi_extra=offered,
    )
    def search_for_study_series(request: Request, study: str) -> Response:
        return answer(request, Level.SERIES, Level.SERIES, StudyInstanceUID=study)

    @router.get(
        f"{STUDY}/instances",
        summary="Search a study's instances",
        operation_id="search_for_study_instances",
        openapi_extra=offered,
    )
    def search_for_study_instances(request: Request, study: str) -> Response:
        return answer(request, Level.INSTANCE, Level.SERIES, StudyInstanceUID=study)

    @router.get(
        f"{SERIES}/instances",
        summary="Search a series' instances",
        operation_id="search_for_series_instances",
        openapi_extra=offered,
    )
    def search_for_series_instances(request: Request, study: str, series: str) -> Response:
        return answer(request, Level.INSTANCE, Level.INSTANCE, StudyInstanceUID=study, SeriesInstanceUID=series)

    return router


class _Selection:
    """Which attributes of a match are returned: decided once for all searches that ask for the same."""

    def __init__(
        self, level: Level, returned_from: Level, included_tags: frozenset[str], *, includes_all: bool
    ) -> None:
        levels = _ORDER[: _ORDER.index(level) + 1]
        own = levels[levels.index(returned_from) :]
        known = [one for one in (*ATTRIBUTES, *DERIVED) if one.level in levels and not one.sequence]
        # A series or instance is of no use without the keys of what holds it.
        default = {one.tag for one in known if one.returned_by_default and one.level in own}
        default.update(tag_of(keyword) for keyword in _KEYS[level])
        default |= _AT_EVERY_LEVEL
        asked = {one.tag for one in known} & included_tags
        self.level = level
        # What the index does not keep for searches is still in the header, of instances only.
        is_indexed = included_tags <= {tag_of(one.keyword) for one in (*ATTRIBUTES, *DERIVED)}
        self.needs_header = level is Level.INSTANCE and (includes_all or not is_indexed)
        self._includes_all = includes_all
        self._tags = sorted((default | included_tags) - _ADDED_HERE)
        self._always = ((default - _CONDITIONAL) | asked) - _ADDED_HERE

    def apply(self, match: Match, base: str) -> bytes:
        """Return the answer for one match, as JSON."""
        source = match.attributes
        chosen = dict(source) if self._includes_all else {tag: source[tag] for tag in self._tags if tag in source}
        for tag in self._always:
            if tag not in chosen:
                chosen[tag] = {"vr": vr_of(keyword_of(tag))}
        address = base + _path_of(match, self.level)
        chosen.update(dicom_json.element("InstanceAvailability", "ONLINE"))
        chosen.update(dicom_json.element("RetrieveURL", address))
        return dicom_json.with_bulk_base(dicom_json.encode(dicom_json.item(chosen)), f"{address}/bulkdata/")


@lru_cache(_SELECTIONS)
def _selection_of(level: Level, returned_from: Level, included_tags: frozenset[str], includes_all: bool) -> _Selection:
    return _Selection(level, returned_from, included_tags, includes_all=includes_all)


def _path_of(match: Match, level: Level) -> str:
    uids = (match.study_instance_uid, match.series_instance_uid, match.sop_instance_uid)
    return path_to(*uids[: _ORDER.index(level)])


def _build_response(
    matches: Iterable[Match], selection: _Selection, base: str, media_type: str, boundary: str
) -> Response:
    answers = [selection.apply(match, base) for match in matches]
    if not answers:
        return Response(status_code=204)
    content_type, chunks = data_sets.write(answers, media_type, boundary)
    return Response(b"".join(chunks), 200, {"Cache-Control": "no-store", "Content-Type": content_type})
