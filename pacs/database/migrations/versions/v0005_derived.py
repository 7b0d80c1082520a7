"""What was made of stored images: originals that were recompressed."""

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
