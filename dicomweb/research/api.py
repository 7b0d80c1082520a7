"""The JSON of research, below ``/research/api``: the same services as its pages, for programs with a token.

Bodies are checked for their shape here and for their sense by the services. Whatever one may not know of is 404.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import check_uid
from dicomweb.capabilities import offers
from dicomweb.context import Context
from dicomweb.errors import RequestError
from dicomweb.media_types import JSON
from dicomweb.plain_json import MAX_ID, parse_id, parse_limit, parse_number, query_fields, read_json, respond
from dicomweb.plain_route import PlainRoute, undeclared
from dicomweb.research import described
from dicomweb.research.addresses import API, parse_version
from pacs.access import Principal
from pacs.errors import CohortNotFound, ExclusionNotFound, InvalidQuery, ReidentificationNotFound
from pacs.research import Research
from pacs.research.exclusions import Whom
from pacs.research.model import Approval, ProjectRole, QuarantineState
from pacs.research.projects import NewProject

_PROJECTS = f"{API}/projects"
_PROJECT = f"{_PROJECTS}/{{project}}"
_COHORT = f"{_PROJECT}/cohorts/{{cohort}}"
_RELEASE = f"{_PROJECT}/releases/{{version}}"
_MAX_PAGE = 500
_MAX_CHOSEN = 500

Body = Mapping[str, Any]
Act = Callable[..., Any]


class Verbs:
    """Adds operations to a router: each is a function of the principal, of a body if it takes one, and its address."""

    def __init__(self, context: Context) -> None:
        self.router = APIRouter(tags=["Research"], route_class=PlainRoute, default_response_class=Response)
        self._context = context

    def get(self, path: str, summary: str, name: str, act: Act, query: Iterable[str] = ()) -> None:
        """Add what reads; with ``query`` it is given the fields of the query string, too."""
        names = tuple(query)

        @undeclared
        def answer(request: Request, **given: str) -> Response:
            fields = (dict(_check_query(query_fields(request), names)),) if names else ()
            return respond(act(self._context.principal(request), *fields, **given))

        self._add(path, answer, _Said("GET", summary, name, 200, offers(JSON, query=names)))

    def post(self, path: str, summary: str, name: str, act: Act, *, status: int = 200) -> None:
        """Add what does something: it is given the body, an object, and its answer is JSON."""

        @undeclared
        async def answer(request: Request, **given: str) -> Response:
            body = await read_json(request)
            if not isinstance(body, dict):
                raise RequestError("The body must be an object.")
            said = await run_in_threadpool(partial(act, self._context.principal(request), body, **given))
            return respond(said, status)

        self._add(path, answer, _Said("POST", summary, name, status, offers(JSON, consumes=(JSON,))))

    def _add(self, path: str, answer: Act, said: "_Said") -> None:
        extra = said.extra | {"responses": {str(said.status): said.extra["responses"]["200"]}}
        extra["parameters"] = [*extra["parameters"], *_address_parameters(path)]
        self.router.add_api_route(
            path,
            answer,
            methods=[said.method],
            summary=said.summary,
            operation_id=said.name,
            openapi_extra=extra,
            status_code=said.status,
        )


@dataclass(frozen=True, slots=True)
class _Said:
    """What the OpenAPI document says of an operation."""

    method: str
    summary: str
    name: str
    status: int
    extra: dict[str, Any]


def build_router(context: Context, research: Research) -> APIRouter:
    """Return the operations of research."""
    verbs = Verbs(context)
    _add_projects(verbs, research)
    _add_people(verbs, research)
    _add_cohorts(verbs, research)
    _add_releases(verbs, research)
    return verbs.router


def _add_projects(verbs: Verbs, research: Research) -> None:
    projects = research.projects

    def create(principal: Principal, body: Body) -> Any:
        approval = _object(body, "approval")
        new = NewProject(
            slug=_text(body, "slug"),
            title=_text(body, "title"),
            purpose=_text(body, "purpose"),
            approval=Approval(_text(approval, "reference"), _text(approval, "authority"), _day(approval, "ends_on")),
            escrow_key=_text(body, "escrow_key", "").encode(),
        )
        return described.describe_project(projects.create(principal, new))

    verbs.get(
        _PROJECTS,
        "List the projects that one may know of",
        "list_research_projects",
        lambda principal: [described.describe_project(one) for one in projects.list_all(principal)],
    )
    verbs.post(_PROJECTS, "Create a project", "create_research_project", create, status=201)
    verbs.get(
        _PROJECT,
        "Describe a project",
        "get_research_project",
        lambda principal, project: described.describe_project(projects.get(principal, project)),
    )


def _add_people(verbs: Verbs, research: Research) -> None:
    projects, exclusions, reidentification = research.projects, research.exclusions, research.reidentification

    def add(principal: Principal, body: Body, project: str) -> Any:
        role = _choice(body, "role", ProjectRole)
        return described.describe_member(projects.add_member(principal, project, _text(body, "name"), role))

    def remove(principal: Principal, body: Body, project: str) -> Any:
        projects.remove_member(principal, project, _text(body, "name"))
        return {}

    def exclude(principal: Principal, body: Body, project: str) -> Any:
        whom = Whom(
            _text(body, "patient_id", ""),
            _text(body, "issuer_of_patient_id", ""),
            _text(body, "study_instance_uid", ""),
        )
        return {"scope": exclusions.exclude(principal, project, whom, reason=_text(body, "reason")).value}

    def lift(principal: Principal, body: Body, project: str, exclusion: str) -> Any:
        number = parse_id(exclusion, ExclusionNotFound)
        exclusions.lift(principal, project, number, reason=_text(body, "reason"))
        return {}

    def ask(principal: Principal, body: Body, project: str) -> Any:
        reason = _text(body, "reason")
        return described.describe_request(
            reidentification.ask(principal, project, _text(body, "pseudonym"), reason=reason)
        )

    def decide(grants: bool) -> Act:
        def act(principal: Principal, body: Body, project: str, number: str) -> Any:
            request, reason = parse_id(number, ReidentificationNotFound), _text(body, "reason")
            return described.describe_request(
                reidentification.decide(principal, project, request, grants=grants, reason=reason)
            )

        return act

    def hand_out(principal: Principal, body: Body, project: str, number: str) -> Any:
        del body
        request = parse_id(number, ReidentificationNotFound)
        return {"sealed": reidentification.hand_out(principal, project, request)}

    members, requests = f"{_PROJECT}/members", f"{_PROJECT}/reidentifications"
    verbs.get(
        members,
        "List the members of a project",
        "list_research_members",
        lambda principal, project: [
            described.describe_member(one) for one in projects.list_members(principal, project)
        ],
    )
    verbs.post(members, "Add a member, or give one another role", "add_research_member", add, status=201)
    verbs.post(f"{members}/remove", "Remove a member", "remove_research_member", remove)
    verbs.get(
        f"{_PROJECT}/exclusions",
        "List objections; whom they concern is in none",
        "list_research_exclusions",
        lambda principal, project: [
            described.describe_exclusion(one) for one in exclusions.list_all(principal, project)
        ],
    )
    verbs.post(
        f"{_PROJECT}/exclusions", "Leave a patient or a study out", "add_research_exclusion", exclude, status=201
    )
    verbs.post(f"{_PROJECT}/exclusions/{{exclusion}}/lift", "Take an objection back", "lift_research_exclusion", lift)
    verbs.get(
        requests,
        "List questions who somebody is",
        "list_reidentifications",
        lambda principal, project: [
            described.describe_request(one) for one in reidentification.list_all(principal, project)
        ],
    )
    verbs.post(requests, "Ask who a pseudonym is", "ask_reidentification", ask, status=201)
    one = f"{requests}/{{number}}"
    verbs.post(f"{one}/grant", "Grant what another one asked", "grant_reidentification", decide(grants=True))
    verbs.post(f"{one}/refuse", "Refuse what another one asked", "refuse_reidentification", decide(grants=False))
    verbs.post(f"{one}/hand-out", "Take the sealed identity", "hand_out_reidentification", hand_out)


def _add_cohorts(verbs: Verbs, research: Research) -> None:
    cohorts, counting = research.cohorts, research.counting

    def count(principal: Principal, body: Body, project: str) -> Any:
        return described.describe_answer(counting.count_by_facet(principal, project, _conditions(body)))

    def create(principal: Principal, body: Body, project: str) -> Any:
        conditions = _conditions(body)
        return described.describe_cohort(cohorts.create(principal, project, _text(body, "name"), conditions))

    def change(principal: Principal, body: Body, project: str, cohort: str) -> Any:
        return described.describe_cohort(cohorts.change(principal, project, _cohort(cohort), _conditions(body)))

    def request(principal: Principal, body: Body, project: str, cohort: str) -> Any:
        del body
        return described.describe_cohort(cohorts.request(principal, project, _cohort(cohort)))

    def approve(principal: Principal, body: Body, project: str, cohort: str) -> Any:
        remark = _text(body, "remark", "")
        return described.describe_cohort(cohorts.approve(principal, project, _cohort(cohort), remark))

    def refuse(principal: Principal, body: Body, project: str, cohort: str) -> Any:
        remark = _text(body, "remark")
        return described.describe_cohort(cohorts.refuse(principal, project, _cohort(cohort), remark))

    verbs.post(f"{_PROJECT}/counts", "Count what matches, and by what it is", "count_research", count)
    verbs.get(
        f"{_PROJECT}/cohorts",
        "List the cohorts of a project",
        "list_cohorts",
        lambda principal, project: [described.describe_cohort(one) for one in cohorts.list_all(principal, project)],
    )
    verbs.post(f"{_PROJECT}/cohorts", "Save a cohort", "create_cohort", create, status=201)
    verbs.get(
        _COHORT,
        "Describe a cohort",
        "get_cohort",
        lambda principal, project, cohort: described.describe_cohort(cohorts.get(principal, project, _cohort(cohort))),
    )
    verbs.post(f"{_COHORT}/change", "Give a draft other conditions", "change_cohort", change)
    verbs.post(f"{_COHORT}/request", "Ask a steward to approve a cohort", "request_cohort", request)
    verbs.post(f"{_COHORT}/approve", "Approve a cohort", "approve_cohort", approve)
    verbs.post(f"{_COHORT}/refuse", "Refuse a cohort", "refuse_cohort", refuse)


def _add_releases(verbs: Verbs, research: Research) -> None:
    releases = research.releases

    def start(principal: Principal, body: Body, project: str) -> Any:
        return described.describe_release(releases.start(principal, project, _number(body, "cohort")))

    def publish(principal: Principal, body: Body, project: str, version: str) -> Any:
        del body
        return described.describe_release(releases.publish(principal, project, parse_version(version)))

    def withdraw(principal: Principal, body: Body, project: str, version: str) -> Any:
        reason = _text(body, "reason")
        return described.describe_release(releases.withdraw(principal, project, parse_version(version), reason=reason))

    def abandon(principal: Principal, body: Body, project: str, version: str) -> Any:
        reason = _text(body, "reason")
        return described.describe_release(releases.abandon(principal, project, parse_version(version), reason=reason))

    def list_kept_back(principal: Principal, fields: Mapping[str, str], project: str, version: str) -> Any:
        after = parse_number("after", fields.get("after", "0"))
        limit = parse_limit(fields.get("limit", "100"), _MAX_PAGE)
        found = releases.list_quarantine(principal, project, parse_version(version), after=after, limit=limit)
        return [described.describe_quarantined(one) for one in found]

    def decide(principal: Principal, body: Body, project: str, version: str) -> Any:
        numbers, remark = _numbers(body, "ids"), _text(body, "remark", "")
        state = _choice(body, "decision", {"release": QuarantineState.RELEASED, "refuse": QuarantineState.REFUSED})
        number = parse_version(version)
        return described.describe_release(releases.decide(principal, project, number, numbers, state, remark=remark))

    verbs.get(
        f"{_PROJECT}/releases",
        "List the releases of a project",
        "list_releases",
        lambda principal, project: [described.describe_release(one) for one in releases.list_all(principal, project)],
    )
    verbs.post(f"{_PROJECT}/releases", "Begin a release of an approved cohort", "start_release", start, status=201)
    verbs.get(
        _RELEASE,
        "Describe a release, and how far it has come",
        "get_release",
        lambda principal, project, version: described.describe_release(
            releases.get(principal, project, parse_version(version))
        ),
    )
    verbs.post(f"{_RELEASE}/publish", "Publish a release", "publish_release", publish)
    verbs.post(f"{_RELEASE}/withdraw", "Withdraw a published release", "withdraw_release", withdraw)
    verbs.post(f"{_RELEASE}/abandon", "Give up a release that is not published", "abandon_release", abandon)
    verbs.get(
        f"{_RELEASE}/quarantine",
        "List what was kept back, and why",
        "list_quarantine",
        list_kept_back,
        query=("after", "limit"),
    )
    verbs.post(f"{_RELEASE}/quarantine", "Release or refuse what was kept back", "decide_quarantine", decide)
    verbs.get(
        f"{_RELEASE}/reports/{{instance}}",
        "What was done to an object, by which rule",
        "get_deidentification_report",
        lambda principal, project, version, instance: releases.read_report(
            principal, project, parse_version(version), check_uid(instance)
        ),
    )


def _address_parameters(path: str) -> list[dict[str, Any]]:
    names = [step[1:-1] for step in path.split("/") if step.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _check_query(fields: list[tuple[str, str]], names: tuple[str, ...]) -> list[tuple[str, str]]:
    if any(name not in names for name, _ in fields):
        raise InvalidQuery(f"The parameters are {' and '.join(names)}.")
    return fields


def _cohort(text: str) -> int:
    return parse_id(text, CohortNotFound)


def _text(body: Body, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise RequestError(f"{name} must be a text.")
    return value


def _object(body: Body, name: str) -> Body:
    value = body.get(name)
    if not isinstance(value, dict):
        raise RequestError(f"{name} must be an object.")
    return value


def _conditions(body: Body) -> dict[str, str]:
    given = body.get("conditions", {})
    if not isinstance(given, dict):
        raise RequestError("conditions must be an object of texts.")
    return {name: _text(given, name) for name in given}


def _day(body: Body, name: str) -> date:
    try:
        return date.fromisoformat(_text(body, name))
    except ValueError:
        raise RequestError(f"{name} must be a date.") from None


def _choice(body: Body, name: str, choices: Any) -> Any:
    """Return the value that a word stands for: of an enumeration, or of a mapping."""
    known = choices if isinstance(choices, dict) else {one.value: one for one in choices}
    word = body.get(name)
    if not isinstance(word, str) or word not in known:
        raise RequestError(f"{name} must be one of {', '.join(known)}.")
    return known[word]


def _number(body: Body, name: str) -> int:
    return _numbers({name: [body.get(name)]}, name)[0]


def _numbers(body: Body, name: str) -> list[int]:
    values = body.get(name)
    if not isinstance(values, list) or not 0 < len(values) <= _MAX_CHOSEN or not all(map(_is_id, values)):
        raise RequestError(f"{name} must be a number that something has.")
    return values


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID
