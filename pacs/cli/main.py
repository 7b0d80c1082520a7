"""``pacs``: reads the command line and the settings, runs one command, and says what is wrong in one sentence."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pacs.cli import (
    accounts,
    audit,
    commands,
    corrections,
    deidentify,
    peers,
    queue,
    recompression,
    research,
    tls,
    withheld,
    worklist,
)
from pacs.cli.parsing import Parser, add_command
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
    parser = Parser(
        prog="pacs", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = "A medical image archive: DICOM in, durable storage, DICOMweb and a viewer out."
    # No defaults below: those of `pacs queue list` would undo what stands before `list`.
    parser.set_defaults(config=None, data_dir=None, log_level="INFO")
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (default: pacs.toml, if there is one)"
    )
    common.add_argument("--data-dir", metavar="DIR", help="where index and objects live (default: pacs-data)")
    common.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="default: INFO")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    serve = add_command(parsers, common, "serve", commands.serve, "serve DICOM, DICOMweb and the viewer")
    serve.add_argument(
        "--bind", metavar="ADDRESS", help="listen here instead of on loopback; 0.0.0.0 is every interface"
    )
    serve.add_argument("--http-port", type=int, metavar="PORT")
    serve.add_argument("--dicom-port", type=int, metavar="PORT")
    serve.add_argument("--ae-title", metavar="TITLE")

    load = add_command(
        parsers, common, "import", commands.import_paths, "import folders, ZIP files, DICOMDIRs and files"
    )
    load.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    load.add_argument("--if-empty", action="store_true", help="do nothing if the archive holds anything already")

    add_command(parsers, common, "verify", commands.verify, "read every stored object and compare it with its digest")
    add_command(parsers, common, "migrate", commands.migrate, "bring the database schema to this version")
    add_command(parsers, common, "config", commands.show_config, "print the effective settings, secrets hidden")
    add_command(parsers, common, "conformance", commands.show_conformance, "print the DICOM conformance statement")
    fetch = add_command(parsers, common, "fetch-viewer", commands.fetch_viewer_files, "fetch the OHIF viewer's files")
    fetch.add_argument(
        "--to", type=Path, metavar="DIR", help="where to put them (default: viewer in the data directory)"
    )
    accounts.add_commands(parsers, common)
    audit.add_commands(parsers, common)
    corrections.add_commands(parsers, common)
    deidentify.add_commands(parsers, common)
    peers.add_commands(parsers, common)
    queue.add_commands(parsers, common)
    recompression.add_commands(parsers, common)
    research.add_commands(parsers, common)
    tls.add_commands(parsers, common)
    worklist.add_commands(parsers, common)
    withheld.add_commands(parsers, common)
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
