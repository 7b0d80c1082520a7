"""Pages of cohorts: described, counted, kept, asked for, decided on, released."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.errors import status_of
from dicomweb.plain_json import parse_id
from dicomweb.plain_route import PlainRoute
from dicomweb.research import builder, charts
from dicomweb.research.addresses import ROOT
from dicomweb.research.desk import NOTHING, Desk, Form, Said
from dicomweb.research.project_pages import is_over
from pacs.access import Principal, Role
from pacs.errors import CohortNotFound, InvalidQuery, NotNow
from pacs.research.model import Cohort, CohortState, ProjectRole

_STEPS = ("Described", "Requested", "Approved", "Released")


def build_router(desk: Desk) -> APIRouter:
    """Return the pages of cohorts."""
    router = APIRouter(include_in_schema=False, route_class=PlainRoute, default_response_class=Response)
    _add_builder(router, desk)
    _add_cohort(router, desk)
    return router


def _add_builder(router: APIRouter, desk: Desk) -> None:
    research = desk.research
    address = f"{ROOT}/{{project}}/cohorts"

    def show(request: Request, project: str, said: Said = NOTHING) -> Response:
        principal, problem, status = desk.principal(request), said.problem, said.status
        given = builder.read_conditions(said.form or dict(request.query_params))
        found = research.projects.get(principal, project)
        values: dict[str, Any] = {"counts": None, "charts": []}
        if said.form or "count" in request.query_params:
            try:
                values = _count(desk, principal, project, given)
            except (InvalidQuery, NotNow) as error:
                problem, status = problem or str(error), status_of(error)
        values |= {"project": found, "fields": builder.fill(given), "given": list(given.items()), "problem": problem}
        return desk.render(request, "cohort_new", status=status, **values)

    router.add_api_route(f"{address}/new", desk.page(show), methods=["GET"])

    def save(request: Request, form: Form, project: str) -> str:
        conditions = builder.read_conditions(form)
        cohort = research.cohorts.create(desk.principal(request), project, form.get("name", ""), conditions)
        return f"{ROOT}/{project}/cohorts/{cohort.id}"

    router.add_api_route(address, desk.form(save, show), methods=["POST"])


def _add_cohort(router: APIRouter, desk: Desk) -> None:
    research = desk.research
    address = f"{ROOT}/{{project}}/cohorts/{{number}}"

    def show(request: Request, project: str, number: str, said: Said = NOTHING) -> Response:
        principal = desk.principal(request)
        cohort = research.cohorts.get(principal, project, parse_number(number))
        return desk.render(
            request,
            "cohort",
            status=said.status,
            problem=said.problem,
            cohort=cohort,
            conditions=builder.describe(cohort.conditions),
            **_read_cohort(desk, principal, project, cohort),
        )

    router.add_api_route(address, desk.page(show), methods=["GET"])

    def ask(request: Request, form: Form, project: str, number: str) -> str:
        del form
        cohort = research.cohorts.request(desk.principal(request), project, parse_number(number))
        return address_of(project, cohort)

    def decide(request: Request, form: Form, project: str, number: str) -> str:
        principal, remark = desk.principal(request), form.get("remark", "")
        decide = research.cohorts.approve if form.get("decision") == "approve" else research.cohorts.refuse
        return address_of(project, decide(principal, project, parse_number(number), remark))

    def release(request: Request, form: Form, project: str, number: str) -> str:
        del form
        made = research.releases.start(desk.principal(request), project, parse_number(number))
        return f"{ROOT}/{project}/releases/{made.version}"

    for path, act in (("request", ask), ("decide", decide), ("release", release)):
        router.add_api_route(f"{address}/{path}", desk.form(act, show), methods=["POST"])


def parse_number(text: str) -> int:
    """Return the number of a cohort in an address; raise CohortNotFound if it is none."""
    return parse_id(text, CohortNotFound)


def _count(desk: Desk, principal: Principal, slug: str, conditions: Mapping[str, str]) -> dict[str, Any]:
    answer = desk.research.counting.count_by_facet(principal, slug, conditions)
    return {"counts": answer.counts, "charts": charts.draw(answer.facets)}


def _read_cohort(desk: Desk, principal: Principal, slug: str, cohort: Cohort) -> dict[str, Any]:
    project = desk.research.projects.get(principal, slug)
    role = desk.research.projects.role_of(principal, slug)
    goes_on = not is_over(project)
    decides = goes_on and role is ProjectRole.STEWARD and principal.is_any(Role.STEWARD)
    is_own = cohort.requested_by == principal.name
    waits = cohort.state is CohortState.REQUESTED
    values: dict[str, Any] = {"counts": None, "charts": [], "uncounted": ""}
    if goes_on:
        try:
            values |= _count(desk, principal, slug, cohort.conditions)
        except NotNow as error:
            values["uncounted"] = str(error)
    released = any(one.cohort_id == cohort.id for one in desk.research.releases.list_all(principal, slug))
    return values | {
        "project": project,
        "steps": _steps(cohort, is_released=released),
        "can": {
            "request": goes_on and cohort.state is CohortState.DRAFT,
            "decide": decides and waits and not is_own,
            "release": decides and cohort.state is CohortState.APPROVED,
        },
        "waits_for_another": decides and waits and is_own,
    }


def _steps(cohort: Cohort, *, is_released: bool) -> list[tuple[str, str]]:
    """Return the steps of a cohort, and which of them is done or is now."""
    done = {CohortState.DRAFT: 1, CohortState.REFUSED: 1, CohortState.REQUESTED: 2, CohortState.APPROVED: 3}[
        cohort.state
    ]
    done = len(_STEPS) if is_released and done == 3 else done
    return [(label, "done" if place < done else "now" if place == done else "") for place, label in enumerate(_STEPS)]


def address_of(slug: str, cohort: Cohort) -> str:
    """Return the address of a cohort's page."""
    return f"{ROOT}/{slug}/cohorts/{cohort.id}"
