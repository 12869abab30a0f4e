"""Neuronpedia's public API, `/api/...`, for its own client and for people's scripts.

`names` are the fields that are asked with (`digits` says how numbers may be written), `neurons` and `owned`
the rows that are answered with (`shapes` documents them); `reading` finds features and vectors by their
names, `answer` writes them. A file a group of routes: `features`, `models`, `explanations`, `lists`,
`vectors`, and `unserved` for what is refused; `routes` has them all. `keys` says whose request it is,
`errors` gives every error Neuronpedia's shape.
"""
