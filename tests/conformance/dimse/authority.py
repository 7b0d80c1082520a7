"""An authority of the tests' own, made by ``pacs tls``, and how DCMTK's programs are told to use its certificates."""

import hashlib
import ssl
from pathlib import Path

from pacs.cli.main import build_parser
from pacs.config import load_settings
from pacs.dimse.tls import Credentials


def command(*arguments: str) -> int:
    """Run ``pacs tls`` in this process."""
    given = build_parser().parse_args(["tls", *arguments])
    return given.run(load_settings(None, {}), given)


def make_authority(folder: Path, *names: str) -> Path:
    """Return a folder with an authority, the archive's certificate, and one for each name."""
    assert command("init", "--to", str(folder), "localhost", "127.0.0.1") == 0
    for name in names:
        assert command("issue", "--to", str(folder), name) == 0
    return folder


def credentials(folder: Path, name: str = "server", authority: Path | None = None) -> Credentials:
    return Credentials(folder / f"{name}.crt", folder / f"{name}.key", (authority or folder) / "authority.crt")


def digest(folder: Path, name: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((folder / f"{name}.crt").read_text())).hexdigest()


def options(folder: Path, name: str = "DEVICE", authority: Path | None = None) -> list[str]:
    """Return how DCMTK's programs are told to use TLS."""
    files = folder / f"{name}.key", folder / f"{name}.crt"
    return ["+tls", *map(str, files), "+cf", str((authority or folder) / "authority.crt")]
