"""``pacs recompress``: pack what was stored before the policy was on."""

import argparse
from collections import Counter
from typing import Any

from pacs.app import open_archive
from pacs.cli.parsing import add_command
from pacs.cli.terminal import progress
from pacs.config import Settings


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    add_command(
        parsers, common, "recompress", recompress, "pack what is stored uncompressed as HTJ2K, verified bit for bit"
    )


def recompress(settings: Settings, _: argparse.Namespace) -> int:
    """Pack what can be packed; exit code 1 if stored bytes are missing or damaged. May be interrupted and run again."""
    found: Counter[str] = Counter()
    before = after = unsound = 0
    with open_archive(settings) as parts, progress() as bar:
        task = bar.add_task("Recompressing", total=parts.recompress.count())
        for done in parts.recompress.iter_all():
            found[done.obstacle] += 1
            before += done.before_bytes
            after += done.after_bytes
            unsound += not done.is_sound
            bar.advance(task)
    print(f"{found.pop('', 0)} packed: {before / 1e6:.1f} MB became {after / 1e6:.1f} MB.")
    for reason, count in found.most_common():
        print(f"  {count:>6}  {reason}")
    return 1 if unsound else 0
