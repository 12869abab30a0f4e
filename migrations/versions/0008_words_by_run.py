"""Postgres finds the words of one run in the index alone: the run is among the words."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BY_RUN = "array_to_tsvector(array_append(string_to_array(words, ' '), '#' || run::text))"
BEFORE = "array_to_tsvector(string_to_array(words, ' '))"


def upgrade() -> None:
    _index(BY_RUN)


def downgrade() -> None:
    _index(BEFORE)


def _index(expression: str) -> None:
    # On SQLite keys are within a run's range, so that the index is cut to it by itself.
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP INDEX search_features")
        op.execute(f"CREATE INDEX search_features ON features USING gin ({expression})")
