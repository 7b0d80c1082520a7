"""Orders of ``pacs research`` for members of a project: counts, cohorts and approvals, and who a pseudonym is."""

import argparse
from pathlib import Path
from typing import Any

from pacs.app import open_archive
from pacs.cli.parsing import add_command, parse_pairs
from pacs.cli.person import whoever_runs_this
from pacs.cli.terminal import print_table
from pacs.config import Settings
from pacs.errors import PacsError
from pacs.research.model import Cohort
from pacs.research.subjects import open_pair


def add_orders(orders: Any, common: argparse.ArgumentParser, reasoned: argparse.ArgumentParser) -> None:
    """Declare the orders."""
    order = _add(orders, common, "count", count, "count what matches, as it may be shown")
    order.add_argument(
        "conditions", nargs="*", metavar="KEY=VALUE", help="modality=CT, sex=F, age_min=50, words=thorax"
    )
    order.add_argument("--facets", action="store_true", help="by modality, body part, sex, age and so on, too")
    order = _add(orders, common, "cohort", save_cohort, "save a cohort as a draft")
    order.add_argument("name", metavar="NAME")
    order.add_argument("conditions", nargs="*", metavar="KEY=VALUE")
    _add(orders, common, "cohorts", list_cohorts, "list cohorts")
    for name, run, parent, text in (
        ("request", request, common, "ask a steward to approve a cohort"),
        ("approve", approve, reasoned, "let a cohort be released that another one has requested"),
        ("refuse", refuse, reasoned, "refuse a cohort that was requested"),
    ):
        _add(orders, parent, name, run, text).add_argument("id", type=int, metavar="ID", help="as listed")

    order = _add(orders, reasoned, "ask", ask, "ask who a pseudonym is")
    order.add_argument("pseudonym", metavar="PSEUDONYM")
    _add(orders, common, "questions", list_questions, "list who asked who somebody is, and what was decided")
    order = _add(orders, reasoned, "decide", decide, "grant or refuse what another one has asked")
    order.add_argument("id", type=int, metavar="ID", help="as listed")
    order.add_argument("--refuse", action="store_true")
    order = _add(orders, common, "hand-out", hand_out, "print the sealed pair that was asked for and granted")
    order.add_argument("id", type=int, metavar="ID", help="as listed")
    order = _add(orders, common, "open", open_sealed, "open a sealed pair with the private key; not on the server")
    order.add_argument("key", type=Path, metavar="KEY", help="the private key of `pacs research keygen`")
    order.add_argument("sealed", metavar="TEXT", help="what `pacs research hand-out` has printed")


def _add(orders: Any, parent: argparse.ArgumentParser, name: str, run: Any, text: str) -> Any:
    order = add_command(orders, parent, name, run, text)
    order.add_argument("project", metavar="PROJECT")
    return order


def count(settings: Settings, options: argparse.Namespace) -> int:
    """Print about how many match."""
    given = parse_pairs(options.conditions)
    with open_archive(settings) as parts:
        counting = parts.research.counting
        ask_for = counting.count_by_facet if options.facets else counting.count
        answer = ask_for(whoever_runs_this(), options.project, given)
    counts = answer.counts
    print(f"Patients: {counts.patients}. Studies: {counts.studies}. Series: {counts.series}.", end=" ")
    print(f"Instances: {counts.instances}.")
    for facet in answer.facets:
        print_table((facet.name, "patients"), [(name, str(shown)) for name, shown in facet.values])
    return 0


def save_cohort(settings: Settings, options: argparse.Namespace) -> int:
    """Save a cohort."""
    given = parse_pairs(options.conditions)
    with open_archive(settings) as parts:
        cohort = parts.research.cohorts.create(whoever_runs_this(), options.project, options.name, given)
    print(f"Cohort {cohort.id} is saved; `pacs research request {options.project} {cohort.id}` asks for its approval.")
    return 0


def list_cohorts(settings: Settings, options: argparse.Namespace) -> int:
    """Print the cohorts of a project."""
    with open_archive(settings) as parts:
        found = parts.research.cohorts.list_all(whoever_runs_this(), options.project)
    print_table(
        ("ID", "name", "conditions", "state", "requested by", "decided by", "remark"), [_row(one) for one in found]
    )
    return 0


def request(settings: Settings, options: argparse.Namespace) -> int:
    """Ask for the approval of a cohort."""
    with open_archive(settings) as parts:
        cohort = parts.research.cohorts.request(whoever_runs_this(), options.project, options.id)
    return _say(cohort)


def approve(settings: Settings, options: argparse.Namespace) -> int:
    """Approve a cohort."""
    with open_archive(settings) as parts:
        cohort = parts.research.cohorts.approve(whoever_runs_this(), options.project, options.id, options.reason)
    return _say(cohort)


def refuse(settings: Settings, options: argparse.Namespace) -> int:
    """Refuse a cohort."""
    with open_archive(settings) as parts:
        cohort = parts.research.cohorts.refuse(whoever_runs_this(), options.project, options.id, options.reason)
    return _say(cohort)


def ask(settings: Settings, options: argparse.Namespace) -> int:
    """Ask who a pseudonym is."""
    with open_archive(settings) as parts:
        again = parts.research.reidentification
        asked = again.ask(whoever_runs_this(), options.project, options.pseudonym, reason=options.reason)
    print(f"Question {asked.id} is asked; another person decides on it.")
    return 0


def list_questions(settings: Settings, options: argparse.Namespace) -> int:
    """Print who asked who somebody is."""
    with open_archive(settings) as parts:
        found = parts.research.reidentification.list_all(whoever_runs_this(), options.project)
    rows = [
        (str(one.id), one.pseudonym, one.reason, one.asked_by, one.state.value, one.decided_by, one.remark)
        for one in found
    ]
    print_table(("ID", "pseudonym", "reason", "asked by", "state", "decided by", "remark"), rows)
    return 0


def decide(settings: Settings, options: argparse.Namespace) -> int:
    """Grant or refuse a question."""
    with open_archive(settings) as parts:
        decided = parts.research.reidentification.decide(
            whoever_runs_this(), options.project, options.id, grants=not options.refuse, reason=options.reason
        )
    print(f"Question {decided.id} is {decided.state.value}.")
    return 0


def hand_out(settings: Settings, options: argparse.Namespace) -> int:
    """Print a sealed pair."""
    with open_archive(settings) as parts:
        print(parts.research.reidentification.hand_out(whoever_runs_this(), options.project, options.id))
    return 0


def open_sealed(_: Settings, options: argparse.Namespace) -> int:
    """Print who a sealed pair says that it is. It needs no archive."""
    try:
        key = options.key.read_bytes()
    except OSError as error:
        raise PacsError(f"{options.key} cannot be read: {error.strerror}.") from None
    pair = open_pair(key, options.project, options.sealed.strip())
    print_table(("what", "value"), list(pair.items()))
    return 0


def _row(one: Cohort) -> tuple[str, ...]:
    conditions = " ".join(f"{name}={value}" for name, value in one.conditions.items())
    return str(one.id), one.name, conditions, one.state.value, one.requested_by, one.decided_by, one.remark


def _say(cohort: Cohort) -> int:
    print(f"Cohort {cohort.id} is {cohort.state.value}.")
    return 0
