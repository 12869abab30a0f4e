"""The jobs worker: DBOS workflows `load`, `train`, `precompute` and `verify`.

main starts the process; workflows wraps each kind into two durable steps, `check` and the work;
load, train, precompute and verify are the kinds; paths, folders and corpus are what they share;
report tells how far a job is and hears that it was cancelled.
"""
