"""DELETE of a study, a series or an instance, as other archives do it; PS3.18 has no such transaction.

What is deleted is hidden from everybody, and can be restored (``/withheld``) until it is swept.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import INSTANCE, SERIES, STUDY, check_uid
from dicomweb.context import Context
from pacs.errors import InstanceNotFound, SeriesNotFound, StudyNotFound


def build_router(context: Context) -> APIRouter:
    """Return the three resources; 204 once it is durable that nobody sees what was there."""
    router = APIRouter(prefix=context.root, tags=["Delete"])
    withholder = context.archive.withhold

    def delete(request: Request, *uids: str) -> Response:
        checked = [check_uid(uid) for uid in uids]
        if not withholder.withhold(context.principal(request), *checked):
            raise (StudyNotFound, SeriesNotFound, InstanceNotFound)[len(uids) - 1]
        return Response(status_code=204)

    @router.delete(STUDY, summary="Delete a study", operation_id="delete_study", status_code=204)
    def delete_study(request: Request, study: str) -> Response:
        return delete(request, study)

    @router.delete(SERIES, summary="Delete a series", operation_id="delete_series", status_code=204)
    def delete_series(request: Request, study: str, series: str) -> Response:
        return delete(request, study, series)

    @router.delete(INSTANCE, summary="Delete an instance", operation_id="delete_instance", status_code=204)
    def delete_instance(request: Request, study: str, series: str, instance: str) -> Response:
        return delete(request, study, series, instance)

    return router
