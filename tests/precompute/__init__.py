"""Tests of precompute."""
