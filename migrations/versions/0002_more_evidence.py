"""Evidence of format 2: labels with kind and score, co-active features, histograms of logits.

Evidence of format 1 cannot be completed without its corpus being run again, so it is dropped: its
SAEs are registered as before, and to be precomputed anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OF_EVIDENCE = ("corpus", "settings", "run_id", "statistics")


def upgrade() -> None:
    _drop_evidence()
    op.add_column("features", sa.Column("label_kind", sa.String(), nullable=True))
    op.add_column("features", sa.Column("label_score", sa.Double(), nullable=True))


def downgrade() -> None:
    _drop_evidence()
    with op.batch_alter_table("features") as table:
        table.drop_column("label_score")
        table.drop_column("label_kind")


def _forget_provenance() -> None:
    """Take out of each SAE's provenance what it says of the evidence that goes."""
    names = ("model_id", "id", "run")
    saes = sa.table("saes", *map(sa.column, names), sa.column("provenance", sa.JSON))
    connection = op.get_bind()
    found = connection.execute(sa.select(saes).where(saes.c.run.is_not(None))).all()
    for sae in found:
        kept = {key: value for key, value in sae.provenance.items() if key not in _OF_EVIDENCE}
        this = (saes.c.model_id == sae.model_id) & (saes.c.id == sae.id)
        connection.execute(sa.update(saes).where(this).values(provenance=kept))


def _drop_evidence() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("INSERT INTO search_features(search_features) VALUES ('delete-all')")
    op.execute("DELETE FROM features")
    op.execute("DELETE FROM run_ranges")
    _forget_provenance()
    op.execute("UPDATE saes SET run = NULL")
    op.execute("UPDATE runs SET state = 'superseded'")
