"""Imported evidence: token strings of its source, and the columns that are kept as they came."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("corpora", sa.Column("vocabulary", sa.String(), nullable=True))
    op.create_table(
        "corpus_vocabularies",
        sa.Column("corpus", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["corpus"],
            ["corpora.number"],
            name=op.f("fk_corpus_vocabularies_corpus"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("corpus", name=op.f("pk_corpus_vocabularies")),
    )
    op.create_table(
        "kept_columns",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_columns")),
    )


def downgrade() -> None:
    # Its token ids would be taken for the model's own.
    op.execute(
        "UPDATE runs SET state = 'superseded' WHERE corpus IN "
        "(SELECT number FROM corpora WHERE vocabulary IS NOT NULL)"
    )
    op.execute("DELETE FROM saes WHERE architecture = 'imported'")
    op.execute("DELETE FROM models WHERE path = ''")
    op.drop_table("kept_columns")
    op.drop_table("corpus_vocabularies")
    op.drop_column("corpora", "vocabulary")
