"""Neuronpedia's public API, `/api/...`, for its own client and for people's scripts.

`names` are the fields that are asked with, `neurons` and `owned` the rows that are answered with;
`reading` finds features and vectors by their names. A file a group of routes: `features`, `models`.
`keys` says whose request it is, `errors` gives every error Neuronpedia's shape.
"""
