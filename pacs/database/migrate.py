"""The schema's steps. A database knows its version; one this archive does not know is refused, never guessed at.

Both engines run the steps in one transaction that excludes every other migration, so that a step happens wholly or
not at all, and two processes that start together migrate once.
"""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from pacs.errors import SchemaMismatch

_MIGRATIONS = Path(__file__).with_name("migrations")

_one_at_a_time = threading.Lock()
"""Alembic keeps its context in module globals, so that two threads of one process must not migrate at once."""


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version inside the caller's transaction; raise SchemaMismatch if it is newer."""
    config = _config(connection)
    script = ScriptDirectory.from_config(config)
    known = {step.revision for step in script.walk_revisions()}
    with _one_at_a_time:
        present = set(MigrationContext.configure(connection).get_current_heads())
        if not present <= known:
            raise SchemaMismatch("The database was written by a newer version of the archive; upgrade the archive.")
        if present != set(script.get_heads()):
            command.upgrade(config, "head")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
