"""What a steward looks at before he decides: the object that was kept back, as it came, on record and for nobody else.

This is the one place of research that shows something clinical: whether it tells who somebody is can only be seen.
"""

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.pages import HEADERS
from dicomweb.plain_json import parse_id
from dicomweb.plain_route import PlainRoute
from dicomweb.research.addresses import ROOT, parse_version
from dicomweb.research.desk import Desk
from pacs.access import LOCAL
from pacs.errors import QuarantinedNotFound
from pacs.model import Level
from pacs.query import Equals, Query
from pacs.retrieve import THUMBNAIL, Viewport

_LOOK = replace(THUMBNAIL, viewport=Viewport(768, 768), quality=85)


def build_router(desk: Desk) -> APIRouter:
    """Return the picture of an object in quarantine."""
    router = APIRouter(include_in_schema=False, route_class=PlainRoute, default_response_class=Response)
    archive, releases = desk.context.archive, desk.research.releases

    @router.get(f"{ROOT}/{{project}}/releases/{{version}}/quarantine/{{number}}/preview")
    @desk.context.rendering.answer
    def preview(request: Request, project: str, version: str, number: str) -> Response:
        principal, item = desk.principal(request), parse_id(number, QuarantinedNotFound)
        uid = releases.find_clinical(principal, project, parse_version(version), item)
        # On behalf of the archive: a steward sees this one object, and need not be one who sees patients.
        page = archive.search.search(LOCAL, Query(Level.INSTANCE, (Equals("SOPInstanceUID", uid),), limit=1))
        if not page.matches:
            raise QuarantinedNotFound
        match = page.matches[0]
        records = archive.retrieve.find_instances(LOCAL, match.study_instance_uid, match.series_instance_uid, uid)
        _, picture = archive.render.render_thumbnail(LOCAL, records, _LOOK)
        return Response(picture, headers=HEADERS | {"Content-Type": _LOOK.media_type})

    return router
