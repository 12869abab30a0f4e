"""The catalog of pretrained SAEs that SAELens ships, so that the API can list and search it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The index over `catalog.words`; the names start as `app.store.search.NOT_MODELLED` says.
SEARCH_SQLITE = """CREATE VIRTUAL TABLE search_catalog USING fts5(
    words, content='catalog', content_rowid='number', detail=none, tokenize='ascii')"""

SEARCH_POSTGRES = """CREATE INDEX search_catalog ON catalog
    USING gin (array_to_tsvector(string_to_array(words, ' ')))"""


def upgrade() -> None:
    op.create_table(
        "catalog",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("sae_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("repo", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("hook_name", sa.Text(), nullable=True),
        sa.Column("neuronpedia_id", sa.Text(), nullable=True),
        sa.Column("l0", sa.Double(), nullable=True),
        sa.Column("explained_variance", sa.Double(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_catalog")),
    )
    op.create_table(
        "catalog_source",
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_catalog_source")),
    )
    op.execute(SEARCH_SQLITE if _sqlite() else SEARCH_POSTGRES)


def downgrade() -> None:
    if _sqlite():
        op.execute("DROP TABLE search_catalog")
    op.drop_table("catalog_source")
    op.drop_table("catalog")


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
