"""Tables of the shelf.

`features` holds one row per feature: statistics as columns, everything else packed
(`app.store.codec`). Its key is run number * 2**32 + feature index (`packed_id`): one descent finds
a row, rows of a run lie together in the order of their index, and the full-text index can be cut
to a run by a range of keys. `corpus_chunks` uses the same trick with corpus and chunk numbers, and
`neuron_splits` with the numbers of a split and of a neuron.

Every list that the API sorts or filters is answered from one of three covering indices, so that a
page costs the same at a thousand and at a million features. The full-text index is not modelled
here: it is FTS5 on SQLite and GIN on Postgres, made by the migration (`app.store.search`).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

ROW_BITS = 32
"""Bits of a packed id that count rows within their run or corpus."""

ROW_MASK = (1 << ROW_BITS) - 1
"""Row of a packed id: `id & ROW_MASK`."""


def packed_id(owner: int, row: int) -> int:
    """Key of row `row` of the run or corpus with number `owner`."""
    return (owner << ROW_BITS) | row


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite stores it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=value.tzinfo or UTC) if value else None


# On SQLite only a column declared INTEGER is the row id itself.
_RowId = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

models = Table(
    "models",
    metadata,
    Column("id", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("n_layers", Integer, nullable=False),
    Column("d_model", Integer, nullable=False),
    Column("d_mlp", Integer, nullable=False),
    Column("vocab_size", Integer, nullable=False),
    Column("context_size", Integer, nullable=False),
    Column("prepend_bos", Boolean, nullable=False),
    Column("hook_points", JSON, nullable=False),
    Column("has_chat_template", Boolean, nullable=False),
    Column("license", Text),
    Column("created_at", UtcTime, nullable=False),
)

vocabularies = Table(
    "vocabularies",
    metadata,
    Column("model_id", ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
)

corpora = Table(
    "corpora",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("model_id", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("n_sequences", BigInteger, nullable=False),
    Column("n_tokens", BigInteger, nullable=False),
    Column("context_size", Integer, nullable=False),
    Column("prepend_bos", Boolean, nullable=False),
    Column("token_bytes", Integer, nullable=False),
    Column("chunk_sequences", Integer, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("used_at", UtcTime, nullable=False),
    # Of the vocabulary in `corpus_vocabularies`; null where token ids are the model's own.
    Column("vocabulary", String),
    sqlite_autoincrement=True,
)

# Token strings of imported examples, once a source.
corpus_vocabularies = Table(
    "corpus_vocabularies",
    metadata,
    Column("corpus", ForeignKey("corpora.number", ondelete="CASCADE"), primary_key=True),
    Column("packed", LargeBinary, nullable=False),
)

corpus_chunks = Table(
    "corpus_chunks",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("tokens", LargeBinary, nullable=False),
)

# A run outlives its SAE until it is collected, so it names the SAE without a foreign key.
runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("model_id", String, nullable=False),
    Column("sae_id", String, nullable=False),
    Column("sae_fingerprint", String, nullable=False),
    Column("corpus", ForeignKey("corpora.number"), nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("statistics", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_runs_sae", "model_id", "sae_id"),
    sqlite_autoincrement=True,
)

run_ranges = Table(
    "run_ranges",
    metadata,
    Column("run", ForeignKey("runs.number"), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("stop", BigInteger, nullable=False),
)

saes = Table(
    "saes",
    metadata,
    Column("model_id", ForeignKey("models.id"), primary_key=True),
    Column("id", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("hook_name", String, nullable=False),
    Column("layer", Integer, nullable=False),
    Column("architecture", String, nullable=False),
    Column("d_in", Integer, nullable=False),
    Column("d_sae", Integer, nullable=False),
    Column("steerable", Boolean, nullable=False),
    Column("steerable_reason", Text),
    Column("run", ForeignKey("runs.number"), index=True),
    Column("evaluation", JSON, nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

features = Table(
    "features",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("run", ForeignKey("runs.number"), nullable=False),
    # float32 statistics are stored as doubles: Postgres prints a REAL shortened, and a cursor made
    # of the shortened number would compare unequal to its own row.
    Column("density", Double, nullable=False),
    Column("max_activation", Double, nullable=False),
    Column("mean_activation", Double, nullable=False),
    Column("min_activation", Double, nullable=False),
    Column("active_tokens", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Column("label_kind", String),
    Column("label_score", Double),
    Column("calibration", Text),
    Index("ix_features_index", "run", "id", "density", "max_activation"),
    Index("ix_features_density", "run", "density", "id", "max_activation"),
    Index("ix_features_max_activation", "run", "max_activation", "id", "density"),
)

# What an imported feature's source says of it beyond the columns of `features`; same keys.
kept_columns = Table(
    "kept_columns",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)

# Seen by readers when it is complete and both of its runs are served.
splits = Table(
    "splits",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("neurons_run", ForeignKey("runs.number"), nullable=False),
    Column("sae_run", ForeignKey("runs.number"), nullable=False, index=True),
    Column("unexplained_variance", Double),
    Column("complete", Boolean, nullable=False),
    UniqueConstraint("neurons_run", "sae_run"),
    sqlite_autoincrement=True,
)

neuron_splits = Table(
    "neuron_splits",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=False),
    Column("split", ForeignKey("splits.number"), nullable=False),
    Column("polysemanticity", Double, nullable=False),
    Column("unexplained_variance", Double),
    Column("parts", JSON, nullable=False),
    Index("ix_neuron_splits_polysemanticity", "split", "polysemanticity", "id"),
)

# Lists of features, and directions in a model, that people keep: whose key came with the request is
# their owner. Both outlive the SAEs and the models that they name.
lists = Table(
    "lists",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("test_text", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

list_items = Table(
    "list_items",
    metadata,
    Column("number", _RowId, primary_key=True),
    Column("list", ForeignKey("lists.id", ondelete="CASCADE"), nullable=False),
    Column("model_id", String, nullable=False),
    Column("sae_id", String, nullable=False),
    Column("feature", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("added_at", UtcTime, nullable=False),
    UniqueConstraint("list", "model_id", "sae_id", "feature"),
    Index("ix_list_items_feature", "model_id", "sae_id", "feature"),
)

vectors = Table(
    "vectors",
    metadata,
    Column("model_id", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("owner", String, nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("hook_name", String, nullable=False),
    Column("strength", Double, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("idempotency_key", String, unique=True),
    Column("phase", String),
    Column("done", Double, nullable=False),
    Column("rate", Double),
    Column("eta", Double),
    Column("metrics", JSON, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# Jobs workers and their leases, in seconds since 1970 by the database's clock. Without a token: taken.
workers = Table(
    "workers",
    metadata,
    Column("name", String, primary_key=True),
    Column("token", String, nullable=False),
    Column("since", Double, nullable=False),
    Column("until", Double, nullable=False),
)

# What SAELens knows of the SAEs that others have published; replaced as a whole.
catalog = Table(
    "catalog",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("release", Text, nullable=False),
    Column("sae_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("repo", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("hook_name", Text),
    Column("neuronpedia_id", Text),
    Column("l0", Double),
    Column("explained_variance", Double),
    Column("words", Text, nullable=False),
)

catalog_source = Table(
    "catalog_source",
    metadata,
    Column("source", Text, primary_key=True),
)

# Who may ask. Of a key only a digest is kept.
keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("per_minute", Integer),
    Column("per_day", Integer),
    Column("created_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    Column("revoked_at", UtcTime),
)

# Requests of a key on a day (UTC), of all processes.
key_days = Table(
    "key_days",
    metadata,
    Column("key", ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

# What changed something, by whom, and how it ended.
audit = Table(
    "audit",
    metadata,
    Column("number", _RowId, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("who", String, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", String, nullable=False),
)
