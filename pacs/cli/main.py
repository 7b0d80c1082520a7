"""``pacs``: reads the command line and the settings, runs one command, and says what is wrong in one sentence."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pacs.cli import commands
from pacs.config import load_settings
from pacs.errors import InvalidSetting, PacsError
from pacs.observe import configure_logging

_EPILOG = """settings: one TOML file (--config, or pacs.toml here) and PACS_ environment variables, for example
PACS_STORAGE__URL, PACS_DATABASE__URL, PACS_HTTP__PORT, PACS_DIMSE__PORT, PACS_DIMSE__AE_TITLE, PACS_DATA_DIR.
`pacs config` prints what is in force."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code: 0 done, 1 something was not in order, 2 wrong use."""
    options = build_parser().parse_args(arguments)
    configure_logging(options.log_level)
    try:
        settings = load_settings(options.config, os.environ, _overrides(options))
        return int(options.run(settings, options))
    except InvalidSetting as error:
        print(f"pacs: {error}", file=sys.stderr)
        return 2
    except PacsError as error:
        print(f"pacs: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pacs: interrupted; what was reported as stored is stored", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser for every command."""
    parser = argparse.ArgumentParser(
        prog="pacs", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = "A medical image archive: DICOM in, durable storage, DICOMweb and a viewer out."
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (default: pacs.toml, if there is one)"
    )
    common.add_argument("--data-dir", metavar="DIR", help="where index and objects live (default: pacs-data)")
    common.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    serve = _add(subparsers, common, "serve", commands.serve, "serve DICOM, DICOMweb and the viewer")
    serve.add_argument(
        "--bind", metavar="ADDRESS", help="listen here instead of on loopback; 0.0.0.0 is every interface"
    )
    serve.add_argument("--http-port", type=int, metavar="PORT")
    serve.add_argument("--dicom-port", type=int, metavar="PORT")
    serve.add_argument("--ae-title", metavar="TITLE")

    load = _add(subparsers, common, "import", commands.import_paths, "import folders, ZIP files, DICOMDIRs and files")
    load.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    load.add_argument("--if-empty", action="store_true", help="do nothing if the archive holds anything already")

    _add(subparsers, common, "verify", commands.verify, "read every stored object and compare it with its digest")
    _add(subparsers, common, "migrate", commands.migrate, "bring the database schema to this version")
    _add(subparsers, common, "config", commands.show_config, "print the effective settings, secrets hidden")
    _add(subparsers, common, "conformance", commands.show_conformance, "print the DICOM conformance statement")
    fetch = _add(subparsers, common, "fetch-viewer", commands.fetch_viewer_files, "fetch the OHIF viewer's files")
    fetch.add_argument(
        "--to", type=Path, metavar="DIR", help="where to put them (default: viewer in the data directory)"
    )
    return parser


def _add(subparsers: Any, common: argparse.ArgumentParser, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, parents=[common], help=text, description=f"{text}.")
    parser.set_defaults(run=run)
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says, in the settings' shape."""
    given: dict[str, Any] = {"http": {}, "dimse": {}}
    if options.data_dir:
        given["data_dir"] = options.data_dir
    for option, section, key in (
        ("bind", "http", "host"),
        ("bind", "dimse", "host"),
        ("http_port", "http", "port"),
        ("dicom_port", "dimse", "port"),
        ("ae_title", "dimse", "ae_title"),
    ):
        value = getattr(options, option, None)
        if value is not None:
            given[section][key] = value
    return given


if __name__ == "__main__":
    sys.exit(main())
