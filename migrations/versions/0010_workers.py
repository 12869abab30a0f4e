"""Leases of the jobs workers, and from which version on a program can work with these tables."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    # Not among the tables of the shelf: a backup that is restored must not change it.
    op.create_table("usable_from", sa.Column("revision", sa.String(), nullable=False))
    op.execute("INSERT INTO usable_from (revision) VALUES ('0010')")


def downgrade() -> None:
    op.drop_table("usable_from")
    op.drop_table("workers")
