"""What Alembic runs: the steps, on the connection and in the transaction that ``pacs.database.migrate`` hands over."""

from alembic import context

from pacs.database import identity_tables, release_tables, research_tables, work_tables, workitem_tables
from pacs.database.tables import metadata

for tables in (
    identity_tables,
    research_tables,
    release_tables,
    work_tables,
    workitem_tables,
):  # importing them adds them
    assert tables.metadata is metadata, "every table belongs to one schema"
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
