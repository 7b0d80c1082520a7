"""Exports as researchers and stewards ask for them: each is checked, put on record, and only then begun.

Of what one may not see there is nothing to export, and it is said in the words that are said of what does not exist.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import orjson
from sqlalchemy import Connection, select

from pacs.access import Principal
from pacs.database.base import Database
from pacs.database.release_tables import research_release
from pacs.errors import NotAcceptable, NotInstalled, ReleaseNotFound
from pacs.imaging.archive_zip import File, write_zip
from pacs.reading import Reading
from pacs.research.exports.anonymity import AnonymityReport, assess
from pacs.research.exports.anonymity_page import write_page
from pacs.research.exports.derived import DerivedFiles
from pacs.research.exports.download import Download, of_bytes, of_file
from pacs.research.exports.extra import load
from pacs.research.exports.nifti import Converter, sweep_folders
from pacs.research.exports.package import SERIES_LIST, iter_instances, iter_volumes
from pacs.research.exports.parquet import MEDIA_TYPE as PARQUET
from pacs.research.exports.parquet import read_rows, write_parquet
from pacs.research.exports.reading import find_series, iter_rows
from pacs.research.exports.recently import Recently
from pacs.research.exports.series import Collection
from pacs.research.gate import Right, admit
from pacs.research.model import Project, Release, ReleaseState
from pacs.research.recording import note
from pacs.research.releases import Releases
from pacs.research.releases.manifest import MEDIA_TYPE as MANIFEST
from storage.spool import Spool

ZIP = "application/zip"
MARKDOWN = "text/markdown; charset=utf-8"

_INDEX_FORMAT = 1
"""To be raised when the columns change: what was made before is made anew under another name."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A release that somebody may read, and what reads it."""

    principal: Principal
    project: Project
    release: Release
    reading: Reading

    @property
    def collection(self) -> Collection:
        """What every row of its index says."""
        approval, slug, version = self.project.approval, self.project.slug, self.release.version
        licence = f"{approval.authority} {approval.reference}".strip()
        return Collection(slug, version, licence, f"/research/{slug}/releases/{version}/dicom-web")

    def name(self, rest: str) -> str:
        """Return what a file is called: it says project and version, and nothing of a patient."""
        return f"{self.project.slug}-{self.release.version}-{rest}"


