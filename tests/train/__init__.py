"""Tests of training; they share a tiny model whose residual stream is known exactly."""
