"""The shelf: models, SAEs, corpora, runs, features with their full-text index, job progress."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The index over `features.words`; the names start as `app.store.search.NOT_MODELLED` says.
SEARCH_SQLITE = """CREATE VIRTUAL TABLE search_features USING fts5(
    words, content='features', content_rowid='id', detail=none, tokenize='ascii')"""

SEARCH_POSTGRES = """CREATE INDEX search_features ON features
    USING gin (array_to_tsvector(string_to_array(words, ' ')))"""

# Evidence stays in its row as it is: out of line it would cost three more reads.
INLINE_POSTGRES = [
    "ALTER TABLE features ALTER evidence SET STORAGE EXTERNAL",
    "ALTER TABLE features SET (toast_tuple_target = 8160)",
]


def upgrade() -> None:
    op.create_table(
        "corpora",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("n_sequences", sa.BigInteger(), nullable=False),
        sa.Column("n_tokens", sa.BigInteger(), nullable=False),
        sa.Column("context_size", sa.Integer(), nullable=False),
        sa.Column("prepend_bos", sa.Boolean(), nullable=False),
        sa.Column("token_bytes", sa.Integer(), nullable=False),
        sa.Column("chunk_sequences", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_corpora")),
        sa.UniqueConstraint("id", name=op.f("uq_corpora_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "corpus_chunks",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corpus_chunks")),
    )
    op.create_table(
        "job_progress",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("phase", sa.String(), nullable=True),
        sa.Column("done", sa.Double(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=True),
        sa.Column("eta", sa.Double(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_progress")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_job_progress_idempotency_key")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("n_layers", sa.Integer(), nullable=False),
        sa.Column("d_model", sa.Integer(), nullable=False),
        sa.Column("d_mlp", sa.Integer(), nullable=False),
        sa.Column("vocab_size", sa.Integer(), nullable=False),
        sa.Column("context_size", sa.Integer(), nullable=False),
        sa.Column("prepend_bos", sa.Boolean(), nullable=False),
        sa.Column("hook_points", sa.JSON(), nullable=False),
        sa.Column("has_chat_template", sa.Boolean(), nullable=False),
        sa.Column("license", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("sae_id", sa.String(), nullable=False),
        sa.Column("sae_fingerprint", sa.String(), nullable=False),
        sa.Column("corpus", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["corpus"], ["corpora.number"], name=op.f("fk_runs_corpus")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_runs_corpus"), "runs", ["corpus"], unique=False)
    op.create_index("ix_runs_sae", "runs", ["model_id", "sae_id"], unique=False)
    op.create_table(
        "vocabularies",
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_vocabularies_model_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_vocabularies")),
    )
    op.create_table(
        "features",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("density", sa.Double(), nullable=False),
        sa.Column("max_activation", sa.Double(), nullable=False),
        sa.Column("mean_activation", sa.Double(), nullable=False),
        sa.Column("min_activation", sa.Double(), nullable=False),
        sa.Column("active_tokens", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_features_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_features")),
    )
    op.create_index(
        "ix_features_density", "features", ["run", "density", "id", "max_activation"], unique=False
    )
    op.create_index(
        "ix_features_index", "features", ["run", "id", "density", "max_activation"], unique=False
    )
    op.create_index(
        "ix_features_max_activation",
        "features",
        ["run", "max_activation", "id", "density"],
        unique=False,
    )
    op.create_table(
        "run_ranges",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_run_ranges_run")),
        sa.PrimaryKeyConstraint("run", "first", name=op.f("pk_run_ranges")),
    )
    op.create_table(
        "saes",
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("hook_name", sa.String(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("d_in", sa.Integer(), nullable=False),
        sa.Column("d_sae", sa.Integer(), nullable=False),
        sa.Column("steerable", sa.Boolean(), nullable=False),
        sa.Column("steerable_reason", sa.Text(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("evaluation", sa.JSON(), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_saes_model_id")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_saes_run")),
        sa.PrimaryKeyConstraint("model_id", "id", name=op.f("pk_saes")),
    )
    op.create_index(op.f("ix_saes_run"), "saes", ["run"], unique=False)
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in [SEARCH_SQLITE] if sqlite else [SEARCH_POSTGRES, *INLINE_POSTGRES]:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_features")
    op.drop_index(op.f("ix_saes_run"), table_name="saes")
    op.drop_table("saes")
    op.drop_table("run_ranges")
    op.drop_index("ix_features_max_activation", table_name="features")
    op.drop_index("ix_features_index", table_name="features")
    op.drop_index("ix_features_density", table_name="features")
    op.drop_table("features")
    op.drop_table("vocabularies")
    op.drop_index("ix_runs_sae", table_name="runs")
    op.drop_index(op.f("ix_runs_corpus"), table_name="runs")
    op.drop_table("runs")
    op.drop_table("models")
    op.drop_table("job_progress")
    op.drop_table("corpus_chunks")
    op.drop_table("corpora")