class Exports:
    """What is taken from releases. Any number of threads may call it at once."""

    def __init__(self, database: Database, releases: Releases, folder: Path, scratch: Path) -> None:
        """Make the service; ``folder`` keeps what can be made again, ``scratch`` has room for a series and more."""
        self._database = database
        self._releases = releases
        self._scratch = scratch
        self._derived = DerivedFiles(folder)
        self._converter = Converter(scratch)
        self._recently = Recently()
        sweep_folders(scratch)
        self._tidy()

    def parquet(self, principal: Principal, slug: str, version: int | None = None) -> Download:
        """Return the index of a published release, the newest one without a version; ranges of it can be read.

        Reading it bit by bit, as DuckDB does, is one entry of the audit log and not one for every bit. Raises
        ReleaseNotFound for what is not there for him, NotInstalled without pyarrow.
        """
        opened = self._open(principal, slug, version, "index", once=True)
        return of_file(
            opened.name("index.parquet"), PARQUET, self._index_of(opened), f"{opened.release.id}/{_index_name()}"
        )

    def manifest(self, principal: Principal, slug: str, version: int | None = None) -> Download:
        """Return the list of all objects of a release with their digests; raise ReleaseNotFound as above."""
        release, chunks = self._releases.open_manifest(principal, slug, version)
        name = f"{slug}-{release.version}-manifest.jsonl"
        return Download(name, MANIFEST, None, lambda: chunks, partial(_close, chunks))

    def zip(
        self, principal: Principal, slug: str, version: int | None = None, *, study: str = "", series: str = ""
    ) -> Download:
        """Return the instances of a release, of one study or of one series in it, as a ZIP file.

        Of a whole release its index is in it, too, if it can be made here. Raises ReleaseNotFound, StudyNotFound or
        SeriesNotFound.
        """
        opened = self._open(principal, slug, version, "zip", study=study, series=series)
        places = find_series(opened.reading, principal, study, series)
        index: Path | None = None
        if not study:
            with suppress(NotInstalled):
                index = self._index_of(opened)
        spool = Spool(self._scratch)
        files = iter_instances(opened.reading, principal, places, spool)
        return _zip_of(opened.name("dicom.zip"), files, spool, _with_index(index, files))

    def nifti(
        self, principal: Principal, slug: str, version: int | None = None, *, study: str = "", series: str = ""
    ) -> Download:
        """Return the volumes of a release, of one study or of one series in it, as NIfTI files in a ZIP file.

        Raises as ``zip`` does, NotAcceptable for one series that is no volume, NotInstalled without dcm2niix.
        """
        opened = self._open(principal, slug, version, "nifti", study=study, series=series)
        places = find_series(opened.reading, principal, study, series)
        spool = Spool(self._scratch)
        files = iter_volumes(opened.reading, principal, places, spool, self._converter)
        if not series:
            return _zip_of(opened.name("nifti.zip"), files, spool)
        with ExitStack() as stack:
            stack.callback(spool.close)
            stack.callback(_close, files)
            # It is made before anything is promised.
            first = next(files)
            _check_is_volume(first)
            stack.pop_all()
        return _zip_of(opened.name("nifti.zip"), files, spool, chain((first,), files))

    def anonymity_report(self, principal: Principal, slug: str, version: int) -> AnonymityReport:
        """Return how anonymous a release is: to its members once it is published, to stewards already before.

        Raises ReleaseNotFound for what is not there for him, NotInstalled without pycanon.
        """
        return self._report(principal, slug, version)[1]

    def anonymity_page(self, principal: Principal, slug: str, version: int) -> Download:
        """Return the same for people, as Markdown."""
        opened, report = self._report(principal, slug, version)
        page = write_page(report, f"{opened.project.title}, version {version}")
        return of_bytes(opened.name("anonymity.md"), MARKDOWN, page.encode())

    def anonymity_json(self, principal: Principal, slug: str, version: int) -> Download:
        """Return the same for programs."""
        opened, report = self._report(principal, slug, version)
        return of_bytes(opened.name("anonymity.json"), "application/json", orjson.dumps(report.to_json()))

    def _report(self, principal: Principal, slug: str, version: int) -> tuple[_Opened, AnonymityReport]:
        if self._releases.find_readable(principal, slug, version) is None:
            opened = self._open_unpublished(principal, slug, version)
            rows = iter_rows(opened.reading, principal, opened.collection)
            return opened, assess(rows, opened.project.k)
        opened = self._open(principal, slug, version, "anonymity", once=True)
        wanted_k = opened.project.k
        load("pycanon")
        index = self._index_of(opened)

        def make(target: BinaryIO) -> None:
            target.write(orjson.dumps(assess(read_rows(index), wanted_k).to_json()))

        name = f"anonymity-{wanted_k}-{_INDEX_FORMAT}-{version_of('pycanon')}.json"
        path = self._derived.get(opened.release.id, name, make)
        return opened, AnonymityReport.from_json(orjson.loads(path.read_bytes()))

    def _open(
        self, principal: Principal, slug: str, version: int | None, kind: str, *, once: bool = False, **facts: str
    ) -> _Opened:
        """Return a published release, with who takes what of it on record; ``once``: not again for a while."""
        release = self._releases.find_readable(principal, slug, version)
        if release is None:
            raise ReleaseNotFound
        taken = (principal.name, principal.session, slug, release.version, kind)
        said = {name: value for name, value in facts.items() if value}

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.WORK).project
            note(connection, principal, project, f"release.{kind}", str(release.version), **said)
            return project

        if once and self._recently.has(taken):
            with self._database.read() as connection:
                project = admit(connection, principal, slug, Right.WORK).project
        else:
            project = self._database.write(write)
            self._recently.add(taken)
        return _Opened(principal, project, release, self._releases.open(release))

    def _open_unpublished(self, principal: Principal, slug: str, version: int) -> _Opened:
        """Return a release that a steward may look at before he publishes it, which is put on record."""
        release = self._releases.get(principal, slug, version)
        if release.state is not ReleaseState.QUARANTINE:
            raise ReleaseNotFound

        def write(connection: Connection) -> Project:
            project = admit(connection, principal, slug, Right.DECIDE).project
            note(connection, principal, project, "release.anonymity", str(version))
            return project

        project = self._database.write(write)
        return _Opened(principal, project, release, self._releases.open(release))

    def _index_of(self, opened: _Opened) -> Path:
        """Return the index of a release as a file, which is made when it is first asked for."""

        def make(target: BinaryIO) -> None:
            self._tidy()
            write_parquet(iter_rows(opened.reading, opened.principal, opened.collection), target)

        return self._derived.get(opened.release.id, _index_name(), make)

    def _tidy(self) -> None:
        """Remove what was made of releases that are not there any more for anybody."""
        is_published = research_release.c.state == ReleaseState.PUBLISHED.value
        with self._database.read() as connection:
            published = connection.execute(select(research_release.c.id).where(is_published)).scalars().all()
        self._derived.keep_only(set(published))


def _index_name() -> str:
    """Return what the index is kept as: another name for whatever would write other bytes."""
    load("pyarrow")
    return f"index-{_INDEX_FORMAT}-{version_of('pyarrow')}.parquet"


def _check_is_volume(file: File) -> None:
    if file.name == SERIES_LIST:
        raise NotAcceptable("No NIfTI can be made of this series.")


def _with_index(index: Path | None, files: Iterator[File]) -> Iterator[File]:
    """Yield the index, which is opened when its turn comes, and then the other files."""
    if index is not None:
        with of_file("index.parquet", PARQUET, index) as content:
            yield File("index.parquet", content, is_compressed=True)
    yield from files


def _zip_of(name: str, made: Iterator[File], spool: Spool, files: Iterator[File] | None = None) -> Download:
    """Return a ZIP file of files that are opened while it is sent.

    ``made`` makes them, and is closed with ``spool``, which is its own; ``files`` are these and others.
    """
    chunks = write_zip(made if files is None else files)

    def close() -> None:
        _close(chunks)
        _close(made)
        spool.close()

    return Download(name, ZIP, None, lambda: chunks, close)


def _close(iterator: Iterator[object]) -> None:
    if isinstance(iterator, Generator):
        iterator.close()
