"""Research over HTTP: its pages, its JSON, what is taken from releases, and each release as DICOMweb."""

from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from dicomweb.context import Context
from dicomweb.release_mount import Read, Readable, ReleaseMount, Source
from dicomweb.research import (
    anonymity_pages,
    api,
    cohort_pages,
    downloads,
    preview,
    project_pages,
    release_pages,
    view,
)
from dicomweb.research.addresses import ROOT
from dicomweb.research.desk import Desk
from pacs.access import Principal
from pacs.research import Research

__all__ = ["build_routers", "build_routes"]


def build_routers(context: Context, research: Research) -> list[APIRouter]:
    """Return what is described in the OpenAPI document, and the pages."""
    desk = Desk(context, research)
    return [
        api.build_router(context, research),
        downloads.build_router(context, research),
        *(pages.build_router(desk) for pages in (project_pages, cohort_pages, release_pages, anonymity_pages, preview)),
    ]


def build_routes(context: Context, research: Research, viewer_directory: Path | None) -> list[BaseRoute]:
    """Return the releases as DICOMweb, the viewer over each, and an end for every other address of research."""

    def find(principal: Principal, project: str, version: int | None) -> Readable | None:
        release = research.releases.find_readable(principal, project, version)
        if release is None:
            return None
        return Readable(release.id, project, release.version, lambda: research.releases.open(release))

    def record(read: Read) -> None:
        facts: dict[str, object] = {"version": read.release.version}
        kind, subject = ("release.read", read.study_instance_uid) if read.study_instance_uid else ("release.search", "")
        facts |= {"by": list(read.by)} if read.by else {}
        research.reads.record(read.principal, read.release.project, kind, subject, **facts)

    return [
        *ReleaseMount(context, Source(find, record)).routes(),
        *view.build_routes(context, find, viewer_directory),
        Route(f"{ROOT}/{{rest:path}}", _Nothing(), include_in_schema=False),
    ]


class _Nothing:
    """Answers whatever nothing else answers below research, so that the viewer never does.

    An address with a slash at its end is sent to the one without, whatever is there.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        if path == scope["path"]:
            raise HTTPException(404)
        await RedirectResponse(quote(path), 308)(scope, receive, send)
