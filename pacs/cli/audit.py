"""``pacs audit``: check the audit log, export it, and say who did what."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.audit.chain import Head, parse_head
from pacs.audit.log import Chosen
from pacs.cli.parsing import add_command, add_group
from pacs.cli.terminal import print_problems, print_table, progress
from pacs.config import Settings


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this module."""
    orders = add_group(parsers, "audit", "check, export and sum up the record of who did what")

    checking = add_command(orders, common, "verify", verify, "check that no entry was changed, moved or removed")
    checking.add_argument(
        "--head", type=_head, metavar="POSITION:DIGEST", help="what an earlier check printed, which must be in it still"
    )
    exporting = add_command(orders, common, "export", export, "print entries as JSON, one a line")
    _add_choice(exporting)
    reporting = add_command(orders, common, "report", report, "print who did what how often")
    reporting.add_argument("--by-subject", action="store_true", help="a line for each thing that it was done to")
    _add_choice(reporting)


def verify(settings: Settings, options: argparse.Namespace) -> int:
    """Check the whole chain; exit code 1 if anything is wrong with it."""
    with open_archive(settings) as parts, progress() as bar:
        task = bar.add_task("Verifying", total=None)
        parts.audit.seal()
        found = parts.audit.verify(options.head, lambda done, total: bar.update(task, completed=done, total=total))
        bar.update(task, completed=found.entries, total=found.entries)
    print_problems(found.problems)
    print(f"{found.entries} entries verified, {len(found.problems)} problems, {found.unsealed} not sealed yet.")
    print(f"Head: {found.head}")
    return 1 if found.problems else 0


def export(settings: Settings, options: argparse.Namespace) -> int:
    """Print what has been sealed, as JSON lines."""
    with open_archive(settings) as parts:
        parts.audit.seal()
        for entry in parts.audit.iter_entries(LOCAL, _chosen(options)):
            sys.stdout.buffer.write(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    return 0


def report(settings: Settings, options: argparse.Namespace) -> int:
    """Print a table; exit code 1 if there is nothing."""
    with open_archive(settings) as parts:
        found = parts.audit.summarise(LOCAL, _chosen(options), by_subject=options.by_subject)
    print_table(
        ("Who", "What", *(("Of what",) if options.by_subject else ()), "Times", "Not done", "First", "Last"),
        [
            (
                one.principal,
                one.kind,
                *((one.subject,) if options.by_subject else ()),
                str(one.count),
                str(one.unsuccessful),
                f"{one.first_at:%Y-%m-%d %H:%M:%S}",
                f"{one.last_at:%Y-%m-%d %H:%M:%S}",
            )
            for one in found
        ],
    )
    print(f"{sum(one.count for one in found)} entries. Times are in UTC.", file=sys.stderr)
    return 0 if found else 1


def _add_choice(parser: Any) -> None:
    parser.add_argument("--project", default="", metavar="NAME", help="only those of this research project")
    parser.add_argument("--subject", default="", metavar="UID", help="only those about this study, account, ...")
    parser.add_argument("--principal", default="", metavar="NAME", help="only what this account did")
    parser.add_argument("--kind", default="", metavar="KIND", help="only this kind and those below it, as in login")
    parser.add_argument("--since", type=_day, metavar="DATE", help="from this day on (UTC), as YYYY-MM-DD")
    parser.add_argument("--until", type=_day, metavar="DATE", help="before this day (UTC)")


def _chosen(options: argparse.Namespace) -> Chosen:
    return Chosen(options.project, options.subject, options.principal, options.kind, options.since, options.until)


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError("it must be a date as YYYY-MM-DD") from None


def _head(text: str) -> Head:
    try:
        return parse_head(text)
    except ValueError:
        raise argparse.ArgumentTypeError("it must be what `pacs audit verify` prints as head") from None
