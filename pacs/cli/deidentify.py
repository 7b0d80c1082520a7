"""``pacs deidentify``: plain folders de-identified, with a key that stays with whoever runs it."""

import argparse
import json
import re
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pacs.app.deidentification import FolderRun, Outcome, find_files, load_project_key, open_frame_decoder
from pacs.app.lettering import open_lettering
from pacs.cli.parsing import add_command
from pacs.cli.terminal import printable, progress
from pacs.config import Settings
from pacs.deid import RELEASE_DEFAULT, Option, Profile, Reason, conformance_statement
from pacs.errors import OutOfResources, PacsError

_PROJECT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_REASONS = [reason for reason in Reason if reason.is_releasable]
_DATES = frozenset({Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES})


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    command = add_command(
        parsers, common, "deidentify", deidentify_folder, "de-identify a file or folder outside of the archive"
    )
    command.add_argument("source", type=Path, metavar="IN")
    command.add_argument("target", type=Path, metavar="OUT")
    command.add_argument("--project", required=True, metavar="P", help="whose key pseudonyms, UIDs and dates follow")
    command.add_argument(
        "--key-file", type=Path, metavar="FILE", help="default: P.key in the folder deidentify of the data directory"
    )
    command.add_argument("--new-key", action="store_true", help="make the key in --key-file if there is none yet")
    command.add_argument("--profile", type=Path, metavar="FILE", help="a profile as JSON; default: that of releases")
    for flag, action in (("--with", "add"), ("--without", "take away")):
        command.add_argument(
            flag,
            dest=flag.strip("-"),
            action="append",
            type=Option,
            choices=list(Option),
            default=[],
            metavar="OPTION",
            help=f"{action} an option of PS3.15 E.3; may be given again",
        )
    command.add_argument(
        "--waive",
        action="append",
        type=Reason,
        choices=_REASONS,
        default=[],
        metavar="REASON",
        help="let objects go that are held back for this reason, for you have looked at them; may be given again",
    )
    command.add_argument("--read-text", action="store_true", help="hold back images in which tesseract reads text")
    command.add_argument("--report", type=Path, metavar="FILE", help="what was done, a line of JSON an object")
    command.add_argument("--held-back", type=Path, metavar="FILE", help="the paths held back, and why")
    command.add_argument("--statement", type=Path, metavar="FILE", help="the conformance text of the profile")


def deidentify_folder(settings: Settings, options: argparse.Namespace) -> int:
    """De-identify every DICOM file; exit code 1 if one is held back."""
    if not _PROJECT.fullmatch(options.project):
        raise PacsError("A project is named in small letters, digits and hyphens.")
    source, target = options.source.resolve(), options.target.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise PacsError("OUT must not be within IN, nor IN within OUT: de-identified and not would lie side by side.")
    profile = _profile(options)
    key_file = options.key_file or Path(settings.data_dir) / "deidentify" / f"{options.project}.key"
    is_new = not key_file.exists()
    # A key that is named and is not there is a mistake as a rule, and not a new project.
    key = load_project_key(key_file, may_create=options.new_key or not options.key_file)
    if is_new:
        print(f"A new key for {options.project}: {printable(str(key_file))}", file=sys.stderr)
    if options.statement:
        options.statement.write_text(conformance_statement(profile), encoding="utf-8")
    paths = find_files(source)
    tally = _Tally()
    with ExitStack() as stack:
        run = FolderRun(
            target=target,
            profile=profile,
            key=key,
            released_reasons=frozenset(options.waive),
            decode=stack.enter_context(open_frame_decoder()),
            lettering=open_lettering() if options.read_text else None,
        )
        reports, held_back = (
            stack.enter_context(path.open("w", encoding="utf-8")) if path else None
            for path in (options.report, options.held_back)
        )
        bar = stack.enter_context(progress())
        task = bar.add_task("De-identifying", total=len(paths))
        try:
            for outcome in run.run(paths):
                tally.add(outcome)
                if outcome.report is not None and reports is not None:
                    reports.write(json.dumps(outcome.report.to_json()) + "\n")
                if outcome.reasons and held_back is not None:
                    held_back.write(f"{', '.join(outcome.reasons)}\t{printable(str(outcome.path))}\n")
                bar.advance(task)
        except OSError as error:
            raise OutOfResources("Nothing can be written to OUT.") from error
    tally.print()
    return 1 if tally.held_back else 0


def _profile(options: argparse.Namespace) -> Profile:
    given = RELEASE_DEFAULT
    if options.profile:
        try:
            given = Profile.from_json(json.loads(options.profile.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise PacsError("The profile cannot be read.") from error
    added = frozenset(getattr(options, "with"))
    # One way to treat dates replaces the other.
    kept = given.options - _DATES if added & _DATES else given.options
    return Profile(given.name, (kept | added) - frozenset(options.without), given.device_rectangles, given.safe_private)


class _Tally:
    """What became of the files, counted."""

    def __init__(self) -> None:
        self.done = self.cleaned = self.held_back = self.others = 0
        self._reasons: Counter[Reason] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one file."""
        if outcome.report is not None:
            self.done += 1
            self.cleaned += outcome.report.cleaned_pixels
        elif outcome.reasons:
            self.held_back += 1
            self._reasons.update(outcome.reasons)
        else:
            self.others += 1

    def print(self) -> None:
        """Print the counts; nothing of a file's path or content is in them."""
        print(f"{self.done} de-identified, in {self.cleaned} of them pixels blacked out.")
        if self.others:
            print(f"{self.others} files are no DICOM files.", file=sys.stderr)
        if self.held_back:
            print(f"{self.held_back} held back:")
            for reason, count in self._reasons.most_common():
                print(f"  {count:>6}  {reason}: {reason.sentence}")
