"""Pages of projects: the list, one of them with its members, and making one."""

from datetime import UTC, date, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.plain_json import parse_id
from dicomweb.plain_route import PlainRoute
from dicomweb.research.addresses import ROOT
from dicomweb.research.desk import NOTHING, Desk, Form, Said
from pacs.access import Role
from pacs.deid import Option
from pacs.errors import InvalidProject, NotPermitted, ReidentificationNotFound
from pacs.research.exclusions import Whom
from pacs.research.model import Approval, Project, ProjectRole, ReleaseState
from pacs.research.projects import NewProject

_FIELDS = ("title", "slug", "purpose", "authority", "reference", "ends_on", "escrow_key")


def build_router(desk: Desk) -> APIRouter:
    """Return the pages of projects."""
    router = APIRouter(include_in_schema=False, route_class=PlainRoute, default_response_class=Response)
    _add_projects(router, desk)
    _add_project(router, desk)
    return router


def is_over(project: Project) -> bool:
    """Whether nothing new may be asked for or released in a project."""
    return project.key_destroyed_at is not None or project.approval.ends_on < datetime.now(UTC).date()


def _add_projects(router: APIRouter, desk: Desk) -> None:
    projects = desk.research.projects

    def list_projects(request: Request) -> Response:
        principal = desk.principal(request)
        return desk.render(
            request,
            "projects",
            projects=projects.list_all(principal),
            is_over=is_over,
            may_create=principal.is_any(Role.ADMINISTRATOR),
        )

    router.add_api_route(ROOT, desk.page(list_projects), methods=["GET"])

    def show_form(request: Request, said: Said = NOTHING) -> Response:
        if not desk.principal(request).is_any(Role.ADMINISTRATOR):
            raise NotPermitted
        given = {name: said.form.get(name, "") for name in _FIELDS}
        return desk.render(request, "new", given=given, problem=said.problem, status=said.status)

    router.add_api_route(f"{ROOT}/new", desk.page(show_form), methods=["GET"])

    def create(request: Request, form: Form) -> str:
        project = projects.create(desk.principal(request), parse_project(form))
        return f"{ROOT}/{project.slug}"

    router.add_api_route(f"{ROOT}/new", desk.form(create, show_form), methods=["POST"])


def _add_project(router: APIRouter, desk: Desk) -> None:
    research = desk.research
    address = f"{ROOT}/{{project}}"

    def show_project(request: Request, project: str, number: str = "", said: Said = NOTHING) -> Response:
        del number
        values = _read_project(desk, request, project)
        return desk.render(request, "project", status=said.status, problem=said.problem, **values)

    router.add_api_route(address, desk.page(show_project), methods=["GET"])

    def add_member(request: Request, form: Form, project: str) -> str:
        role = ProjectRole.STEWARD if form.get("role") == ProjectRole.STEWARD else ProjectRole.RESEARCHER
        research.projects.add_member(desk.principal(request), project, form.get("name", ""), role)
        return f"{ROOT}/{project}"

    def remove_member(request: Request, form: Form, project: str) -> str:
        research.projects.remove_member(desk.principal(request), project, form.get("name", ""))
        return f"{ROOT}/{project}"

    def ask(request: Request, form: Form, project: str) -> str:
        principal, pseudonym = desk.principal(request), form.get("pseudonym", "").strip()
        research.reidentification.ask(principal, project, pseudonym, reason=form.get("reason", ""))
        return f"{ROOT}/{project}#reidentification"

    def decide(request: Request, form: Form, project: str, number: str) -> str:
        request_id = parse_id(number, ReidentificationNotFound)
        grants, remark = form.get("decision") == "grant", form.get("remark", "")
        research.reidentification.decide(desk.principal(request), project, request_id, grants=grants, reason=remark)
        return f"{ROOT}/{project}#reidentification"

    def exclude(request: Request, form: Form, project: str) -> str:
        kind, identifier = form.get("kind", ""), form.get("identifier", "").strip()
        whom = Whom(study_instance_uid=identifier) if kind == "study" else Whom(patient_id=identifier)
        research.exclusions.exclude(desk.principal(request), project, whom, reason=form.get("reason", ""))
        return f"{ROOT}/{project}#objections"

    for path, act in (
        ("members", add_member),
        ("exclusions", exclude),
        ("members/remove", remove_member),
        ("reidentifications", ask),
        ("reidentifications/{number}", decide),
    ):
        router.add_api_route(f"{address}/{path}", desk.form(act, show_project), methods=["POST"])


def _read_project(desk: Desk, request: Request, slug: str) -> dict[str, Any]:
    research, principal = desk.research, desk.principal(request)
    project = research.projects.get(principal, slug)
    role = research.projects.role_of(principal, slug)
    releases = research.releases.list_all(principal, slug)
    decides = role is ProjectRole.STEWARD and principal.is_any(Role.STEWARD)
    may_exclude = decides or principal.is_any(Role.ADMINISTRATOR)
    return {
        "project": project,
        "is_over": is_over(project),
        "role": role and role.value,
        "works": role is not None,
        "decides": may_exclude,
        "manages": principal.is_any(Role.ADMINISTRATOR),
        "members": research.projects.list_members(principal, slug),
        "cohorts": research.cohorts.list_all(principal, slug) if role is not None else [],
        "releases": releases,
        "newest": next((one for one in releases if one.state is ReleaseState.PUBLISHED), None),
        "options": [option.meaning for option in Option if option in project.profile.options],
        "reidentifications": research.reidentification.list_all(principal, slug),
        "exclusions": research.exclusions.list_all(principal, slug) if may_exclude else None,
    }


def parse_project(form: Form) -> NewProject:
    """Return the project that a form describes; raise InvalidProject for a date that is none."""
    try:
        ends_on = date.fromisoformat(form.get("ends_on", ""))
    except ValueError:
        raise InvalidProject("The last day of the approval must be a date.") from None
    return NewProject(
        slug=form.get("slug", "").strip(),
        title=form.get("title", ""),
        purpose=form.get("purpose", ""),
        approval=Approval(form.get("reference", ""), form.get("authority", ""), ends_on),
        escrow_key=form.get("escrow_key", "").strip().encode(),
    )
