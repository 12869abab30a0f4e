"""Evidence for every feature of some dictionaries in one pass over a corpus.

1. `plan`: the corpus is cut into shards of whole sequences, fixed by its lengths and the settings.
2. `forward`: each batch runs once through the model, up to the deepest hook point, and once through
   every dictionary. What comes out is sparse at once: entries (feature, place, value) of active
   features, where a place is a sequence and a position in it. Special tokens are dropped before
   they are encoded.
3. `spill`: entries go to disk in segments of bounded size, stably sorted by feature, so that any
   range of features is one slice of each segment. A dictionary's files of a shard appear all at
   once: a shard is a unit of resume. `kept`: they stay for runs over more text.
4. `plan`, again: features are cut into ranges of bounded numbers of entries.
5. `gather`: the slices of a range are merged into one list sorted by feature. There a pair
   (feature, sequence) is a contiguous run. A single feature with more entries comes in parts.
6. `statistics` and `examples` read off that list all that depends on activations: counts, means,
   maxima, histograms, the strongest sequences, the rank bands and their windows.
7. `logits`, `neighbors`, `neurons`: what follows from weights alone. `coactive`: which features are
   active together, counted on a sample of tokens.
8. `labels` names the feature, `scores` says how well the name tells where it is active.
9. The range is handed to the caller, who commits it: a range is the other unit of resume.

Memory is bounded by the settings but for a few numbers for each sequence of the corpus. Everything is
a function of model, dictionaries, tokens and settings, so a run that was killed and resumed gives the
same bytes; `draw` is where anything random comes from.
`run` is where it starts.
"""
