"""Tests of worker.split."""
