"""Plain folders de-identified, outside of any archive: what `pacs deidentify` does, file by file.

Names of the files that are written come from new UIDs alone. A file that is held back leaves nothing behind.
"""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pacs.deid import FrameDecoder, Image, Lettering, Profile, ProjectKey, Quarantine, Reason, Report, deidentify
from pacs.errors import InvalidValue, PacsError
from pacs.imaging.codecs import PixelDescription
from pacs.imaging.sandbox import Sandbox

_MAGIC = b"DICM"
_MAGIC_OFFSET = 128


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: a report, or the reasons it is held back for; neither if it is no DICOM file."""

    path: Path
    report: Report | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class FolderRun:
    """How the files of a folder are de-identified."""

    target: Path
    profile: Profile
    key: ProjectKey
    released_reasons: frozenset[Reason] = frozenset()
    decode: FrameDecoder | None = None
    lettering: Lettering | None = None

    def run(self, paths: Collection[Path]) -> Iterator[Outcome]:
        """De-identify files one by one; what cannot be opened is held back. Raises OSError if nothing is written."""
        self.target.mkdir(parents=True, exist_ok=True)
        for path in paths:
            try:
                source = path.open("rb")
            except OSError:
                yield Outcome(path, reasons=(Reason.PARSE_ERROR,))
                continue
            yield self._run_one(path, source)

    def _run_one(self, path: Path, source: BinaryIO) -> Outcome:
        with source:
            source.seek(_MAGIC_OFFSET)
            if source.read(len(_MAGIC)) != _MAGIC:
                return Outcome(path)
            handle, name = tempfile.mkstemp(dir=self.target, prefix=".writing-")
            try:
                with os.fdopen(handle, "w+b") as written:
                    report = deidentify(
                        source,
                        written,
                        self.profile,
                        self.key,
                        released_reasons=self.released_reasons,
                        decode=self.decode,
                        lettering=self.lettering,
                    )
                place = self.target / report.study_instance_uid / report.series_instance_uid
                place.mkdir(parents=True, exist_ok=True)
                Path(name).replace(place / f"{report.sop_instance_uid}.dcm")
            except Quarantine as held:
                return Outcome(path, reasons=held.reasons)
            finally:
                with suppress(FileNotFoundError):
                    Path(name).unlink()
        return Outcome(path, report)


def find_files(source: Path) -> list[Path]:
    """Return a file, or every file below a folder in the order of their names; links are not followed."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise PacsError("There is no such file or folder.")
    return sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())


def load_project_key(path: Path, *, may_create: bool) -> ProjectKey:
    """Return the key in a file, 64 hexadecimal digits; make one, for its owner's eyes alone, if there may be none yet.

    Raises PacsError for a file that is absent, no key, or that others may read.
    """
    if may_create:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as written:
                written.write(ProjectKey.generate().secret.hex() + "\n")
    try:
        if path.stat().st_mode & 0o077:
            raise PacsError("Others may read the project's key; take their permission away first: chmod 600.")
        return ProjectKey(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except FileNotFoundError:
        raise PacsError("There is no key in this file yet; --new-key makes one.") from None
    except (ValueError, InvalidValue):
        raise PacsError("The file holds no project key.") from None


@contextmanager
def open_frame_decoder() -> Iterator[FrameDecoder]:
    """Give the engine the archive's own decoders, in their child processes, which are started when first needed."""
    sandbox = Sandbox(workers=1)
    try:
        yield frame_decoder(sandbox)
    finally:
        sandbox.close()


def frame_decoder(sandbox: Sandbox) -> FrameDecoder:
    """Return the decoding of a sandbox as the engine calls it."""

    def decode(transfer_syntax_uid: str, frame: bytes, image: Image) -> tuple[bytes, str]:
        description = PixelDescription(
            rows=image.rows,
            columns=image.columns,
            samples_per_pixel=image.samples_per_pixel,
            bits_allocated=image.bits_allocated,
            bits_stored=image.bits_stored,
            pixel_representation=image.pixel_representation,
            photometric_interpretation=image.photometric_interpretation,
            planar_configuration=image.planar_configuration,
        )
        decoded = sandbox.decode_frame(transfer_syntax_uid, frame, description)
        return decoded.pixels, decoded.photometric_interpretation

    return decode
