"""The viewer over one release: its own pages below the release's address, with that release as the only source."""

import re
from collections.abc import Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomweb.context import Context
from dicomweb.release_mount import PREFIX, Readable, version_of
from dicomweb.viewer import answer_page
from pacs.access import Principal

_REST = "/view/{rest:path}"
_SLUG = re.compile(r"[a-z0-9-]{1,64}")

Find = Callable[[Principal, str, int | None], Readable | None]


def build_routes(context: Context, find: Find, directory: Path | None) -> list[Route]:
    """Return the viewer of the newest release of a project, and that of a version; what one may not read has none."""

    def answer(request: Request) -> Response:
        given = request.path_params
        project = given["project"] if _SLUG.fullmatch(given["project"]) else ""
        version = version_of(given["version"]) if "version" in given else None
        release = find(context.principal(request), project, version)
        if release is None:
            raise HTTPException(404)
        place = f"/research/{release.project}" + (f"/releases/{release.version}" if version is not None else "")
        return answer_page(directory, f"{place}/view", f"{place}/dicom-web", given["rest"])

    return [
        Route(place + _REST, answer, include_in_schema=False) for place in (PREFIX, f"{PREFIX}/releases/{{version}}")
    ]
