"""Evidence for every feature of some dictionaries in one pass over a corpus.

1. `plan`: the corpus is cut into shards of whole sequences, fixed by its lengths and the settings.
2. `forward`: each batch runs once through the model, up to the deepest hook point, and once through
   every dictionary. What comes out is sparse at once: entries (feature, place, value) of active
   features, where a place is a sequence and a position in it. Special tokens are dropped before
   they are encoded.
3. `spill`: entries go to disk in segments of bounded size, stably sorted by feature, so that any
   range of features is one slice of each segment. A shard's files appear all at once: a shard is
   a unit of resume.
4. `plan`, again: features are cut into ranges of bounded numbers of entries.
5. `gather`: the slices of a range are merged into one list sorted by feature. There a pair
   (feature, sequence) is a contiguous run.
6. `statistics` and `examples` read off that list all that depends on activations: counts, means,
   maxima, histograms, the strongest sequences, the rank bands and their windows.
7. `logits`, `neighbors`, `neurons`: what follows from weights alone. `labels` names the feature.
8. The range is handed to the caller, who commits it: a range is the other unit of resume.

Memory is bounded by the settings but for two things that grow with the corpus: numbers for each
sequence, and the entries of a single feature, which are merged in memory however many they are: a
feature that is active on every token has as many as the corpus has tokens. Everything is a function
of model, dictionaries, tokens and settings, so a run that was killed and resumed gives the same
bytes.
`run` is where it starts.
"""
