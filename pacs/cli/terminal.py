"""What commands show: tables, progress, problems. Nothing that came from outside can speak to a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_PROGRESS = Console(stderr=True)
_PIPE_WIDTH = 300
"""Columns of a table that no terminal shows: whatever reads it wants whole lines."""
_SHOWN_PROBLEMS = 20


def printable(text: str) -> str:
    """Return text of others for a terminal, which would obey control characters in it."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def print_table(columns: Iterable[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns, nothing if there are none; UIDs stay in one piece, so that they can be copied."""
    if not rows:
        return
    table = Table()
    for name in columns:
        table.add_column(name, no_wrap=name.endswith("UID"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    console.width = console.width if console.is_terminal else _PIPE_WIDTH
    console.print(table)


def print_problems(problems: Sequence[str]) -> None:
    """Print the first problems, a line each, and how many more there are."""
    for problem in problems[:_SHOWN_PROBLEMS]:
        print(f"  {printable(problem)}")
    if len(problems) > _SHOWN_PROBLEMS:
        print(f"  ... and {len(problems) - _SHOWN_PROBLEMS} more")


def progress(*columns: ProgressColumn) -> Progress:
    """Return a bar on the standard error; without ``columns`` it counts what is done."""
    shown = columns or (MofNCompleteColumn(),)
    return Progress(TextColumn("{task.description}"), BarColumn(), *shown, TimeRemainingColumn(), console=_PROGRESS)
