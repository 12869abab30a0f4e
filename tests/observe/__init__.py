"""Ids, logs, metrics and traces of the real processes together."""
