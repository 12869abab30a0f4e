"""Tests, one folder a room; run from the repository root."""
