"""``pacs research release`` and what comes after it: the quarantine, publishing, withdrawing, abandoning."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from pacs.app import Parts, open_archive
from pacs.cli.parsing import add_command, add_group, positive
from pacs.cli.person import whoever_runs_this
from pacs.cli.terminal import print_table, progress
from pacs.config import Settings
from pacs.errors import CohortNotFound, PacsError
from pacs.jobs.turn import Patience
from pacs.jobs.worker import Worker
from pacs.research.model import Quarantined, QuarantineState, Release, ReleaseState
from pacs.research.releases import building

_POLL_SECONDS = 0.2
_PAGE = 500


def add_orders(orders: Any, common: argparse.ArgumentParser) -> None:
    """Add the orders of ``pacs research`` that this module has."""
    releasing = _add(orders, common, "release", release, "make a release of an approved cohort, or go on with one")
    releasing.add_argument(
        "cohort", nargs="?", metavar="COHORT", help="its name or ID; without one: go on where it stopped"
    )

    _add(orders, common, "releases", list_releases, "list the releases of a project")

    publishing = _add(orders, common, "publish", publish, "publish a release that nothing of waits any more")
    _add_version(publishing)
    withdrawing = _add(orders, common, "withdraw", withdraw, "withdraw a published release, so that nobody reads it")
    _add_version(withdrawing)
    _add_reason(withdrawing)
    abandoning = _add(
        orders, common, "abandon", abandon, "give up a release, and remove the objects of it or of a withdrawn one"
    )
    _add_version(abandoning)
    _add_reason(abandoning)

    held = add_group(orders, "quarantine", "look through what was kept back of a release, and decide")
    listing = _add(held, common, "list", list_quarantine, "list what was kept back, and why")
    _add_version(listing)
    listing.add_argument("--all", action="store_true", help="also what was decided already")
    for name, run, text in (
        ("release", release_objects, "make objects in spite of the reasons that were found"),
        ("refuse", refuse_objects, "leave objects out of the release"),
    ):
        deciding = _add(held, common, name, run, text)
        _add_version(deciding)
        deciding.add_argument("numbers", nargs="*", type=positive, metavar="NUMBER", help="as the list has them")
        deciding.add_argument("--reason", metavar="REASON", help="all that wait for this reason and no other")
        deciding.add_argument("--remark", default="", metavar="TEXT", help="put on record")


def release(settings: Settings, options: argparse.Namespace) -> int:
    """Make a release, with a bar, until people have to look at it; exit code 1 if it failed."""
    with open_archive(settings) as parts:
        releases = parts.research.releases
        if options.cohort is None:
            begun = _under_way(releases.list_all(whoever_runs_this(), options.project))
        else:
            begun = releases.start(whoever_runs_this(), options.project, _find_cohort(parts, options))
        done = _follow(parts, begun)
    left = f", {done.pending} wait for a decision" if done.pending else ""
    print(f"Version {done.version}: {done.state}, {done.done} of {done.total} instances{left}. {done.problem}".rstrip())
    return 1 if done.state is ReleaseState.FAILED else 0


def list_releases(settings: Settings, options: argparse.Namespace) -> int:
    """Print every release of a project, the newest first."""
    with open_archive(settings) as parts:
        found = parts.research.releases.list_all(whoever_runs_this(), options.project)
    print_table(
        ("Version", "State", "Begun", "Published", "Instances", "Kept back", "Remark"),
        [
            (
                str(one.version),
                one.state.value,
                f"{one.created_at:%Y-%m-%d %H:%M}",
                f"{one.published_at:%Y-%m-%d %H:%M}" if one.published_at else "",
                f"{one.done}/{one.total}",
                str(one.pending),
                one.problem,
            )
            for one in found
        ],
    )
    print(f"{len(found)} releases.", file=sys.stderr)
    return 0


def publish(settings: Settings, options: argparse.Namespace) -> int:
    """Publish a release."""
    with open_archive(settings) as parts:
        done = parts.research.releases.publish(whoever_runs_this(), options.project, options.version)
    counts = done.counts
    print(
        f"Version {done.version} is published: {counts.patients} patients, {counts.studies} studies, "
        f"{counts.series} series, {counts.instances} instances."
    )
    return 0


def withdraw(settings: Settings, options: argparse.Namespace) -> int:
    """Withdraw a release."""
    with open_archive(settings) as parts:
        done = parts.research.releases.withdraw(
            whoever_runs_this(), options.project, options.version, reason=options.reason
        )
    print(f"Version {done.version} is withdrawn.")
    return 0


def abandon(settings: Settings, options: argparse.Namespace) -> int:
    """Give a release up and wait until nothing is left of it."""
    with open_archive(settings) as parts:
        begun = parts.research.releases.abandon(
            whoever_runs_this(), options.project, options.version, reason=options.reason
        )
        while parts.build_releases.go_on(begun.id):
            pass
    print(f"Version {begun.version}: nothing is left of it.")
    return 0


def list_quarantine(settings: Settings, options: argparse.Namespace) -> int:
    """Print what was kept back, a line each."""
    with open_archive(settings) as parts:
        rows = [
            (str(one.id), ", ".join(one.reasons), one.modality, one.sop_class_uid, one.state.value, one.remark)
            for one in _iter_quarantine(parts, options)
            if options.all or one.state is QuarantineState.PENDING
        ]
    print_table(("Number", "Reasons", "Modality", "SOP Class UID", "State", "Remark"), rows)
    print(f"{len(rows)} kept back.", file=sys.stderr)
    return 0


def release_objects(settings: Settings, options: argparse.Namespace) -> int:
    """Have objects made in spite of their reasons, and wait until they are."""
    with open_archive(settings) as parts:
        count, decided = _decide(parts, options, QuarantineState.RELEASED)
        done = _follow(parts, decided)
    print(f"{count} released; {done.pending} wait for a decision.")
    return 0


def refuse_objects(settings: Settings, options: argparse.Namespace) -> int:
    """Leave objects out."""
    with open_archive(settings) as parts:
        count, decided = _decide(parts, options, QuarantineState.REFUSED)
    print(f"{count} refused; {decided.pending} wait for a decision.")
    return 0


def _decide(parts: Parts, options: argparse.Namespace, state: QuarantineState) -> tuple[int, Release]:
    numbers: Sequence[int] = options.numbers
    if bool(numbers) == bool(options.reason):
        raise PacsError("Say which: numbers as the list has them, or --reason REASON.")
    if not numbers:
        waiting = (one for one in _iter_quarantine(parts, options) if one.state is QuarantineState.PENDING)
        numbers = [one.id for one in waiting if one.reasons == (options.reason,)]
    releases = parts.research.releases
    decided = releases.decide(
        whoever_runs_this(), options.project, options.version, numbers, state, remark=options.remark
    )
    return len(numbers), decided


def _iter_quarantine(parts: Parts, options: argparse.Namespace) -> Iterator[Quarantined]:
    after = 0
    while page := parts.research.releases.list_quarantine(
        whoever_runs_this(), options.project, options.version, after=after, limit=_PAGE
    ):
        yield from page
        after = page[-1].id


def _find_cohort(parts: Parts, options: argparse.Namespace) -> int:
    """Return the number of a cohort that is named, or given by its number."""
    cohorts = parts.research.cohorts.list_all(whoever_runs_this(), options.project)
    for cohort in cohorts:
        if options.cohort in (cohort.name, str(cohort.id)):
            return cohort.id
    raise CohortNotFound


def _under_way(releases: Sequence[Release]) -> Release:
    for one in releases:
        if one.state is ReleaseState.BUILDING:
            return one
    raise PacsError("The project has no release that is being made; name a cohort to begin one.")


def _follow(parts: Parts, begun: Release) -> Release:
    """Make a release, or watch it being made by whoever serves the archive, until nothing more is to be made."""
    tasks = {building.KIND: parts.build_releases.work}
    with progress() as bar, Worker(parts.database, tasks, Patience(timedelta(days=1))):
        task = bar.add_task("Releasing", total=None)
        while True:
            found = parts.build_releases.read(begun.id)
            bar.update(task, completed=found.done, total=found.total or None)
            if found.state is not ReleaseState.BUILDING:
                return found
            time.sleep(_POLL_SECONDS)


def _add(orders: Any, common: argparse.ArgumentParser, name: str, run: Any, text: str) -> Any:
    parser = add_command(orders, common, name, run, text)
    parser.add_argument("project", metavar="PROJECT", help="the short name of the project")
    return parser


def _add_version(parser: Any) -> None:
    parser.add_argument("version", type=positive, metavar="VERSION", help="as `pacs research releases` has it")


def _add_reason(parser: Any) -> None:
    parser.add_argument("--reason", required=True, metavar="TEXT", help="put on record, and shown")
