"""The pinned OHIF viewer, fetched once: what its publisher built, checked against the digest of the release we tested.

Nothing of the package runs here: npm, where it is, only downloads (it knows the user's registry and proxy), and only
files below ``dist/`` are unpacked.
"""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pacs.errors import PacsError

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
TARBALL_URL = f"https://registry.npmjs.org/@ohif/app/-/app-{VERSION}.tgz"
TARBALL_BYTES = 49_906_651
TARBALL_SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
MARKER = ".ohif-version"

Progress = Callable[[int, int], None]

_CHUNK_BYTES = 1024 * 1024
_TIMEOUT_SECONDS = 30
_NPM_TIMEOUT_SECONDS = 600
_MAX_FILE_BYTES = 64 * 1024 * 1024
_DIST = ("package", "dist")
# A runtime for models that the viewer would fetch from other hosts, which its CSP forbids: most of the package.
_LEFT_OUT_FOLDERS = frozenset({"ort"})
# Service workers that import from a CDN, configurations for other servers, and maps for debugging the viewer itself.
_LEFT_OUT_FILES = frozenset({"sw.js", "google.js", "app-config.js", "_headers", "_redirects", "serve.json"})
_LEFT_OUT_SUFFIXES = frozenset({".map"})
_COMPRESSED_SUFFIXES = frozenset({".js", ".css", ".wasm", ".svg", ".json", ".jsonc"})
_COMPRESSED_FROM_BYTES = 2048


class ViewerUnavailable(PacsError):
    """The viewer cannot be had."""


def fetch_viewer(target: Path, progress: Progress) -> Path:
    """Return ``target``, holding the pinned viewer; fetch it only if it does not yet.

    ``progress`` is told the bytes so far and the bytes in all. The folder appears whole or not at all; an older viewer
    in it is replaced. Raises ViewerUnavailable, with a sentence for the user, when there is no network, when what came
    is not the pinned package, or when ``target`` holds something that is not a viewer.
    """
    if is_current(target):
        return target
    if target.exists() and not _may_replace(target):
        raise ViewerUnavailable(f"{target} holds other files; name a folder that is empty or does not exist.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            tarball = _fetch_tarball(Path(scratch), progress)
            fresh = Path(scratch) / "viewer"
            unpack(tarball, fresh)
            (fresh / MARKER).write_text(VERSION, encoding="ascii")
            _replace(target, fresh, Path(scratch) / "old")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ViewerUnavailable(f"Writing the viewer to {target} failed: {reason}.") from error
    return target


def is_current(target: Path) -> bool:
    """Return whether ``target`` holds the pinned viewer."""
    marker = target / MARKER
    return marker.is_file() and marker.read_text(encoding="ascii", errors="replace").strip() == VERSION


def unpack(tarball: Path, target: Path) -> None:
    """Unpack the files of ``dist/`` that are served into the new folder ``target``, compressed twins beside them.

    Only regular files are made and no member leaves ``target``, whatever it is called; raises ViewerUnavailable for a
    package that tries, or that is no package.
    """
    target.mkdir()
    try:
        with tarfile.open(tarball, "r:gz") as package:
            for member, path in _iter_members(package):
                content = package.extractfile(member)
                if content is None:
                    continue
                destination = target.joinpath(*path.parts)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with content, destination.open("xb") as sink:
                    shutil.copyfileobj(content, sink, _CHUNK_BYTES)
                _compress(destination)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise ViewerUnavailable("The viewer's package cannot be unpacked.") from error
    if not (target / "index.html").is_file():
        raise ViewerUnavailable("The viewer's package holds no viewer.")


def _iter_members(package: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    for member in package:
        path = PurePosixPath(member.name)
        if not member.isreg() or path.parts[:2] != _DIST:
            continue
        path = path.relative_to(PurePosixPath(*_DIST))
        if ".." in path.parts or "\\" in member.name or ":" in member.name or member.size > _MAX_FILE_BYTES:
            raise ViewerUnavailable("The viewer's package holds a file that has no place in it.")
        if _is_served(path):
            yield member, path


def _is_served(path: PurePosixPath) -> bool:
    if path.parts[0] in _LEFT_OUT_FOLDERS or path.suffix in _LEFT_OUT_SUFFIXES:
        return False
    return len(path.parts) > 1 or path.name not in _LEFT_OUT_FILES


def _compress(path: Path) -> None:
    if path.suffix not in _COMPRESSED_SUFFIXES or path.stat().st_size < _COMPRESSED_FROM_BYTES:
        return
    twin = path.with_name(path.name + ".gz")
    with path.open("rb") as source, twin.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as sink:
        shutil.copyfileobj(source, sink, _CHUNK_BYTES)


def _may_replace(target: Path) -> bool:
    return target.is_dir() and ((target / MARKER).is_file() or not any(target.iterdir()))


def _replace(target: Path, fresh: Path, old: Path) -> None:
    try:
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except OSError:
        # Another process may have been faster; what it put there is as good.
        if not is_current(target):
            raise


def _fetch_tarball(folder: Path, progress: Progress) -> Path:
    progress(0, TARBALL_BYTES)
    npm = shutil.which("npm")
    tarball = _pack_with_npm(npm, folder) if npm else None
    if tarball is None:
        tarball = _download(folder / "viewer.tgz", progress)
    if not _is_pinned(tarball):
        raise ViewerUnavailable(f"What came for {PACKAGE} {VERSION} is not what was pinned; it was thrown away.")
    progress(TARBALL_BYTES, TARBALL_BYTES)
    return tarball


def _pack_with_npm(npm: str, folder: Path) -> Path | None:
    """Return the tarball that npm downloaded, or None: then it is tried without npm."""
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent", "--fetch-retries=1"]
    try:
        # S603: a fixed command without a shell; npm is the one on the user's path.
        subprocess.run(  # noqa: S603
            command, cwd=folder, check=True, timeout=_NPM_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL, capture_output=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(folder.glob("*.tgz"), None)


def _download(path: Path, progress: Progress) -> Path:
    done = 0
    try:
        with urllib.request.urlopen(TARBALL_URL, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as sink:
            while chunk := answer.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > TARBALL_BYTES:
                    break
                sink.write(chunk)
                progress(done, TARBALL_BYTES)
    except OSError as error:
        raise ViewerUnavailable(f"{PACKAGE} {VERSION} could not be downloaded; is there a network?") from error
    return path


def _is_pinned(tarball: Path) -> bool:
    with tarball.open("rb") as source:
        digest = hashlib.file_digest(source, "sha512").digest()
    return base64.b64encode(digest).decode("ascii") == TARBALL_SHA512
