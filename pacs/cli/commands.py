"""One function a command: open what is needed, call a use case, show progress, print a summary."""

import argparse
import json
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import DownloadColumn, TextColumn

from dicomweb.ohif import ViewerUnavailable, fetch_viewer
from pacs.app import Parts, build_origin, open_archive
from pacs.app import serve as run_servers
from pacs.cli.terminal import print_problems, progress
from pacs.config import Settings, StorageSettings, describe, hide_password
from pacs.conformance import build_statement
from pacs.errors import PacsError
from pacs.ingest.importer import Entry, Imported, import_entry, iter_entries
from pacs.ingest.outcome import Disposition
from pacs.maintenance.verification import count_copies, verify_copies
from pacs.model import CLINICAL_PARTITION, Door


def serve(settings: Settings, _: argparse.Namespace) -> int:
    """Serve until interrupted; say where, and how to push a first study."""
    run_servers(settings, lambda dicom_port, http_port: _announce(settings, dicom_port, http_port))
    print("Stopped; everything acknowledged is stored.", flush=True)
    return 0


def import_paths(settings: Settings, options: argparse.Namespace) -> int:
    """Import what the paths hold; exit code 1 if anything was rejected."""
    with open_archive(settings) as parts:
        if options.if_empty and count_copies(parts.database, CLINICAL_PARTITION):
            return 0
        try:
            entries = list(iter_entries(options.paths))
        except FileNotFoundError as error:
            raise PacsError(f"There is no {error.args[0]}.") from None
        return _print_summary(_import_all(settings, parts, entries))


def verify(settings: Settings, _: argparse.Namespace) -> int:
    """Compare every stored object with its digest; exit code 1 if one is missing or damaged."""
    with open_archive(settings) as parts, progress() as bar:
        places = [(CLINICAL_PARTITION, parts.durable)]
        places += [(release.id, release.store) for release in parts.build_releases.list_partitions()]
        total = sum(count_copies(parts.database, partition_id) for partition_id, _ in places)
        task = bar.add_task("Verifying", total=total)
        checked = 0
        damaged = []
        for result in chain.from_iterable(verify_copies(parts.database, store, number) for number, store in places):
            checked += 1
            bar.update(task, completed=checked)
            if result.problem:
                damaged.append(result)
    for result in damaged:
        print(f"{result.problem}: instance {result.copy.sop_instance_uid}, blob {result.copy.location.blob_key}")
    print(f"{checked} objects verified, {len(damaged)} with problems.")
    return 1 if damaged else 0


def migrate(settings: Settings, _: argparse.Namespace) -> int:
    """Bring the schema up to date; opening an archive does it."""
    with open_archive(settings):
        print(f"The schema of {hide_password(settings.database_url)} is up to date.")
    return 0


def show_config(settings: Settings, _: argparse.Namespace) -> int:
    """Print the effective settings as JSON."""
    print(json.dumps(describe(settings), indent=2, ensure_ascii=False))
    return 0


def show_conformance(_: Settings, __: argparse.Namespace) -> int:
    """Print the conformance statement of what is mounted; nothing stored is looked at."""
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), storage=StorageSettings(url="memory:"))
        with open_archive(settings) as parts:
            print(build_statement(parts.archive))
    return 0


def fetch_viewer_files(settings: Settings, options: argparse.Namespace) -> int:
    """Fetch the pinned viewer; exit code 0 also without one, for the archive runs all the same."""
    target = options.to or settings.viewer_dir
    with progress(DownloadColumn()) as bar:
        task = bar.add_task("Fetching the OHIF viewer", total=None)
        try:
            fetch_viewer(target, lambda done, total: bar.update(task, completed=done, total=total))
        except ViewerUnavailable as error:
            print(f"The viewer cannot be fetched now: {error} The archive runs without it.", file=sys.stderr)
    return 0


def _import_all(settings: Settings, parts: Parts, entries: list[Entry]) -> list[Imported]:
    origin = build_origin(settings, Door.IMPORT)
    files = TextColumn("{task.fields[done]}/{task.fields[files]} files")
    with progress(files, DownloadColumn()) as bar:
        total = sum(entry.size_bytes for entry in entries)
        task = bar.add_task("Importing", total=total, done=0, files=len(entries))
        results = []
        for entry in entries:
            results.append(import_entry(parts.archive.ingest, entry, origin))
            bar.update(task, advance=entry.size_bytes, done=len(results))
    return results


def _print_summary(results: list[Imported]) -> int:
    counts = Counter(result.outcome.disposition if result.outcome else Disposition.REJECTED for result in results)
    accepted = counts[Disposition.STORED] + counts[Disposition.CONFLICT]
    print(
        f"{accepted} accepted, {counts[Disposition.DUPLICATE]} already there, "
        f"{counts[Disposition.REJECTED]} rejected, of {len(results)} files."
    )
    if counts[Disposition.WITHHELD]:
        print(f"{counts[Disposition.WITHHELD]} withheld: rejection notes, and what they reject.")
    notes = Counter(_note(result) for result in results if _note(result))
    for note, count in notes.most_common():
        print(f"  {count:>6}  {note}")
    rejected = [result for result in results if not result.outcome or not result.outcome.is_stored]
    print_problems([f"rejected: {result.name}: {_note(result)}" for result in rejected])
    return 1 if rejected else 0


def _note(result: Imported) -> str:
    if result.outcome is None:
        return result.problem
    return result.outcome.reason.comment if result.outcome.reason else ""


def _announce(settings: Settings, dicom_port: int, http_port: int) -> None:
    host = settings.http.host if settings.http.host not in ("0.0.0.0", "::") else "localhost"  # noqa: S104 - compared
    dicom_host = settings.dimse.host if settings.dimse.host not in ("0.0.0.0", "::") else "localhost"  # noqa: S104
    base = f"http://{host}:{http_port}"
    title = settings.dimse.ae_title
    print(
        f"Viewer     {base}/\n"
        f"DICOMweb   {base}/dicom-web\n"
        f"Research   {base}/research\n"
        f"API        {base}/docs\n"
        f"Health     {base}/healthz  {base}/readyz\n"
        f"DICOM      {title} at {dicom_host}:{dicom_port}"
        f"{f', over TLS at port {settings.dimse.tls.port}' if settings.dimse.tls.port else ''}\n"
        f"Push one   storescu -v -aec {title} {dicom_host} {dicom_port} +sd +r FOLDER\n"
        "Stop with Ctrl-C.",
        flush=True,
    )
