"""The jobs worker: DBOS workflows `load`, `train` and `precompute`.

main starts the process; workflows wraps each kind into two durable steps, `check` and the work;
load, train and precompute are the kinds; paths, folders and corpus are what they share; report
tells how far a job is and hears that it was cancelled.
"""
