"""``pacs queue``: what is to be delivered, what arrived, what was given up, and what to do about it."""

import argparse
import sys
from typing import Any

from pacs.access import LOCAL
from pacs.app import open_archive
from pacs.cli.parsing import add_command, add_group, count
from pacs.cli.terminal import print_table
from pacs.config import Settings
from pacs.errors import PacsError
from pacs.routing.keeper import MAX_PAGE, Job, JobState

_COLUMNS = ("ID", "state", "kind", "to", "what", "tries", "since", "due or done", "problem")


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command of this module."""
    orders = add_group(parsers, "queue", "show and mend what is to be delivered")

    listing = add_command(orders, common, "list", list_jobs, "list deliveries")
    listing.add_argument("--state", choices=[state.value for state in JobState], help="only these")
    listing.add_argument("--to", metavar="NAME", help="only those to this AE title or destination")
    listing.add_argument("--limit", type=count, default=100, metavar="N", help=f"at most, up to {MAX_PAGE}")
    listing.add_argument("--offset", type=count, default=0, metavar="N", help="leave out the first ones")

    for name, run, text in (
        ("requeue", requeue, "try dead letters again, as if they were new"),
        ("drop", drop, "give deliveries up for good"),
    ):
        order = add_command(orders, common, name, run, text)
        order.add_argument("ids", nargs="*", type=int, metavar="ID", help="as listed")
        order.add_argument("--to", metavar="NAME", help="all dead letters to this AE title or destination")


def list_jobs(settings: Settings, options: argparse.Namespace) -> int:
    """Print a page of the queue."""
    state = JobState(options.state) if options.state else None
    with open_archive(settings) as parts:
        jobs = parts.archive.queue.find_page(
            LOCAL, state=state, lane=options.to, limit=options.limit, offset=options.offset
        )
    print_table(_COLUMNS, [_cells(job) for job in jobs])
    print(f"{len(jobs)} shown.", file=sys.stderr)
    return 0


def requeue(settings: Settings, options: argparse.Namespace) -> int:
    """Let dead letters be tried again; exit code 1 if there were none."""
    with open_archive(settings) as parts:
        number = parts.archive.queue.requeue(LOCAL, **_chosen(options))
    print(f"{number} requeued.")
    return 0 if number else 1


def drop(settings: Settings, options: argparse.Namespace) -> int:
    """Strike jobs off; exit code 1 if there were none."""
    with open_archive(settings) as parts:
        number = parts.archive.queue.drop(LOCAL, **_chosen(options))
    print(f"{number} dropped.")
    return 0 if number else 1


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    if bool(options.ids) == bool(options.to):
        raise PacsError("Say which: their IDs, or --to and a destination.")
    return {"lane": options.to} if options.to else {"ids": options.ids[:MAX_PAGE]}


def _cells(job: Job) -> list[str]:
    times = [moment.strftime("%Y-%m-%d %H:%M:%S") for moment in (job.created_at, job.due_at)]
    return [str(job.id), job.state.value, job.kind, job.lane, job.key, str(job.attempts), *times, job.problem]
