"""How anonymous a release is, as a page: for a steward before he publishes, and for whoever works with it."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.plain_route import PlainRoute
from dicomweb.research.addresses import ROOT, address_of_release, parse_version
from dicomweb.research.desk import Desk
from pacs.research.exports.anonymity import LEVELS, AnonymityReport

SHOWN = 50
"""Small groups that the page shows; the report to download has more of them."""

LABELS = {
    "PatientAge": "Age",
    "PatientSex": "Sex",
    "Modality": "Modality",
    "BodyPartExamined": "Body part",
    "patients": "Patients",
    **{level.name: level.name.capitalize() for level in LEVELS},
}
"""What the page calls what the report knows by other names."""


def build_router(desk: Desk) -> APIRouter:
    """Return the page."""
    router = APIRouter(include_in_schema=False, route_class=PlainRoute, default_response_class=Response)
    research = desk.research

    def show(request: Request, project: str, version: str) -> Response:
        principal, number = desk.principal(request), parse_version(version)
        report = research.exports.anonymity_report(principal, project, number)
        return desk.render(
            request,
            "anonymity",
            project=research.projects.get(principal, project),
            version=number,
            base=address_of_release(project, number),
            labels=LABELS,
            **_describe(report),
        )

    router.add_api_route(f"{ROOT}/{{project}}/releases/{{version}}/anonymity", desk.page(show), methods=["GET"])
    return router


def _describe(report: AnonymityReport) -> dict[str, Any]:
    return {
        "report": report,
        "columns": list(report.small_classes[0]) if report.small_classes else [],
        "groups": report.small_classes[:SHOWN],
        "left": max(0, report.small_classes_in_all - SHOWN),
    }
