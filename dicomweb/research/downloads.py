"""What is taken from a release: an index, a manifest, files, volumes, and what is to be known of all of it.

The index can be read bit by bit: it has a strong entity tag, which is keyed as all tags of a release are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import is_uid
from dicomweb.caching import REVALIDATE, Entity, derive_tag, is_known
from dicomweb.capabilities import offers
from dicomweb.context import Context
from dicomweb.errors import InvalidParameter
from dicomweb.media_types import JSON
from dicomweb.middleware import IS_HEAD
from dicomweb.multipart import Part, derive_boundary
from dicomweb.plain_json import query_fields
from dicomweb.plain_route import PlainRoute, undeclared
from dicomweb.research.addresses import API, parse_version
from dicomweb.sending import not_modified, send, send_single
from pacs.access import Principal
from pacs.deid import conformance_statement
from pacs.errors import ReleaseNotFound
from pacs.research import Research
from pacs.research.exports.download import Download, of_bytes
from pacs.research.model import Release

NEWEST = "newest"
"""The version of an address that means whichever is the newest one that is published."""

_MARKDOWN = "text/markdown; charset=utf-8"
_OPTIONS = ("study", "series")


@dataclass(frozen=True, slots=True)
class Offered:
    """One download as the page of a release shows it."""

    address: str
    label: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of download. ``takes``: it can be had of one study or series alone. ``is_listed``: on the page."""

    file: str
    media_type: str
    name: str
    label: str
    hint: str
    takes: bool = False
    is_listed: bool = True


KINDS = (
    _Kind(
        "index.parquet",
        "application/vnd.apache.parquet",
        "download_index",
        "Index (Parquet)",
        "one row a series; DuckDB and pandas read it over HTTP",
    ),
    _Kind(
        "dicom.zip",
        "application/zip",
        "download_dicom",
        "DICOM files (ZIP)",
        "as in a study folder, with DICOMDIR",
        takes=True,
    ),
    _Kind(
        "nifti.zip",
        "application/zip",
        "download_nifti",
        "NIfTI volumes (ZIP)",
        "what dcm2niix makes of the series",
        takes=True,
    ),
    _Kind("manifest.jsonl", "application/x-ndjson", "download_manifest", "Manifest", "every file with its checksum"),
    _Kind(
        "anonymity.md",
        _MARKDOWN,
        "download_anonymity",
        "k-anonymity report",
        "how small the smallest groups are",
    ),
    _Kind(
        "anonymity.json",
        JSON,
        "download_anonymity_json",
        "k-anonymity report",
        "how small the smallest groups are",
        is_listed=False,
    ),
    _Kind(
        "deidentification.md",
        _MARKDOWN,
        "download_statement",
        "De-identification statement",
        "what was done to every object, by PS3.15",
    ),
)
"""What can be taken of a release."""


def list_downloads(slug: str, release: Release) -> list[Offered]:
    """Return what can be taken of a published release, each with its address."""
    base = f"{API}/projects/{slug}/releases/{release.version}"
    return [Offered(f"{base}/{kind.file}", kind.label, kind.hint) for kind in KINDS if kind.is_listed]


def build_router(context: Context, research: Research) -> APIRouter:
    """Return a resource for each kind of download, of a version or of ``newest``."""
    router = APIRouter(tags=["Research"], route_class=PlainRoute, default_response_class=Response)
    openers = _openers(research)
    for kind in KINDS:
        router.add_api_route(
            f"{API}/projects/{{project}}/releases/{{version}}/{kind.file}",
            _endpoint(context, research, kind, openers[kind.file]),
            methods=["GET"],
            summary=f"Download of a release: {kind.label}",
            operation_id=kind.name,
            openapi_extra=_describe(kind),
        )
    return router


_Open = Callable[[Principal, str, int, Mapping[str, str]], Download]


def _openers(research: Research) -> dict[str, _Open]:
    exports = research.exports

    def state(principal: Principal, slug: str, version: int, _: Mapping[str, str]) -> Download:
        release = research.releases.find_readable(principal, slug, version)
        if release is None:
            raise ReleaseNotFound
        research.reads.record(principal, slug, "release.statement", str(version))
        statement = conformance_statement(release.profile).encode()
        return of_bytes(f"{slug}-{version}-deidentification.md", _MARKDOWN, statement)

    return {
        "index.parquet": lambda principal, slug, version, _: exports.parquet(principal, slug, version),
        "dicom.zip": lambda principal, slug, version, of: exports.zip(principal, slug, version, **of),
        "nifti.zip": lambda principal, slug, version, of: exports.nifti(principal, slug, version, **of),
        "manifest.jsonl": lambda principal, slug, version, _: exports.manifest(principal, slug, version),
        "anonymity.md": lambda principal, slug, version, _: exports.anonymity_page(principal, slug, version),
        "anonymity.json": lambda principal, slug, version, _: exports.anonymity_json(principal, slug, version),
        "deidentification.md": state,
    }


def _endpoint(context: Context, research: Research, kind: _Kind, open_: _Open) -> Callable[..., Response]:
    @undeclared
    def answer(request: Request, project: str, version: str) -> Response:
        principal, of = context.principal(request), _parse_options(request, kind)
        number = _find_version(research, principal, project, version)
        download = open_(principal, project, number, of)
        headers = {"Content-Disposition": f'attachment; filename="{download.name}"'}
        if download.iter_range is None or download.length_bytes is None or not download.identity:
            return _send_once(request, download, headers)
        boundary = derive_boundary(context.boundary_key, ("download", download.identity))
        entity = Entity(derive_tag(boundary, download.identity), REVALIDATE)
        if is_known(request.headers, entity):
            download.close()
            return not_modified(request, entity)
        part = Part(
            download.media_type,
            request.url.path,
            download.length_bytes,
            download.iter_chunks,
            download.close,
            download.iter_range,
        )
        response = send_single(request, part, entity)
        response.headers.update(headers)
        return response

    return answer


def _find_version(research: Research, principal: Principal, slug: str, text: str) -> int:
    if text != NEWEST:
        return parse_version(text)
    release = research.releases.find_readable(principal, slug)
    if release is None:
        raise ReleaseNotFound
    return release.version


def _send_once(request: Request, download: Download, headers: dict[str, str]) -> Response:
    """Return what is made while it is sent, and is other bytes each time as far as anybody promises."""
    chunks = iter(()) if request.scope.get(IS_HEAD) else iter(download.iter_chunks())
    return send(
        request,
        chunks,
        download.media_type,
        headers | {"Cache-Control": "no-store"},
        length_bytes=download.length_bytes,
        close=download.close,
    )


def _parse_options(request: Request, kind: _Kind) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in query_fields(request):
        if not kind.takes or name not in _OPTIONS or not is_uid(value):
            raise InvalidParameter(
                "A ZIP file can be had of one study, or of a series in it; nothing else is asked for."
            )
        options[name] = value
    if "series" in options and "study" not in options:
        raise InvalidParameter("A series is named with its study.")
    return options


def _describe(kind: _Kind) -> dict[str, object]:
    said = offers(kind.media_type, query=_OPTIONS if kind.takes else ())
    names = ("project", "version")
    given = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return said | {"parameters": [*said["parameters"], *given]}
