"""Pages of releases: how far one has come, what it holds, and what a steward decides of what was kept back."""

from typing import Any

from fastapi import APIRouter
from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.errors import RequestError
from dicomweb.plain_json import parse_id, query_fields
from dicomweb.plain_route import PlainRoute
from dicomweb.research.addresses import ROOT, address_of_release, parse_version
from dicomweb.research.desk import NOTHING, Desk, Form, Said
from dicomweb.research.downloads import list_downloads
from pacs.access import Principal, Role
from pacs.errors import QuarantinedNotFound
from pacs.model import Attributes, Level
from pacs.query import Query
from pacs.research.model import ProjectRole, Quarantined, QuarantineState, Release, ReleaseState
from pacs.research.releases.kept_back import is_releasable, sentence_of
from pacs.tags import text_of, values_of

STUDIES = 24
OBJECTS = 20
_UNFINISHED = (ReleaseState.BUILDING, ReleaseState.QUARANTINE)


def build_router(desk: Desk) -> APIRouter:
    """Return the pages of releases and of what is in quarantine."""
    router = APIRouter(include_in_schema=False, route_class=PlainRoute, default_response_class=Response)
    _add_release(router, desk)
    _add_quarantine(router, desk)
    return router


def _add_release(router: APIRouter, desk: Desk) -> None:
    releases = desk.research.releases
    address = f"{ROOT}/{{project}}/releases/{{version}}"

    def show(request: Request, project: str, version: str, said: Said = NOTHING) -> Response:
        principal = desk.principal(request)
        release = releases.get(principal, project, parse_version(version))
        values = _read_release(desk, principal, project, release, _offset_of(request))
        return desk.render(request, "release", status=said.status, problem=said.problem, **values)

    router.add_api_route(address, desk.page(show), methods=["GET"])

    def publish(request: Request, form: Form, project: str, version: str) -> str:
        del form
        release = releases.publish(desk.principal(request), project, parse_version(version))
        return address_of_release(project, release.version)

    def withdraw(request: Request, form: Form, project: str, version: str) -> str:
        number, reason = parse_version(version), form.get("reason", "")
        release = releases.withdraw(desk.principal(request), project, number, reason=reason)
        return address_of_release(project, release.version)

    def abandon(request: Request, form: Form, project: str, version: str) -> str:
        number, reason = parse_version(version), form.get("reason", "")
        release = releases.abandon(desk.principal(request), project, number, reason=reason)
        return address_of_release(project, release.version)

    for path, act in (("publish", publish), ("withdraw", withdraw), ("abandon", abandon)):
        router.add_api_route(f"{address}/{path}", desk.form(act, show), methods=["POST"])


def _read_release(desk: Desk, principal: Principal, slug: str, release: Release, offset: int) -> dict[str, Any]:
    research = desk.research
    role = research.projects.role_of(principal, slug)
    decides = role is ProjectRole.STEWARD and principal.is_any(Role.STEWARD)
    is_unfinished, is_published = release.state in _UNFINISHED, release.state is ReleaseState.PUBLISHED
    is_ready = release.state is ReleaseState.QUARANTINE and not release.pending
    studies, has_more = None, False
    if is_published and role is not None:
        studies, has_more = _list_studies(desk, principal, release, offset)
    return {
        "project": research.projects.get(principal, slug),
        "release": release,
        "base": address_of_release(slug, release.version),
        "reviews": decides and is_unfinished and bool(release.pending),
        "can": {
            "publish": decides and is_ready,
            "withdraw": is_published and (decides or principal.is_any(Role.ADMINISTRATOR)),
            "abandon": is_unfinished and (decides or principal.is_any(Role.ADMINISTRATOR)),
        },
        "downloads": list_downloads(slug, release) if is_published and role is not None else [],
        "studies": studies,
        "more": f"after={offset + STUDIES}" if has_more else "",
    }


def _list_studies(desk: Desk, principal: Principal, release: Release, offset: int) -> tuple[list[dict[str, str]], bool]:
    """Return some studies of a release as its page shows them, and whether there are more."""
    reading = desk.research.releases.open(release)
    page = reading.search.search(principal, Query(Level.STUDY, limit=STUDIES, offset=offset))
    return [_describe_study(match.study_instance_uid, match.attributes) for match in page.matches], page.has_more


def _describe_study(uid: str, attributes: Attributes) -> dict[str, str]:
    date = text_of(attributes, "StudyDate")
    return {
        "uid": uid,
        "modalities": ", ".join(str(value) for value in values_of(attributes, "ModalitiesInStudy")),
        "description": text_of(attributes, "StudyDescription"),
        "patient": text_of(attributes, "PatientID"),
        "date": f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else "",
    }


def _add_quarantine(router: APIRouter, desk: Desk) -> None:
    releases = desk.research.releases
    address = f"{ROOT}/{{project}}/releases/{{version}}/quarantine"

    def show(request: Request, project: str, version: str, number: str = "", said: Said = NOTHING) -> Response:
        del number
        principal, wanted, after = desk.principal(request), parse_version(version), _offset_of(request)
        items = releases.list_quarantine(principal, project, wanted, after=after, limit=OBJECTS + 1)
        base = address_of_release(project, wanted)
        return desk.render(
            request,
            "quarantine",
            status=said.status,
            problem=said.problem,
            project=desk.research.projects.get(principal, project),
            release=releases.get(principal, project, wanted),
            base=base,
            items=[_describe(one, base) for one in items[:OBJECTS]],
            more=f"after={items[OBJECTS - 1].id}" if len(items) > OBJECTS else "",
        )

    router.add_api_route(address, desk.page(show), methods=["GET"])

    def decide(request: Request, form: Form, project: str, version: str, number: str) -> str:
        states = {"release": QuarantineState.RELEASED, "refuse": QuarantineState.REFUSED}
        state = states.get(form.get("decision", ""))
        if state is None:
            raise RequestError("An object is released or refused.")
        chosen, remark = [parse_id(number, QuarantinedNotFound)], form.get("remark", "")
        releases.decide(desk.principal(request), project, parse_version(version), chosen, state, remark=remark)
        return f"{address_of_release(project, parse_version(version))}/quarantine"

    router.add_api_route(f"{address}/{{number}}", desk.form(decide, show), methods=["POST"])


def _describe(one: Quarantined, base: str) -> dict[str, Any]:
    """Return what a steward is shown of an object that was kept back."""
    waits = one.state is QuarantineState.PENDING
    return {
        "id": one.id,
        "state": one.state,
        "modality": one.modality,
        "sop_class": UID(one.sop_class_uid).name,
        "reasons": [sentence_of(reason) for reason in one.reasons],
        "is_releasable": all(is_releasable(reason) for reason in one.reasons),
        "preview": f"{base}/quarantine/{one.id}/preview" if waits else "",
        "decided_by": one.decided_by,
        "decided_at": one.decided_at,
        "remark": one.remark,
    }


def _offset_of(request: Request) -> int:
    """Return where a page of a list begins: at its beginning for whatever is no number."""
    text = dict(query_fields(request)).get("after", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
