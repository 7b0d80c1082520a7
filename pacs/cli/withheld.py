"""``pacs withheld``: what was rejected or deleted and is withheld until it is swept, and how to restore it."""

import argparse
import sys
from typing import Any

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.cli.parsing import add_command, add_group
from pacs.config import Settings
from pacs.errors import PacsError
from pacs.ingest.withholding import Withheld

_PAGE = 500


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this module."""
    orders = add_group(parsers, "withheld", "list and restore rejected and deleted instances")

    listing = add_command(orders, common, "list", list_withheld, "list withheld instances")
    listing.add_argument("--study", default="", metavar="UID", help="only those of this study")
    listing.add_argument("--note", default="", metavar="UID", help="only those that this rejection note withheld")

    restoring = add_command(
        orders,
        common,
        "restore",
        restore,
        "restore an instance, all that a rejection note withheld, or what was deleted of a study or series",
    )
    restoring.add_argument(
        "uid", nargs="?", metavar="UID", help="SOP Instance UID of the instance, or of the rejection note"
    )
    restoring.add_argument(
        "--study", metavar="UID", help="what was deleted of this study; what is rejected stays hidden"
    )
    restoring.add_argument("--series", metavar="UID", help="with --study: only what was deleted of this series")


def list_withheld(settings: Settings, options: argparse.Namespace) -> int:
    """Print every withheld instance in a line of its own, oldest first."""
    count = after = 0
    with open_archive(settings) as parts:
        while page := parts.archive.withhold.find_page(
            LOCAL,
            after=after,
            limit=_PAGE,
            study_instance_uid=options.study,
            note_sop_instance_uid=options.note,
        ):
            for copy in page:
                print(_line(copy))
            count += len(page)
            after = page[-1].id
    print(f"{count} withheld.", file=sys.stderr)
    return 0


def restore(settings: Settings, options: argparse.Namespace) -> int:
    """Restore what is withheld under a UID, or was deleted of a study; exit code 1 if there is nothing."""
    if bool(options.uid) == bool(options.study) or (options.series and not options.study):
        raise PacsError("Say what: the UID of an instance or a note, or --study UID, with --series UID if that is all.")
    with open_archive(settings) as parts:
        withholder = parts.archive.withhold
        if options.study:
            count = withholder.restore_deleted(LOCAL, options.study, options.series or "")
        else:
            count = withholder.restore(LOCAL, options.uid)
    print(f"{count} restored.")
    return 0


def _line(copy: Withheld) -> str:
    what = "note" if copy.is_note else "instance" if copy.location else "not arrived"
    return (
        f"{copy.withheld_at:%Y-%m-%dT%H:%M:%SZ}  {copy.reason}  {what} {copy.sop_instance_uid}  "
        f"study {copy.study_instance_uid}  by {copy.by}"
    )
