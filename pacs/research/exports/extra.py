"""The packages of the extra ``research``, loaded when they are needed.

This is the one place where importing inside a function is right: pyarrow and pandas take a second and 100 MB, which a
hospital without researchers should not pay for at every start, and need not have installed.
"""

import importlib
from typing import Any

from pacs.errors import NotInstalled


def load(name: str) -> Any:
    """Return a module of the extra ``research`` by its name; raise NotInstalled if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalled(f"{NotInstalled.__doc__} The package {name.partition('.')[0]} is missing.") from error
