"""Work items (UPS), who subscribes to them, and what happened to them."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
