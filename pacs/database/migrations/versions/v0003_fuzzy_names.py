"""Keys by which a name is found however it is spelled."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
