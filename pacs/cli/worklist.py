"""``pacs worklist``: what is scheduled, listed and changed by hand."""

import argparse
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from pacs.access import LOCAL
from pacs.app import build_entry_parser, open_archive
from pacs.cli.parsing import add_command, add_group, count
from pacs.cli.terminal import print_problems, print_table
from pacs.config import Settings
from pacs.errors import InvalidEntry, InvalidHeader, PacsError, ScheduledStepExists
from pacs.model import Attributes
from pacs.tags import tag_of, text_of, values_of, vr_of
from pacs.worklist import ScheduledStep, StepState, parse_query
from pacs.worklist.folder import MAX_FILE_BYTES, SUFFIXES, parse_file

_COLUMNS = ("ID", "state", "date", "time", "station", "modality", "patient ID", "patient", "accession", "step")
_OPTIONS = {
    "--patient-id": "PatientID",
    "--patient-name": "PatientName",
    "--birth-date": "PatientBirthDate",
    "--sex": "PatientSex",
    "--accession-number": "AccessionNumber",
    "--study-uid": "StudyInstanceUID",
    "--procedure-id": "RequestedProcedureID",
    "--procedure": "RequestedProcedureDescription",
    "--referring-physician": "ReferringPhysicianName",
}
_STEP_OPTIONS = {
    "--station": "ScheduledStationAETitle",
    "--modality": "Modality",
    "--date": "ScheduledProcedureStepStartDate",
    "--time": "ScheduledProcedureStepStartTime",
    "--physician": "ScheduledPerformingPhysicianName",
    "--step-id": "ScheduledProcedureStepID",
    "--description": "ScheduledProcedureStepDescription",
}


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this module."""
    orders = add_group(parsers, "worklist", "list and change what is scheduled")

    listing = add_command(orders, common, "list", list_steps, "list scheduled steps by date and time")
    for option, keyword in (_OPTIONS | _STEP_OPTIONS).items():
        listing.add_argument(option, dest=keyword, metavar="KEY", help=f"match {keyword}, as a worklist query does")
    listing.add_argument("--all", action="store_true", help="also what is no longer on the list")
    listing.add_argument("--limit", type=count, default=200, metavar="N")

    adding = add_command(orders, common, "add", add_step, "schedule one step")
    for option, keyword in (_OPTIONS | _STEP_OPTIONS).items():
        adding.add_argument(option, dest=keyword, metavar="VALUE", help=keyword)

    importing = add_command(orders, common, "import", import_files, "schedule what .wl and .json files say")
    importing.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of them")

    removing = add_command(orders, common, "remove", remove_steps, "forget scheduled steps")
    removing.add_argument("ids", nargs="+", type=int, metavar="ID")

    stating = add_command(orders, common, "set-state", set_state, "say how far a scheduled step is")
    stating.add_argument("id", type=int, metavar="ID")
    stating.add_argument("state", type=str.upper, choices=[state.value for state in StepState], metavar="STATE")


def list_steps(settings: Settings, options: argparse.Namespace) -> int:
    """Print a table of the steps that match."""
    query = parse_query(_build_entry(options))
    states = tuple(StepState) if options.all else None
    with open_archive(settings) as parts:
        found = parts.archive.worklist.find(LOCAL, query, states)
        rows = [_cells(step) for step in islice(found, options.limit)]
    print_table(_COLUMNS, rows)
    print(f"{len(rows)} shown.", file=sys.stderr)
    return 0


def add_step(settings: Settings, options: argparse.Namespace) -> int:
    """Schedule one step and print its number."""
    with open_archive(settings) as parts:
        (step,) = parts.archive.worklist.add(LOCAL, _build_entry(options))
    print(f"Step {step.id} is scheduled in study {text_of(step.attributes, 'StudyInstanceUID')}.")
    return 0


def import_files(settings: Settings, options: argparse.Namespace) -> int:
    """Schedule what files say; exit code 1 if one of them was passed over."""
    parse_dicom = build_entry_parser(settings)
    added = 0
    problems: list[str] = []
    with open_archive(settings) as parts:
        for path in _iter_files(options.paths):
            try:
                entries = parse_file(path.suffix.lower(), _read(path), parse_dicom)
                added += len(parts.archive.worklist.add_entries(LOCAL, entries))
            except OSError as error:
                problems.append(f"{path}: It cannot be read: {error.strerror}.")
            except (InvalidEntry, InvalidHeader, ScheduledStepExists) as error:
                problems.append(f"{path}: {error}")
    print(f"{added} steps scheduled, {len(problems)} files passed over.")
    print_problems(problems)
    return 1 if problems else 0


def remove_steps(settings: Settings, options: argparse.Namespace) -> int:
    """Forget steps by number."""
    with open_archive(settings) as parts:
        for step_id in options.ids:
            parts.archive.worklist.remove(LOCAL, step_id)
    print(f"{len(options.ids)} steps removed.")
    return 0


def set_state(settings: Settings, options: argparse.Namespace) -> int:
    """Set the state of one step."""
    with open_archive(settings) as parts:
        step = parts.archive.worklist.set_state(LOCAL, options.id, StepState(options.state))
    print(f"Step {step.id} is {step.state.value}.")
    return 0


def _build_entry(options: argparse.Namespace) -> Attributes:
    """Return what options say as an entry, or as the keys of a query."""
    item = _elements(options, _STEP_OPTIONS.values())
    entry = _elements(options, _OPTIONS.values())
    return entry | ({tag_of("ScheduledProcedureStepSequence"): {"vr": "SQ", "Value": [item]}} if item else {})


def _elements(options: argparse.Namespace, keywords: Any) -> Attributes:
    given = {keyword: getattr(options, keyword) for keyword in keywords if getattr(options, keyword) is not None}
    return {
        tag_of(keyword): {"vr": vr_of(keyword), "Value": [{"Alphabetic": text} if vr_of(keyword) == "PN" else text]}
        for keyword, text in given.items()
    }


def _cells(step: ScheduledStep) -> list[str]:
    item = step.step
    of_step = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
    texts = [text_of(item, keyword) for keyword in of_step]
    texts.append(" ".join(str(title) for title in values_of(item, "ScheduledStationAETitle")))
    texts.append(text_of(item, "Modality"))
    texts += [text_of(step.attributes, keyword) for keyword in ("PatientID", "PatientName", "AccessionNumber")]
    texts.append(text_of(item, "ScheduledProcedureStepDescription"))
    return [str(step.id), step.state.value, *texts]


def _iter_files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [Path(one) for one in sorted(os.scandir(path), key=lambda entry: entry.name)]
        elif path.exists():
            files.append(path)
        else:
            raise PacsError(f"There is no {path}.")
    return [path for path in files if path.is_file() and (path.suffix.lower() in SUFFIXES or path in paths)]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidEntry("The file is too large.")
    return content
