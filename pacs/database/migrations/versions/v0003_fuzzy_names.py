"""Sounds by which a name is found however it is spelled, for the names that are there already too.

They are those that ``pacs.phonetics`` makes today, for it is today's search that looks them up: whoever changes what it
makes adds a step that makes them anew.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from pacs.phonetics import fuzzy_keys

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

PAGE_SIZE = 1000
"""Names in memory at once."""


def upgrade() -> None:
    """Add the table and fill it."""
    op.create_table(
        "person_name_sound",
        sa.Column("keyword", CODE, nullable=False),
        sa.Column("sound", CODE, nullable=False),
        sa.Column("study_row_id", KEY, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["study_row_id"], ["study.id"], name=op.f("fk_person_name_sound_study_row_id")),
        sa.PrimaryKeyConstraint("keyword", "sound", "study_row_id", name=op.f("pk_person_name_sound")),
    )
    connection = op.get_bind()
    for page in _pages(connection):
        # A study's names have sounds in common, on one page and across two.
        rows = dict.fromkeys((keyword, sound, row_id) for row_id, keyword, key in page for sound in _sounds(key))
        if rows:
            found = [{"keyword": keyword, "sound": sound, "row_id": row_id} for keyword, sound, row_id in rows]
            connection.execute(_INSERT, found)
    op.create_index(op.f("ix_person_name_sound_study_row_id"), "person_name_sound", ["study_row_id"])
    if connection.dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _sounds(key: str) -> tuple[str, ...]:
    return fuzzy_keys({"Alphabetic": key})


def _pages(connection: sa.Connection) -> Iterator[list[tuple[int, str, str]]]:
    """Yield every name as study, keyword and key."""
    last: dict[str, int | str] = {"row_id": 0, "keyword": "", "key": ""}
    while page := connection.execute(_NAMES, last | {"page_size": PAGE_SIZE}).all():
        yield [(row_id, keyword, key) for row_id, keyword, key in page]
        last = dict(zip(last, page[-1], strict=True))


_NAMES = sa.text(
    "SELECT study_row_id, keyword, key FROM person_name WHERE (study_row_id, keyword, key) > (:row_id, :keyword, :key)"
    " ORDER BY study_row_id, keyword, key LIMIT :page_size"
)
_INSERT = sa.text(
    "INSERT INTO person_name_sound (keyword, sound, study_row_id) VALUES (:keyword, :sound, :row_id)"
    " ON CONFLICT DO NOTHING"
)

_FIGURES = {
    "sqlite_autoindex_person_name_sound_1": "10000000 5000000 500 1",
    "ix_person_name_sound_study_row_id": "10000000 10",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def _state_figures() -> None:
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    rows = [{"tbl": "person_name_sound", "idx": index, "stat": stat} for index, stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
