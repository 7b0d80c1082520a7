"""How commands are declared: each with the options that all have, some with orders of their own below them."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from pacs.config import Settings
from pacs.errors import PacsError

Run = Callable[[Settings, argparse.Namespace], int]
"""What a command does; it returns the exit code."""


class Parser(argparse.ArgumentParser):
    """Takes options anywhere among the other words: ``pacs find PEER --level series Modality=CT``."""

    _is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as ``argparse`` does, which gives up on words after an option where a command may have any number."""
        if self._is_mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


def add_command(parsers: Any, common: argparse.ArgumentParser, name: str, run: Run, text: str) -> Any:
    """Return the parser of a new command, or of an order of one, which has the options of ``common``."""
    parser = parsers.add_parser(name, parents=[common], help=text, description=f"{text}.")
    parser.set_defaults(run=run)
    return parser


def add_group(parsers: Any, name: str, text: str) -> Any:
    """Return where the orders of a new command go, one of which must be given.

    The options that all have are those of the orders: before an order they would be forgotten again.
    """
    parser = parsers.add_parser(name, help=text, description=f"{text}.")
    return parser.add_subparsers(title="orders", metavar="ORDER", dest="order", required=True)


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return what is given as ``KEYWORD=VALUE``; raise PacsError for anything else."""
    pairs = {}
    for text in texts:
        keyword, sign, value = text.partition("=")
        if not keyword or not sign:
            raise PacsError("Attributes are given as KEYWORD=VALUE, for example PatientID=1234.")
        pairs[keyword] = value
    return pairs


def count(text: str) -> int:
    """Return a number from 0 on, as a type of an option."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("it must be a number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """Return a number from 1 on, as a type of an option."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("it must be a number from 1 on")
    return int(text)
