"""What the documents claim is what the code does."""

from pathlib import Path

from pacs.cli.main import build_parser
from pacs.conformance import build_statement

ROOT = Path(__file__).parents[2]


def test_conformance_statement_is_the_one_generated_from_what_is_mounted(archive):
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8").strip() == build_statement(archive).strip()


def test_readme_names_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (subparsers,) = (action for action in build_parser()._actions if action.dest == "command")
    missing = [name for name in subparsers.choices if f"pacs {name}" not in readme]
    assert not missing
