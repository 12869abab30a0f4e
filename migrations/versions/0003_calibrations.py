"""A feature keeps the calibration of its steering, as JSON that is served as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("features", sa.Column("calibration", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("features") as table:
        table.drop_column("calibration")
