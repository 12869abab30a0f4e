"""What the neurons of a layer are made of, by an SAE on them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "splits",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("neurons_run", sa.Integer(), nullable=False),
        sa.Column("sae_run", sa.Integer(), nullable=False),
        sa.Column("unexplained_variance", sa.Double(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["neurons_run"], ["runs.number"], name=op.f("fk_splits_neurons_run")
        ),
        sa.ForeignKeyConstraint(["sae_run"], ["runs.number"], name=op.f("fk_splits_sae_run")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_splits")),
        sa.UniqueConstraint("neurons_run", "sae_run", name=op.f("uq_splits_neurons_run")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_splits_sae_run"), "splits", ["sae_run"], unique=False)
    op.create_table(
        "neuron_splits",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("split", sa.Integer(), nullable=False),
        sa.Column("polysemanticity", sa.Double(), nullable=False),
        sa.Column("unexplained_variance", sa.Double(), nullable=True),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["split"], ["splits.number"], name=op.f("fk_neuron_splits_split")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_neuron_splits")),
    )
    op.create_index(
        "ix_neuron_splits_polysemanticity",
        "neuron_splits",
        ["split", "polysemanticity", "id"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index("ix_neuron_splits_polysemanticity", table_name="neuron_splits")
    op.drop_table("neuron_splits")
    op.drop_index(op.f("ix_splits_sae_run"), table_name="splits")
    op.drop_table("splits")
