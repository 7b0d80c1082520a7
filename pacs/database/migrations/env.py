"""What Alembic runs: the steps, on the connection and in the transaction that ``pacs.database.migrate`` hands over."""

from alembic import context

from pacs.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
