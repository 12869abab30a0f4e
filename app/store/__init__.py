"""The shelf: models, SAEs, corpora, runs and features, in SQLite or Postgres."""
