"""Lists of features and vectors that people keep."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lists",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("test_text", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lists")),
    )
    op.create_index(op.f("ix_lists_owner"), "lists", ["owner"], unique=False)
    op.create_table(
        "list_items",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column("list", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("sae_id", sa.String(), nullable=False),
        sa.Column("feature", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["list"], ["lists.id"], name=op.f("fk_list_items_list"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_list_items")),
        sa.UniqueConstraint(
            "list", "model_id", "sae_id", "feature", name=op.f("uq_list_items_list")
        ),
    )
    op.create_index(
        "ix_list_items_feature", "list_items", ["model_id", "sae_id", "feature"], unique=False
    )
    op.create_table(
        "vectors",
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("hook_name", sa.String(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "source", "number", name=op.f("pk_vectors")),
    )
    op.create_index(op.f("ix_vectors_owner"), "vectors", ["owner"], unique=False)


def downgrade() -> None:
    # What people kept is gone: an older version has no place for it.
    op.drop_index(op.f("ix_vectors_owner"), table_name="vectors")
    op.drop_table("vectors")
    op.drop_index("ix_list_items_feature", table_name="list_items")
    op.drop_table("list_items")
    op.drop_index(op.f("ix_lists_owner"), table_name="lists")
    op.drop_table("lists")
