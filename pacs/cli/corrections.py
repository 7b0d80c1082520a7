"""``pacs correct`` and ``pacs conflicts``: patients merged, studies moved, values set right, duplicates decided."""

import argparse
import getpass
import sys
from typing import Any

from pacs.access import LOCAL, Principal
from pacs.app import open_archive
from pacs.cli.parsing import add_command, add_group, count, parse_pairs
from pacs.cli.terminal import print_table
from pacs.config import Settings
from pacs.correction import Conflict, Correction, Corrector, Keep, PatientKey
from pacs.tags import keyword_of


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    orders = add_group(parsers, "correct", "merge patients, move studies, set values right")
    reasoned = argparse.ArgumentParser(add_help=False, parents=[common])
    reasoned.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept with the correction")

    order = add_command(orders, reasoned, "merge", merge_patients, "make a patient's studies another patient's")
    order.add_argument("prior", metavar="PRIOR", help="Patient ID that is given up")
    order.add_argument("surviving", metavar="SURVIVING", help="Patient ID that stays")
    order.add_argument("--prior-issuer", default="", metavar="ISSUER")
    order.add_argument("--surviving-issuer", default="", metavar="ISSUER")

    order = add_command(orders, reasoned, "move", move_study, "make one study another patient's")
    order.add_argument("study", metavar="STUDY", help="Study Instance UID")
    order.add_argument("patient", metavar="PATIENT", help="Patient ID")
    order.add_argument("--issuer", default="", metavar="ISSUER")

    order = add_command(orders, reasoned, "study", correct_study, "give a study's attributes other values")
    order.add_argument("study", metavar="STUDY", help="Study Instance UID")
    order.add_argument("values", nargs="+", metavar="KEYWORD=VALUE", help="without a VALUE it is emptied")

    order = add_command(orders, reasoned, "patient", correct_patient, "give a patient's attributes other values")
    order.add_argument("patient", metavar="PATIENT", help="Patient ID")
    order.add_argument("values", nargs="+", metavar="KEYWORD=VALUE", help="without a VALUE it is emptied")
    order.add_argument("--issuer", default="", metavar="ISSUER")

    order = add_command(orders, common, "undo", undo, "take a correction back")
    order.add_argument("id", type=int, metavar="ID", help="as listed")

    order = add_command(orders, common, "list", list_corrections, "list corrections, latest first")
    order.add_argument("--before", type=int, metavar="ID", help="only those before this one")
    order.add_argument("--limit", type=count, default=100, metavar="N")
    _add_conflicts(parsers, common, reasoned)


def _add_conflicts(parsers: Any, common: argparse.ArgumentParser, reasoned: argparse.ArgumentParser) -> None:
    orders = add_group(parsers, "conflicts", "list and decide what contradicts what is stored")
    order = add_command(orders, common, "list", list_conflicts, "list conflicts")
    order.add_argument("--resolved", action="store_true", help="those that are decided instead of the open ones")
    order.add_argument("--after", type=int, default=0, metavar="ID", help="only those after this one")
    order.add_argument("--limit", type=count, default=100, metavar="N")
    order = add_command(orders, reasoned, "resolve", resolve_conflict, "decide a conflict")
    order.add_argument("id", type=int, metavar="ID", help="as listed")
    order.add_argument("--keep", required=True, choices=[keep.value for keep in Keep], help="which copy answers")


def merge_patients(settings: Settings, options: argparse.Namespace) -> int:
    """Merge one patient into another."""
    prior = PatientKey(options.prior, options.prior_issuer)
    surviving = PatientKey(options.surviving, options.surviving_issuer)
    return _correct(settings, lambda correct: correct.merge_patients(_who(), prior, surviving, reason=options.reason))


def move_study(settings: Settings, options: argparse.Namespace) -> int:
    """Move a study to another patient."""
    patient = PatientKey(options.patient, options.issuer)
    return _correct(settings, lambda correct: correct.move_study(_who(), options.study, patient, reason=options.reason))


def correct_study(settings: Settings, options: argparse.Namespace) -> int:
    """Give a study's attributes other values."""
    values = parse_pairs(options.values)
    return _correct(
        settings, lambda correct: correct.correct_study(_who(), options.study, values, reason=options.reason)
    )


def correct_patient(settings: Settings, options: argparse.Namespace) -> int:
    """Give a patient's attributes other values."""
    patient, values = PatientKey(options.patient, options.issuer), parse_pairs(options.values)
    return _correct(settings, lambda correct: correct.correct_patient(_who(), patient, values, reason=options.reason))


def undo(settings: Settings, options: argparse.Namespace) -> int:
    """Take a correction back."""
    with open_archive(settings) as parts:
        done = parts.archive.correct.undo(_who(), options.id)
    print(f"Correction {done.id} is undone.")
    return 0


def resolve_conflict(settings: Settings, options: argparse.Namespace) -> int:
    """Decide a conflict."""
    keep = Keep(options.keep)
    return _correct(settings, lambda correct: correct.resolve_conflict(_who(), options.id, keep, reason=options.reason))


def list_corrections(settings: Settings, options: argparse.Namespace) -> int:
    """Print corrections, undone ones too."""
    with open_archive(settings) as parts:
        page = parts.archive.correct.list_corrections(LOCAL, before=options.before, limit=options.limit)
    rows = [
        (str(one.id), one.kind.value, f"{one.at:%Y-%m-%d %H:%M}", one.by, _what(one), one.reason, _undone(one))
        for one in page
    ]
    print_table(("ID", "kind", "at (UTC)", "by", "what", "reason", "undone"), rows)
    print(f"{len(rows)} shown.", file=sys.stderr)
    return 0


def list_conflicts(settings: Settings, options: argparse.Namespace) -> int:
    """Print conflicts."""
    with open_archive(settings) as parts:
        page = parts.archive.correct.list_conflicts(
            LOCAL, is_resolved=options.resolved, after=options.after, limit=options.limit
        )
    print_table(("ID", "kind", "found (UTC)", "from", "instance", "decision"), [_conflict_row(one) for one in page])
    print(f"{len(page)} shown.", file=sys.stderr)
    return 0


def _conflict_row(one: Conflict) -> tuple[str, ...]:
    sender = one.origin.calling_ae_title or one.origin.door.value
    found_at = f"{one.found_at:%Y-%m-%d %H:%M}"
    return str(one.id), one.kind.value, found_at, sender, one.sop_instance_uid, one.resolution


def _correct(settings: Settings, make: Any) -> int:
    with open_archive(settings) as parts:
        correct: Corrector = parts.archive.correct
        done: Correction = make(correct)
    print(f"Correction {done.id} is made; `pacs correct undo {done.id}` takes it back.")
    return 0


def _who() -> Principal:
    """Return whoever runs the command, by the name that this machine knows them by."""
    try:
        return Principal(getpass.getuser())
    except (KeyError, OSError):  # a container's user without a name
        return LOCAL


def _what(one: Correction) -> str:
    """Return what a correction is about: Patient IDs, UIDs and keywords, no values that were changed."""
    patients = [one.facts[key] for key in ("patient", "prior", "surviving") if key in one.facts]
    about = [" into ".join("^^^".join(filter(None, patient.values())) for patient in patients)] if patients else []
    about += [str(one.facts[key]) for key in ("study_instance_uid", "sop_instance_uid", "keep") if key in one.facts]
    if one.kind.value.startswith("correct-"):
        about += [keyword_of(tag) for tag in one.changes]
    return " ".join(about)


def _undone(one: Correction) -> str:
    return "" if one.undone_at is None else f"{one.undone_at:%Y-%m-%d %H:%M} by {one.undone_by}"
