"""What Alembic runs: the steps, on the connection and in the transaction that ``pacs.database.migrate`` hands over."""

from alembic import context

from pacs.database import work_tables
from pacs.database.tables import metadata

assert work_tables.metadata is metadata, "every table belongs to one schema"  # importing them adds them
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
